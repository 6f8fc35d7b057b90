//! What the tests of every crate are built from: receivers, doubles of the engine's ports, an
//! independent verifier of signatures, and the auditor of the promises.
//!
//! Promise: nothing in here waits by sleeping; every wait ends when its condition holds or panics
//! with what was seen. Nothing in here shares code with what it checks. Used by tests only; no
//! crate of the product depends on it. Neighbours: [`doubles`] stand behind the ports of `engine`,
//! [`receiver`] and [`foreign`] stand at the other end of `http-sender`.
//!
//! A crate that depends on this one for its tests uses it from its `tests/` folder: its own unit
//! tests would see two builds of the same types.

#![warn(missing_docs)]

pub mod auditor;
pub mod doubles;
pub mod foreign;
pub mod gate;
pub mod journal;
pub mod receiver;
pub mod verify;

use std::time::Duration;

/// How long a test waits for what must happen, in running time. Far beyond what a loaded machine
/// needs, since it passes only when something is broken.
pub const PATIENCE: Duration = Duration::from_mins(1);
