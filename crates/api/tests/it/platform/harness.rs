//! The platform API under test, and transcripts of talking to it.

use std::collections::HashMap;
use std::fmt::Write as _;

use axum::body::Body;
use domain::contract::Contract;
use engine::settings::Settings;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::app::{Answer, App};
use api::jogg_v2::HttpStatus;

/// The operator's key.
pub(super) const OPERATOR: &str = "operator-key-of-the-tests-0123456789";

/// The platform API under test.
pub(super) struct Platform {
    pub(super) app: App,
}

/// An account made through the API.
pub(super) struct Owner {
    pub(super) id: String,
    pub(super) key: String,
}

impl Platform {
    /// Without limits of requests, which most tests are not about.
    pub(super) async fn start() -> Self {
        Self::start_with(Settings { account_key_rate: None, ..Settings::default() }).await
    }

    pub(super) async fn start_with(settings: Settings) -> Self {
        let settings = Settings { bootstrap_operator_key: Some(OPERATOR.to_owned()), ..settings };
        Self { app: App::start_with(HttpStatus::Mapped, settings).await }
    }

    /// Sends a request with this key and, unless it is empty, this JSON body.
    pub(super) async fn call(&self, key: &str, method: &str, path: &str, body: &str) -> Answer {
        let request = Request::builder()
            .method(method.parse::<Method>().unwrap())
            .uri(path)
            .header("authorization", format!("Bearer {key}"));
        let request = if body.is_empty() {
            request.body(Body::empty())
        } else {
            request.header("content-type", "application/json").body(Body::from(body.to_owned()))
        };
        self.app.send(request.unwrap()).await
    }

    pub(super) async fn get(&self, key: &str, path: &str) -> Answer {
        self.call(key, "GET", path, "").await
    }

    pub(super) async fn post(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.call(key, "POST", path, &body.to_string()).await
    }

    pub(super) async fn owner(&self, username: &str, contract: Contract) -> Owner {
        let body = json!({"username": username, "contract": contract.name()});
        let answer = self.post(OPERATOR, "/api/v1/accounts", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        Owner { id: answer.text("/id"), key: answer.text("/api_key") }
    }

    /// Creates an endpoint and answers its id.
    pub(super) async fn endpoint(&self, owner: &Owner, body: &Value) -> String {
        let path = format!("/api/v1/accounts/{}/endpoints", owner.id);
        let answer = self.post(&owner.key, &path, body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.text("/id")
    }

    /// Publishes an event of this type and answers its id.
    pub(super) async fn publish(&self, owner: &Owner, event_type: &str) -> String {
        let body = json!({"account": owner.id, "type": event_type, "data": {"video_id": "v1"}});
        let answer = self.post(&owner.key, "/api/v1/events", &body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.text("/id")
    }

    /// The ids on every page of a list, asked for by pages of `limit`, one entry a page.
    pub(super) async fn pages(&self, key: &str, path: &str, limit: usize) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut next = format!("{path}limit={limit}");
        loop {
            let answer = self.get(key, &next).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let page = answer.json();
            let rows = page["data"].as_array().unwrap();
            pages.push(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect());
            match page["next_cursor"].as_str() {
                Some(cursor) => next = format!("{path}limit={limit}&cursor={cursor}"),
                None => return pages,
            }
        }
    }

    /// The delivery, once it is in this state.
    pub(super) async fn delivery_in_state(&self, key: &str, id: &str, state: &str) -> Value {
        self.delivery_when(key, id, |delivery| delivery["state"] == state).await
    }

    /// The delivery, once this holds of it, without time passing.
    pub(super) async fn delivery_when(
        &self,
        key: &str,
        id: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        const TURNS_MAX: usize = 10_000;
        for _ in 0..TURNS_MAX {
            let delivery = self.get(key, &format!("/api/v1/deliveries/{id}")).await.json();
            if holds(&delivery) {
                return delivery;
            }
            tokio::task::yield_now().await;
        }
        panic!("the delivery never became what was awaited");
    }
}

/// What was said, with what chance made replaced by names, in the order of their appearance.
#[derive(Default)]
pub(super) struct Transcript {
    text: String,
    names: HashMap<String, String>,
}

impl Transcript {
    /// Says something and writes down both sides; answers the answer.
    pub(super) async fn say(
        &mut self,
        platform: &Platform,
        key: &str,
        request: &str,
        body: &str,
    ) -> Answer {
        let (method, path) = request.split_once(' ').unwrap();
        let answer = platform.call(key, method, path, body).await;
        let mut shown = format!("> {request}\n");
        if !body.is_empty() {
            writeln!(shown, "> {body}").unwrap();
        }
        writeln!(shown, "< {}", answer.status.as_u16()).unwrap();
        for name in ["allow", "cache-control", "location", "retry-after", "www-authenticate"] {
            if let Some(value) = answer.header(name) {
                writeln!(shown, "< {name}: {value}").unwrap();
            }
        }
        if !answer.body.is_empty() {
            let problem = if answer.status.is_success() { "" } else { "problem+" };
            assert_eq!(
                answer.header("content-type").unwrap(),
                format!("application/{problem}json")
            );
            writeln!(shown, "< {}", answer.body).unwrap();
        }
        shown = shown.replace(answer.header("x-request-id").unwrap(), "<request_id>");
        let named = self.named(&shown);
        writeln!(self.text, "{named}").unwrap();
        answer
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// The text with ids, keys and secrets replaced by their names.
    fn named(&mut self, text: &str) -> String {
        const KINDS: [&str; 10] =
            ["acct_", "key_", "evt_", "dlv_", "rpl_", "webhook_", "wh_", "whsec_", "pr_ak_", "v1,"];
        let mut named = String::new();
        let mut rest = text;
        'text: while !rest.is_empty() {
            for kind in KINDS {
                let Some(after) = rest.strip_prefix(kind) else { continue };
                let more: &[u8] = match kind {
                    "whsec_" | "v1," => b"+/=",
                    "pr_ak_" => b"_",
                    _ => b"",
                };
                let length = after
                    .bytes()
                    .take_while(|b| b.is_ascii_alphanumeric() || more.contains(b))
                    .count();
                if length < 16 {
                    continue;
                }
                let (random, left) = after.split_at(length);
                let count = self.names.values().filter(|name| name.starts_with(kind)).count();
                let name = self
                    .names
                    .entry(format!("{kind}{random}"))
                    .or_insert_with(|| format!("{kind}{}", count + 1));
                write!(named, "<{name}>").unwrap();
                rest = left;
                continue 'text;
            }
            let length = rest.chars().next().unwrap().len_utf8();
            named.push_str(&rest[..length]);
            rest = &rest[length..];
        }
        named
    }
}
