//! The platform API, `/api/v1`: for the platform's back end, which publishes events and manages its
//! customers, and for operators.
//!
//! Promise: names and shapes are fixed; fields may be added at the end of a resource. A key sees
//! its own account only, and everything else is not found. Requests say nothing that we pass over:
//! unknown fields and parameters are refused by name. Every answer tells a limited key how its
//! limit stands ([`rate_limit`]). Refusals are problem documents ([`crate::problem`]), lists are
//! pages ([`crate::page`]). One file a resource.

use utoipa_axum::router::OpenApiRouter;

use crate::ApiState;

mod accounts;
mod answer;
mod attempts;
mod audit;
mod caller;
mod deliveries;
mod endpoint_settings;
mod endpoints;
mod event_types;
mod events;
mod fields;
mod filters;
mod header_fields;
mod health;
mod health_of;
mod instant;
mod json_body;
mod keys;
mod operations;
pub(crate) mod parameters;
mod path_id;
pub(crate) mod publish;
pub(crate) mod rate_limit;
mod refusals;
mod replays;
mod sealing_keys;
mod secrets;
mod stats;

/// Every route of the platform API, and those that belong to the service as a whole.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .merge(accounts::routes())
        .merge(operations::routes())
        .merge(keys::routes())
        .merge(endpoints::routes())
        .merge(secrets::routes())
        .merge(filters::routes())
        .merge(event_types::routes())
        .merge(publish::routes())
        .merge(events::routes())
        .merge(deliveries::routes())
        .merge(attempts::routes())
        .merge(replays::routes())
        .merge(audit::routes())
        .merge(sealing_keys::routes())
        .merge(stats::routes())
        .merge(health::routes())
        .merge(crate::openapi::routes())
}
