//! The engine under paused time, on the in-memory store, with a scripted sender: days pass in
//! milliseconds, and every run is the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod accounts;
mod delivering;
mod harness;
mod publishing;
mod recovery;
mod schedule;
