//! The resolver against a scripted name server.

use std::net::IpAddr;
use std::time::Duration;

use http_sender::resolve::{DnsFailure, Found, HickoryResolver, Resolve};

use crate::dns::{NameServer, Reply, records};

fn found(addresses: &[&str]) -> Found {
    let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect();
    Found { addresses, aliases: Vec::new() }
}

#[tokio::test]
async fn a_name_has_all_its_ipv4_and_ipv6_addresses() {
    let server = NameServer::start().await;
    server.set("a.com", &["8.8.8.8", "2606:4700::1", "10.0.0.1"]);
    server.set("b.com", &["::ffff:10.0.0.1"]);
    let resolver = server.resolver();
    let answer = resolver.resolve("a.com").await;
    assert_eq!(answer, Ok(found(&["8.8.8.8", "10.0.0.1", "2606:4700::1"])));
    assert_eq!(resolver.resolve("b.com").await, Ok(found(&["::ffff:10.0.0.1"])));
}

#[tokio::test]
async fn only_the_absolute_name_is_asked_for_and_no_hosts_file_is_read() {
    let server = NameServer::start().await;
    let resolver = server.resolver();
    for name in ["a.b", "localhost.localdomain", "single"] {
        assert_eq!(resolver.resolve(name).await, Err(DnsFailure::NoAddress));
    }
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap_or_else(|_| "me".to_owned());
    let hostname = hostname.trim();
    assert_eq!(resolver.resolve(hostname).await, Err(DnsFailure::NoAddress));
    let absolute = ["a.b", "localhost.localdomain", "single", hostname];
    for (question, _) in server.questions() {
        assert!(absolute.contains(&question.as_str()), "{question}");
    }
}

#[tokio::test]
async fn an_answer_is_believed_for_five_seconds_although_its_ttl_is_zero() {
    let server = NameServer::start().await;
    server.script("a.com", [records("a.com", 0, &["8.8.8.8"])]);
    let resolver = server.resolver();
    for _ in 0..3 {
        assert_eq!(resolver.resolve("a.com").await, Ok(found(&["8.8.8.8"])));
    }
    let of_a = server.questions().len();
    assert!(of_a <= 4, "A once, AAAA at most three times: {of_a}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_name_server_is_a_timeout() {
    let server = NameServer::start().await;
    server.script("silent.com", [Reply::Silence]);
    let began = tokio::time::Instant::now();
    assert_eq!(server.resolver().resolve("silent.com").await, Err(DnsFailure::Timeout));
    assert!(began.elapsed() <= Duration::from_millis(3_100), "{:?}", began.elapsed());
}

#[tokio::test]
async fn without_name_servers_every_look_up_fails() {
    assert!(HickoryResolver::from_servers(&[]).resolve("a.com").await.is_err());
}
