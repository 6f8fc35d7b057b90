//! The auditor: holds what was acknowledged against what receivers saw, and names every broken
//! promise.
//!
//! It knows the promises and nothing of how they are kept: its inputs are ids that were answered
//! with 202, requests that arrived, and counts.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use domain::contract::Contract;
use domain::id::EventId;
use store::history::Counts;

use crate::receiver::ReceivedRequest;
use crate::verify::{VerifyError, verify};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged event never got a 2xx from an endpoint it was owed to.
    Lost {
        /// The event.
        event: EventId,
        /// The endpoint's path.
        path: String,
    },
    /// A delivery came of an event that nobody acknowledged, or to an endpoint it was not owed to.
    Phantom {
        /// Its `webhook-id`, as it came.
        webhook_id: Option<String>,
        /// The path it came to.
        path: String,
    },
    /// A delivery came again after a 2xx, and nothing had failed.
    Duplicate {
        /// The event.
        event: EventId,
        /// The endpoint's path.
        path: String,
    },
    /// A repeat had another body than the first delivery of the event.
    BodyChanged {
        /// The event.
        event: EventId,
        /// The endpoint's path.
        path: String,
    },
    /// A delivery's signature does not verify.
    NotGenuine {
        /// Its `webhook-id`, as it came.
        webhook_id: Option<String>,
        /// The path it came to.
        path: String,
        /// What is wrong with it.
        error: VerifyError,
    },
    /// created ≠ pending + delivered + exhausted + cancelled.
    Unbalanced(Counts),
}

/// Whether something was broken on purpose while the requests were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Nothing was: no duplicate is permitted.
    None,
    /// A process was killed, a connection or an answer lost: duplicates and events whose
    /// acknowledgement was lost may arrive.
    Some,
}

/// What was promised, collected as the test goes.
#[derive(Clone, Debug, Default)]
pub struct Auditor {
    endpoints: BTreeMap<String, (Contract, String)>,
    owed: BTreeSet<(String, EventId)>,
}

impl Auditor {
    /// An auditor who knows of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Deliveries to this path belong to an endpoint of the contract with this secret.
    pub fn endpoint(&mut self, path: &str, contract: Contract, secret: &str) {
        self.endpoints.insert(path.to_owned(), (contract, secret.to_owned()));
    }

    /// The event was acknowledged and is owed to the endpoints at these paths.
    pub fn acknowledged<'a>(&mut self, event: EventId, paths: impl IntoIterator<Item = &'a str>) {
        self.owed.extend(paths.into_iter().map(|path| (path.to_owned(), event)));
    }

    /// Whether every event acknowledged has arrived and was answered 2xx: what to wait for before
    /// judging.
    pub fn has_all(&self, requests: &[ReceivedRequest]) -> bool {
        let arrived: BTreeSet<_> =
            requests.iter().filter(|r| r.succeeded()).filter_map(key).collect();
        self.owed.iter().all(|(path, event)| arrived.contains(&(path.as_str(), *event)))
    }

    /// Every promise these requests break. Requests other than POST are not looked at.
    pub fn judge(&self, requests: &[ReceivedRequest], faults: Faults) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut bodies: BTreeMap<EventId, &Bytes> = BTreeMap::new();
        let mut succeeded: BTreeSet<(&str, EventId)> = BTreeSet::new();
        for request in requests.iter().filter(|request| request.method == "POST") {
            let path = request.path.clone();
            let webhook_id = || request.header("webhook-id").map(str::to_owned);
            let Some((contract, secret)) = self.endpoints.get(&path) else {
                violations.push(Violation::Phantom { webhook_id: webhook_id(), path });
                continue;
            };
            if let Err(error) = verify(*contract, secret, request) {
                let webhook_id = webhook_id();
                violations.push(Violation::NotGenuine { webhook_id, path: path.clone(), error });
            }
            let Some((path_key, event)) = key(request) else {
                violations.push(Violation::Phantom { webhook_id: webhook_id(), path });
                continue;
            };
            let owed = self.owed.contains(&(path.clone(), event));
            if !owed && faults == Faults::None {
                violations.push(Violation::Phantom { webhook_id: webhook_id(), path });
                continue;
            }
            if *bodies.entry(event).or_insert(&request.body) != &request.body {
                violations.push(Violation::BodyChanged { event, path: path.clone() });
            }
            let again = succeeded.contains(&(path_key, event));
            if again && faults == Faults::None {
                violations.push(Violation::Duplicate { event, path });
            }
            if request.succeeded() {
                succeeded.insert((path_key, event));
            }
        }
        let lost = self.owed.iter().filter(|(path, event)| !succeeded.contains(&(path, *event)));
        violations.extend(
            lost.map(|(path, event)| Violation::Lost { event: *event, path: path.clone() }),
        );
        violations
    }

    /// Panics with every promise these requests break, if there is one.
    pub fn assert_kept(&self, requests: &[ReceivedRequest], faults: Faults) {
        let violations = self.judge(requests, faults);
        assert!(violations.is_empty(), "{} broken promises: {violations:#?}", violations.len());
    }
}

