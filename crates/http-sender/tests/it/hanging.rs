//! Receivers that hang: at every point of an answer, and many of them at once. The clock is paused
//! and the network in memory, so times are exact.

use std::sync::Arc;
use std::time::Duration;

use domain::attempt::{Failure, Outcome};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(15);

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn silence_after_any_byte_of_the_head_ends_at_the_limit() {
    for length in 0..HEAD.len() {
        let answer = HEAD.as_bytes()[..length].to_vec();
        let exchange = bench(answering_once(answer)).post_within("http://a.com/", LIMIT).await;
        assert_failed(&exchange, Failure::Timeout, "time limit");
        assert_eq!(exchange.duration, LIMIT);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_after_an_interim_answer_ends_at_the_limit() {
    for interim in ["100 Continue", "102 Processing", "103 Early Hints\r\nLink: </a>"] {
        let answer = format!("HTTP/1.1 {interim}\r\n\r\n").into_bytes();
        let exchange = bench(answering_once(answer)).post_within("http://a.com/", LIMIT).await;
        assert_failed(&exchange, Failure::Timeout, "time limit");
        assert_eq!(exchange.duration, LIMIT);
    }
}

/// A receiver that says a byte per second.
fn trickling(answer: Vec<u8>) -> Route {
    script(move |_, mut stream| {
        let answer = answer.clone();
        async move {
            read_request(&mut stream).await;
            for byte in answer {
                sleep(SECOND).await;
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_head_of_one_byte_per_second_ends_at_the_limit() {
    let exchange = bench(trickling(HEAD.into())).post_within("http://a.com/", LIMIT).await;
    assert_failed(&exchange, Failure::Timeout, "time limit");
    assert_eq!(exchange.duration, LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_one_byte_per_second_frees_its_place_two_seconds_after_the_head() {
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked", "Connection: close"] {
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
        let bench = bench(script(move |_, mut stream| {
            let head = head.clone();
            async move {
                read_request(&mut stream).await;
                sleep(3 * SECOND).await;
                let mut told = stream.write_all(head.as_bytes()).await.is_ok();
                while told {
                    sleep(SECOND).await;
                    told = stream.write_all(b"1\r\ny\r\n").await.is_ok();
                }
            }
        }));
        let exchange = bench.post_within("http://a.com/", LIMIT).await;
        assert_status(&exchange, 200);
        assert!(exchange.outcome.is_success());
        assert_eq!(exchange.duration, 5 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_hanging_receivers_end_at_their_limit_and_delay_no_healthy_one() {
    let bench = Arc::new(bench(silent()));
    bench.names.set("healthy.com", &["93.184.215.99"]);
    bench.network.set("93.184.215.99", answering(OK));
    let mut hanging = JoinSet::new();
    for number in 0..1_000 {
        let (bench, name) = (Arc::clone(&bench), format!("hanging-{number}.com"));
        bench.names.set(&name, &[PUBLIC]);
        let url = format!("http://{name}/");
        hanging.spawn(async move { bench.post_within(&url, LIMIT).await });
    }
    let began = Instant::now();
    for _ in 0..140 {
        sleep(SECOND / 10).await;
        let exchange = bench.post_within("http://healthy.com/", LIMIT).await;
        assert_status(&exchange, 200);
        assert_eq!(exchange.duration, Duration::ZERO);
    }
    assert_eq!(hanging.len(), 1_000);
    assert!(hanging.try_join_next().is_none(), "none ended before its limit");
    for exchange in hanging.join_all().await {
        assert_eq!(exchange.outcome, Outcome::Failed(Failure::Timeout));
        assert_eq!(exchange.duration, LIMIT);
    }
    assert_eq!(began.elapsed(), LIMIT);
}
