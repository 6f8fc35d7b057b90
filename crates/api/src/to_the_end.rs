//! Every request that was begun is carried to its end, or leaves nothing half made.
//!
//! Promise: a caller who hangs up does not leave a change half made, for example durable in storage
//! and not yet known in memory: it is carried to its end all the same, except publishing, whose
//! loose ends the engine finds by itself. A bug in a handler is answered as our fault, in the words
//! of the surface that was asked, instead of with a broken connection. What is bounded stays bounded:
//! bodies arrive within [`crate::body::BODY_ARRIVES_WITHIN`] or not at all, and the engine bounds
//! its own work.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use engine::{EngineError, ErrorCode};
use futures_util::FutureExt as _;
use http::Method;
use tower::Service as _;

use crate::platform::publish;
use crate::platform::rate_limit::Standing;
use crate::problem::{self, Problem};
use crate::request_id::RequestId;
use crate::{ApiState, jogg_v2, konpro_v1};

/// Gives the request its id, serves it in a task of its own, logs under that id what went wrong
/// inside, and says how the key's limit stands.
pub(crate) async fn serve(state: ApiState, mut request: Request, mut routes: Router) -> Response {
    let id = RequestId::new(&*state.settings.entropy);
    request.extensions_mut().insert(id);
    let standing = Standing::default();
    request.extensions_mut().insert(standing.clone());
    let (surface, uri) = (Surface::of(request.uri().path()), request.uri().clone());
    let served = if is_publish(&request) {
        // A handler's own state goes with it, and what it shares is behind locks that bear it.
        AssertUnwindSafe(publish::answer(state.clone(), request))
            .catch_unwind()
            .await
            .map_err(|_| "it panicked".to_owned())
    } else {
        let served = tokio::spawn(routes.call(request)).await;
        served.map(into_answer).map_err(|error| error.to_string())
    };
    let mut answer = match served {
        Ok(answer) if surface == Surface::Platform => problem::complete(answer, id),
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(rid = %id, path = uri.path(), error, "a handler did not come to its end");
            let error = EngineError::new(ErrorCode::Internal, "the request could not be served");
            match surface {
                Surface::JoggV2 => jogg_v2::Envelope::new(id, state.settings.jogg_v2_http_status)
                    .refuse(error.into()),
                Surface::KonproV1 => konpro_v1::Envelope::new(id).refuse(error.into()),
                Surface::Platform => Problem::from(error).into_answer(id),
            }
        }
    };
    if let Some(Cause(cause)) = answer.extensions_mut().remove() {
        tracing::error!(rid = %id, path = uri.path(), %cause, "a request failed inside");
    }
    id.mark(&mut answer);
    standing.show(&mut answer);
    answer
}

/// Whether the request publishes an event: the one kind that may be given up at any point, because
/// the engine finds what it left behind, and the one that is too frequent for a task of its own and
/// for a search for its route.
fn is_publish(request: &Request) -> bool {
    request.method() == Method::POST && request.uri().path() == publish::PATH
}

fn into_answer(served: Result<Response, Infallible>) -> Response {
    served.unwrap_or_else(|never| match never {})
}

/// What went wrong inside while a request was served: on its way to the log, in the extensions of
/// the answer.
#[derive(Clone, Debug)]
pub(crate) struct Cause(Arc<str>);

impl Cause {
    /// The cause of a refusal, if it lies inside.
    pub(crate) fn of(error: &EngineError) -> Option<Self> {
        error.cause().cloned().map(Self)
    }
}

/// Whose words a path is answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Surface {
    JoggV2,
    KonproV1,
    Platform,
}

impl Surface {
    fn of(path: &str) -> Self {
        match path.split('/').nth(1) {
            Some("v2") => Self::JoggV2,
            Some("v1") => Self::KonproV1,
            _ => Self::Platform,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_answered_in_the_words_of_its_surface() {
        assert_eq!(Surface::of("/v2/endpoints"), Surface::JoggV2);
        assert_eq!(Surface::of("/v1/webhook/endpoint.list"), Surface::KonproV1);
        for path in ["/api/v1/accounts", "/", "", "/v22", "/healthz"] {
            assert_eq!(Surface::of(path), Surface::Platform, "{path}");
        }
    }
}
