//! The platform API.

mod accounts_and_keys;
mod deliveries;
mod documents;
mod endpoints;
mod events;
mod harness;
mod publishing;
mod refusals;
mod scopes;
