//! The refusals that operations have in common, for their descriptions.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
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

/// The refusal of a request over the key's limit, and the fields that every answer to a limited key
/// has.
fn too_many_requests() -> Response {
    let header = |kind, description| {
        let schema = ObjectBuilder::new().schema_type(kind).build();
        HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
    };
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new()
        .description(
            "Too many requests with this key; every answer to a limited key says in `RateLimit` \
             and `RateLimit-Policy` how its limit stands",
        )
        .content(PROBLEM_JSON, content)
        .header("Retry-After", header(Type::Integer, "Seconds after which a request is taken"))
        .header(
            "RateLimit-Policy",
            header(Type::String, "The limit: `\"default\";q=`requests`;w=`seconds"),
        )
        .header(
            "RateLimit",
            header(
                Type::String,
                "What is left: `\"default\";r=`requests`;t=`seconds until all of it is there again",
            ),
        )
        .build()
}

/// Of every operation that needs a key.
pub(super) struct OfEvery;

impl IntoResponses for OfEvery {
    fn responses() -> Responses {
        let mut responses = problems([
            ("401", "The key is missing or opens nothing"),
            ("403", "The platform has withdrawn API access from the account"),
            ("500", "Our fault; the log says more under the request id"),
            ("503", "Storage is lacking, or we are shutting down; ask again after `Retry-After`"),
        ]);
        responses.insert("429".to_owned(), too_many_requests().into());
        responses
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
