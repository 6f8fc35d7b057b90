//! What a comparison's run came to: the arithmetic, the JSON and the table.

use std::collections::HashSet;
use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::arrivals::Arrivals;
use super::publishing::{Ending, Publishing, Refusal};
use crate::percentiles::Percentiles;

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    /// The sender's name.
    pub(crate) target: String,
    /// Length of the `data` of every event.
    pub(crate) data_bytes: usize,
    /// Connections that published.
    pub(crate) connections: usize,
    /// Events per second that were to be published, or as many as were answered.
    pub(crate) rate: Option<u64>,
    /// An event has been lost when none came for so many seconds.
    pub(crate) patience_seconds: u64,
    /// What was counted and timed.
    #[serde(flatten)]
    pub(crate) tally: Tally,
    /// What the processes that were named used.
    pub(crate) used: Option<Used>,
    /// CPU of the generator and the receiver of this program, per event.
    pub(crate) generator_cpu_micros_per_event: f64,
}

/// What processes used.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Used {
    /// CPU while events were published and delivered, per event.
    pub(crate) cpu_micros_per_event: f64,
    /// The sum of the most memory that each had resident since it began.
    pub(crate) memory_peak_mib: f64,
}

/// What was counted and timed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Tally {
    /// Events that were to be published.
    pub(crate) events: usize,
    /// Answered with success.
    pub(crate) accepted: usize,
    /// Answered otherwise.
    pub(crate) refused: usize,
    /// Not answered.
    pub(crate) unanswered: usize,
    /// The first answer of those refused.
    pub(crate) first_refusal: Option<Refusal>,
    /// Why the first of those not answered was not.
    pub(crate) first_unanswered: Option<String>,
    /// Accepted per second, from the first publish to the last answer.
    pub(crate) accepted_per_second: f64,
    /// Delivered per second, from the first publish to the last first receipt.
    pub(crate) delivered_per_second: f64,
    /// From when an event was to be published to the answer that it was accepted.
    pub(crate) publish: Percentiles,
    /// From when an accepted event was to be published to its first receipt.
    pub(crate) receipt: Percentiles,
    /// How late events were sent, which is part of both.
    pub(crate) generator_late: Percentiles,
    /// Accepted, never received.
    pub(crate) lost: usize,
    /// Receipts of an event after its first.
    pub(crate) repeated: usize,
    /// Refused, and received all the same.
    pub(crate) refused_but_received: usize,
    /// Requests in which the receiver found no number.
    pub(crate) unrecognised: usize,
    /// The beginning of the first of their bodies.
    pub(crate) first_unrecognised: Option<String>,
}

impl Tally {
    /// Of what was published and what arrived; arrivals of other numbers do not count.
    pub(crate) fn of(publishing: Publishing, arrivals: Arrivals) -> Self {
        let events = publishing.events;
        let ended = |ending| events.iter().filter(move |event| event.ending == ending);
        let arrived = |number| arrivals.first_at_nanos.get(&number).copied();
        let receipts: Vec<_> = ended(Ending::Accepted)
            .filter_map(|event| arrived(event.number).map(|at| (event.began_nanos, at)))
            .collect();
        let began = events.iter().map(|event| event.began_nanos).min().unwrap_or(0);
        let answered = ended(Ending::Accepted).map(|event| event.answered_nanos).max();
        let received = receipts.iter().map(|(_, at)| *at).max();
        let per_second = |count: usize, until: Option<u64>| {
            until
                .map_or(0.0, |until| count as f64 * 1e9 / until.saturating_sub(began).max(1) as f64)
        };
        let own: HashSet<_> = events.iter().map(|event| event.number).collect();
        let accepted = ended(Ending::Accepted).count();
        Self {
            events: events.len(),
            accepted,
            refused: ended(Ending::Refused).count(),
            unanswered: ended(Ending::Unanswered).count(),
            first_refusal: publishing.first_refusal,
            first_unanswered: publishing.first_unanswered,
            accepted_per_second: per_second(accepted, answered),
            delivered_per_second: per_second(receipts.len(), received),
            publish: Percentiles::of(
                ended(Ending::Accepted)
                    .map(|event| event.answered_nanos.saturating_sub(event.began_nanos)),
            ),
            receipt: Percentiles::of(receipts.iter().map(|(began, at)| at.saturating_sub(*began))),
            generator_late: Percentiles::of(events.iter().map(|event| event.late_nanos)),
            lost: accepted - receipts.len(),
            repeated: arrivals.again.iter().filter(|number| own.contains(number)).count(),
            refused_but_received: ended(Ending::Refused)
                .filter(|event| arrived(event.number).is_some())
                .count(),
            unrecognised: arrivals.unrecognised,
            first_unrecognised: arrivals.first_unrecognised,
        }
    }
}

