//! What it costs to match one event against a thousand endpoints with filters of their own:
//! `cargo run --release -p engine --example matching`.

#![expect(clippy::print_stdout, reason = "an example that says what it measured")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use domain::contract::Contract;
use domain::endpoint::Endpoint;
use domain::event::EventType;
use domain::filter::FilterText;
use domain::matching::{Matchable, match_endpoint};
use domain::testing::{an_account, an_endpoint};
use engine::filter::{Filter, FiltersAtHand, Subject, Verdicts};

/// How often each thing is done; the middle one counts.
const REPETITIONS: usize = 301;

#[expect(clippy::disallowed_methods, reason = "an example that measures time")]
fn now() -> Instant {
    Instant::now()
}

fn middle(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..REPETITIONS)
        .map(|_| {
            let begin = now();
            work();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[REPETITIONS / 2]
}

/// A thousand endpoints, each with a filter that no other has.
fn endpoints() -> Vec<Endpoint> {
    let account = an_account(Contract::Standard, 1);
    (0..1_000_u64)
        .map(|n| {
            let mut endpoint = an_endpoint(&account, n + 2);
            let text = match n % 4 {
                0 => format!("data.duration > {n}"),
                1 => format!("data.status == \"completed\" && data.duration > {n}"),
                2 => format!("data.project.id in [\"p{n}\", \"p17\"] || data.size < {n}"),
                _ => format!("has(data.owner) && data.owner.name.startsWith(\"n{n}\")"),
            };
            endpoint.filter = Some(FilterText::from_stored(&text));
            endpoint
        })
        .collect()
}

fn main() {
    let event_type = EventType::parse("video.created").expect("a well-formed name");
    let data = format!(
        r#"{{"duration":500,"status":"completed","size":12,"project":{{"id":"p17"}},"owner":{{"name":"n3"}},"text":"{}"}}"#,
        "x".repeat(900)
    );
    let event = Matchable { event_type: &event_type, entity_ids: &[], data_ids: &[] };
    let endpoints = endpoints();

    let filters = FiltersAtHand::default();
    let match_all = || {
        let subject = Subject::new(&event_type, &[], data.as_bytes());
        let mut verdicts = Verdicts::new(&filters, subject);
        let owed = endpoints
            .iter()
            .filter(|endpoint| match_endpoint(event, endpoint, |text| verdicts.ask(text)).is_ok());
        black_box(owed.count())
    };
    let begin = now();
    let owed = match_all();
    println!("endpoints: {}, owed: {owed}, data: {} bytes", endpoints.len(), data.len());
    println!("the first event, which reads the filters: {:?}", begin.elapsed());
    println!(
        "an event: {:?}",
        middle(|| {
            match_all();
        })
    );

    let text = "data.status == \"completed\" && data.duration > 60";
    println!("reading a filter: {:?}", middle(|| drop(black_box(Filter::compile(text)))));

    let numbers = vec!["1"; 100_000].join(",");
    let large = format!(r#"{{"list":[{numbers}],"text":"{}"}}"#, "x".repeat(60_000));
    let first = Filter::compile("size(data.list) > 0").expect("a filter");
    for text in [
        "data.list.exists(x, x == 2 || x in [3, 4, 5] || x > 7.5)",
        "data.text.matches('(x|xx|xxx)*y') || data.text.contains('xxxxxxxxxxxxxxxxxy')",
        "data.list == data.list",
    ] {
        let filter = Filter::compile(text).expect("a filter");
        let once = || {
            // A new subject has all its steps; its data is read before the clock runs.
            let subject = Subject::new(&event_type, &[], large.as_bytes());
            first.apply(&subject);
            let begin = now();
            let verdict = filter.apply(&subject);
            (begin.elapsed(), verdict)
        };
        let (time, verdict) = (0..20).map(|_| once()).min_by_key(|(time, _)| *time).expect("20");
        println!("at worst, on {} KiB: {time:?} for {text}: {verdict:?}", large.len() / 1024);
    }
}
