//! The HTTP surfaces: the two customer contracts and the platform API, on one [`engine::Engine`].
//!
//! Promise: a surface translates and nothing more. It reads a request into the engine's words, asks
//! the engine, and writes the answer in its own envelope; it never sees a store. Every route is
//! registered together with its description, so `/openapi.json` cannot drift from what is served.
//! Every answer, of whatever surface, carries its request id, which is also in the log where
//! something went wrong inside. A request that was begun is carried to its end (`to_the_end`).
//!
//! Reading order: [`jogg_v2`] and [`konpro_v1`] (the customer contracts), [`platform`] (producers
//! and operators), `body`, `fields`, `customer` and `request_id` (what they share).

#![warn(missing_docs)]

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use engine::Engine;
use engine::entropy::{PooledEntropy, SharedEntropy, SystemEntropy};
use futures_util::FutureExt as _;
use tower::service_fn;
use utoipa_axum::router::OpenApiRouter;

mod body;
mod customer;
mod fields;
pub mod jogg_v2;
mod key;
pub mod konpro_v1;
mod openapi;
mod page;
pub mod platform;
mod problem;
mod request_id;
mod seconds;
mod to_the_end;

/// What the operator may set about the surfaces.
#[derive(Clone)]
pub struct ApiSettings {
    /// Which HTTP status `jogg_v2` errors have.
    pub jogg_v2_http_status: jogg_v2::HttpStatus,
    /// Where request ids come from.
    pub entropy: SharedEntropy,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            jogg_v2_http_status: jogg_v2::HttpStatus::Mapped,
            entropy: Arc::new(PooledEntropy::new(Arc::new(SystemEntropy))),
        }
    }
}

/// What every handler may use.
#[derive(Clone)]
pub(crate) struct ApiState {
    pub(crate) engine: Engine,
    pub(crate) settings: Arc<ApiSettings>,
}

/// Every route of every surface.
pub fn router(engine: Engine, settings: ApiSettings) -> Router {
    let state = ApiState { engine, settings: Arc::new(settings) };
    let routes = Router::from(routes()).fallback(problem::unknown_path).with_state(state.clone());
    // Before all routes and not a layer around each, which would cost every request more boxes.
    let serve = service_fn(move |request| {
        to_the_end::serve(state.clone(), request, routes.clone()).map(Ok::<_, Infallible>)
    });
    Router::new().route_service(platform::publish::PATH, serve.clone()).fallback_service(serve)
}

/// The OpenAPI document of every route in [`router`].
pub fn openapi_document() -> utoipa::openapi::OpenApi {
    routes().into_openapi()
}

fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::preface())
        .merge(jogg_v2::routes())
        .merge(konpro_v1::routes())
        .merge(platform::routes())
}
