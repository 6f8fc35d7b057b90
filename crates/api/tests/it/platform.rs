//! The platform API.

mod accounts_and_keys;
mod audit;
mod cancelling;
mod deliveries;
mod documents;
mod endpoints;
mod event_types;
mod events;
mod filters;
mod harness;
mod operations;
mod publishing;
mod rate_limits;
mod refusals;
mod replays;
mod rotation;
mod scopes;
mod stats;
