//! What operators see: logs on standard error, metrics at `/metrics`, spans at a collector.
//!
//! Promise: none of them holds a secret or a payload; labels are few and bounded; reading the
//! metrics costs the hot path nothing, and a collector that is away costs nothing but spans.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};
use crate::ending::Ending;

use one_line::OneLine;

pub mod exposition;
mod names;
mod one_line;
mod page;
mod process;
pub mod spans;

pub use page::{Metrics, ReportStore};

/// Begins to log to standard error.
///
/// Errors when the filter is none, or something else logs already.
pub fn start_logging(config: &LogConfig) -> Result<(), Ending> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|error| Ending::misconfigured(format!("the log filter is wrong: {error}")))?;
    let is_terminal = io::stderr().is_terminal();
    let is_human = match config.format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => is_terminal,
    };
    let is_coloured = is_human && is_terminal;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || OneLine::new(io::stderr(), is_coloured));
    let started = if is_human {
        lines.with_ansi(is_coloured).try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
    started.map_err(|error| Ending::failed(format!("cannot start logging: {error}")))
}
