//! The pages say what is so: the tests that `docs/security.md` and `docs/delivery.md` name exist, and the tables of
//! `docs/delivery.md` are those of the code.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use domain::attempt::{Failure, Outcome, ReceiverControl};
use domain::delivery::{EndReason, Handling, Heard, Transition, decide, handle};
use domain::endpoint::RetrySchedule;
use domain::retry::Chance;
use domain::time::Timestamp;

/// What a row names as its test, cut at the first `…` or `*`.
fn test_names(document: &str) -> Vec<&str> {
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    quoted
        .map(|name| name.rsplit([' ', ':']).next().unwrap_or(name))
        .map(|name| name.split(['…', '*']).next().unwrap_or(name))
        .filter(|name| name.matches('_').count() >= 3)
        .collect()
}

fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_a_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut all = String::new();
    sources(&root.join("crates"), &mut all);
    for (page, names_min) in [("docs/security.md", 60), ("docs/delivery.md", 30)] {
        let document = std::fs::read_to_string(root.join(page)).unwrap();
        let names = test_names(&document);
        assert!(names.len() >= names_min, "{page}: {}", names.len());
        let missing: Vec<_> =
            names.into_iter().filter(|name| !all.contains(&format!("fn {name}"))).collect();
        assert!(missing.is_empty(), "{page} names tests that there are not: {missing:#?}");
    }
}

/// What an attempt does to its delivery, as a table in Markdown.
fn transitions() -> String {
    let cell = |heard: Heard, number: u32, hours: u64| {
        let owed_since = Timestamp::from_seconds(0);
        let now = owed_since.plus(Duration::from_hours(hours));
        let schedule = RetrySchedule::default();
        match decide(&schedule, number, owed_since, heard, now, Chance::from_bits(0)) {
            Transition::Delivered => "delivered".to_owned(),
            Transition::RetryAt(_) => "pending".to_owned(),
            Transition::Exhausted(reason) => format!("exhausted, `{}`", reason.name()),
        }
    };
    let answered = |status| Outcome::Answered { status, retry_after: None };
    let mut rows: Vec<(String, Heard)> = vec![
        ("200 to 299".to_owned(), answered(200).into()),
        ("300 to 599".to_owned(), answered(500).into()),
    ];
    rows.extend(Failure::ALL.map(|it| (format!("`{}`", it.name()), Outcome::Failed(it).into())));
    let asked = |status| Heard { outcome: answered(status), asked: Some(ReceiverControl::Abort) };
    rows.push(("300 to 599 and `webhook-delivery: abort-message`".to_owned(), asked(500)));
    let mut table = String::from(
        "| what came of the attempt | attempts are left | it was the last | the next would be too late |\n\
         | --- | --- | --- | --- |\n",
    );
    for (name, heard) in rows {
        let cells = [cell(heard, 1, 0), cell(heard, 12, 70), cell(heard, 2, 96)];
        writeln!(table, "| {name} | {} |", cells.join(" | ")).unwrap();
    }
    table
}

/// What is done with a delivery whose claims were lost, as a table in Markdown.
fn lost_claims() -> String {
    let mut table = String::from("| lost in a row | what is done |\n| --- | --- |\n");
    for lost in 0.. {
        let done = match handle(lost) {
            Handling::Attempt => "attempted like any other",
            Handling::Trial => "attempted after that was written down",
            Handling::TrialAlone => "the same, while no other is",
            Handling::SetAside => "exhausted, `set_aside`",
        };
        writeln!(table, "| {lost} | {done} |").unwrap();
        if handle(lost) == Handling::SetAside {
            return table;
        }
    }
    table
}

#[test]
fn the_tables_of_the_delivery_page_are_those_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let document = std::fs::read_to_string(root.join("docs/delivery.md")).unwrap();
    for table in [transitions(), lost_claims()] {
        assert!(document.contains(&table), "docs/delivery.md must have this table:\n{table}");
    }
    for reason in EndReason::ALL.map(EndReason::name) {
        assert!(
            document.contains(&format!("`{reason}`")),
            "docs/delivery.md must tell of {reason}"
        );
    }
}
