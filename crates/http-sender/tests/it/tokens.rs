//! OAuth 2 tokens: got with the endpoint's credentials, kept, shared, given up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::attempt::{Failure, Outcome};
use domain::credentials::{ClientCredentials, TokenRequest};
use domain::target_url::TargetUrl;
use engine::sender::{Exchange, Request, Sender as _};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);
const HOOK: &str = "http://a.com/hook";
/// Where `auth.com` is.
const AUTH: &str = "93.184.215.15";
/// `shop` and `hush`, as HTTP Basic has them.
const BASIC: &str = "Basic c2hvcDpodXNo";

fn credentials_at(token_url: &str, client_secret: &str) -> ClientCredentials {
    ClientCredentials::new(TokenRequest {
        token_url: TargetUrl::from_stored(token_url).unwrap(),
        client_id: "shop".to_owned(),
        client_secret: client_secret.to_owned(),
        scope: Some("hooks".to_owned()),
        audience: None,
    })
}

fn credentials() -> ClientCredentials {
    credentials_at("http://auth.com/token", "hush")
}

/// The requests a server got.
#[derive(Clone, Default)]
struct Got(Arc<Mutex<Vec<String>>>);

impl Got {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The tokens of the requests, in their order.
    fn tokens(&self) -> Vec<String> {
        let token = |request: &String| {
            let line = request.lines().find_map(|line| line.strip_prefix("Authorization: Bearer "));
            line.unwrap().to_owned()
        };
        self.all().iter().map(token).collect()
    }
}

