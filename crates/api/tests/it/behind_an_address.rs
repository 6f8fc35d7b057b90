//! What an account learns about an address: which rule refuses it, and never what is behind it.

use domain::attempt::Failure;
use domain::contract::Contract;
use http::Method;
use serde_json::{Value, json};
use testkit::doubles::Reply;

use crate::operations::{By, Entry, Kind, Operation, operations};
use crate::world::{OPERATOR, World, body_of};

/// Addresses that may not be called, each for a reason of its own.
const FORBIDDEN: [&str; 6] =
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "[::1]", "[fd00::1]"];

#[tokio::test(start_paused = true)]
async fn every_forbidden_address_is_refused_in_the_same_words_by_every_operation() {
    let world = World::start().await;
    let mut told = Vec::new();
    let takes_url = |it: &&Operation| it.fields.contains("url");
    for operation @ Operation { entry, .. } in operations().iter().filter(takes_url) {
        let Entry { operation: name, by, .. } = entry;
        assert_eq!(*by, By::Owner, "{name}");
        let [owner, _] = world.pair(entry.contract().unwrap_or(Contract::Standard));
        for address in FORBIDDEN {
            let url = format!(r#""url":"https://{address}/""#);
            // The fields of the body that the operation must have, without its URL.
            let body: Value = serde_json::from_str(&body_of(entry, owner, None)).unwrap();
            let mut members = body.as_object().unwrap().clone();
            members.remove("url");
            let members = Value::Object(members).to_string();
            let comma = if members == "{}" { "" } else { "," };
            let body = format!("{{{url}{comma}{}", &members[1..]);
            let id = |place: &crate::operations::Place| Some(owner.id(place.kind).to_owned());
            let answer = world.ask_with(operation, &owner.key, owner, id, &body).await;
            assert!(answer.status.is_client_error(), "{name} {answer:?}");
            assert!(!answer.body.contains(address.trim_matches(['[', ']'])), "{name} {answer:?}");
            let reason = [
                answer.json().pointer("/errors/0/reason").cloned(),
                answer.json().pointer("/error/details/reason").cloned(),
                answer.json().pointer("/msg").cloned(),
            ];
            let reason = reason.into_iter().flatten().next().unwrap().as_str().unwrap().to_owned();
            told.push(reason.trim_start_matches("Parameter error: url: ").to_owned());
        }
    }
    assert_eq!(told.len(), 6 * FORBIDDEN.len());
    told.dedup();
    assert_eq!(
        told,
        ["the URL points to an address that may not be called; use a public host name"]
    );
}

/// The first row of a list, once there is one, without time passing.
async fn first_row(world: &World, key: &str, path: &str) -> Value {
    const TURNS_MAX: usize = 10_000;
    for _ in 0..TURNS_MAX {
        let list = world.ask(None, key, &Method::GET, path, "").await.json();
        if let Some(row) = list.pointer("/data/0") {
            return row.clone();
        }
        tokio::task::yield_now().await;
    }
    panic!("the list stays empty");
}

#[tokio::test(start_paused = true)]
async fn why_there_was_no_answer_is_told_by_one_word_and_nothing_else() {
    for failure in Failure::ALL {
        // A world for each, since failures in a row open the breaker.
        let world = World::start_with([Contract::Standard]).await;
        let [owner, _] = world.pair(Contract::Standard);
        let url = format!("https://your-domain.com/{}", owner.username);
        let replay = format!("/api/v1/deliveries/{}/replay", owner.id(Kind::Delivery));
        world.app.sender.always(&url, Reply::failure(failure));
        let asked = world.ask(None, &owner.key, &Method::POST, &replay, "").await;
        let path = format!("/api/v1/deliveries/{}/attempts", asked.text("/id"));
        let attempt = first_row(&world, &owner.key, &path).await;
        let shown = if failure == Failure::Blocked { Failure::Connect } else { failure };
        assert_eq!(attempt["outcome"], shown.name());
        let by_operator = first_row(&world, OPERATOR, &path).await;
        assert_eq!(by_operator["outcome"], failure.name());
        assert_eq!(attempt["status"], json!(null), "{attempt}");
        assert_eq!(attempt["response_excerpt"], "", "{attempt}");
        let fields: Vec<_> = attempt.as_object().unwrap().keys().map(String::as_str).collect();
        let mut known = [
            "number",
            "at",
            "duration_ms",
            "phases",
            "outcome",
            "status",
            "response_excerpt",
            "next_at",
            "request_headers",
        ];
        known.sort_unstable();
        assert_eq!(fields, known);
    }
}
