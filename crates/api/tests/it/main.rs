//! The surfaces as a caller meets them: requests in, bytes out, on a real engine over the in-memory
//! store, with time, chance and receivers scripted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod any_body;
mod app;
mod behind_an_address;
mod contract_samples;
mod jogg_v2;
mod konpro_v1;
mod mass_assignment;
mod operations;
mod platform;
mod secrets;
mod tenants;
mod to_the_end;
mod world;