impl Outcome {
    /// As a table in Markdown, with what was refused or not understood below it.
    pub(crate) fn table(&self) -> Result<String> {
        let tally = &self.tally;
        let load = match self.rate {
            Some(rate) => format!("{rate} events/s to be published"),
            None => "each connection sends the next when its last is answered".to_owned(),
        };
        let mut text = String::new();
        writeln!(text, "| {} | |\n| --- | --- |", self.target)?;
        let mut row = |name: &str, value: String| writeln!(text, "| {name} | {value} |");
        row(
            "load",
            format!("{} connections, {} B of data, {load}", self.connections, self.data_bytes),
        )?;
        row(
            "events: accepted, refused, unanswered",
            format!(
                "{}: {}, {}, {}",
                tally.events, tally.accepted, tally.refused, tally.unanswered
            ),
        )?;
        row("accepted per second", format!("{:.0}", tally.accepted_per_second))?;
        row("delivered per second", format!("{:.0}", tally.delivered_per_second))?;
        row("publish answered, p50 / p99 / max ms", tally.publish.to_string())?;
        row("publish to receipt, p50 / p99 / max ms", tally.receipt.to_string())?;
        row("sent late, p50 / p99 / max ms", tally.generator_late.to_string())?;
        let patience = self.patience_seconds;
        row(&format!("lost (none came for {patience} s)"), tally.lost.to_string())?;
        row("repeated", tally.repeated.to_string())?;
        row("refused but received", tally.refused_but_received.to_string())?;
        row("not recognised", tally.unrecognised.to_string())?;
        if let Some(used) = self.used {
            row("CPU of the sender, µs per event", format!("{:.1}", used.cpu_micros_per_event))?;
            row("its peak memory since it began, MiB", format!("{:.1}", used.memory_peak_mib))?;
        }
        let generator = self.generator_cpu_micros_per_event;
        row("CPU of generator and receiver, µs per event", format!("{generator:.1}"))?;
        if let Some(Refusal { status, body }) = &tally.first_refusal {
            writeln!(text, "\nFirst refusal: {status}: {body}")?;
        }
        if let Some(reason) = &tally.first_unanswered {
            writeln!(text, "\nFirst without an answer: {reason}")?;
        }
        if let Some(body) = &tally.first_unrecognised {
            writeln!(text, "\nFirst request not recognised: {body}")?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::publishing::Published;
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn event(number: usize, ending: Ending) -> Published {
        let began_nanos = number as u64 * 1000 * MILLI;
        let answered_nanos = began_nanos + 5 * MILLI;
        Published { number, began_nanos, late_nanos: 0, answered_nanos, ending }
    }

    #[test]
    fn lost_repeated_and_refused_are_told_apart() {
        let publishing = Publishing {
            events: vec![
                event(1, Ending::Accepted),
                event(2, Ending::Accepted),
                event(3, Ending::Refused),
                event(4, Ending::Unanswered),
                event(5, Ending::Accepted),
            ],
            first_refusal: Some(Refusal { status: 429, body: "slow down".to_owned() }),
            ..Publishing::default()
        };
        let arrivals = Arrivals {
            first_at_nanos: [(1, 1010), (3, 3010), (4, 4010), (5, 5020), (99, 9000)]
                .map(|(number, at_ms)| (number, at_ms * MILLI))
                .into(),
            again: vec![1, 99],
            ..Arrivals::default()
        };
        let tally = Tally::of(publishing, arrivals);
        assert_eq!((tally.accepted, tally.refused, tally.unanswered), (3, 1, 1));
        assert_eq!((tally.lost, tally.repeated, tally.refused_but_received), (1, 1, 1));
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-9;
        assert!(close(tally.publish.max_ms, 5.0) && close(tally.receipt.max_ms, 20.0));
        assert!(close(tally.delivered_per_second, 2.0 / 4.02), "{}", tally.delivered_per_second);
    }

    #[test]
    fn a_table_shows_the_first_refusal() {
        let publishing = Publishing {
            events: vec![event(1, Ending::Refused)],
            first_refusal: Some(Refusal { status: 429, body: "slow down".to_owned() }),
            ..Publishing::default()
        };
        let outcome = Outcome {
            target: "Sender".to_owned(),
            data_bytes: 1024,
            connections: 1,
            rate: Some(100),
            patience_seconds: 30,
            tally: Tally::of(publishing, Arrivals::default()),
            used: None,
            generator_cpu_micros_per_event: 0.0,
        };
        assert!(outcome.table().unwrap().contains("First refusal: 429: slow down"));
        let json = serde_json::to_value(&outcome).unwrap();
        assert_eq!(json["first_refusal"]["status"], 429);
    }
}
