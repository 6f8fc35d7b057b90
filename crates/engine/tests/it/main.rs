//! The engine under paused time, on the in-memory store, with a scripted sender: days pass in
//! milliseconds, and every run is the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod accounts;
mod audit_log;
mod breaker;
mod cancelling;
mod delivering;
mod endpoint_settings;
mod erasing;
mod event_types;
mod fairness;
mod filters;
mod following;
mod harness;
mod health;
mod notices;
mod order;
mod pace;
mod poison;
mod publishing;
mod receiver_control;
mod recovery;
mod replays;
mod request_rate;
mod rotation;
mod schedule;
mod scheduling;
mod spans;
