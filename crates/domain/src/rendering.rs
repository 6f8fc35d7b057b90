//! The bytes of a delivery: body and headers, by contract.
//!
//! Promise: the body is rendered once, when the event is accepted, and holds the producer's
//! `data` byte for byte; the headers are a pure function of endpoint, event, body and instant.
//! Sources: JoggAI v2 "Example Request Headers" and payload samples; KonPro v1 webhook events;
//! Standard Webhooks specification for the `webhook-*` headers; W3C Trace Context for `traceparent`.

use std::borrow::Cow;
use std::io::Write as _;
use std::ops::Range;

use crate::contract::Contract;
use crate::endpoint::Endpoint;
use crate::event::EventType;
use crate::id::EventId;
use crate::signature::{hex_signature, standard_signature};
use crate::time::Timestamp;
use crate::trace::TraceContext;

/// `User-Agent` of `jogg_v2` deliveries (JoggAI v2, "Example Request Headers").
pub const JOGG_V2_USER_AGENT: &str = "JoggAI-Webhook/2.0";

/// `User-Agent` of `konpro_v1` deliveries.
pub const KONPRO_V1_USER_AGENT: &str = "KonPro-Webhook/1.0";

/// `User-Agent` of `standard` deliveries.
pub const STANDARD_USER_AGENT: &str = concat!("Postrider/", env!("CARGO_PKG_VERSION"));

/// A delivery body, and where in it the producer's `data` stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedBody {
    /// The whole body.
    pub bytes: Vec<u8>,
    /// The place of `data` in it.
    pub data: Range<usize>,
}

/// What a body has besides its type and `data`, in bytes: at most about so many.
const HEAD_BYTES: usize = 112;

/// Renders the body of every delivery of an event. `data` must be JSON; it is not looked at.
pub fn render_body(
    contract: Contract,
    id: EventId,
    event_type: &EventType,
    timestamp: Timestamp,
    data: &[u8],
) -> RenderedBody {
    // An event type has no character that JSON would escape.
    let mut bytes = Vec::with_capacity(HEAD_BYTES + event_type.as_str().len() + data.len());
    let written = match contract {
        Contract::JoggV2 => write!(
            bytes,
            r#"{{"event_id":"{id}","event":"{event_type}","timestamp":{},"data":"#,
            timestamp.as_seconds()
        ),
        Contract::KonproV1 => write!(bytes, r#"{{"event_type":"{event_type}","event_data":"#),
        Contract::Standard => write!(
            bytes,
            r#"{{"type":"{event_type}","timestamp":"{}","data":"#,
            timestamp.to_rfc3339_seconds()
        ),
    };
    written.expect("a vector takes all that is written to it");
    let start = bytes.len();
    bytes.extend_from_slice(data);
    bytes.push(b'}');
    RenderedBody { data: start..start + data.len(), bytes }
}

/// One header of a delivery: name and value.
pub type Header = (Cow<'static, str>, Cow<'static, str>);

/// What one attempt brings.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The event.
    pub event: EventId,
    /// Its type.
    pub event_type: &'a EventType,
    /// The body, rendered by [`render_body`].
    pub body: &'a [u8],
    /// The publisher's trace, seen from this very attempt; a custom header that says otherwise
    /// gives way.
    pub trace: Option<TraceContext>,
}

