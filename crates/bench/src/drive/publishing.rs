//! Publishing through a sender's API: as fast as answers come, or at a fixed rate.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::client::{Answer, Base, Client, Outgoing};
use super::description::Call;
use super::template::{Template, Values};
use crate::clock::{now_nanos, wait_until};

/// How an event's publishing ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    /// The answer meant success.
    Accepted,
    /// It did not.
    Refused,
    /// None came: nobody knows what became of the event.
    Unanswered,
}

/// An event that was published, or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    /// Its number.
    pub(crate) number: usize,
    /// When it was to be sent, which is when waiting begins; without a fixed rate, when it was.
    pub(crate) began_nanos: u64,
    /// How long after that it was really sent.
    pub(crate) late_nanos: u64,
    /// When the answer was there.
    pub(crate) answered_nanos: u64,
    /// How it ended.
    pub(crate) ending: Ending,
}

/// An answer that did not mean success.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Refusal {
    /// Its status.
    pub(crate) status: u16,
    /// The beginning of its body.
    pub(crate) body: String,
}

/// What came of publishing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publishing {
    /// Every event.
    pub(crate) events: Vec<Published>,
    /// The first answer that did not mean success.
    pub(crate) first_refusal: Option<Refusal>,
    /// Why the first request without an answer had none.
    pub(crate) first_unanswered: Option<String>,
}

impl Publishing {
    fn note(&mut self, sent: Sent, call: &Call, answer: Result<Answer>) {
        let answered_nanos = now_nanos();
        let ending = match answer {
            Ok(answer) if call.accepts(answer.status) => Ending::Accepted,
            Ok(answer) => {
                self.first_refusal.get_or_insert_with(|| Refusal {
                    status: answer.status,
                    body: answer.excerpt(),
                });
                Ending::Refused
            }
            Err(error) => {
                self.first_unanswered.get_or_insert_with(|| format!("{error:#}"));
                Ending::Unanswered
            }
        };
        let Sent { number, began_nanos, late_nanos } = sent;
        self.events.push(Published { number, began_nanos, late_nanos, answered_nanos, ending });
    }

    fn add(&mut self, other: Self) {
        self.events.extend(other.events);
        self.first_refusal = self.first_refusal.take().or(other.first_refusal);
        self.first_unanswered = self.first_unanswered.take().or(other.first_unanswered);
    }
}

#[derive(Clone, Copy)]
struct Sent {
    number: usize,
    began_nanos: u64,
    late_nanos: u64,
}

/// Who publishes.
#[derive(Debug)]
pub(crate) struct Publisher {
    base: Base,
    call: Call,
    headers: Vec<(String, Template)>,
    run: String,
    filling: String,
}

impl Publisher {
    /// Prepares the publish call with everything that is the same for all events, each with `data`
    /// of so many bytes.
    pub(crate) fn new(base: Base, call: &Call, values: &Values, data_bytes: usize) -> Self {
        let mut call = call.clone();
        call.path = call.path.fill_known(values);
        call.body = call.body.fill_known(values);
        let headers = std::mem::take(&mut call.headers).into_iter();
        let headers = headers.map(|(name, value)| (name, value.fill_known(values))).collect();
        let filling = "lorem ipsum ".chars().cycle().take(data_bytes).collect();
        let run = values.get("run").cloned().unwrap_or_default();
        Self { base, call, headers, run, filling }
    }

    /// The `data` of an event: a JSON object with its number, as long as was said if that fits.
    fn data(&self, number: usize) -> String {
        let head = format!(r#"{{"number":{number},"note":""#);
        let room = self.filling.len().saturating_sub(head.len() + 2);
        format!("{head}{}\"}}", &self.filling[..room])
    }

    fn request(&self, number: usize) -> Result<Outgoing> {
        let (data, digits) = (self.data(number), number.to_string());
        let unique = format!("{}-{number}", self.run);
        let value = |name: &str| match name {
            "data" => Some(data.as_str()),
            "number" => Some(digits.as_str()),
            "unique" => Some(unique.as_str()),
            _ => None,
        };
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, template) in &self.headers {
            headers.push((name.clone(), template.fill(value)?));
        }
        Ok(Outgoing {
            method: self.call.method.clone(),
            path: self.call.path.fill(value)?,
            headers,
            body: self.call.body.fill(value)?,
        })
    }

