//! Who may ask at all: a good key of a `jogg_v2` account that has API access.

use axum::extract::FromRequestParts;
use axum::response::Response;
use domain::contract::Contract;
use http::request::Parts;

use super::envelope::{Envelope, Failure};
use crate::ApiState;
use crate::customer::Customer;

/// An account that may ask.
pub(super) struct Permitted(pub(super) Customer);

impl FromRequestParts<ApiState> for Permitted {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Response> {
        let Ok(envelope) = Envelope::from_request_parts(parts, state).await;
        let permitted = match Customer::find(&state.engine, Contract::JoggV2, &parts.headers).await
        {
            Ok(Some(customer)) if customer.account.api_access => Ok(Self(customer)),
            Ok(Some(_)) => Err(Failure::no_permission()),
            Ok(None) => Err(Failure::invalid_api_key()),
            Err(error) => Err(error.into()),
        };
        permitted.map_err(|failure| envelope.refuse(failure))
    }
}
