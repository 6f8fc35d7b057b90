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
#[schema(as = konpro_v1::WebhookEndpoint)]
pub(super) struct WebhookEndpoint {
    /// Its id.
    #[schema(example = "webhook_0197f3a07c2b7d4e8a1b2c3d4e5f6071")]
    endpoint_id: String,
    /// Where deliveries go.
    #[schema(format = "uri", example = "https://example.com/konpro/webhooks")]
    url: String,
    /// The key of its signatures.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: String,
    /// `enabled` or `disabled`; set by the platform.
    #[schema(value_type = Status)]
    status: &'static str,
    /// The event types it gets; empty for all.
    #[schema(example = json!(["avatar_video.success"]))]
    events: Vec<String>,
    /// The owner's username.
    #[schema(example = "user123")]
    username: String,
    /// When it was created, to the second.
    #[schema(format = DateTime, example = "2024-01-15T10:30:00Z")]
    created_at: String,
}

/// Whether an endpoint takes deliveries.
#[derive(ToSchema)]
#[schema(as = konpro_v1::Status, rename_all = "lowercase")]
#[expect(dead_code, reason = "describes a text for the OpenAPI document; never built")]
enum Status {
    Enabled,
    Disabled,
}

impl WebhookEndpoint {
    pub(super) fn of(endpoint: &domain::endpoint::Endpoint, owner: &Account) -> Self {
        let events = match &endpoint.subscription {
            Subscription::Listed(types) => types.iter().map(ToString::to_string).collect(),
            Subscription::All => Vec::new(),
        };
        Self {
            endpoint_id: endpoint.id.to_string(),
            url: endpoint.url.as_str().to_owned(),
            secret: endpoint.secret.reveal().to_owned(),
            status: endpoint.status.name(),
            events,
            username: owner.username.as_str().to_owned(),
            created_at: endpoint.created_at.to_rfc3339_seconds(),
        }
    }
}

/// A new endpoint; other members are ignored.
#[derive(ToSchema)]
#[schema(as = konpro_v1::NewEndpoint)]
pub(super) struct NewEndpointFields {
    /// Where deliveries are to go: HTTPS, and answering an `OPTIONS` request within a second.
    #[schema(format = "uri", example = "https://example.com/konpro/webhooks")]
    url: String,
    /// The event types it is to get; all when omitted, `null` or empty.
    #[schema(value_type = Option<Vec<String>>, required = false, example = json!(["avatar_video.success"]))]
    events: Events,
    /// Only events about this entity, such as a video or a project.
    #[schema(max_length = 255, example = "project123")]
    entity_id: Option<String>,
}

/// A change to an endpoint; what is omitted stays, other members are ignored.
#[derive(ToSchema)]
#[schema(as = konpro_v1::EndpointChange)]
pub(super) struct EndpointChangeFields {
    /// Which endpoint.
    #[schema(example = "webhook_0197f3a07c2b7d4e8a1b2c3d4e5f6071")]
    pub(super) endpoint_id: String,
    /// Where deliveries are to go: HTTPS, and answering an `OPTIONS` request within a second.
    #[schema(format = "uri", nullable = false, example = "https://example.com/new-webhook-url")]
    url: Option<String>,
    /// The event types it is to get; all when `null` or empty.
    #[schema(value_type = Option<Vec<String>>, required = false, example = json!(["avatar_video.success"]))]
    events: Option<Events>,
}

impl NewEndpointFields {
    /// Reads a body; names every member that is missing or has the wrong type.
    pub(super) fn read(members: Map<String, Value>) -> Result<Self, Vec<Violation>> {
        let mut fields = Fields::of(members);
        let url = fields.required("url").and_then(|value| fields.text("url", value));
        let events = read_events(&mut fields).unwrap_or(Events::All);
        let entity_id = fields
            .take("entity_id")
            .filter(|value| !value.is_null())
            .and_then(|value| fields.text("entity_id", value));
        let wrong = fields.wrong();
        match url {
            Some(url) if wrong.is_empty() => Ok(Self { url, events, entity_id }),
            _ => Err(wrong),
        }
    }
}

impl EndpointChangeFields {
    /// Reads a body; names every member that is missing or has the wrong type.
    pub(super) fn read(members: Map<String, Value>) -> Result<Self, Vec<Violation>> {
        let mut fields = Fields::of(members);
        let endpoint_id =
            fields.required("endpoint_id").and_then(|value| fields.text("endpoint_id", value));
        let url = fields.take("url").and_then(|value| fields.text("url", value));
        let events = read_events(&mut fields);
        let wrong = fields.wrong();
        match endpoint_id {
            Some(endpoint_id) if wrong.is_empty() => Ok(Self { endpoint_id, url, events }),
            _ => Err(wrong),
        }
    }
}

/// `None` when omitted. "Use None or an empty list to subscribe to all" (KonPro v1).
fn read_events(fields: &mut Fields) -> Option<Events> {
    let value = fields.take("events")?;
    if value.is_null() {
        return Some(Events::All);
    }
    let names = fields.names("events", value)?;
    Some(if names.is_empty() { Events::All } else { Events::Listed(names) })
}

impl From<NewEndpointFields> for NewEndpoint {
    fn from(NewEndpointFields { url, events, entity_id }: NewEndpointFields) -> Self {
        Self { url, events, entity_id, ..Self::default() }
    }
}

impl From<EndpointChangeFields> for EndpointEdit {
    fn from(EndpointChangeFields { endpoint_id: _, url, events }: EndpointChangeFields) -> Self {
        Self { url, events, ..Self::default() }
    }
}
