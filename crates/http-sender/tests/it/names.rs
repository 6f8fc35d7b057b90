//! Names that lead where nobody may go: whatever a name server says, no connection reaches the trap.
//!
//! Every case goes through a real resolver to a real name server, once as a delivery and once as a
//! registration probe.

use std::time::Duration;

use domain::address::AddressPolicy;
use domain::attempt::{Failure, Outcome};
use domain::target_url::{TargetUrl, UrlPolicy};
use engine::sender::Sender;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use http_sender::limits::ADDRESSES_MAX;
use http_sender::resolve::{ALIASES_MAX, DnsFailure, Resolve};

use crate::dns::{NameServer, Reply, chain, record, records};
use crate::support::{PUBLIC, assert_failed, assert_status};
use crate::world::{OK_AND_CLOSE, PUBLIC_TOO, World};

const SECOND: Duration = Duration::from_secs(1);

async fn probe(world: &World, url: &str) -> Outcome {
    world.sender.probe(&TargetUrl::from_stored(url).unwrap(), None, SECOND).await
}

/// Neither a delivery nor a probe of `http://a.com/` leaves.
#[track_caller]
fn assert_refused(
    world: &World,
    exchange: &engine::sender::Exchange,
    probed: &Outcome,
    expected: (Failure, &str),
) {
    let (failure, detail) = expected;
    assert_failed(exchange, failure, detail);
    assert_eq!(*probed, Outcome::Failed(failure));
    assert_eq!(world.connections(), (0, 0));
    assert!(world.roads.dialled().is_empty(), "{:?}", world.roads.dialled());
}

async fn refused(world: &World, expected: (Failure, &str)) {
    let exchange = world.post("http://a.com/").await;
    let probed = probe(world, "http://a.com/").await;
    assert_refused(world, &exchange, &probed, expected);
}

/// Delivery and probe reach the receiver.
async fn delivered(world: &World) {
    let (before, _) = world.connections();
    assert_status(&world.post("http://a.com/").await, 200);
    assert_eq!(probe(world, "http://a.com/").await.status(), Some(200));
    assert_eq!(world.connections(), (before + 2, 0));
}

fn allowing(addresses: AddressPolicy) -> UrlPolicy {
    UrlPolicy { allow_http: true, addresses, ..UrlPolicy::default() }
}

#[tokio::test]
async fn the_trap_would_notice_and_the_receiver_is_reached() {
    let open = AddressPolicy { allowed: vec!["10.0.0.0/8".parse().unwrap()], ..Default::default() };
    let world = World::with(allowing(open), OK_AND_CLOSE).await;
    world.names.set("b.com", &["10.0.0.1"]);
    assert_status(&world.post("http://b.com/").await, 200);
    assert_eq!(world.connections(), (0, 1));
    let world = World::new().await;
    world.names.set("a.com", &[PUBLIC, PUBLIC_TOO]);
    delivered(&world).await;
    assert_eq!(world.roads.dialled(), [format!("{PUBLIC}:80"), format!("{PUBLIC}:80")]);
}

#[tokio::test]
async fn a_name_that_leads_to_a_forbidden_address_is_refused_without_a_packet() {
    let mut world = World::new().await;
    for answer in [
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "0.0.0.0",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:93.184.215.14",
        "::10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::808:808",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a00:1::1",
        "2001:0:a00:1::1",
        "4000::1",
    ] {
        world.names.set("a.com", &[answer]);
        world.forget();
        refused(&world, (Failure::Blocked, "DNS_FORBIDDEN")).await;
    }
}

#[tokio::test]
async fn one_forbidden_address_among_good_ones_spoils_the_name() {
    let mut world = World::new().await;
    for answers in [
        &[PUBLIC, "10.0.0.1"][..],
        &["10.0.0.1", PUBLIC],
        &[PUBLIC, "::1"],
        &[PUBLIC, "fd00::1"],
        &[PUBLIC_TOO, "127.0.0.1"],
        &[PUBLIC, PUBLIC_TOO, "169.254.169.254"],
        &[PUBLIC, "64:ff9b::a00:1"],
    ] {
        world.names.set("a.com", answers);
        world.forget();
        refused(&world, (Failure::Blocked, "DNS_MIXED")).await;
    }
}

