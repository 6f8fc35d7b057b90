//! The oracle: reads both logs, asks the service what became of what did not arrive, and lets the
//! auditor judge.
//!
//! Promise: of the service it believes only why something did *not* arrive, and that only with a
//! reason; everything else comes from the logs. Neighbours: [`crate::records`] are the logs,
//! `testkit::auditor` is the judge.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use domain::contract::Contract;
use domain::delivery::StateName;
use domain::id::EventId;
use serde_json::Value;
use testkit::auditor::{Auditor, Bounds, Receipt, Told, Verdict};

use crate::client;
use crate::records::{Log, Outcome, Published, Received, from_hex};

/// An endpoint as the oracle knows it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Its id.
    pub(crate) id: String,
    /// The path of its URL.
    pub(crate) path: String,
    /// The contract of its account.
    pub(crate) contract: Contract,
    /// Its signing secret.
    pub(crate) secret: String,
}

/// What both logs say.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// Knows what publishers were told.
    pub(crate) auditor: Auditor,
    /// What receivers saw, in the order of arrival.
    pub(crate) receipts: Vec<Receipt>,
    /// Keys that were acknowledged at least once.
    pub(crate) acknowledged: u64,
    /// Keys of which nobody knows whether they became an event.
    pub(crate) unknown: u64,
    /// What the service says it gave up or cancelled.
    pub(crate) given_up: Vec<GivenUp>,
    endpoints: Vec<Endpoint>,
}

/// A delivery that ended without success, as the service says.
#[derive(Clone, Debug)]
pub(crate) struct GivenUp {
    /// Its event.
    pub(crate) event: EventId,
    /// The path of its endpoint.
    pub(crate) path: String,
    /// Why.
    pub(crate) reason: String,
}

/// All that was said about one idempotency key.
#[derive(Debug, Default)]
struct OfKey {
    data_sha256: String,
    paths: Vec<String>,
    asked: u64,
    refused: u64,
    events: Vec<EventId>,
}

impl Evidence {
    /// Reads both logs.
    pub(crate) fn read(published: &Log, received: &Log, endpoints: &[Endpoint]) -> Result<Self> {
        let mut auditor = Auditor::new();
        for Endpoint { path, contract, secret, .. } in endpoints {
            auditor.endpoint(path, *contract, secret);
        }
        let mut evidence = Self {
            auditor,
            receipts: Vec::new(),
            acknowledged: 0,
            unknown: 0,
            given_up: Vec::new(),
            endpoints: endpoints.to_vec(),
        };
        evidence.read_published(published.read()?)?;
        for line in received.read::<Received>()? {
            evidence.receipts.push(receipt(line)?);
        }
        Ok(evidence)
    }

    fn read_published(&mut self, lines: Vec<Published>) -> Result<()> {
        let mut keys: HashMap<String, OfKey> = HashMap::new();
        for line in lines {
            match line {
                Published::Asking { key, data_sha256, paths, .. } => {
                    let of_key = keys.entry(key).or_default();
                    of_key.data_sha256 = data_sha256;
                    of_key.paths = paths;
                    of_key.asked += 1;
                }
                Published::Told { key, outcome, event, .. } => {
                    let of_key = keys.get_mut(&key).context("every answer was asked for")?;
                    match (outcome, event) {
                        (Outcome::Acknowledged, Some(event)) => {
                            of_key.events.push(EventId::parse(&event)?);
                        }
                        (Outcome::Acknowledged, None) => {
                            bail!("{key} was acknowledged without an id")
                        }
                        (Outcome::Refused, _) => of_key.refused += 1,
                        (Outcome::Unknown, _) => {}
                    }
                }
            }
        }
        for of_key in keys.values() {
            let data = from_hex(&of_key.data_sha256)?;
            let mut tell =
                |told| self.auditor.told(data, told, of_key.paths.iter().map(String::as_str));
            for event in &of_key.events {
                tell(Told::Acknowledged(*event));
            }
            // A request without its line afterwards has had no answer either.
            let is_unknown = of_key.asked > of_key.refused + of_key.events.len() as u64;
            if is_unknown {
                tell(Told::Unknown);
            } else if of_key.events.is_empty() {
                tell(Told::Refused);
            }
            self.acknowledged += u64::from(!of_key.events.is_empty());
            self.unknown += u64::from(is_unknown && of_key.events.is_empty());
        }
        Ok(())
    }

    /// Reads again what receivers saw: what arrived while the service was asked did arrive.
    pub(crate) fn hear_again(&mut self, received: &Log) -> Result<()> {
        let lines = received.read::<Received>()?;
        self.receipts = lines.into_iter().map(receipt).collect::<Result<_>>()?;
        Ok(())
    }

