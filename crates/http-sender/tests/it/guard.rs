//! Which addresses are dialled.

use domain::address::AddressPolicy;
use domain::attempt::{Failure, Outcome};
use domain::target_url::UrlPolicy;
use http_sender::dial::{Dial, TcpDial};
use http_sender::resolve::DnsFailure;
use http_sender::tls::Roots;
use tokio::io::AsyncWriteExt;

use crate::support::*;

const VECTORS: &str = include_str!("../../../domain/tests/fixtures/ssrf-vectors.tsv");

fn opened(networks: &[&str]) -> UrlPolicy {
    let allowed = networks.iter().map(|network| network.parse().unwrap()).collect();
    UrlPolicy { addresses: AddressPolicy { allowed, ..AddressPolicy::default() }, ..policy() }
}

#[tokio::test]
async fn every_recorded_address_is_dialled_or_refused_without_a_packet() {
    let mut count = 0;
    for line in VECTORS.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let ["A", address, expected] = fields[..] else { continue };
        count += 1;
        let bench = bench(answering(OK));
        bench.names.set("a.com", &[address]);
        let exchange = bench.post("http://a.com/").await;
        if expected == "ok" {
            assert_status(&exchange, 200);
            let dialled = std::net::SocketAddr::new(address.parse().unwrap(), 80);
            assert_eq!(bench.network.dialled(), [dialled.to_string()]);
        } else {
            assert_failed(&exchange, Failure::Blocked, "DNS_FORBIDDEN");
            assert_eq!(bench.dials(), 0, "{address}");
        }
    }
    assert!(count > 50);
}

#[tokio::test]
async fn a_forbidden_or_mixed_answer_is_refused_as_a_whole() {
    for (answers, code) in [
        (&["127.0.0.1"][..], "DNS_FORBIDDEN"),
        (&["169.254.169.254"], "DNS_FORBIDDEN"),
        (&["10.1.2.3"], "DNS_FORBIDDEN"),
        (&["172.16.0.1"], "DNS_FORBIDDEN"),
        (&["192.168.1.1"], "DNS_FORBIDDEN"),
        (&["100.64.0.1"], "DNS_FORBIDDEN"),
        (&["0.0.0.0"], "DNS_FORBIDDEN"),
        (&["168.63.129.16"], "DNS_FORBIDDEN"),
        (&["::1"], "DNS_FORBIDDEN"),
        (&["::"], "DNS_FORBIDDEN"),
        (&["fe80::1"], "DNS_FORBIDDEN"),
        (&["fc00::1"], "DNS_FORBIDDEN"),
        (&["fd00:ec2::254"], "DNS_FORBIDDEN"),
        (&["::ffff:10.0.0.1"], "DNS_FORBIDDEN"),
        (&["64:ff9b::a9fe:a9fe"], "DNS_FORBIDDEN"),
        (&["10.0.0.1", "10.0.0.2"], "DNS_FORBIDDEN"),
        (&[PUBLIC, "fd00::1"], "DNS_MIXED"),
        (&[PUBLIC, "10.0.0.1"], "DNS_MIXED"),
        (&["10.0.0.1", PUBLIC], "DNS_MIXED"),
    ] {
        for nat64 in [false, true] {
            let addresses = AddressPolicy { nat64, ..AddressPolicy::default() };
            let policy = UrlPolicy { addresses, ..policy() };
            let bench = bench_with(policy, answering(OK), Roots::none());
            bench.names.set("a.com", answers);
            assert_failed(&bench.post("http://a.com/").await, Failure::Blocked, code);
            assert_eq!(bench.dials(), 0, "{answers:?}");
        }
    }
}

#[tokio::test]
async fn all_addresses_are_judged_although_eight_are_tried() {
    let public: Vec<_> = (1..=10).map(|last| format!("8.8.8.{last}")).collect();
    let mut answers: Vec<_> = public.iter().map(String::as_str).collect();
    let bench = bench(Route::Refused);
    bench.names.set("a.com", &answers);
    assert_failed(&bench.post("http://a.com/").await, Failure::Connect, "8.8.8.8:80");
    assert_eq!(bench.dials(), 8);
    answers.push("10.0.0.1");
    bench.names.set("a.com", &answers);
    assert_failed(&bench.post("http://a.com/").await, Failure::Blocked, "DNS_MIXED");
    assert_eq!(bench.dials(), 8);
}

#[tokio::test(start_paused = true)]
async fn the_next_address_is_tried_when_one_refuses_or_is_silent() {
    let bench = bench(answering(OK));
    bench.names.set("a.com", &["8.8.8.1", "8.8.8.2", "8.8.8.3"]);
    bench.network.set("8.8.8.1", Route::Refused);
    bench.network.set("8.8.8.2", Route::Silent);
    let exchange = bench.post("http://a.com/").await;
    assert_status(&exchange, 200);
    assert_eq!(bench.network.dialled(), ["8.8.8.1:80", "8.8.8.2:80", "8.8.8.3:80"]);
    assert!(exchange.phases.connect.as_millis() == 2_500, "{exchange:?}");
}

