//! Nouns and rules: what Postrider knows, before any technology.
//!
//! Promise: nothing in here performs I/O, waits, reads a clock, draws randomness or serialises
//! itself. Every rule is a function of its arguments, so every rule is tested in a table or as a
//! property. Neighbours: `store` keeps these values, `engine` moves them, surfaces print them.
//!
//! Reading order: [`contract`] and [`account`] (who), [`event`] and [`endpoint`] (what and where
//! to), [`matching`] (who wants what), [`rendering`] and [`signature`] (the bytes that leave),
//! [`attempt`], [`retry`] and [`delivery`] (what happens next), [`audit`] and [`sealing`] (what is
//! kept of it, and how), [`limits`] (every bound).

#![warn(missing_docs)]

pub mod account;
pub mod address;
pub mod attempt;
pub mod audit;
pub mod breaker;
pub mod catalogue;
pub mod contract;
pub mod credentials;
pub mod custom_headers;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod filter;
pub mod health;
pub mod id;
pub mod json_depth;
pub mod limits;
pub mod matching;
pub mod ordering;
pub mod pace;
pub mod page;
pub mod rendering;
pub mod replay;
pub mod retention;
pub mod retry;
pub mod sealing;
pub mod secret;
pub mod signature;
pub mod subscription;
pub mod target_url;
pub mod time;
pub mod trace;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
