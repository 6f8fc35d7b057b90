//! The command line.
//!
//! Promise: whatever is wrong is one line on standard error, `postrider: …`, and exit code 2 (wrong
//! usage or configuration) or 1 (failure); everything else ends with 0.

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::ending::Ending;

mod backup;
mod demo;
mod keys;
mod openapi;
mod serve;

/// Delivers webhooks: signed, in time, and never lost.
#[derive(Debug, Parser)]
#[command(
    name = "postrider",
    version,
    arg_required_else_help = false,
    disable_help_subcommand = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Keys(keys::Keys),
    Backup(backup::Backup),
    Openapi(openapi::Openapi),
}

/// Runs the program on its arguments, its own name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let ended = match CommandLine::try_parse_from(arguments) {
        Ok(CommandLine { command: Command::Serve(serve) }) => serve.run(),
        Ok(CommandLine { command: Command::Demo(demo) }) => demo.run(),
        Ok(CommandLine { command: Command::Keys(keys) }) => keys.run(),
        Ok(CommandLine { command: Command::Backup(backup) }) => backup.run(),
        Ok(CommandLine { command: Command::Openapi(openapi) }) => openapi.run(),
        Err(error) if is_answer(&error) => print(&error.render().to_string()),
        Err(error) => Err(misused(&error)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(ending) => {
            // Nobody is left to tell if standard error is gone.
            let _ = writeln!(io::stderr(), "postrider: {ending}");
            ending.code()
        }
    }
}

/// Whether the "error" is what was asked for.
fn is_answer(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// What clap says in several lines, in one: without the usage, which `--help` shows.
fn misused(error: &clap::Error) -> Ending {
    let text = error.render().to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or(&text);
    let said = said.split("\n\nFor more information").next().unwrap_or(said);
    let said = said.strip_prefix("error: ").unwrap_or(said).trim_end().replace("\n\n", "; ");
    Ending::misconfigured(format!("{said}; see `postrider --help`"))
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Ending> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Ending::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Runs a command's future on a runtime of its own.
fn block_on(
    worker_threads: Option<usize>,
    future: impl Future<Output = Result<(), Ending>>,
) -> Result<(), Ending> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = worker_threads {
        builder.worker_threads(threads);
    }
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Ending::failed(format!("cannot start threads: {error}")))?;
    let ended = runtime.block_on(future);
    // What is still running was given its time.
    runtime.shutdown_background();
    ended
}
