use bytes::Bytes;
use store::history::Counts;
use tokio::time::Instant;

use super::*;
use crate::verify::sign_standard;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn event(number: u128) -> EventId {
    EventId::from_u128(number)
}

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
        auditor.acknowledged(event(*number), ["/a"]);
    }
    auditor
}

/// A delivery of an event whose data is this, to `/a`.
fn came(number: u128, data: &str, succeeded: bool) -> Receipt {
    Receipt {
        path: "/a".to_owned(),
        webhook_id: Some(event(number).to_string()),
        body: digest(format!("{{{data}}}").as_bytes()),
        data: Some(digest(data.as_bytes())),
        forged: None,
        succeeded,
    }
}

/// An auditor who was told this of each data.
fn told(all: &[(&str, Told)]) -> Auditor {
    let mut auditor = an_auditor(&[]);
    for (data, told) in all {
        auditor.told(digest(data.as_bytes()), *told, ["/a"]);
    }
    auditor
}

#[test]
fn retries_until_a_success_break_no_promise() {
    let requests = [a_request(event(1), "/a", b"x", 500), a_request(event(1), "/a", b"x", 204)];
    let auditor = an_auditor(&[1]);
    assert!(auditor.has_all(&requests) && !auditor.has_all(&requests[..1]));
    assert_eq!(auditor.judge(&requests, Faults::None), []);
}