    /// Publishes these numbers with so many connections, each of which sends the next as soon as its
    /// last is answered.
    pub(crate) fn at_full_speed(
        self: &Arc<Self>,
        numbers: Range<usize>,
        connections: usize,
    ) -> Result<Publishing> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let next = Arc::new(AtomicUsize::new(numbers.start));
            let tasks: Vec<_> = (0..connections)
                .map(|_| tokio::spawn(Arc::clone(self).take_turns(Arc::clone(&next), numbers.end)))
                .collect();
            let mut publishing = Publishing::default();
            for task in tasks {
                publishing.add(task.await.context("a publisher panicked")??);
            }
            Ok(publishing)
        })
    }

    async fn take_turns(self: Arc<Self>, next: Arc<AtomicUsize>, end: usize) -> Result<Publishing> {
        let mut client = Client::new(self.base.clone());
        let mut publishing = Publishing::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                return Ok(publishing);
            }
            let request = self.request(number)?;
            let sent = Sent { number, began_nanos: now_nanos(), late_nanos: 0 };
            publishing.note(sent, &self.call, client.exchange(request).await);
        }
    }

    /// Publishes these numbers, so many a second, each at its own instant whatever became of those
    /// before it, over so many connections. Each is a thread, which wakes on time; a runtime's timer
    /// would add up to a millisecond. If all wait for answers, events are sent late, and that counts.
    pub(crate) fn at_rate(
        self: &Arc<Self>,
        numbers: Range<usize>,
        connections: usize,
        per_second: u64,
    ) -> Result<Publishing> {
        let start_nanos = now_nanos() + 200_000_000;
        let threads: Vec<_> = (0..connections)
            .map(|thread| {
                let (publisher, numbers) = (Arc::clone(self), numbers.clone());
                let instant = move |number: usize| {
                    let index = (number - numbers.start) as u64;
                    start_nanos + (index as f64 * 1e9 / per_second as f64) as u64
                };
                let own = (numbers.start + thread..numbers.end).step_by(connections);
                std::thread::spawn(move || publisher.keep_instants(own, instant))
            })
            .collect();
        let mut publishing = Publishing::default();
        for thread in threads {
            publishing.add(thread.join().map_err(|_| anyhow::anyhow!("a publisher panicked"))??);
        }
        Ok(publishing)
    }

    fn keep_instants(
        &self,
        numbers: impl Iterator<Item = usize>,
        instant: impl Fn(usize) -> u64,
    ) -> Result<Publishing> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut client = Client::new(self.base.clone());
        let mut publishing = Publishing::default();
        for number in numbers {
            let request = self.request(number)?;
            let began_nanos = instant(number);
            wait_until(began_nanos);
            let late_nanos = now_nanos().saturating_sub(began_nanos);
            let answer = runtime.block_on(client.exchange(request));
            publishing.note(Sent { number, began_nanos, late_nanos }, &self.call, answer);
        }
        Ok(publishing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_data_of_its_length_and_a_text_of_its_own() {
        let call: Call = toml::from_str(
            "path = '/{{account}}'\nbody = '{\"data\":{{data}}}'\nheaders = { Key = '{{unique}}' }",
        )
        .unwrap();
        let values = [("account", "a"), ("run", "r")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let base = Base::parse("http://127.0.0.1:1").unwrap();
        let publisher = Publisher::new(base, &call, &values.into(), 1024);
        let request = publisher.request(12_345).unwrap();
        assert_eq!(request.path, "/a");
        assert_eq!(request.headers, [("Key".to_owned(), "r-12345".to_owned())]);
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["data"]["number"], 12_345);
        assert_eq!(request.body.len(), r#"{"data":}"#.len() + 1024);
    }
}
