//! `postrider serve`.

use std::path::PathBuf;

use crate::config::{Config, Environment, Flags};
use crate::ending::Ending;
use crate::{life, telemetry};

/// Runs the service
///
/// Every option is also an environment variable and a key in the TOML file: flags beat environment
/// beats file beats default. SIGTERM or Ctrl-C stops it cleanly; a second one at once.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// The TOML file to read options from [env: POSTRIDER_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print every option as it is in force, as a TOML file, and do nothing else
    #[arg(long)]
    print_config: bool,

    #[command(flatten)]
    flags: Flags,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Ending> {
        let environment = Environment::of_process();
        let file = self.config.as_deref();
        if self.print_config {
            return super::print(&Config::print(self.flags, environment, file)?);
        }
        let config = Config::read(self.flags, environment, file)?;
        telemetry::start_logging(&config.log)?;
        super::block_on(config.worker_threads, life::serve(&config, super::print))
    }
}
