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
mod endpoints;
mod events;
mod fields;
mod header_fields;
mod health;
mod json_body;
mod keys;
pub(crate) mod parameters;
mod path_id;
mod publish;
pub(crate) mod rate_limit;
mod refusals;
mod sealing_keys;
mod secrets;

/// Every route of the platform API, and those that belong to the service as a whole.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .merge(accounts::routes())
        .merge(keys::routes())
        .merge(endpoints::routes())
        .merge(secrets::routes())
        .merge(publish::routes())
        .merge(events::routes())
        .merge(deliveries::routes())
        .merge(attempts::routes())
        .merge(audit::routes())
        .merge(sealing_keys::routes())
        .merge(health::routes())
        .merge(crate::openapi::routes())
}
