//! Receivers that close connections between two requests, whenever they like. A request that meets
//! such an end is repeated at once, and nobody counts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use engine::sender::Sender;
use http_sender::HttpSender;
use http_sender::dial::Stream;
use http_sender::tls::Roots;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::breaking::{listen, sender_to};
use crate::frames::{Peer, answer, go_away};
use crate::secure::{Authority, certificate_for};
use crate::support::*;

/// What a receiver does with a connection, in seeded order (splitmix64).
struct Whims(AtomicU64);

impl Whims {
    fn seeded() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(20_241_128)))
    }

    fn next(&self, sides: u64) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut whim = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        whim = (whim ^ (whim >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        whim = (whim ^ (whim >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (whim ^ (whim >> 31)) % sides
    }
}

/// Delivers from 16 tasks at once; every one must succeed.
async fn deliver(sender: HttpSender, url: &'static str, deliveries: usize) {
    const TASKS: usize = 16;
    let sender = Arc::new(sender);
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let sender = Arc::clone(&sender);
        tasks.spawn(async move {
            for _ in 0..deliveries / TASKS {
                assert_status(&sender.send(request(url, LONG)).await, 200);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_delivery_fails_because_an_idle_connection_was_closed() {
    const DELIVERIES: usize = 4_000;
    let whims = Whims::seeded();
    let (answered, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&answered), Arc::clone(&dropped));
    let receiver = listen(move |_, mut stream| {
        let whims = Arc::clone(&whims);
        let (answered, dropped) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
        async move {
            while read_request(&mut stream).await.is_some() {
                answered.fetch_add(1, Ordering::SeqCst);
                stream.write_all(OK).await.unwrap();
                match whims.next(8) {
                    // Closes at once: the next request may already be on its way.
                    0 => return,
                    // Closes when the next request comes, unread: the sender gets a reset.
                    1 => {
                        if stream.readable().await.is_ok()
                            && stream.peek(&mut [0]).await.is_ok_and(|read| read > 0)
                        {
                            dropped.fetch_add(1, Ordering::SeqCst);
                        }
                        return;
                    }
                    // Reads the next request and closes.
                    2 => {
                        if read_request(&mut stream).await.is_some() {
                            dropped.fetch_add(1, Ordering::SeqCst);
                        }
                        return;
                    }
                    _ => {}
                }
            }
        }
    })
    .await;
    deliver(sender_to(receiver, Roots::none()), "http://a.com/", DELIVERIES).await;
    assert_eq!(answered.load(Ordering::SeqCst), DELIVERIES, "none was delivered twice");
    let dropped = dropped.load(Ordering::SeqCst);
    assert!(dropped > DELIVERIES / 10, "requests met a closing connection: {dropped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_delivery_fails_because_an_http_2_connection_was_closed() {
    let whims = Whims::seeded();
    let authority = Authority::new();
    let config = authority.server(&certificate_for("a.com"), &["h2"]);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let receiver = listen(move |_, stream| {
        let (whims, acceptor) = (Arc::clone(&whims), acceptor.clone());
        async move {
            let stream: Box<dyn Stream> = Box::new(stream);
            let stream = acceptor.accept(stream).await.unwrap();
            let Some(mut peer) = Peer::greet(stream, &[]).await else { return };
            let mut first = true;
            while let Some(stream) = peer.request().await {
                match if first { u64::MAX } else { whims.next(32) } {
                    // Without a word, with requests unanswered.
                    0 => return,
                    // With a word: this request and those after it were not processed.
                    1 => {
                        peer.say(&go_away(stream - 2, 0)).await;
                        return;
                    }
                    _ => {}
                }
                first = false;
                if !peer.say(&answer(stream)).await {
                    return;
                }
            }
        }
    })
    .await;
    deliver(sender_to(receiver, authority.roots()), "https://a.com/", 1_600).await;
}
