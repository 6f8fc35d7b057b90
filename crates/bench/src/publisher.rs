//! The generator of load: publishes prebuilt requests, as fast as answers come or at a fixed rate.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use domain::id::EventId;
use domain::time::Timestamp;

use crate::clock::{now_nanos, wait_until};
use crate::full_speed::{Exchanges, Timing, exchange_all};
use crate::service::OPERATOR_KEY;
use crate::wire::{Answer, BlockingConnection, request};

/// Length of `data` in every event.
pub(crate) const DATA_BYTES: usize = 1024;

/// Publishers at once, where nothing else is said: a busy back end's pool.
pub(crate) const PUBLISHERS: usize = 64;

/// Events in a batch, which are a little over 1 MiB.
const BATCH_EVENTS: usize = 1_000;

/// Who publish batches at once.
const BATCH_PUBLISHERS: usize = 4;

/// The type of every event.
pub(crate) const EVENT_TYPE: &str = "generated_avatar_video_success";

/// An event acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    /// Its id.
    pub(crate) event: EventId,
    /// When it was to be published, which is when waiting begins; without a fixed rate, when it was.
    pub(crate) began_nanos: u64,
    /// How long after that it was really sent.
    pub(crate) late_nanos: u64,
    /// When the answer was there.
    pub(crate) answered_nanos: u64,
}

/// The `data` of every event: an object of exactly [`DATA_BYTES`].
pub(crate) fn data() -> String {
    let head = r#"{"video_id":"video_123456","status":"completed","note":""#;
    let filling = "lorem ipsum ".chars().cycle().take(DATA_BYTES - head.len() - 2);
    format!("{head}{}\"}}", filling.collect::<String>())
}

