//! Sends requests to receivers whose answers do not end, and prints what that costs in memory:
//! `cargo run -p http-sender --example endless_bodies -- 64 50`, for 64 attempts at once and 50
//! rounds of them.
//!
//! Ends with a failure when the memory grew by more than 64 KiB per attempt and 16 MiB.

#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    clippy::allow_attributes,
    reason = "shares its parts with the tests"
)]

use std::process::ExitCode;

#[path = "../tests/it/breaking.rs"]
mod breaking;
#[path = "../tests/it/endless.rs"]
mod endless;
#[path = "../tests/it/frames.rs"]
mod frames;
#[path = "../tests/it/secure.rs"]
mod secure;
#[path = "../tests/it/support.rs"]
mod support;

/// Attempts at once and rounds of them, when nobody says.
const AT_ONCE: usize = 64;
const ROUNDS: usize = 50;

#[tokio::main]
#[allow(clippy::print_stdout, reason = "the figures are for whoever started it")]
async fn main() -> ExitCode {
    let mut asked = std::env::args().skip(1).map(|text| text.parse());
    let (Ok(at_once), Ok(rounds)) =
        (asked.next().unwrap_or(Ok(AT_ONCE)), asked.next().unwrap_or(Ok(ROUNDS)))
    else {
        println!("how many attempts at once, and how many rounds of them? two whole numbers");
        return ExitCode::from(2);
    };
    let figures = endless::endless(at_once, rounds).await;
    println!("{figures}");
    if figures.is_flat() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
