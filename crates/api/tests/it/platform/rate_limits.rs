//! The request limit of a key: what is said of it is what is enforced.

use std::collections::HashMap;
use std::time::Duration;

use domain::contract::Contract;
use engine::settings::{BucketRate, Settings};

use super::harness::{OPERATOR, Owner, Platform};
use crate::app::Answer;

const RATE: BucketRate = BucketRate { per_second: 100, burst: 200 };

/// How long each test goes on, in paused time.
const LENGTH: Duration = Duration::from_secs(10);

/// A list of strings with whole-numbered parameters: as much of structured fields (RFC 9651) as
/// these fields use. Anything else is none.
fn parse_list(field: &str) -> Option<Vec<(String, HashMap<String, u64>)>> {
    field.split(',').map(|item| parse_item(item.trim_matches([' ', '\t']))).collect()
}

fn parse_item(item: &str) -> Option<(String, HashMap<String, u64>)> {
    let (text, mut rest) = item.strip_prefix('"')?.split_once('"')?;
    if !text.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'\\') {
        return None;
    }
    let mut parameters = HashMap::new();
    while !rest.is_empty() {
        let parameter = rest.strip_prefix(';')?.trim_start_matches(' ');
        let end = parameter.find(';').unwrap_or(parameter.len());
        let (key, number) = parameter[..end].split_once('=')?;
        let is_key = key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*')
            && key
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b));
        // RFC 9651, section 3.3.1: at most 15 digits.
        if !is_key || number.len() > 15 || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        parameters.insert(key.to_owned(), number.parse().ok()?);
        rest = &parameter[end..];
    }
    Some((text.to_owned(), parameters))
}

/// What an answer says of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    quota: u64,
    window: u64,
    remaining: u64,
    reset: u64,
}

fn told(answer: &Answer) -> Told {
    let parse = |name: &str, parameters: [&str; 2]| {
        let list = parse_list(answer.header(name).unwrap()).unwrap();
        let [(policy, given)] = &list[..] else { panic!("{list:?}") };
        assert_eq!(policy, "default");
        assert_eq!(given.len(), 2, "{list:?}");
        parameters.map(|parameter| given[parameter])
    };
    let [quota, window] = parse("ratelimit-policy", ["q", "w"]);
    let [remaining, reset] = parse("ratelimit", ["r", "t"]);
    Told { quota, window, remaining, reset }
}

async fn platform_and_owner() -> (Platform, Owner) {
    let settings = Settings { account_key_rate: Some(RATE), ..Settings::default() };
    let platform = Platform::start_with(settings).await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    (platform, owner)
}

/// Asks for something that costs little.
async fn ask(platform: &Platform, key: &str) -> Answer {
    platform.get(key, "/api/v1/accounts").await
}

#[tokio::test(start_paused = true)]
async fn who_heeds_what_is_left_is_never_refused() {
    let (platform, owner) = platform_and_owner().await;
    let began = tokio::time::Instant::now();
    let mut taken = 0;
    while began.elapsed() < LENGTH {
        let answer = ask(&platform, &owner.key).await;
        assert_eq!(answer.status, 200);
        let told = told(&answer);
        assert_eq!((told.quota, told.window), (200, 2));
        taken += 1;
        if told.remaining == 0 {
            tokio::time::advance(Duration::from_secs(told.reset)).await;
        }
    }
    assert!(is_near(taken, 100 * 10), "{taken}");
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_when_told_to_is_taken_and_no_more_are_taken_than_the_rate() {
    let (platform, owner) = platform_and_owner().await;
    let began = tokio::time::Instant::now();
    let (mut taken, mut refused, mut was_refused) = (0, 0, false);
    while began.elapsed() <= LENGTH {
        let answer = ask(&platform, &owner.key).await;
        let told = told(&answer);
        if answer.status == 200 {
            taken += 1;
            was_refused = false;
            continue;
        }
        assert_eq!(answer.status, 429);
        assert!(!was_refused, "refused twice, though it waited");
        assert_eq!(answer.text("/type"), "urn:postrider:problem:rate-limited");
        assert_eq!(told.remaining, 0);
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        tokio::time::advance(Duration::from_secs(wait)).await;
        (refused, was_refused) = (refused + 1, true);
    }
    assert!(is_near(taken, 200 + 100 * 10), "{taken}");
    assert!(refused <= 11, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn two_keys_that_never_wait_get_the_rate_each() {
    let (platform, owner) = platform_and_owner().await;
    let path = format!("/api/v1/accounts/{}/keys", owner.id);
    let other = platform.call(OPERATOR, "POST", &path, "").await.text("/api_key");
    let keys = [owner.key, other];
    let mut taken = [0, 0];
    // 250 requests a second with each key.
    for _ in 0..250 * 8 {
        for (key, taken) in keys.iter().zip(&mut taken) {
            *taken += u64::from(ask(&platform, key).await.status == 200);
        }
        tokio::time::advance(Duration::from_millis(4)).await;
    }
    for taken in taken {
        assert!(is_near(taken, 200 + 100 * 8), "{taken}");
    }
}

/// Within 2 in a hundred.
fn is_near(number: u64, expected: u64) -> bool {
    number.abs_diff(expected) * 50 <= expected
}

#[tokio::test(start_paused = true)]
async fn every_answer_to_a_limited_key_tells_its_limit_and_no_other_does() {
    let (platform, owner) = platform_and_owner().await;
    let own = format!("/api/v1/accounts/{}", owner.id);
    let mut remaining = 200;
    for (request, body, status) in [
        (format!("GET {own}"), "", 200),
        (format!("POST {own}/keys"), "", 201),
        ("POST /api/v1/events".to_owned(), "{", 400),
        ("POST /api/v1/events".to_owned(), "{}", 422),
        ("GET /api/v1/accounts/acct_1".to_owned(), "", 404),
        (format!("DELETE {own}"), "", 404),
        ("GET /api/v1/audit/chain".to_owned(), "", 404),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let answer = platform.call(&owner.key, method, path, body).await;
        assert_eq!(answer.status, status, "{request}");
        remaining -= 1;
        assert_eq!(told(&answer).remaining, remaining, "{request}");
    }
    let withdrawn = r#"{"api_access":false}"#;
    assert_eq!(platform.call(OPERATOR, "PATCH", &own, withdrawn).await.status, 200);
    let answer = platform.get(&owner.key, &own).await;
    assert_eq!((answer.status.as_u16(), told(&answer).remaining), (403, remaining - 1));
    for (key, path) in [(OPERATOR, own.as_str()), ("wrong", &own), ("", "/healthz")] {
        let answer = platform.get(key, path).await;
        assert_eq!(answer.header("ratelimit"), None, "{path}");
        assert_eq!(answer.header("ratelimit-policy"), None, "{path}");
    }
}

#[test]
fn the_parser_of_this_test_refuses_what_is_no_structured_field() {
    assert_eq!(parse_list(r#""a";q=1;w=20, "b""#).unwrap().len(), 2);
    for wrong in ["", "a;q=1", r#""a"q=1"#, r#""a";q"#, r#""a";Q=1"#, r#""a";q=1.5"#, r#""a"#] {
        assert_eq!(parse_list(wrong), None, "{wrong}");
    }
}
