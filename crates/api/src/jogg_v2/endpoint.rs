//! An endpoint as this contract writes it, and as it is written to us.

use domain::account::Account;
use domain::subscription::Subscription;
use engine::Violation;
use engine::administer::{EndpointEdit, Events, NewEndpoint};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::fields::Fields;

/// A webhook endpoint, members in the documents' order.
#[derive(Serialize, ToSchema)]
#[schema(as = jogg_v2::WebhookEndpoint)]
pub(super) struct WebhookEndpoint {
    /// Its id.
    #[schema(example = "wh_0197f3a07c2b7d4e8a1b2c3d4e5f6071")]
    endpoint_id: String,
    /// Where deliveries go.
    #[schema(format = "uri", example = "https://your-domain.com/webhook")]
    url: String,
    /// The key of its signatures.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: String,
    /// `enabled` or `disabled`.
    #[schema(value_type = Status)]
    status: &'static str,
    /// The event types it gets.
    #[schema(example = json!(["generated_avatar_video_success"]))]
    events: Vec<String>,
    /// The owner's username.
    #[schema(example = "johndoe")]
    username: String,
    /// When it was created, in Unix seconds.
    #[schema(example = 1_732_806_631)]
    created_at: i64,
}

/// Whether an endpoint takes deliveries.
#[derive(ToSchema)]
#[schema(as = jogg_v2::Status, rename_all = "lowercase")]
#[expect(dead_code, reason = "describes a text for the OpenAPI document; never built")]
enum Status {
    Enabled,
    Disabled,
}

impl WebhookEndpoint {
    /// `all` is every event type that it may subscribe to.
    pub(super) fn of(
        endpoint: &domain::endpoint::Endpoint,
        owner: &Account,
        all: &[String],
    ) -> Self {
        let events = match &endpoint.subscription {
            Subscription::Listed(types) => types.iter().map(ToString::to_string).collect(),
            // Only the platform API can set this; this contract has no shorter way to say it.
            Subscription::All => all.to_vec(),
        };
        Self {
            endpoint_id: endpoint.id.to_string(),
            url: endpoint.url.as_str().to_owned(),
            secret: endpoint.secret.reveal().to_owned(),
            status: endpoint.status.name(),
            events,
            username: owner.username.as_str().to_owned(),
            created_at: endpoint.created_at.as_seconds(),
        }
    }
}

/// What a caller says of an endpoint, in whole; other members are ignored.
#[derive(ToSchema)]
#[schema(as = jogg_v2::EndpointFields)]
pub(super) struct EndpointFields {
    /// Where deliveries are to go: a public HTTPS address.
    #[schema(format = "uri", example = "https://your-domain.com/webhook")]
    url: String,
    /// `enabled` or `disabled`.
    #[schema(value_type = Status)]
    #[schema(rename = "status")]
    is_disabled: bool,
    /// The event types it is to get; at least one.
    #[schema(min_items = 1, example = json!(["generated_avatar_video_success", "generated_avatar_video_failed"]))]
    events: Vec<String>,
}

impl EndpointFields {
    /// Reads a body; names every member that is missing or has the wrong type.
    pub(super) fn read(members: Map<String, Value>) -> Result<Self, Vec<Violation>> {
        let mut fields = Fields::of(members);
        let url = fields.required("url").and_then(|value| fields.text("url", value));
        let is_disabled = fields.required("status").and_then(|value| match value.as_str() {
            Some("enabled") => Some(false),
            Some("disabled") => Some(true),
            _ => fields.refuse("status", "must be `enabled` or `disabled`"),
        });
        let events = fields.required("events").and_then(|value| fields.names("events", value));
        match (url, is_disabled, events) {
            (Some(url), Some(is_disabled), Some(events)) => Ok(Self { url, is_disabled, events }),
            _ => Err(fields.wrong()),
        }
    }
}

impl From<EndpointFields> for NewEndpoint {
    fn from(EndpointFields { url, is_disabled, events }: EndpointFields) -> Self {
        Self { url, is_disabled, events: Events::Listed(events), ..Self::default() }
    }
}

impl From<EndpointFields> for EndpointEdit {
    fn from(EndpointFields { url, is_disabled, events }: EndpointFields) -> Self {
        Self {
            url: Some(url),
            is_disabled: Some(is_disabled),
            events: Some(Events::Listed(events)),
            ..Self::default()
        }
    }
}