#[test]
fn each_broken_promise_is_named() {
    let (one, two) = (event(1), event(2));
    let path = || "/a".to_owned();
    let judge = |requests: &[ReceivedRequest]| an_auditor(&[1]).judge(requests, Faults::None);
    let good = a_request(one, "/a", b"x", 200);

    assert_eq!(judge(&[]), [Violation::Lost { event: one, path: path() }]);
    assert_eq!(
        judge(&[good.clone(), a_request(two, "/a", b"x", 200)]),
        [Violation::Phantom { webhook_id: Some(two.to_string()), path: path() }]
    );
    assert_eq!(
        judge(&[good.clone(), a_request(one, "/b", b"x", 200)]),
        [Violation::Phantom { webhook_id: Some(one.to_string()), path: "/b".to_owned() }]
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
    let error = "webhook-signature is not the signature of these bytes".to_owned();
    assert_eq!(
        judge(&[forged]),
        [Violation::NotGenuine { webhook_id: Some(one.to_string()), path: path(), error }]
    );
    assert_eq!(an_auditor(&[1]).judge(&[good.clone(), good], Faults::Some), []);
    let counts = Counts { created: 2, delivered: 1, ..Counts::default() };
    assert_eq!(judge_counts(counts), Err(Violation::Unbalanced(counts)));
}

#[test]
fn everything_owed_is_counted_once_and_what_the_service_accounts_for_is_not_lost() {
    let mut auditor = an_auditor(&[1, 2, 3, 4, 5, 6]);
    auditor.stands(event(2), "/a", StateName::Pending);
    auditor.stands(event(3), "/a", StateName::Exhausted);
    auditor.stands(event(4), "/a", StateName::Cancelled);
    auditor.stands(event(5), "/a", StateName::Delivered);
    let receipts = [came(1, "1", true), came(3, "3", false)];
    assert_eq!(
        auditor.missing(&receipts),
        [2, 3, 4, 5, 6].map(|number| (event(number), "/a")).to_vec()
    );
    let Verdict { tally, violations } = auditor.audit(&receipts, Bounds::STRICT);
    let expected = Tally {
        acknowledged: 6,
        delivered: 1,
        pending: 1,
        exhausted: 1,
        cancelled: 1,
        lost: 2,
        ..Tally::default()
    };
    assert_eq!(tally, expected);
    let lost = [5, 6].map(|number| Violation::Lost { event: event(number), path: "/a".to_owned() });
    assert_eq!(violations, lost, "what the service says was delivered and nobody got is lost");
}

#[test]
fn a_request_without_an_answer_may_go_either_way_but_becomes_one_event_at_most() {
    let unknown = told(&[("x", Told::Unknown)]);
    assert_eq!(unknown.audit(&[], Bounds::STRICT), Verdict::default());
    assert_eq!(unknown.audit(&[came(1, "x", true)], Bounds::STRICT), Verdict::default());
    let twice = [Violation::MadeTwice { first: event(1), second: event(2) }];
    let both = [came(1, "x", true), came(2, "x", true)];
    assert_eq!(unknown.audit(&both, Bounds::STRICT).violations, twice);

    let repeated = told(&[("x", Told::Unknown), ("x", Told::Acknowledged(event(1)))]);
    assert_eq!(repeated.audit(&both, Bounds::STRICT).violations, twice);
    assert_eq!(repeated.audit(&[came(1, "x", true)], Bounds::STRICT).violations, []);
    let answers = [("x", Told::Acknowledged(event(1))), ("x", Told::Acknowledged(event(2)))];
    let verdict = told(&answers).audit(&both, Bounds::STRICT);
    assert_eq!((verdict.violations, verdict.tally.phantom), (twice.to_vec(), 1));
}

#[test]
fn what_was_refused_or_never_published_is_a_phantom() {
    let phantom = |number: u128| Violation::Phantom {
        webhook_id: Some(event(number).to_string()),
        path: "/a".to_owned(),
    };
    let auditor = told(&[("x", Told::Refused), ("y", Told::Unknown), ("y", Told::Refused)]);
    let receipts = [came(1, "x", true), came(2, "y", true), came(3, "z", true)];
    let Verdict { tally, violations } = auditor.audit(&receipts, Bounds::STRICT);
    assert_eq!((violations, tally.phantom), (vec![phantom(1), phantom(3)], 2));
    let strangers = Bounds { strangers: true, ..Bounds::STRICT };
    assert_eq!(auditor.audit(&receipts, strangers).violations, [phantom(1)]);
}

#[test]
fn data_that_is_not_what_was_published_is_corrupted() {
    let auditor = told(&[("x", Told::Acknowledged(event(1)))]);
    let Verdict { tally, violations } = auditor.audit(&[came(1, "y", true)], Bounds::STRICT);
    assert_eq!(violations, [Violation::Corrupted { event: event(1), path: "/a".to_owned() }]);
    assert_eq!((tally.corrupted, tally.delivered), (1, 1));
}

#[test]
fn duplicates_are_counted_and_bounded() {
    let auditor = an_auditor(&[1]);
    let receipts = [came(1, "x", true), came(1, "x", true), came(1, "x", false)];
    let audit = |duplicates_max| {
        let Verdict { tally, violations } =
            auditor.audit(&receipts, Bounds { duplicates_max, ..Bounds::STRICT });
        (tally.duplicated, violations.len())
    };
    assert_eq!((audit(2), audit(1)), ((2, 0), (2, 2)));
}

#[test]
fn more_requests_than_attempts_are_named_once() {
    let auditor = an_auditor(&[1]);
    let receipts = [came(1, "x", false), came(1, "x", false), came(1, "x", true)];
    let audit = |attempts_max| {
        auditor.audit(&receipts, Bounds { attempts_max, ..Bounds::STRICT }).violations
    };
    assert_eq!(audit(3), []);
    let over = [Violation::OverAttempted { event: event(1), path: "/a".to_owned() }];
    assert_eq!((audit(2), audit(1)), (over.to_vec(), over.to_vec()));
}

#[test]
fn in_a_line_none_comes_before_the_one_ahead_has_ended() {
    let mut auditor = an_auditor(&[1, 2, 3]);
    auditor.in_order("/a", [event(1), event(2), event(3)]);
    let all = |receipts: &[Receipt]| auditor.audit(receipts, Bounds::STRICT).violations;
    let in_order =
        [came(1, "1", false), came(1, "1", true), came(2, "2", true), came(3, "3", true)];
    assert_eq!(all(&in_order), []);
    let early = [came(1, "1", false), came(2, "2", true), came(1, "1", true), came(3, "3", true)];
    let violation = Violation::OutOfOrder { event: event(2), ahead: event(1), path: "/a".into() };
    assert_eq!(all(&early), [violation]);

    auditor.stands(event(1), "/a", StateName::Exhausted);
    let given_up = [came(1, "1", false), came(2, "2", true), came(3, "3", true)];
    assert_eq!(auditor.audit(&given_up, Bounds::STRICT).violations, []);
}
