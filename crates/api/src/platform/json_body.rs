//! The body of a platform request: bounded, said to be JSON, not yet read.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use domain::limits::REQUEST_BODY_BYTES_MAX;

use crate::ApiState;
use crate::body;
use crate::problem::Problem;

/// A body of at most `BYTES_MAX` bytes, possibly empty, for [`super::fields`] to read.
pub(super) struct JsonBody<const BYTES_MAX: usize = REQUEST_BODY_BYTES_MAX>(pub(super) Bytes);

impl<const BYTES_MAX: usize> FromRequest<ApiState> for JsonBody<BYTES_MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &ApiState) -> Result<Self, Problem> {
        Ok(Self(body::read_json_of_any_depth(request, BYTES_MAX).await?))
    }
}
