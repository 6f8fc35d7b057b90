//! `postrider demo`.

use crate::demo;
use crate::ending::Ending;

/// Shows the main job on this machine: register, publish, deliver, verify
///
/// Starts the service on a temporary store, a receiver that verifies every signature, and publishes
/// every documented sample event. Stays up to be tried out until Ctrl-C, unless told otherwise.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// End after the samples; exit with 0 only if every one arrived and verified
    #[arg(long)]
    once: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Ending> {
        super::block_on(None, demo::run(self.once, super::print))
    }
}
