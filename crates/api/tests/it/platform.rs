//! The platform API.

mod accounts_and_keys;
mod audit;
mod deliveries;
mod documents;
mod endpoints;
mod events;
mod harness;
mod publishing;
mod rate_limits;
mod refusals;
mod rotation;
mod scopes;
