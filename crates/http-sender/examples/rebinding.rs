//! Delivers under DNS rebinding and prints what happened:
//! `cargo run -p http-sender --example rebinding -- 10000`.
//!
//! Ends with a failure when a single connection reached the trap.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "shares its parts with the tests"
)]

use std::process::ExitCode;

#[path = "../tests/it/dns.rs"]
mod dns;
#[path = "../tests/it/rebinding.rs"]
mod rebinding;
#[path = "../tests/it/support.rs"]
mod support;
#[path = "../tests/it/world.rs"]
mod world;

/// How many when nobody says.
const DELIVERIES: usize = 10_000;

#[tokio::main]
#[allow(clippy::print_stdout, reason = "the figures are for whoever started it")]
async fn main() -> ExitCode {
    let asked = std::env::args().nth(1).map(|text| text.parse());
    let Ok(deliveries) = asked.unwrap_or(Ok(DELIVERIES)) else {
        println!("how many deliveries? a whole number");
        return ExitCode::from(2);
    };
    let figures = rebinding::rebind(deliveries).await;
    println!("{figures}");
    if figures.to_trap == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
