//! The one binary: command line, configuration, wiring, life cycle, telemetry.
//!
//! Promise: [`wire`] is the one place that knows every adapter; nothing here decides what becomes
//! of an event. Whatever keeps the program from running is one line on standard error that names
//! the fix, and an exit code that tells wrong configuration from failure ([`ending`]).
//!
//! Reading order: [`cli`], [`config`], [`wire`], [`life`], [`listen`], [`telemetry`]; [`demo`]
//! is the program's own first customer.

#![warn(missing_docs)]

pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod ending;
pub mod key_file;
pub mod life;
pub mod listen;
pub mod telemetry;
pub mod wire;
