//! The refusals that operations have in common, for their descriptions.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{Ref, RefOr};

use crate::problem::PROBLEM_JSON;

type Responses = BTreeMap<String, RefOr<Response>>;

fn problems<const N: usize>(rows: [(&str, &str); N]) -> Responses {
    rows.into_iter()
        .map(|(status, description)| {
            let content =
                ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let response =
                ResponseBuilder::new().description(description).content(PROBLEM_JSON, content);
            (status.to_owned(), response.build().into())
        })
        .collect()
}

/// Of every operation that needs a key.
pub(super) struct OfEvery;

impl IntoResponses for OfEvery {
    fn responses() -> Responses {
        problems([
            ("401", "The key is missing or opens nothing"),
            ("403", "The platform has withdrawn API access from the account"),
            ("500", "Our fault; the log says more under the request id"),
            ("503", "Storage is lacking, or we are shutting down; ask again after `Retry-After`"),
        ])
    }
}

/// Of every operation on something that may not be there.
pub(super) struct OfFinding;

impl IntoResponses for OfFinding {
    fn responses() -> Responses {
        problems([("404", "There is no such thing, or the key may not see it")])
    }
}

/// Of every operation with query parameters.
pub(super) struct OfParameters;

impl IntoResponses for OfParameters {
    fn responses() -> Responses {
        problems([("422", "Parameters are wrong or unknown; `errors` names them")])
    }
}

/// Of every operation with a body.
pub(super) struct OfBody;

impl IntoResponses for OfBody {
    fn responses() -> Responses {
        problems([
            ("400", "The body is not JSON"),
            ("408", "The body did not arrive in time"),
            ("413", "The body or something in it is too large"),
            ("415", "The body is not said to be JSON"),
            ("422", "Fields are missing, wrong or unknown; `errors` names them"),
        ])
    }
}

/// Of every operation that something else may be in the way of.
pub(super) struct OfConflict;

impl IntoResponses for OfConflict {
    fn responses() -> Responses {
        problems([("409", "Something else is in the way; `detail` says what")])
    }
}

/// Of the probe that asks whether we can do our work.
pub(super) struct OfProbe;

impl IntoResponses for OfProbe {
    fn responses() -> Responses {
        problems([("503", "It cannot just now; `detail` says why")])
    }
}