/// A server that answers its `n`th request, counted from 1, after a while.
fn serving(
    got: &Got,
    answer: impl Fn(usize) -> (Duration, String) + Send + Sync + 'static,
) -> Route {
    let (got, answer) = (got.clone(), Arc::new(answer));
    script(move |_, mut stream| {
        let (got, answer) = (got.clone(), Arc::clone(&answer));
        async move {
            while let Some(request) = read_request(&mut stream).await {
                let number = {
                    let mut got = got.0.lock().unwrap();
                    got.push(request);
                    got.len()
                };
                let (wait, answer) = answer(number);
                sleep(wait).await;
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn granting(number: usize, expires_in: u64) -> String {
    let body = format!(
        r#"{{"access_token":"t{number}","token_type":"Bearer","expires_in":{expires_in}}}"#
    );
    answer("200 OK", &body)
}

struct Scene {
    bench: Arc<Bench>,
    asked: Got,
    delivered: Got,
}

impl Scene {
    /// A token server that answers so, and a receiver that takes everything.
    fn new(tokens: impl Fn(usize) -> (Duration, String) + Send + Sync + 'static) -> Self {
        Self::with(tokens, |_| (Duration::ZERO, answer("200 OK", "ok")))
    }

    fn with(
        tokens: impl Fn(usize) -> (Duration, String) + Send + Sync + 'static,
        hooks: impl Fn(usize) -> (Duration, String) + Send + Sync + 'static,
    ) -> Self {
        let (asked, delivered) = (Got::default(), Got::default());
        let bench = bench(serving(&delivered, hooks));
        bench.names.set("auth.com", &[AUTH]);
        bench.network.set(AUTH, serving(&asked, tokens));
        Self { bench: Arc::new(bench), asked, delivered }
    }

    async fn post(&self) -> Exchange {
        self.post_with(credentials(), LONG).await
    }

    async fn post_with(&self, credentials: ClientCredentials, timeout: Duration) -> Exchange {
        post(&self.bench, credentials, timeout).await
    }

    /// As many at once, each with its own copy of the credentials.
    async fn post_at_once(&self, count: usize) -> Vec<Exchange> {
        let posts: Vec<_> = (0..count)
            .map(|_| {
                let bench = Arc::clone(&self.bench);
                tokio::spawn(async move { post(&bench, credentials(), LONG).await })
            })
            .collect();
        let mut exchanges = Vec::new();
        for post in posts {
            exchanges.push(post.await.unwrap());
        }
        exchanges
    }
}

async fn post(bench: &Bench, credentials: ClientCredentials, timeout: Duration) -> Exchange {
    let request = Request { credentials: Some(credentials), ..request(HOOK, timeout) };
    bench.sender.send(request).await
}

#[tokio::test(start_paused = true)]
async fn a_delivery_carries_the_token_that_its_credentials_get() {
    let scene = Scene::new(|number| (Duration::ZERO, granting(number, 3600)));
    for _ in 0..3 {
        assert_status(&scene.post().await, 200);
    }
    let asked = scene.asked.all();
    let (head, body) = asked[0].split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /token HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Accept-Encoding: identity".to_owned(),
            "Accept: application/json".to_owned(),
            format!("Authorization: {BASIC}"),
            "Content-Length: 41".to_owned(),
            "Content-Type: application/x-www-form-urlencoded".to_owned(),
            "Host: auth.com".to_owned(),
            format!("User-Agent: {}", domain::rendering::STANDARD_USER_AGENT),
        ]
    );
    assert_eq!(body, "grant_type=client_credentials&scope=hooks");
    assert_eq!(asked.len(), 1, "the token is kept");
    assert_eq!(scene.delivered.tokens(), ["t1"; 3]);
    assert!(scene.delivered.all().iter().all(|request| !request.contains("Basic")));
    assert_eq!(scene.bench.dials(), 2, "one connection to each");
}

#[tokio::test(start_paused = true)]
async fn a_token_takes_the_place_of_any_header_of_that_name() {
    let scene = Scene::new(|number| (Duration::ZERO, granting(number, 3600)));
    let mut request = Request { credentials: Some(credentials()), ..request(HOOK, LONG) };
    request.headers.push(("Authorization".into(), "Bearer mine".into()));
    assert_status(&scene.bench.sender.send(request).await, 200);
    assert_eq!(scene.delivered.tokens(), ["t1"]);
    assert_eq!(scene.delivered.all()[0].matches("Authorization").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_used_until_30_seconds_before_its_end() {
    let scene = Scene::new(|number| (Duration::ZERO, granting(number, 100)));
    for seconds in [0, 69, 2] {
        sleep(SECOND * seconds).await;
        assert_status(&scene.post().await, 200);
    }
    assert_eq!(scene.delivered.tokens(), ["t1", "t1", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_deliveries_at_once_ask_for_one_token() {
    let scene = Scene::new(|number| (SECOND, granting(number, 3600)));
    for exchange in scene.post_at_once(100).await {
        assert_status(&exchange, 200);
        assert_eq!(exchange.duration, SECOND, "the token's time counts");
        assert_eq!(exchange.phases.first_byte, Duration::ZERO, "but not as the receiver's");
    }
    assert_eq!(scene.asked.count(), 1);
    assert_eq!(scene.delivered.tokens(), ["t1"; 100]);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_no_life_is_asked_for_once_in_5_seconds() {
    let scene = Scene::new(|number| (Duration::ZERO, granting(number, 0)));
    for milliseconds in [0, 100, 4_899, 1] {
        sleep(Duration::from_millis(milliseconds)).await;
        assert_status(&scene.post().await, 200);
    }
    assert_eq!(scene.delivered.tokens(), ["t1", "t1", "t1", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_to_get_a_token_is_shared_by_all_who_need_one_within_5_seconds() {
    let failing = |number| {
        let failed = answer("500 Internal Server Error", "");
        (SECOND, if number == 1 { failed } else { granting(number, 3600) })
    };
    let scene = Scene::new(failing);
    for exchange in scene.post_at_once(100).await {
        assert_failed(&exchange, Failure::Credentials, "answered 500");
    }
    sleep(Duration::from_millis(4_999)).await;
    assert_failed(&scene.post().await, Failure::Credentials, "answered 500");
    assert_eq!((scene.asked.count(), scene.delivered.count()), (1, 0));
    let other = credentials_at("http://auth.com/token", "other");
    assert_status(&scene.post_with(other, LONG).await, 200);
    sleep(Duration::from_millis(1)).await;
    assert_status(&scene.post().await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_comes_too_late_for_its_attempt_is_there_for_the_next() {
    let scene = Scene::new(|number| (8 * SECOND, granting(number, 3600)));
    let first = scene.post_with(credentials(), 5 * SECOND).await;
    assert_failed(&first, Failure::Credentials, "no token within the 5000 ms");
    let second = scene.post_with(credentials(), 5 * SECOND).await;
    assert_status(&second, 200);
    assert_eq!(second.duration, 3 * SECOND);
    assert_eq!((scene.asked.count(), scene.delivered.tokens()), (1, vec!["t1".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_token_url_that_does_not_answer_is_given_up_after_30_seconds() {
    let scene = Scene::new(|_| (LONG, String::new()));
    let exchange = scene.post_with(credentials(), LONG).await;
    assert_failed(&exchange, Failure::Credentials, "none within 30000 ms");
    assert_eq!(exchange.duration, 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn one_origin_is_asked_for_8_tokens_at_once_whoever_needs_them() {
    let scene = Scene::new(|number| (SECOND, granting(number, 3600)));
    let posts: Vec<_> = (0..20)
        .map(|number| {
            let bench = Arc::clone(&scene.bench);
            let own = credentials_at("http://auth.com/token", &format!("secret {number}"));
            tokio::spawn(async move { post(&bench, own, LONG).await })
        })
        .collect();
    for (wait, asked) in [(500, 8), (1_000, 16), (1_000, 20)] {
        sleep(Duration::from_millis(wait)).await;
        assert_eq!(scene.asked.count(), asked);
    }
    for post in posts {
        assert_status(&post.await.unwrap(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_a_receiver_does_not_accept_is_asked_for_anew() {
    let hooks = |number| {
        let refused = answer("401 Unauthorized", "");
        (Duration::ZERO, if number == 2 { refused } else { answer("200 OK", "") })
    };
    let scene = Scene::with(|number| (Duration::ZERO, granting(number, 3600)), hooks);
    assert_status(&scene.post().await, 200);
    assert_status(&scene.post().await, 401);
    assert_eq!(scene.asked.count(), 1, "the 401 is the attempt's outcome");
    assert_status(&scene.post().await, 200);
    assert_eq!(scene.delivered.tokens(), ["t1", "t1", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn a_401_for_an_old_token_leaves_the_new_one() {
    // The first delivery is refused only after the second has got another token.
    let hooks = |number| match number {
        1 => (25 * SECOND, answer("401 Unauthorized", "")),
        _ => (Duration::ZERO, answer("200 OK", "")),
    };
    let scene = Scene::with(|number| (Duration::ZERO, granting(number, 40)), hooks);
    let (first, second) = tokio::join!(scene.post(), async {
        sleep(21 * SECOND).await;
        scene.post().await
    });
    assert_status(&first, 401);
    assert_status(&second, 200);
    assert_status(&scene.post().await, 200);
    assert_eq!(scene.delivered.tokens(), ["t1", "t2", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn tokens_of_other_credentials_are_other_tokens() {
    let scene = Scene::new(|number| (Duration::ZERO, granting(number, 3600)));
    let other = || credentials_at("http://auth.com/token", "other");
    for credentials in [credentials(), other(), credentials(), other()] {
        assert_status(&scene.post_with(credentials, LONG).await, 200);
    }
    assert_eq!(scene.delivered.tokens(), ["t1", "t2", "t1", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_good_token_nothing_is_delivered_and_nothing_of_the_answer_is_told() {
    let token = |token: &str| {
        answer("200 OK", &format!(r#"{{"access_token":"{token}","token_type":"Bearer"}}"#))
    };
    let elsewhere = "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://b.com/token\r\n\
                     Content-Length: 0\r\n\r\n";
    for (given, detail) in [
        (answer("500 Internal Server Error", "exposed"), "answered 500"),
        (answer("401 Unauthorized", r#"{"error":"exposed"}"#), "answered 401"),
        (elsewhere.to_owned(), "answered 307"),
        (answer("200 OK", "exposed"), "not a JSON object"),
        (answer("200 OK", r#"{"access_token":"exposed"}"#), "not a JSON object"),
        (token(r"exposed\r\nX-Injected: 1"), "visible ASCII"),
        (token("expösed"), "visible ASCII"),
        (token(&"e".repeat(8 * 1024 + 1)), "too long"),
        (token(&"e".repeat(64 * 1024 + 1)), "too long"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_owned(), "too long or too slow"),
        ("exposed\r\n\r\n".to_owned(), "protocol"),
    ] {
        let scene = Scene::new(move |_| (Duration::ZERO, given.clone()));
        let exchange = scene.post().await;
        assert_failed(&exchange, Failure::Credentials, detail);
        let told = exchange.detail.unwrap();
        assert!(!told.contains("exposed") && !told.contains("eee"), "{told}");
        assert_eq!((scene.delivered.count(), scene.bench.dials()), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_token_url_is_called_under_the_rules_of_endpoints() {
    let scene = Scene::new(|number| (Duration::ZERO, granting(number, 3600)));
    scene.bench.names.set("inside.com", &["10.0.0.1"]);
    for (url, detail) in [
        ("http://inside.com/token", "DNS_FORBIDDEN"),
        ("http://169.254.169.254/latest", "blocked"),
        ("http://127.0.0.1:9/token", "blocked"),
    ] {
        let exchange = scene.post_with(credentials_at(url, "hush"), LONG).await;
        assert_failed(&exchange, Failure::Credentials, detail);
    }
    assert_eq!(scene.bench.dials(), 0);
}

#[tokio::test(start_paused = true)]
async fn token_and_delivery_share_one_time_limit() {
    let slow = |number| (3 * SECOND, granting(number, 3600));
    let scene = Scene::with(slow, |_| (LONG, String::new()));
    let began = Instant::now();
    let exchange = scene.post_with(credentials(), 5 * SECOND).await;
    assert_eq!(exchange.outcome, Outcome::Failed(Failure::Timeout));
    assert_eq!((exchange.duration, began.elapsed()), (5 * SECOND, 5 * SECOND));
    assert_eq!(scene.delivered.count(), 1);
}
