//! When a connection carries more than one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::attempt::{Failure, Phases};
use tokio::io::AsyncWriteExt;
use tokio::time::{advance, sleep};

use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_without_look_up_or_dialling() {
    let bench = bench(answering(OK));
    for _ in 0..5 {
        assert_status(&bench.post("http://a.com/x").await, 200);
    }
    assert_eq!((bench.names.questions(), bench.dials()), (1, 1));
    assert_eq!(bench.post("http://a.com/").await.phases, Phases::default());
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_usable() {
    for answer in [
        &b"HTTP/1.1 204 No Content\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 500 Error\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let bench = bench(answering(answer));
        bench.post("http://a.com/").await;
        bench.post("http://a.com/").await;
        assert_eq!(bench.dials(), 1, "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn a_connection_the_receiver_closes_is_not_used_again() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let bench = bench(answering(answer));
        bench.post("http://a.com/").await;
        bench.post("http://a.com/").await;
        assert_eq!(bench.dials(), 2);
    }
}

#[tokio::test]
async fn a_connection_serves_one_scheme_host_and_port() {
    let bench = bench(answering(OK));
    for url in ["http://a.com/", "http://b.com/", "http://a.com:8443/", "http://a.com/other"] {
        assert_status(&bench.post(url).await, 200);
    }
    assert_eq!(bench.dials(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_lies_idle_for_30_seconds_at_most() {
    let bench = bench(answering(OK));
    bench.post("http://a.com/").await;
    advance(29 * SECOND).await;
    bench.post("http://a.com/").await;
    assert_eq!(bench.dials(), 1);
    advance(30 * SECOND).await;
    bench.post("http://a.com/").await;
    assert_eq!(bench.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_without_further_traffic() {
    let (ended, mut end) = tokio::sync::mpsc::unbounded_channel();
    let bench = bench(script(move |_, mut stream| {
        let ended = ended.clone();
        async move {
            while read_request(&mut stream).await.is_some() {
                stream.write_all(OK).await.unwrap();
            }
            ended.send(tokio::time::Instant::now()).unwrap();
        }
    }));
    let began = tokio::time::Instant::now();
    bench.post("http://a.com/").await;
    let lived = end.recv().await.unwrap() - began;
    assert!(lived >= 30 * SECOND && lived <= 41 * SECOND, "{lived:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_lives_for_five_minutes_at_most() {
    let bench = bench(answering(OK));
    for _ in 0..15 {
        bench.post("http://a.com/").await;
        sleep(20 * SECOND).await;
    }
    assert_eq!(bench.dials(), 1);
    bench.post("http://a.com/").await;
    assert_eq!((bench.dials(), bench.names.questions()), (2, 2));
}

/// A receiver whose first connection answers one request and then does as it is told with the
/// second; the others answer always. Counts the requests it heard.
fn failing_second(then: &'static [u8], always: bool) -> (Route, Arc<AtomicUsize>) {
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    let route = script(move |number, mut stream| {
        let count = Arc::clone(&count);
        async move {
            let mut answered = 0;
            while read_request(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                let first_fails = number == 0 && answered == 1;
                if first_fails || (always && number > 0) {
                    stream.write_all(then).await.unwrap();
                    return;
                }
                stream.write_all(OK).await.unwrap();
                answered += 1;
            }
        }
    });
    (route, heard)
}

#[tokio::test]
async fn a_reused_connection_that_dies_unheard_is_repeated_at_once_on_a_fresh_one() {
    let (route, heard) = failing_second(b"", false);
    let bench = bench(route);
    assert_status(&bench.post("http://a.com/").await, 200);
    let exchange = bench.post("http://a.com/").await;
    assert_status(&exchange, 200);
    assert_eq!((bench.dials(), heard.load(Ordering::SeqCst)), (2, 3));
}

#[tokio::test]
async fn a_request_is_repeated_once() {
    let (route, heard) = failing_second(b"", true);
    let bench = bench(route);
    bench.post("http://a.com/").await;
    assert_failed(&bench.post("http://a.com/").await, Failure::Reset, "");
    assert_eq!((bench.dials(), heard.load(Ordering::SeqCst)), (2, 3));
}

#[tokio::test]
async fn a_reused_connection_that_dies_within_its_answer_is_not_repeated() {
    let (route, heard) = failing_second(b"HTTP/1.1 20", false);
    let bench = bench(route);
    bench.post("http://a.com/").await;
    assert_failed(&bench.post("http://a.com/").await, Failure::Reset, "");
    assert_eq!((bench.dials(), heard.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test]
async fn an_idle_connection_that_the_receiver_closed_is_noticed() {
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    let (closed, mut close) = tokio::sync::mpsc::unbounded_channel();
    let bench = bench(script(move |_, mut stream| {
        let (count, closed) = (Arc::clone(&count), closed.clone());
        async move {
            read_request(&mut stream).await;
            count.fetch_add(1, Ordering::SeqCst);
            stream.write_all(OK).await.unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    }));
    for _ in 0..3 {
        assert_status(&bench.post("http://a.com/").await, 200);
        close.recv().await.unwrap();
    }
    assert_eq!((bench.dials(), heard.load(Ordering::SeqCst)), (3, 3));
}

#[tokio::test]
async fn a_connection_that_speaks_unasked_is_not_used_again() {
    let (spoken, mut speech) = tokio::sync::mpsc::unbounded_channel();
    let bench = bench(script(move |_, mut stream| {
        let spoken = spoken.clone();
        async move {
            while read_request(&mut stream).await.is_some() {
                // A second answer that nobody asked for, as in response smuggling.
                stream.write_all(&[OK, b"HTTP/1.1 299 Forged\r\n\r\n"].concat()).await.unwrap();
                spoken.send(()).unwrap();
            }
        }
    }));
    for _ in 0..3 {
        assert_status(&bench.post("http://a.com/").await, 200);
        speech.recv().await.unwrap();
    }
    assert_eq!(bench.dials(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_given_up_takes_its_connection_along() {
    let bench = bench(script(|number, mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            if number == 0 {
                sleep(10 * SECOND).await;
            }
            if stream.write_all(OK).await.is_err() {
                return;
            }
        }
    }));
    assert_failed(&bench.post_within("http://a.com/", SECOND).await, Failure::Timeout, "");
    assert_status(&bench.post_within("http://a.com/", SECOND).await, 200);
    assert_eq!(bench.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn requests_at_once_have_a_connection_each_and_all_are_kept() {
    let bench = Arc::new(bench(script(|_, mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            sleep(SECOND).await;
            stream.write_all(OK).await.unwrap();
        }
    })));
    for _ in 0..3 {
        let wave: Vec<_> = (0..32)
            .map(|_| {
                let bench = Arc::clone(&bench);
                tokio::spawn(async move { bench.post("http://a.com/").await })
            })
            .collect();
        for request in wave {
            assert_status(&request.await.unwrap(), 200);
        }
        assert_eq!(bench.dials(), 32);
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_64_idle_connections_are_kept_per_host() {
    let bench = Arc::new(bench(script(|_, mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            sleep(SECOND).await;
            stream.write_all(OK).await.unwrap();
        }
    })));
    for dials in [80, 96] {
        let wave: Vec<_> = (0..80)
            .map(|_| {
                let bench = Arc::clone(&bench);
                tokio::spawn(async move { bench.post("http://a.com/").await })
            })
            .collect();
        for request in wave {
            assert_status(&request.await.unwrap(), 200);
        }
        assert_eq!(bench.dials(), dials);
    }
}