/// Everything but `Host` and `Content-Length`, in the order sent.
///
/// `standard_headers` adds the three `webhook-*` headers; `standard` deliveries always have them.
pub fn render_headers(
    endpoint: &Endpoint,
    content: &Content<'_>,
    attempted_at: Timestamp,
    standard_headers: bool,
) -> Vec<Header> {
    fn push(headers: &mut Vec<Header>, name: &'static str, value: impl Into<Cow<'static, str>>) {
        headers.push((name.into(), value.into()));
    }
    let Content { event, event_type, body, trace } = *content;
    let previous = endpoint.previous_secret_at(attempted_at);
    // The contracts have room for one signature. Until the overlap ends it stays the one that
    // receivers know, and the new one is announced beside it.
    let push_hex = |headers: &mut Vec<Header>, name, name_of_next| match previous {
        Some(previous) => {
            push(headers, name, hex_signature(previous, body));
            push(headers, name_of_next, hex_signature(&endpoint.secret, body));
        }
        None => push(headers, name, hex_signature(&endpoint.secret, body)),
    };
    let mut headers: Vec<Header> = Vec::with_capacity(10 + endpoint.headers.len());
    push(&mut headers, "content-type", "application/json");
    let user_agent = match endpoint.contract {
        Contract::JoggV2 => {
            push(&mut headers, "x-webhook-event", event_type.as_str().to_owned());
            push_hex(&mut headers, "x-webhook-signature", "x-webhook-signature-next");
            JOGG_V2_USER_AGENT
        }
        Contract::KonproV1 => {
            push_hex(&mut headers, "signature", "signature-next");
            KONPRO_V1_USER_AGENT
        }
        Contract::Standard => STANDARD_USER_AGENT,
    };
    push(&mut headers, "user-agent", user_agent);
    push(&mut headers, "accept-encoding", "identity");
    if standard_headers || endpoint.contract == Contract::Standard {
        push(&mut headers, "webhook-id", event.to_string());
        push(&mut headers, "webhook-timestamp", attempted_at.as_seconds().to_string());
        let secrets = std::iter::once(&endpoint.secret).chain(previous);
        let signature = standard_signature(secrets, event, attempted_at, body);
        push(&mut headers, "webhook-signature", signature);
    }
    if let Some(trace) = trace {
        push(&mut headers, "traceparent", trace.to_string());
    }
    for (name, value) in endpoint.headers.iter() {
        if trace.is_some() && is_of_a_trace(name) {
            continue;
        }
        headers.push((name.to_owned().into(), value.to_owned().into()));
    }
    headers
}

fn is_of_a_trace(name: &str) -> bool {
    ["traceparent", "tracestate"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custom_headers::CustomHeaders;
    use crate::testing::{TEST_START, an_account, an_endpoint};

    fn body(contract: Contract, name: &str, data: &str) -> String {
        let rendered = render_body(
            contract,
            EventId::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            &EventType::parse(name).unwrap(),
            Timestamp::from_seconds(1_732_806_631),
            data.as_bytes(),
        );
        assert_eq!(&rendered.bytes[rendered.data.clone()], data.as_bytes());
        String::from_utf8(rendered.bytes).unwrap()
    }

    #[test]
    fn a_body_has_the_keys_of_its_contract_in_order_and_the_data_byte_for_byte() {
        let data = "{ \"b\" : 1.0,\n \"a\":\"\\u00e4\" }";
        assert_eq!(
            body(Contract::JoggV2, "generated_video_success", data),
            format!(
                "{{\"event_id\":\"evt_0123456789abcdef0123456789abcdef\",\
                 \"event\":\"generated_video_success\",\"timestamp\":1732806631,\"data\":{data}}}"
            )
        );
        assert_eq!(
            body(Contract::KonproV1, "avatar_video.success", data),
            format!("{{\"event_type\":\"avatar_video.success\",\"event_data\":{data}}}")
        );
        assert_eq!(
            body(Contract::Standard, "video.ready", data),
            format!(
                "{{\"type\":\"video.ready\",\"timestamp\":\"2024-11-28T15:10:31Z\",\"data\":{data}}}"
            )
        );
    }

    #[test]
    fn a_trace_goes_along_before_the_custom_headers_and_instead_of_theirs() {
        let mut endpoint = an_endpoint(&an_account(Contract::Standard, 1), 1);
        let custom = [("X-Tenant", "blue"), ("TraceParent", "mine"), ("tracestate", "a=b")];
        let custom = custom.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        endpoint.headers = CustomHeaders::new(custom).unwrap();
        let names = |trace| -> Vec<String> {
            let event_type = EventType::parse("video.ready").unwrap();
            let content = Content {
                event: EventId::from_u128(1),
                event_type: &event_type,
                body: b"{}",
                trace,
            };
            let headers = render_headers(&endpoint, &content, TEST_START, true);
            headers.iter().map(|(name, _)| name.to_string()).collect()
        };
        let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert!(trace.is_some());
        assert_eq!(names(trace)[5..], ["webhook-signature", "traceparent", "X-Tenant"]);
        let without = ["webhook-signature", "X-Tenant", "TraceParent", "tracestate"];
        assert_eq!(names(None)[5..], without);
    }
}
