//! What the targets stand on: the surfaces over an engine in memory, and a receiver in memory.
//!
//! Promise: nothing in here touches disk or network, reads the clock or draws chance, so that an
//! input does the same each time. A panic anywhere, also where the product would catch it, ends
//! the run, because libFuzzer's hook sees it first.

#![forbid(unsafe_code)]

pub mod receiver;
pub mod surface;
