//! Every limit in time and size. The clock is paused and the network in memory, so times are exact.

use std::time::Duration;

use domain::attempt::Failure;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_look_up_has_three_seconds() {
    let exchange = bench(answering(OK)).post("http://silent.com/").await;
    assert_failed(&exchange, Failure::Dns, "no answer in time");
    assert_eq!(exchange.phases.dns, 3 * SECOND);
    assert_eq!(exchange.duration, 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_five_seconds_over_all_addresses() {
    for answers in [&["8.8.8.1"][..], &["8.8.8.1", "8.8.8.2", "2606:4700::1"]] {
        let bench = bench(Route::Silent);
        bench.names.set("a.com", answers);
        let exchange = bench.post("http://a.com/").await;
        assert_failed(&exchange, Failure::Connect, "no answer in time");
        let missing = (5 * SECOND).abs_diff(exchange.phases.connect);
        assert!(missing < SECOND / 10, "{exchange:?}");
        assert_eq!(bench.dials(), answers.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_has_five_seconds() {
    let exchange = bench(silent()).post("https://a.com/").await;
    assert_failed(&exchange, Failure::Tls, "in time");
    assert_eq!(exchange.phases.tls, 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_the_attempt_covers_every_phase_and_tells_where_the_time_went() {
    let limit = 2 * SECOND;
    let dns = bench(answering(OK)).post_within("http://silent.com/", limit).await;
    assert_eq!(dns.phases.dns, limit);
    let connect = bench(Route::Silent).post_within("http://a.com/", limit).await;
    assert_eq!(connect.phases.connect, limit);
    let tls = bench(silent()).post_within("https://a.com/", limit).await;
    assert_eq!(tls.phases.tls, limit);
    let first_byte = bench(silent()).post_within("http://a.com/", limit).await;
    assert_eq!(first_byte.phases.first_byte, limit);
    for exchange in [dns, connect, tls, first_byte] {
        assert_failed(&exchange, Failure::Timeout, "time limit");
        assert_eq!(exchange.duration, limit);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_does_not_extend_the_limit() {
    let route = script(|_, mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        for number in 0.. {
            sleep(SECOND).await;
            if stream.write_all(format!("X-{number}: y\r\n").as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let exchange = bench(route).post_within("http://a.com/", 5 * SECOND).await;
    assert_failed(&exchange, Failure::Timeout, "time limit");
    assert_eq!(exchange.duration, 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn interim_answers_without_end_do_not_extend_the_limit() {
    let route = script(|_, mut stream| async move {
        read_request(&mut stream).await;
        while stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.is_ok() {
            sleep(SECOND / 10).await;
        }
    });
    let exchange = bench(route).post_within("http://a.com/", 5 * SECOND).await;
    assert_failed(&exchange, Failure::Timeout, "time limit");
}

fn head_of(bytes: usize) -> Vec<u8> {
    let start = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Fill: ";
    let fill = "y".repeat(bytes - start.len() - 4);
    format!("{start}{fill}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_head_may_have_16_kib() {
    let exchange = bench(answering_once(head_of(16 * 1024))).post("http://a.com/").await;
    assert_status(&exchange, 200);
    let exchange = bench(answering_once(head_of(16 * 1024 + 1))).post("http://a.com/").await;
    assert_failed(&exchange, Failure::Protocol, "");
}

#[tokio::test]
async fn a_head_without_end_is_a_protocol_failure() {
    let route = script(|_, mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Fill: ").await;
        while stream.write_all(&[b'y'; 1024]).await.is_ok() {}
    });
    assert_failed(&bench(route).post("http://a.com/").await, Failure::Protocol, "");
}

#[tokio::test]
async fn a_head_may_have_100_fields() {
    for (fields, fits) in [(100, true), (101, false)] {
        let more = "X-Same: y\r\n".repeat(fields - 1);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{more}\r\n").into_bytes();
        let exchange = bench(answering_once(answer)).post("http://a.com/").await;
        if fits {
            assert_status(&exchange, 200);
        } else {
            assert_failed(&exchange, Failure::Protocol, "");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_without_end_costs_64_kib_and_8_kib_are_kept() {
    let bench = bench(script(|_, mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let mut sent = 0;
        while stream.write_all(&[b'y'; 1024]).await.is_ok() {
            sent += 1;
            // What is under way: 64 KiB on each side of the reader, and what was read.
            assert!(sent <= 64 * 4, "the reader does not stop");
        }
    }));
    let exchange = bench.post("http://a.com/").await;
    assert_status(&exchange, 200);
    assert_eq!(exchange.response_excerpt, "y".repeat(8 * 1024));
    assert!(exchange.duration < SECOND);
    assert_status(&bench.post("http://a.com/").await, 200);
    assert_eq!(bench.dials(), 2, "the connection is not used again");
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_has_two_seconds_and_the_status_counts() {
    let bench = bench(answering_once(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec()));
    let exchange = bench.post_within("http://a.com/", SECOND).await;
    assert_status(&exchange, 200);
    assert_eq!(exchange.response_excerpt, "abc");
    assert_eq!(exchange.duration, 2 * SECOND);
    bench.post("http://a.com/").await;
    assert_eq!(bench.dials(), 2, "the connection is not used again");
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_the_status() {
    let route = script(|_, mut stream| async move {
        read_request(&mut stream).await;
        let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nabc";
        stream.write_all(answer).await.unwrap();
    });
    let exchange = bench(route).post("http://a.com/").await;
    assert_status(&exchange, 202);
    assert_eq!(exchange.response_excerpt, "abc");
}

#[tokio::test]
async fn a_body_of_64_kib_leaves_the_connection_usable() {
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n".to_vec();
    answer.resize(answer.len() + 64 * 1024, b'y');
    let bench = bench(answering(answer.leak()));
    assert_eq!(bench.post("http://a.com/").await.response_excerpt.len(), 8 * 1024);
    bench.post("http://a.com/").await;
    assert_eq!(bench.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_never_reads_costs_the_limit_and_no_more() {
    let bench = bench(silent());
    let mut request = request("http://a.com/", 5 * SECOND);
    request.body = vec![b'x'; 1024 * 1024].into();
    let exchange = engine::sender::Sender::send(&bench.sender, request).await;
    assert_failed(&exchange, Failure::Timeout, "time limit");
    assert_eq!(exchange.duration, 5 * SECOND);
}