/// Whether the counts balance: accepted = delivered + exhausted + cancelled + pending.
pub fn judge_counts(counts: Counts) -> Result<(), Violation> {
    let accounted = counts.pending + counts.delivered + counts.exhausted + counts.cancelled;
    if counts.created == accounted { Ok(()) } else { Err(Violation::Unbalanced(counts)) }
}

fn key(request: &ReceivedRequest) -> Option<(&str, EventId)> {
    let event = EventId::parse(request.header("webhook-id")?).ok()?;
    Some((request.path.as_str(), event))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::verify::sign_standard;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn a_request(event: EventId, path: &str, body: &'static [u8], status: u16) -> ReceivedRequest {
        let id = event.to_string();
        let signature = sign_standard(SECRET, &id, "7", body).unwrap();
        let headers = [("webhook-id", id), ("webhook-timestamp", "7".to_owned())]
            .into_iter()
            .chain([("webhook-signature", signature)])
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        ReceivedRequest {
            method: "POST".to_owned(),
            path: path.to_owned(),
            headers,
            body: Bytes::from_static(body),
            at: Instant::now(),
            connection: 1,
            answered: Some(status),
        }
    }

    fn an_auditor(owed: &[u128]) -> Auditor {
        let mut auditor = Auditor::new();
        auditor.endpoint("/a", Contract::Standard, SECRET);
        for number in owed {
            auditor.acknowledged(EventId::from_u128(*number), ["/a"]);
        }
        auditor
    }

    #[test]
    fn retries_until_a_success_break_no_promise() {
        let event = EventId::from_u128(1);
        let requests = [a_request(event, "/a", b"x", 500), a_request(event, "/a", b"x", 204)];
        let auditor = an_auditor(&[1]);
        assert!(auditor.has_all(&requests) && !auditor.has_all(&requests[..1]));
        assert_eq!(auditor.judge(&requests, Faults::None), []);
    }

    #[test]
    fn each_broken_promise_is_named() {
        let (one, two) = (EventId::from_u128(1), EventId::from_u128(2));
        let path = || "/a".to_owned();
        let judge = |requests: &[ReceivedRequest]| an_auditor(&[1]).judge(requests, Faults::None);
        let good = a_request(one, "/a", b"x", 200);

        assert_eq!(judge(&[]), [Violation::Lost { event: one, path: path() }]);
        assert_eq!(
            judge(&[good.clone(), a_request(two, "/a", b"x", 200)]),
            [Violation::Phantom { webhook_id: Some(two.to_string()), path: path() }]
        );
        assert_eq!(
            judge(&[good.clone(), good.clone()]),
            [Violation::Duplicate { event: one, path: path() }]
        );
        assert_eq!(
            judge(&[a_request(one, "/a", b"y", 500), good.clone()]),
            [Violation::BodyChanged { event: one, path: path() }]
        );
        let forged = ReceivedRequest { body: Bytes::from_static(b"z"), ..good.clone() };
        assert_eq!(
            judge(&[forged]),
            [Violation::NotGenuine {
                webhook_id: Some(one.to_string()),
                path: path(),
                error: VerifyError::Wrong("webhook-signature"),
            }]
        );
        assert_eq!(an_auditor(&[1]).judge(&[good.clone(), good], Faults::Some), []);
        let counts = Counts { created: 2, delivered: 1, ..Counts::default() };
        assert_eq!(judge_counts(counts), Err(Violation::Unbalanced(counts)));
    }
}