    /// Asks the service at this address about everything that did not arrive.
    pub(crate) async fn ask(&mut self, address: SocketAddr) -> Result<()> {
        let missing = self.auditor.missing(&self.receipts);
        let missing: Vec<_> =
            missing.into_iter().map(|(event, path)| (event, path.to_owned())).collect();
        for (event, path) in missing {
            let Some(endpoint) = self.endpoints.iter().find(|endpoint| endpoint.path == path)
            else {
                continue;
            };
            let asked = format!("/api/v1/deliveries?event={event}&endpoint={}", endpoint.id);
            let page = client::get(address, &asked).await?;
            let deliveries = page["data"].as_array().into_iter().flatten();
            let stated = deliveries.filter_map(|it| Some((state(it)?, it["reason"].as_str())));
            // A replay stands beside the first: whatever still goes on counts.
            let stated = stated.min_by_key(|(state, _)| *state != StateName::Pending);
            if let Some((state, reason)) = stated {
                self.auditor.stands(event, &path, state);
                if matches!(state, StateName::Exhausted | StateName::Cancelled) {
                    let reason = reason.unwrap_or_default().to_owned();
                    self.given_up.push(GivenUp { event, path, reason });
                }
            }
        }
        Ok(())
    }

    /// Judges.
    pub(crate) fn judge(&self, bounds: Bounds) -> Verdict {
        self.auditor.audit(&self.receipts, bounds)
    }
}

/// The state of a delivery; `None` if it ended without success and does not say why.
fn state(delivery: &Value) -> Option<StateName> {
    let state = StateName::parse(delivery["state"].as_str()?)?;
    let needs_reason = matches!(state, StateName::Exhausted | StateName::Cancelled);
    (!needs_reason || delivery["reason"].is_string()).then_some(state)
}

fn receipt(line: Received) -> Result<Receipt> {
    Ok(Receipt {
        path: line.path,
        webhook_id: line.webhook_id,
        body: from_hex(&line.body_sha256)?,
        data: line.data_sha256.as_deref().map(from_hex).transpose()?,
        forged: line.forged,
        succeeded: matches!(line.status, Some(200..=299)),
    })
}

#[cfg(test)]
mod tests {
    use testkit::auditor::{Violation, digest};

    use super::*;
    use crate::records::hex;

    fn asking(key: &str) -> Published {
        let data_sha256 = hex(&digest(key.as_bytes()));
        Published::Asking { key: key.into(), data_sha256, paths: vec!["/a".into()], at_ms: 0 }
    }

    fn told(key: &str, outcome: Outcome, event: Option<u128>) -> Published {
        let event = event.map(|number| EventId::from_u128(number).to_string());
        Published::Told { key: key.into(), outcome, event, status: None, at_ms: 1 }
    }

    fn came(key: &str, event: u128) -> Received {
        Received {
            path: "/a".into(),
            webhook_id: Some(EventId::from_u128(event).to_string()),
            attempt: 1,
            body_sha256: hex(&digest(b"body")),
            data_sha256: Some(hex(&digest(key.as_bytes()))),
            forged: None,
            status: Some(200),
            at_ms: 2,
        }
    }

    fn judge(published: &[Published], received: &[Received]) -> (Evidence, Verdict) {
        let folder = tempfile::tempdir().unwrap();
        let log = |name: &str| Log::begin(&folder.path().join(name)).unwrap();
        let (of_publishers, of_receivers) = (log("published"), log("received"));
        for line in published {
            of_publishers.write(line);
        }
        for line in received {
            of_receivers.write(line);
        }
        let endpoint = Endpoint {
            id: "wh_1".into(),
            path: "/a".into(),
            contract: Contract::Standard,
            secret: "whsec_".into(),
        };
        let evidence = Evidence::read(&of_publishers, &of_receivers, &[endpoint]).unwrap();
        let verdict = evidence.judge(Bounds::STRICT);
        (evidence, verdict)
    }

    #[test]
    fn what_the_logs_say_is_what_is_judged() {
        let published = [
            asking("acknowledged"),
            told("acknowledged", Outcome::Acknowledged, Some(1)),
            asking("repeated"),
            told("repeated", Outcome::Unknown, None),
            asking("repeated"),
            told("repeated", Outcome::Acknowledged, Some(2)),
            asking("refused"),
            told("refused", Outcome::Refused, None),
            asking("cut short"),
        ];
        let (evidence, verdict) = judge(&published, &[came("acknowledged", 1)]);
        assert_eq!((evidence.acknowledged, evidence.unknown), (2, 1));
        let lost = Violation::Lost { event: EventId::from_u128(2), path: "/a".into() };
        assert_eq!(verdict.violations, [lost]);

        let all = [came("acknowledged", 1), came("repeated", 2), came("cut short", 3)];
        assert_eq!(judge(&published, &all).1.violations, []);
        let (_, verdict) = judge(&published, &[&all[..], &[came("refused", 4)]].concat());
        assert_eq!((verdict.tally.phantom, verdict.violations.len()), (1, 1));
        let (_, verdict) = judge(&published, &[&all[..], &[came("repeated", 5)]].concat());
        let first = EventId::from_u128(2);
        let twice = Violation::MadeTwice { first, second: EventId::from_u128(5) };
        assert_eq!(verdict.violations, [twice]);
    }

    #[test]
    fn an_end_without_a_reason_is_no_end() {
        let state = |text: &str| state(&serde_json::from_str(text).unwrap());
        assert_eq!(state(r#"{"state":"exhausted","reason":null}"#), None);
        let exhausted = r#"{"state":"exhausted","reason":"too_old"}"#;
        assert_eq!(state(exhausted), Some(StateName::Exhausted));
        assert_eq!(state(r#"{"state":"pending","reason":null}"#), Some(StateName::Pending));
    }
}