#[tokio::test]
async fn behind_nat64_an_address_is_judged_by_the_one_inside() {
    let nat64 = AddressPolicy { nat64: true, ..AddressPolicy::default() };
    let mut world = World::with(allowing(nat64), OK_AND_CLOSE).await;
    for inside in ["64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::808:808"]
    {
        world.names.set("a.com", &[inside]);
        world.forget();
        refused(&world, (Failure::Blocked, "DNS_FORBIDDEN")).await;
    }
    world.names.set("a.com", &["64:ff9b::5db8:d70e"]);
    world.forget();
    world.post("http://a.com/").await;
    assert_eq!(world.roads.dialled(), ["[64:ff9b::5db8:d70e]:80"], "a public address inside");
}

#[tokio::test]
async fn an_opened_network_does_not_open_metadata_addresses_and_a_second_setting_does() {
    let metadata = ["169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192"];
    let metadata = [&metadata[..], &["fd00:ec2::254", "fe80::1"]].concat();
    let all = || vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    let open = AddressPolicy { allowed: all(), ..AddressPolicy::default() };
    let mut world = World::with(allowing(open), OK_AND_CLOSE).await;
    for answer in metadata {
        world.names.set("a.com", &[answer]);
        world.forget();
        refused(&world, (Failure::Blocked, "DNS_FORBIDDEN")).await;
    }
    let named = vec!["169.254.169.254/32".parse().unwrap()];
    let open = AddressPolicy { allowed_metadata: named, ..AddressPolicy::default() };
    let mut world = World::with(allowing(open), OK_AND_CLOSE).await;
    world.names.set("a.com", &["169.254.169.253"]);
    refused(&world, (Failure::Blocked, "DNS_FORBIDDEN")).await;
    world.names.set("a.com", &["169.254.169.254"]);
    world.forget();
    assert_status(&world.post("http://a.com/").await, 200);
    assert_eq!(world.roads.dialled(), ["169.254.169.254:80"]);
}

#[tokio::test]
async fn an_alias_is_judged_by_where_it_leads_and_by_its_name() {
    let mut world = World::new().await;
    for (names, code) in [
        (&["a.com", "cdn.net", "10.0.0.1"][..], "DNS_FORBIDDEN"),
        (&["a.com", "b.com", "c.com", "169.254.169.254"], "DNS_FORBIDDEN"),
        (&["a.com", "b.com", "::1"], "DNS_FORBIDDEN"),
        (&["a.com", "localhost"], "DNS_FORBIDDEN"),
        (&["a.com", "metadata.google.internal", "169.254.169.254"], "DNS_FORBIDDEN"),
        (&["a.com", "metadata.google.internal", PUBLIC], "metadata.google.internal"),
        (&["a.com", "b.com", "DB.Corp", "d.com", PUBLIC], "db.corp"),
        (&["a.com", "7f000001.c0a80001.rbndr.us", PUBLIC], "rbndr.us"),
    ] {
        world.names.script("a.com", [chain(names)]);
        world.forget();
        refused(&world, (Failure::Blocked, code)).await;
    }
    world.names.script("a.com", [chain(&["a.com", "b.com", "c.com", PUBLIC])]);
    world.forget();
    delivered(&world).await;
}

#[tokio::test]
async fn an_alias_whose_end_is_fetched_separately_is_judged_the_same() {
    let mut world = World::new().await;
    world.names.set("a.com", &["b.com"]);
    world.names.set("b.com", &["c.com"]);
    for (end, detail) in [("10.0.0.1", "10.0.0.1"), ("metadata.google.internal", "google")] {
        world.names.set("c.com", &[end]);
        world.names.set("metadata.google.internal", &[PUBLIC]);
        world.forget();
        refused(&world, (Failure::Blocked, detail)).await;
    }
    world.names.set("c.com", &[PUBLIC]);
    world.forget();
    assert_status(&world.post("http://c.com/").await, 200);
    delivered(&world).await;
}