#[tokio::test]
async fn a_name_without_an_answer_is_a_dns_failure() {
    let bench = bench(answering(OK));
    for failure in
        [DnsFailure::NoAddress, DnsFailure::Timeout, DnsFailure::Other("SERVFAIL".into())]
    {
        bench.names.fail("a.com", failure);
        assert_failed(&bench.post("http://a.com/").await, Failure::Dns, "DNS_ERROR");
    }
    bench.names.set("a.com", &[]);
    assert_failed(&bench.post("http://a.com/").await, Failure::Dns, "DNS_ERROR");
    assert_eq!(bench.dials(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_answer_is_judged_by_the_answer_that_is_dialled() {
    let close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let bench = bench(answering(close));
    assert_status(&bench.post("http://a.com/").await, 200);
    assert_eq!((bench.names.questions(), bench.dials()), (1, 1));
    bench.names.set("a.com", &["127.0.0.1"]);
    assert_failed(&bench.post("http://a.com/").await, Failure::Blocked, "DNS_FORBIDDEN");
    assert_eq!((bench.names.questions(), bench.dials()), (2, 1));
}

#[tokio::test]
async fn a_connection_that_reached_somebody_else_is_dropped_before_a_byte_is_sent() {
    for peer in ["10.0.0.1:80", "8.8.4.4:80", "93.184.215.14:81"] {
        let script: Script = std::sync::Arc::new(|_, mut stream| {
            Box::pin(async move {
                assert_eq!(read_request(&mut stream).await, None);
            })
        });
        let bench = bench(Route::Hijacked(peer.parse().unwrap(), script));
        assert_failed(&bench.post("http://a.com/").await, Failure::Blocked, "PEER_MISMATCH");
    }
}

#[tokio::test]
async fn the_machines_own_public_address_is_refused_unless_it_is_opened() {
    let refused = bench(answering(OK));
    refused.network.own(PUBLIC);
    assert_failed(&refused.post("http://a.com/").await, Failure::Blocked, "OWN_ADDRESS");
    assert_eq!(refused.dials(), 0);
    let open = bench_with(opened(&["93.184.215.0/24"]), answering(OK), Roots::none());
    open.network.own(PUBLIC);
    assert_status(&open.post("http://a.com/").await, 200);
}

#[tokio::test]
async fn only_addresses_that_would_be_tried_are_asked_whether_they_are_our_own() {
    let names: Vec<_> = (1..=10).map(|last| format!("8.8.8.{last}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let bench = bench(Route::Refused);
    bench.names.set("a.com", &names);
    bench.network.own("8.8.8.9");
    assert_failed(&bench.post("http://a.com/").await, Failure::Connect, "8.8.8.8:80");
    assert_eq!(bench.dials(), 8, "and the ninth is not dialled");
    bench.network.own("8.8.8.8");
    assert_failed(&bench.post("http://a.com/").await, Failure::Blocked, "OWN_ADDRESS");
    assert_eq!(bench.dials(), 8);
}

#[test]
fn own_addresses_are_told_from_others() {
    assert!(TcpDial.is_own("127.0.0.1".parse().unwrap()));
    for foreign in [PUBLIC, "192.0.2.1", "2606:4700::1111", "2001:db8::1"] {
        assert!(!TcpDial.is_own(foreign.parse().unwrap()), "{foreign}");
    }
}

#[tokio::test]
async fn a_stored_url_is_judged_again_before_anything_is_looked_up() {
    let strict = bench_with(UrlPolicy::default(), answering(OK), Roots::none());
    for (url, code) in [
        ("http://a.com/", "URL_SCHEME"),
        ("https://a.com:6379/", "PORT_FORBIDDEN"),
        ("https://127.0.0.1/", "IP_FORBIDDEN"),
        ("https://[::1]:8443/", "IP_FORBIDDEN"),
        ("https://[::ffff:808:808]/", "IP_FORBIDDEN"),
        ("https://8.8.8.8/", "HOST_IP_LITERAL"),
        ("https://localhost/", "HOST_RESERVED"),
        ("https://db.internal/", "HOST_RESERVED"),
        ("https://metadata/", "HOST_SINGLE_LABEL"),
    ] {
        assert_failed(&strict.post(url).await, Failure::Blocked, code);
    }
    assert_eq!((strict.names.questions(), strict.dials()), (0, 0));
}

#[tokio::test]
async fn an_opened_network_is_called_by_literal_and_by_localhost_without_a_look_up() {
    let bench = bench_with(opened(&["127.0.0.0/8", "10.9.0.0/16"]), answering(OK), Roots::none());
    for url in ["http://127.0.0.1:9000/", "http://localhost:9001/", "http://10.9.1.1:22/"] {
        assert_status(&bench.post(url).await, 200);
    }
    assert_eq!(bench.network.dialled(), ["127.0.0.1:9000", "127.0.0.1:9001", "10.9.1.1:22"]);
    assert_eq!(bench.names.questions(), 0);
    bench.names.set("a.com", &["10.9.1.2"]);
    assert_status(&bench.post("http://a.com/").await, 200);
    bench.names.set("b.com", &["10.8.0.1"]);
    assert_failed(&bench.post("http://b.com/").await, Failure::Blocked, "DNS_FORBIDDEN");
}

#[tokio::test]
async fn metadata_stays_closed_in_an_opened_network() {
    let policy = opened(&["0.0.0.0/0", "::/0"]);
    let bench = bench_with(policy, answering(OK), Roots::none());
    for address in ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "::ffff:127.0.0.1"] {
        bench.names.set("a.com", &[address]);
        assert_failed(&bench.post("http://a.com/").await, Failure::Blocked, "DNS_FORBIDDEN");
    }
    assert_eq!(bench.dials(), 0);
}

#[tokio::test]
async fn the_customer_is_not_told_what_is_behind_an_address() {
    // The outcome is the same whatever a forbidden address would have answered.
    let bench = bench(script(|_, mut stream| async move {
        stream.write_all(OK).await.unwrap();
    }));
    bench.names.set("a.com", &["127.0.0.1"]);
    let exchange = bench.post("http://a.com/").await;
    assert_eq!(exchange.outcome, Outcome::Failed(Failure::Blocked));
    assert!(exchange.response_excerpt.is_empty());
}
