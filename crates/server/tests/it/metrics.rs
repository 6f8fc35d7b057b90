//! What `/metrics` gives, and that docs/metrics.md says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use domain::contract::Contract;
use http::Method;
use serde_json::json;
use testkit::receiver::Receiver;

use crate::customer::Customer;
use crate::program::{Home, Service};

/// A metric as it is documented, or given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Documented {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// Its label, if it has one.
    pub(crate) label: Option<String>,
    /// Every value of the label; none where they are not ours to say.
    pub(crate) values: BTreeSet<String>,
    pub(crate) what: String,
}

impl Documented {
    /// The names of its series.
    pub(crate) fn series(&self) -> Vec<String> {
        match self.kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .map(|suffix| format!("{}{suffix}", self.name))
                .to_vec(),
            _ => vec![self.name.clone()],
        }
    }
}

/// Labels whose values change from build to build.
const OPEN_LABELS: [&str; 1] = ["version"];

/// The tables of docs/metrics.md.
pub(crate) fn documented() -> Vec<Documented> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let document = std::fs::read_to_string(root.join("docs/metrics.md")).unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    let rows = rows.filter(|row| row.starts_with("postrider_") || row.starts_with("process_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [name, kind, rest @ ..] = cells.as_slice() else { panic!("{row}") };
        let (labels, what) = match rest {
            [labels, what] => (*labels, *what),
            [what] => ("", what.strip_prefix("| ").unwrap_or(what)),
            _ => panic!("{row}"),
        };
        let mut words = labels.split('`').skip(1).step_by(2).map(str::to_owned);
        Documented {
            name: name.trim_end_matches('`').to_owned(),
            kind: (*kind).trim_end_matches(" |").to_owned(),
            label: words.next(),
            values: words.collect(),
            what: what.to_owned(),
        }
    })
    .collect()
}

/// A page of metrics, read line by line.
struct Page {
    metrics: Vec<Documented>,
    values: BTreeMap<String, f64>,
}

impl Page {
    async fn of(service: &Service) -> Self {
        let answer = service.operator().call(Method::GET, "/metrics", "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let mut page = Self { metrics: Vec::new(), values: BTreeMap::new() };
        let mut help = BTreeMap::new();
        for line in answer.text.lines().filter(|line| !line.is_empty()) {
            if let Some((name, what)) =
                line.strip_prefix("# HELP ").and_then(|it| it.split_once(' '))
            {
                assert!(help.insert(name, what).is_none(), "{name} is there twice");
            } else if let Some((name, kind)) =
                line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' '))
            {
                page.metrics.push(Documented {
                    name: name.to_owned(),
                    kind: kind.to_owned(),
                    label: None,
                    values: BTreeSet::new(),
                    what: (*help.get(name).unwrap_or(&"")).to_owned(),
                });
            } else {
                page.take_value(line);
            }
        }
        page
    }

    fn take_value(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        self.values.insert(series.to_owned(), value.parse().unwrap());
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let metric = self.metrics.last_mut().unwrap();
        assert!(metric.series().iter().any(|known| known == name), "{line} has no type");
        for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').unwrap();
            if label == "le" {
                continue;
            }
            assert!(metric.label.as_deref().is_none_or(|known| known == label), "{line}");
            metric.label = Some(label.to_owned());
            if !OPEN_LABELS.contains(&label) {
                metric.values.insert(value.trim_matches('"').to_owned());
            }
        }
    }

    fn value(&self, series: &str) -> f64 {
        *self.values.get(series).unwrap_or_else(|| panic!("no {series}"))
    }
}

#[tokio::test]
async fn the_document_and_the_first_page_of_metrics_name_the_same_ones_in_the_same_words() {
    let service = Home::new().serve().await;
    let page = Page::of(&service).await;
    let by_name = |metrics: Vec<Documented>| -> BTreeMap<String, Documented> {
        let all: BTreeMap<_, _> =
            metrics.iter().map(|metric| (metric.name.clone(), metric.clone())).collect();
        assert_eq!(all.len(), metrics.len(), "a metric is there twice");
        all
    };
    let (given, documented) = (by_name(page.metrics), by_name(documented()));
    let names = |metrics: &BTreeMap<String, Documented>| {
        metrics.keys().cloned().collect::<BTreeSet<String>>()
    };
    assert_eq!(names(&given), names(&documented));
    for (name, metric) in &given {
        assert_eq!(Some(metric), documented.get(name));
        assert_eq!(metric.kind == "counter", name.ends_with("_total"), "{name}");
        assert!(!metric.what.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn what_happens_is_counted_and_measured_once() {
    let service = Home::new().serve().await;
    let receiver = Receiver::start().await;
    let customer = Customer::new(&service, Contract::JoggV2).await;
    customer.register(&receiver.url("/hook")).await;
    for _ in 0..3 {
        customer.publish("{}").await;
    }
    let wrong = json!({"account": customer.account, "type": "no.such", "data": {}});
    assert_eq!(service.operator().post("/api/v1/events", &wrong).await.status, 422);
    service.settled().await;

    let page = Page::of(&service).await;
    for (series, expected) in [
        ("postrider_events_accepted_total", 3.0),
        ("postrider_events_total", 3.0),
        ("postrider_events_refused_total{reason=\"invalid\"}", 1.0),
        ("postrider_events_refused_total{reason=\"unavailable\"}", 0.0),
        ("postrider_deliveries_created_total", 3.0),
        ("postrider_store_deliveries_total", 3.0),
        ("postrider_deliveries{state=\"delivered\"}", 3.0),
        ("postrider_balance", 0.0),
        ("postrider_oldest_due_seconds", 0.0),
        ("postrider_attempts_total{outcome=\"success\"}", 3.0),
        ("postrider_publish_seconds_count", 3.0),
        ("postrider_attempt_seconds_count", 3.0),
        ("postrider_event_to_first_attempt_seconds_count", 3.0),
        ("postrider_event_to_delivered_seconds_count", 3.0),
        ("postrider_breakers{state=\"open\"}", 0.0),
    ] {
        assert!((page.value(series) - expected).abs() < f64::EPSILON, "{series}: {page:?}");
    }
    let commits = page.value("postrider_store_commits_total");
    for whole in ["postrider_store_commit_seconds_count", "postrider_store_commit_writes_count"] {
        assert!((page.value(whole) - commits).abs() < f64::EPSILON, "{whole}");
    }
    assert!(page.value("postrider_store_commit_seconds_sum") > 0.0);
    assert!(page.value("postrider_store_file_bytes") > 0.0);
    assert!(page.value("process_start_time_seconds") > 1.7e9);
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.values).finish()
    }
}