/// The bytes of a publish request for an account.
pub(crate) fn publish_request(address: SocketAddr, key: &str, account: &str) -> Vec<u8> {
    let data = data();
    let body = format!(r#"{{"account":"{account}","type":"{EVENT_TYPE}","data":{data}}}"#);
    request("POST", "/api/v1/events", address, key, &body)
}

/// The bytes of a publish request for an account of the native contract.
pub(crate) fn publish_request_of(
    address: SocketAddr,
    key: &str,
    account: &str,
    event_type: &str,
) -> Vec<u8> {
    let data = data();
    let body = format!(r#"{{"account":"{account}","type":"{event_type}","data":{data}}}"#);
    request("POST", "/api/v1/events", address, key, &body)
}

/// What publishing in batches came to.
pub(crate) struct Batches {
    /// The events.
    pub(crate) published: Vec<Published>,
    /// How many were accepted in a second.
    pub(crate) events_per_second: f64,
}

/// Publishes `count` events to the account in batches, to be delivered at `deliver_at` or at once.
pub(crate) fn publish_batches(
    address: SocketAddr,
    account: &str,
    count: usize,
    deliver_at: Option<Timestamp>,
) -> Result<Batches> {
    let data = data();
    let deliver_at = deliver_at
        .map(|at| format!(r#","deliver_at":"{}""#, at.to_rfc3339_seconds()))
        .unwrap_or_default();
    let event =
        format!(r#"{{"account":"{account}","type":"{EVENT_TYPE}","data":{data}{deliver_at}}}"#);
    let batch = |events: usize| {
        let events = vec![event.as_str(); events].join(",");
        let body = format!(r#"{{"events":[{events}]}}"#);
        request("POST", "/api/v1/events/batch", address, OPERATOR_KEY, &body)
    };
    let (full, last) = (batch(BATCH_EVENTS), batch(count % BATCH_EVENTS));
    let batches = count.div_ceil(BATCH_EVENTS);
    let next = AtomicUsize::new(0);
    let start_nanos = now_nanos();
    let published = std::thread::scope(|scope| {
        let publish = || -> Result<Vec<Published>> {
            let mut connection = BlockingConnection::open(address)?;
            let mut published = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= batches {
                    return Ok(published);
                }
                let is_full = number + 1 < batches || count.is_multiple_of(BATCH_EVENTS);
                let began_nanos = now_nanos();
                let answer = connection.exchange(if is_full { &full } else { &last })?;
                let answered_nanos = now_nanos();
                let events = all_acknowledged(&answer)?;
                published.extend(events.into_iter().map(|event| Published {
                    event,
                    began_nanos,
                    late_nanos: 0,
                    answered_nanos,
                }));
            }
        };
        let publishers: Vec<_> = (0..BATCH_PUBLISHERS).map(|_| scope.spawn(publish)).collect();
        let mut published = Vec::with_capacity(count);
        for publisher in publishers {
            published.extend(publisher.join().map_err(|_| anyhow::anyhow!("a panic"))??);
        }
        Ok::<_, anyhow::Error>(published)
    })?;
    ensure!(published.len() == count, "{} of {count} events were accepted", published.len());
    let seconds = (now_nanos() - start_nanos) as f64 / 1e9;
    Ok(Batches { published, events_per_second: count as f64 / seconds })
}

/// Publishes `count` events, the requests in turn, with `publishers` connections that each send the
/// next as soon as the last is answered.
pub(crate) fn publish_at_full_speed(
    address: SocketAddr,
    requests: &[Vec<u8>],
    count: usize,
    publishers: usize,
) -> Result<Vec<Published>> {
    let mut publishing = Publishing { requests, answers: Vec::with_capacity(count) };
    exchange_all(address, count, publishers, &mut publishing)?;
    let answers = publishing.answers.into_iter();
    answers
        .map(|(timing, id)| {
            let id = std::str::from_utf8(&id).ok().and_then(|id| EventId::parse(id).ok());
            let event = id.context("the answer to publishing has no event id")?;
            let Timing { began_nanos, answered_nanos } = timing;
            Ok(Published { event, began_nanos, late_nanos: 0, answered_nanos })
        })
        .collect()
}

/// Length of an event's id in an answer.
const ID_BYTES: usize = EventId::PREFIX.len() + 32;

/// Publishing at full speed: the ids are copied and read when all is over.
struct Publishing<'a> {
    requests: &'a [Vec<u8>],
    answers: Vec<(Timing, [u8; ID_BYTES])>,
}

impl Exchanges for Publishing<'_> {
    fn write_request(&mut self, number: usize, request: &mut Vec<u8>) {
        request.extend_from_slice(&self.requests[number % self.requests.len()]);
    }

    fn take_answer(&mut self, _number: usize, timing: Timing, answer: &Answer<'_>) -> Result<()> {
        let body = answer.body;
        if answer.status != 202 {
            bail!("publishing was answered {}: {}", answer.status, String::from_utf8_lossy(body));
        }
        let prefix = EventId::PREFIX.as_bytes();
        let at = body.windows(prefix.len()).position(|window| window == prefix);
        let id = at.and_then(|at| body.get(at..)?.first_chunk());
        self.answers.push((timing, *id.context("the answer to publishing has no event id")?));
        Ok(())
    }
}

/// Publishes `count` events, the requests in turn, `per_second` of them, each at its own instant
/// whatever became of those before it. Every publisher is a thread, which wakes on time; a runtime's
/// timer would add up to a millisecond.
pub(crate) fn publish_at_rate(
    address: SocketAddr,
    requests: &[Vec<u8>],
    count: usize,
    per_second: u64,
) -> Result<Vec<Published>> {
    let period_nanos = 1_000_000_000 / per_second;
    let start_nanos = now_nanos() + 200_000_000;
    // Enough that none is still waiting for an answer when its next instant comes.
    let publish = |publisher: usize| -> Result<Vec<Published>> {
        let mut connection = BlockingConnection::open(address)?;
        let mut published = Vec::with_capacity(count / PUBLISHERS + 1);
        for number in (publisher..count).step_by(PUBLISHERS) {
            let began_nanos = start_nanos + number as u64 * period_nanos;
            wait_until(began_nanos);
            let late_nanos = now_nanos().saturating_sub(began_nanos);
            let answer = connection.exchange(&requests[number % requests.len()])?;
            let answered_nanos = now_nanos();
            let event = acknowledged(&answer)?;
            published.push(Published { event, began_nanos, late_nanos, answered_nanos });
        }
        Ok(published)
    };
    let publish = &publish;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..PUBLISHERS).map(|publisher| scope.spawn(move || publish(publisher))).collect();
        let mut published = Vec::with_capacity(count);
        for thread in threads {
            published.extend(thread.join().map_err(|_| anyhow::anyhow!("a publisher panicked"))??);
        }
        Ok(published)
    })
}

/// The id in the answer to a publish request.
fn acknowledged(answer: &Answer<'_>) -> Result<EventId> {
    let text = String::from_utf8_lossy(answer.body);
    if answer.status != 202 {
        bail!("publishing was answered {}: {text}", answer.status);
    }
    text.find(EventId::PREFIX)
        .and_then(|at| text.get(at..at + EventId::PREFIX.len() + 32))
        .and_then(|id| EventId::parse(id).ok())
        .with_context(|| format!("the answer to publishing has no event id: {text}"))
}

/// The ids in the answer to a batch.
fn all_acknowledged(answer: &Answer<'_>) -> Result<Vec<EventId>> {
    let text = String::from_utf8_lossy(answer.body);
    ensure!(answer.status == 202, "publishing was answered {}: {text}", answer.status);
    let ids = text.match_indices(EventId::PREFIX);
    ids.map(|(at, prefix)| {
        let id = text.get(at..at + prefix.len() + 32).unwrap_or_default();
        EventId::parse(id).with_context(|| format!("{id} is no event id"))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_every_event_is_an_object_of_its_length() {
        assert_eq!(data().len(), DATA_BYTES);
        assert!(serde_json::from_str::<serde_json::Value>(&data()).unwrap().is_object());
    }
}
