//! Who may ask at all: a good key of a `konpro_v1` account that has API access and is within the
//! limit of its plan.

use axum::extract::FromRequestParts;
use axum::response::Response;
use domain::contract::Contract;
use http::request::Parts;

use super::envelope::{Envelope, Failure};
use crate::ApiState;
use crate::customer::Customer;

/// An account that may ask. Each extraction counts as a request.
pub(super) struct Permitted(pub(super) Customer);

impl FromRequestParts<ApiState> for Permitted {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Response> {
        let Ok(envelope) = Envelope::from_request_parts(parts, state).await;
        permit(parts, state).await.map_err(|failure| envelope.refuse(failure))
    }
}

async fn permit(parts: &Parts, ApiState { engine, .. }: &ApiState) -> Result<Permitted, Failure> {
    let customer = Customer::find(engine, Contract::KonproV1, &parts.headers)
        .await?
        .ok_or_else(Failure::invalid_api_key)?;
    if !customer.account.api_access {
        return Err(Failure::insufficient_permissions());
    }
    match engine.count_konpro_v1_request(&customer.account) {
        Some(rate) if !rate.is_allowed => {
            Err(Failure::rate_limit_exceeded(rate.reset_at.since(engine.clock().now())))
        }
        _ => Ok(Permitted(customer)),
    }
}