#[tokio::test]
async fn an_alias_is_judged_also_when_another_name_led_there_before() {
    let world = World::new().await;
    for (name, target) in [
        ("a.com", "db.corp"),
        ("b.com", "db.corp"),
        ("c.com", "cdn.net"),
        ("d.com", "db.corp"),
        ("db.corp", "cdn.net"),
        ("cdn.net", PUBLIC),
    ] {
        world.names.set(name, &[target]);
    }
    for name in ["a.com", "b.com", "d.com", "a.com"] {
        let exchange = world.post(&format!("http://{name}/")).await;
        assert_failed(&exchange, Failure::Blocked, "db.corp");
    }
    // The way others took to the same end says nothing about this one.
    for _ in 0..2 {
        assert_status(&world.post("http://c.com/").await, 200);
    }
    assert_status(&world.post("http://cdn.net/").await, 200);
    assert_failed(&world.post("http://d.com/").await, Failure::Blocked, "db.corp");
    assert_eq!(world.connections(), (3, 0));
}

#[tokio::test]
async fn a_chain_of_aliases_has_eight_links_at_most() {
    let names: Vec<_> = (0..=ALIASES_MAX + 1).map(|number| format!("n{number}.com")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for (links, expected) in [(ALIASES_MAX, true), (ALIASES_MAX + 1, false)] {
        let whole = [&names[..=links], &[PUBLIC]].concat();
        let together = World::new().await;
        together.names.script("n0.com", [chain(&whole)]);
        let answer = together.names.resolver().resolve("n0.com").await;
        assert_eq!(answer.is_ok(), expected, "{answer:?}");
        if !expected {
            assert_eq!(answer, Err(DnsFailure::Aliases));
            let exchange = together.post("http://n0.com/").await;
            assert_failed(&exchange, Failure::Dns, "DNS_ERROR: a chain of more than 8 aliases");
        }
    }
    // Link by link, each in an answer of its own, the resolver gives up sooner.
    let apart = World::new().await;
    for pair in [&names[..], &[PUBLIC]].concat().windows(2) {
        apart.names.set(pair[0], &pair[1..]);
    }
    assert_failed(&apart.post("http://n0.com/").await, Failure::Dns, "DNS_ERROR");
    assert_eq!(apart.connections(), (0, 0));
}

#[tokio::test]
async fn aliases_in_a_circle_lead_nowhere() {
    let mut world = World::new().await;
    for circle in [&["a.com", "a.com"][..], &["a.com", "b.com", "a.com"]] {
        world.names.script("a.com", [chain(circle)]);
        world.forget();
        refused(&world, (Failure::Dns, "DNS_ERROR")).await;
    }
    world.names.set("a.com", &["b.com"]);
    world.names.set("b.com", &["a.com"]);
    world.forget();
    refused(&world, (Failure::Dns, "DNS_ERROR")).await;
}

#[tokio::test]
async fn a_name_server_that_fails_is_a_dns_failure_and_nothing_is_dialled() {
    let mut world = World::new().await;
    let nothing = "no such name, or no address for it";
    let public = || vec![record("a.com", 60, PUBLIC)];
    for (reply, detail) in [
        (Reply::Code(ResponseCode::NXDomain), nothing),
        (Reply::Records(Vec::new()), nothing),
        (Reply::Records(vec![record("other.com", 60, PUBLIC)]), nothing),
        (Reply::Code(ResponseCode::ServFail), "Server Failure"),
        (Reply::Code(ResponseCode::Refused), "Query Refused"),
        (Reply::Code(ResponseCode::FormErr), "Form Error"),
        (Reply::CutOff, "truncated"),
        (Reply::Garbage, "DNS_ERROR"),
    ] {
        world.names.script("a.com", [reply]);
        world.forget();
        refused(&world, (Failure::Dns, detail)).await;
    }
    // A good answer about another name beside it does no harm, and none to that name.
    let beside = [public(), vec![record("other.com", 60, "10.0.0.1")]].concat();
    world.names.script("a.com", [Reply::Records(beside)]);
    world.forget();
    delivered(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_one_to_our_question_is_not_heard() {
    let public = || vec![record("a.com", 60, PUBLIC)];
    for reply in [
        Reply::Silence,
        Reply::WrongId(public()),
        Reply::WrongQuestion(public()),
        Reply::WrongPort(public()),
    ] {
        let world = World::new().await;
        world.names.script("a.com", [reply]);
        let exchange = world.post("http://a.com/").await;
        assert_failed(&exchange, Failure::Dns, "DNS_ERROR: no answer in time");
        assert!(exchange.duration <= Duration::from_millis(3_100), "{exchange:?}");
        // A probe waits a second and no longer.
        let began = tokio::time::Instant::now();
        assert_eq!(probe(&world, "http://a.com/").await, Outcome::Failed(Failure::Timeout));
        assert!(began.elapsed() <= Duration::from_millis(1_200));
        assert_eq!(world.connections(), (0, 0));
    }
}

#[tokio::test]
async fn a_name_that_fails_at_registration_and_is_private_later_is_never_dialled() {
    let mut world = World::new().await;
    world.names.script("a.com", [Reply::Code(ResponseCode::ServFail)]);
    refused(&world, (Failure::Dns, "Server Failure")).await;
    world.names.set("a.com", &["10.0.0.1"]);
    refused(&world, (Failure::Blocked, "DNS_FORBIDDEN")).await;
    // One family fails, the other is forbidden.
    for forbidden in ["::1", "127.0.0.1"] {
        world.names.set("a.com", &[forbidden]);
        world.forget();
        refused(&world, (Failure::Blocked, "DNS_FORBIDDEN")).await;
    }
}

#[tokio::test]
async fn sixty_four_addresses_come_over_tcp_and_all_are_judged() {
    let mut many = vec![PUBLIC_TOO.to_owned()];
    many.extend((1..ADDRESSES_MAX).map(|n| format!("2606:4700::{n:x}")));
    let answer = |many: &[String]| many.iter().map(|data| record("a.com", 60, data)).collect();
    let world = World::new().await;
    world.names.script("a.com", [Reply::Records(answer(&many))]);
    delivered(&world).await;
    // The last of them alone is forbidden.
    *many.last_mut().unwrap() = "fd00::1".to_owned();
    let mut world = World::new().await;
    world.names.script("a.com", [Reply::Records(answer(&many))]);
    refused(&world, (Failure::Blocked, "DNS_MIXED")).await;
    // One more, of the other family, is one too many.
    *many.last_mut().unwrap() = PUBLIC.to_owned();
    many.push("2606:4700::1:1".to_owned());
    world.names.script("a.com", [Reply::Records(answer(&many))]);
    world.forget();
    refused(&world, (Failure::Dns, "DNS_ERROR: more than 64 addresses")).await;
}

#[tokio::test]
async fn a_name_of_a_thousand_addresses_is_refused_and_not_kept() {
    let many: Vec<_> = (0..1_000).map(|n| format!("8.8.{}.{}", n / 250, n % 250 + 1)).collect();
    let mut answer = vec![record("a.com", 60, "b.com")];
    answer.extend(many.iter().map(|data| record("b.com", 60, data)));
    let world = World::new().await;
    world.names.script("a.com", [Reply::Records(answer)]);
    world.names.script("c.com", [Reply::Records(vec![record("c.com", 60, PUBLIC)])]);
    for _ in 0..3 {
        let asked_before = world.names.asked("a.com", RecordType::A);
        let exchange = world.post("http://a.com/").await;
        assert_failed(&exchange, Failure::Dns, "DNS_ERROR: more than 64 addresses");
        assert!(world.names.asked("a.com", RecordType::A) > asked_before);
        assert_status(&world.post("http://c.com/").await, 200);
        assert_eq!(world.names.asked("c.com", RecordType::A), 1, "a small answer is kept");
    }
    assert_eq!(world.connections(), (3, 0));
}

#[tokio::test]
async fn there_is_one_look_up_per_connection() {
    let mut world = World::new().await;
    // The second question would lead to the trap.
    let replies = ["127.0.0.1", "10.0.0.1"].map(|trap| records("a.com", 0, &[trap, "::1"]));
    world.names.script("a.com", [&[records("a.com", 0, &[PUBLIC])], &replies[..]].concat());
    assert_status(&world.post("http://a.com/").await, 200);
    let asked =
        |names: &NameServer| [RecordType::A, RecordType::AAAA].map(|k| names.asked("a.com", k));
    assert_eq!(asked(&world.names), [1, 1]);
    assert_eq!(world.connections(), (1, 0));
    world.forget();
    assert_failed(&world.post("http://a.com/").await, Failure::Blocked, "DNS_FORBIDDEN");
    assert_eq!(asked(&world.names), [2, 2]);
    assert_eq!(world.connections(), (1, 0));
}
