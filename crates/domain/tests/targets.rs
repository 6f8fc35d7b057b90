//! What may be called: the recorded cases, the table of ranges against an independent oracle, and
//! the URL reader under arbitrary input.

#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests may unwrap")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::address::{AddressPolicy, AddressRefusal, AnswerRefusal};
use domain::target_url::{Host, TargetUrl, UrlPolicy, UrlRefusal};
use proptest::prelude::*;

const VECTORS: &str = include_str!("fixtures/ssrf-vectors.tsv");

/// Kind, input with its escapes undone, expected code.
fn vectors(kind: &str) -> impl Iterator<Item = (String, &'static str)> {
    VECTORS.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| {
        let mut fields = line.split('\t');
        (fields.next() == Some(kind))
            .then(|| (unescape(fields.next().unwrap()), fields.next().unwrap()))
    })
}

fn unescape(input: &str) -> String {
    let mut output = String::new();
    let mut characters = input.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            output.push(character);
            continue;
        }
        match characters.next().unwrap() {
            's' => output.push(' '),
            't' => output.push('\t'),
            'n' => output.push('\n'),
            'r' => output.push('\r'),
            '0' => output.push('\0'),
            '\\' => output.push('\\'),
            'L' => output.push_str(&"a".repeat(2_100)),
            'D' => output.push_str(&"a".repeat(64)),
            'F' => output.push_str(&["abcdefgh"; 29].join(".")),
            'u' => {
                let digits: String = characters.by_ref().take(4).collect();
                output.push(char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap());
            }
            other => panic!("unknown escape {other}"),
        }
    }
    output
}

fn code(result: Result<TargetUrl, UrlRefusal>) -> &'static str {
    result.map_or_else(UrlRefusal::code, |_| "ok")
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn every_recorded_url_gets_its_code() {
    let policy = UrlPolicy::default();
    let mut wrong = Vec::new();
    let mut count = 0;
    for (input, expected) in vectors("U") {
        count += 1;
        let actual = code(policy.parse(&input));
        if actual != expected {
            wrong.push(format!("{input:.80}: expected {expected}, was {actual}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "the fixture is incomplete");
}

#[test]
fn every_recorded_address_gets_its_verdict() {
    let policy = AddressPolicy::default();
    let mut count = 0;
    for (input, expected) in vectors("A") {
        count += 1;
        let verdict = if policy.judge(address(&input)).is_ok() { "ok" } else { "forbidden" };
        assert_eq!(verdict, expected, "{input}");
    }
    assert!(count > 50, "the fixture is incomplete");
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn more_urls_of_the_same_kinds_get_their_codes() {
    let policy = UrlPolicy::default();
    for (input, expected) in [
        ("", "URL_SCHEME"),
        ("https", "URL_SCHEME"),
        ("https:", "URL_SCHEME"),
        ("//customer.com/", "URL_SCHEME"),
        ("customer.com", "URL_SCHEME"),
        ("customer.com/hook", "URL_SCHEME"),
        ("https:127.0.0.1/", "URL_SCHEME"),
        ("http://customer.com/", "URL_SCHEME"),
        ("http://127.0.0.1/", "URL_SCHEME"),
        ("http://169.254.169.254/latest/", "URL_SCHEME"),
        ("file:///etc/passwd", "URL_SCHEME"),
        ("ftp://customer.com/", "URL_SCHEME"),
        ("wss://customer.com/", "URL_SCHEME"),
        ("gopher://127.0.0.1:6379/_%0d%0aFLUSHALL", "URL_SCHEME"),
        ("jar:https://customer.com!/", "URL_SCHEME"),
        ("https+unix://x/", "URL_SCHEME"),
        ("https://127.0.1/", "URL_NOT_CANONICAL"),
        ("https://0/", "URL_NOT_CANONICAL"),
        ("https://0x0/", "URL_NOT_CANONICAL"),
        ("https://2130706433/", "URL_NOT_CANONICAL"),
        ("https://017700000001/", "URL_NOT_CANONICAL"),
        ("https://127.0.0.1./", "URL_NOT_CANONICAL"),
        ("https://0x7f.0.0.1/", "URL_NOT_CANONICAL"),
        ("https://010.0.0.1/", "URL_NOT_CANONICAL"),
        ("https://[::1.2.3.4]/", "URL_NOT_CANONICAL"),
        ("https://[0::1]/", "URL_NOT_CANONICAL"),
        ("https://[2001:0db8::1]/", "URL_NOT_CANONICAL"),
        ("https://[::1]:0443/", "URL_NOT_CANONICAL"),
        ("https://127.0.0.1/", "IP_FORBIDDEN"),
        ("https://127.0.0.1:8443/", "IP_FORBIDDEN"),
        ("https://127.0.0.1:22/", "IP_FORBIDDEN"),
        ("https://0.0.0.0/", "IP_FORBIDDEN"),
        ("https://100.100.100.200/", "IP_FORBIDDEN"),
        ("https://192.0.0.192/", "IP_FORBIDDEN"),
        ("https://[::1]/", "IP_FORBIDDEN"),
        ("https://[::1]:443/", "IP_FORBIDDEN"),
        ("https://[fe80::1]/", "IP_FORBIDDEN"),
        ("https://[ff02::1]/", "IP_FORBIDDEN"),
        ("https://[::ffff:7f00:1]/", "IP_FORBIDDEN"),
        ("https://[fd20:ce::254]/", "IP_FORBIDDEN"),
        ("https://1.1.1.1:8443/", "HOST_IP_LITERAL"),
        ("https://[::1/", "URL_SYNTAX"),
        ("https://::1/", "URL_SYNTAX"),
        ("https://[::1]x/", "URL_SYNTAX"),
        ("https://[]/", "URL_SYNTAX"),
        ("https://[:::1]/", "URL_SYNTAX"),
        ("https://[::1:]/", "URL_SYNTAX"),
        ("https://256.256.256.256/", "URL_SYNTAX"),
        ("https://127.0.0.256/", "URL_SYNTAX"),
        ("https://08.0.0.1/", "URL_SYNTAX"),
        ("https://0x100000000/", "URL_SYNTAX"),
        ("https://customer.com:port/", "URL_SYNTAX"),
        ("https://customer.com:+443/", "URL_SYNTAX"),
        ("https://customer.com:4 43/", "URL_BAD_CHAR"),
        ("https://customer.com:443:443/", "URL_SYNTAX"),
        ("https://xn--/", "URL_SYNTAX"),
        ("https://xn--a.customer.com/", "URL_SYNTAX"),
        ("https://customer.com:0443/", "URL_NOT_CANONICAL"),
        ("https://customer.com:08443/", "URL_NOT_CANONICAL"),
        ("https://customer.com/./a", "URL_NOT_CANONICAL"),
        ("https://customer.com/%2e%2e/a", "URL_NOT_CANONICAL"),
        ("https://customer.com/a/..", "URL_NOT_CANONICAL"),
        ("https://user@customer.com/", "URL_USERINFO"),
        ("https://user:pass@customer.com/", "URL_USERINFO"),
        ("https://:@customer.com/", "URL_USERINFO"),
        ("https://user%40x:p@customer.com/", "URL_USERINFO"),
        ("https://customer.com:443@127.0.0.1/", "URL_USERINFO"),
        ("https://customer.com%2f@127.0.0.1/", "URL_USERINFO"),
        ("https://customer.com%2f.evil.com/", "URL_HOST_ENCODED"),
        ("https://customer.com%0d%0a/", "URL_HOST_ENCODED"),
        ("https://customer.com:%34%34%33/", "URL_HOST_ENCODED"),
        ("https://customer.com#", "URL_FRAGMENT"),
        ("https://#/", "URL_FRAGMENT"),
        ("https://customer.com/?q#x", "URL_FRAGMENT"),
        ("https:////customer.com/", "URL_NO_HOST"),
        ("https://?", "URL_NO_HOST"),
        ("https://:/", "URL_SYNTAX"),
        (" https://customer.com/", "URL_BAD_CHAR"),
        ("https://customer.com/\u{a0}", "URL_BAD_CHAR"),
        ("https://customer.com/\u{feff}", "URL_BAD_CHAR"),
        ("https://customer\u{ad}.com/", "URL_BAD_CHAR"),
        ("https://\u{202e}customer.com/", "URL_BAD_CHAR"),
        ("https://bücher.de/", "URL_BAD_CHAR"),
        ("https://customer.com\u{2044}x/", "URL_BAD_CHAR"),
        ("https://customer.com/\u{7f}", "URL_BAD_CHAR"),
        ("https://customer.com/<x>", "URL_BAD_CHAR"),
        ("https://customer.com/?q={x}", "URL_BAD_CHAR"),
        ("https://customer.com/?q=%0A", "URL_BAD_CHAR"),
        ("https://customer.com/%00", "URL_BAD_CHAR"),
        ("https://customer.com/a%0Db", "URL_BAD_CHAR"),
        ("https://customer.com/%09", "URL_BAD_CHAR"),
        ("https://customer.com/%7F", "URL_BAD_CHAR"),
        ("https://customer.com./", "HOST_SYNTAX"),
        ("https://.customer.com/", "HOST_SYNTAX"),
        ("https://-a.customer.com/", "HOST_SYNTAX"),
        ("https://a-.customer.com/", "HOST_SYNTAX"),
        ("https://a!b.customer.com/", "HOST_SYNTAX"),
        ("https://customer.c0m/", "HOST_SYNTAX"),
        ("https://a_b/", "HOST_SYNTAX"),
        ("https://a,b.customer.com/", "HOST_SYNTAX"),
        ("https://kubernetes.default.svc.cluster.local/", "HOST_RESERVED"),
        ("https://kubernetes.default.svc/", "HOST_RESERVED"),
        ("https://metadata.google.internal/", "HOST_RESERVED"),
        ("https://host.docker.internal/", "HOST_RESERVED"),
        ("https://localhost.localdomain/", "HOST_RESERVED"),
        ("https://a.b.test/", "HOST_RESERVED"),
        ("https://a.example/", "HOST_RESERVED"),
        ("https://nas.home.arpa/", "HOST_RESERVED"),
        ("https://1.0.0.127.in-addr.arpa/", "HOST_RESERVED"),
        ("https://x.onion/", "HOST_RESERVED"),
        ("https://x.lan/", "HOST_RESERVED"),
        ("https://x.corp/", "HOST_RESERVED"),
        ("https://a.lvh.me/", "HOST_RESERVED"),
        ("https://10-0-0-1.sslip.io/", "HOST_RESERVED"),
        ("https://LOCALTEST.ME/", "HOST_RESERVED"),
        ("https://localhost:8443/", "HOST_RESERVED"),
        ("https://router.local:22/", "HOST_RESERVED"),
        ("https://ip6-loopback/", "HOST_SINGLE_LABEL"),
        ("https://wpad/", "HOST_SINGLE_LABEL"),
        ("https://com/", "HOST_SINGLE_LABEL"),
        ("https://customer.com:80/", "PORT_FORBIDDEN"),
        ("https://customer.com:25/", "PORT_FORBIDDEN"),
        ("https://customer.com:8080/", "PORT_FORBIDDEN"),
        ("https://customer.com:65535/", "PORT_FORBIDDEN"),
        ("https://your-domain.com/webhook", "ok"),
        ("https://example.com/webhook", "ok"),
        ("https://mysite.com/callback", "ok"),
        ("https://notlocalhost.com/", "ok"),
        ("https://mylocal.net/", "ok"),
        ("https://contest.com/", "ok"),
        ("https://internal.customer.com/", "ok"),
        ("https://HOOKS.Customer.COM/A", "ok"),
        ("HTTPS://customer.com/", "ok"),
        ("https://customer.com:443/", "ok"),
        ("https://customer.com:8843/", "ok"),
        ("https://customer.com?x=1", "ok"),
        ("https://customer.com/?", "ok"),
        ("https://customer.com/a%20b/%E2%9C%93?q=%2F%25", "ok"),
        ("https://customer.com/@me/a:b;c=d,e+f~g!$&()*", "ok"),
        ("https://customer.com?@127.0.0.1/", "ok"),
        ("https://customer.com//a//b", "ok"),
        ("https://a.xn--p1ai/", "ok"),
        ("https://XN--BCHER-KVA.de/", "ok"),
        ("https://1.2.3.4.customer.com/", "ok"),
    ] {
        assert_eq!(code(policy.parse(input)), expected, "{input}");
    }
}

#[test]
fn a_url_is_cut_off_at_2048_bytes() {
    let policy = UrlPolicy::default();
    let url = |length: usize| format!("https://a.com/{}", "b".repeat(length - 14));
    assert!(policy.parse(&url(2_048)).is_ok());
    assert_eq!(policy.parse(&url(2_049)), Err(UrlRefusal::TooLong));
}

#[test]
fn names_and_labels_have_the_lengths_of_dns() {
    let policy = UrlPolicy::default();
    let label = "a".repeat(63);
    let name = |last: usize| format!("{label}.{label}.{label}.{}.com", "a".repeat(last));
    assert_eq!(name(57).len(), 253);
    assert!(policy.parse(&format!("https://{}/", name(57))).is_ok());
    assert_eq!(policy.parse(&format!("https://{}/", name(58))), Err(UrlRefusal::HostSyntax));
}

#[test]
fn a_url_comes_apart_into_what_the_request_needs() {
    let policy = UrlPolicy::default();
    let url = policy.parse("HTTPS://Hooks.Customer.com:8443/A/b?x=1&y=//z").unwrap();
    assert_eq!(url.as_str(), "https://hooks.customer.com:8443/A/b?x=1&y=//z");
    assert_eq!(url.scheme(), "https");
    assert_eq!(url.host(), &Host::Name("hooks.customer.com".into()));
    assert_eq!(url.port(), 8443);
    assert_eq!(url.authority(), "hooks.customer.com:8443");
    assert_eq!(url.origin(), "https://hooks.customer.com:8443");
    assert_eq!(url.path_and_query(), "/A/b?x=1&y=//z");

    let url = policy.parse("https://customer.com:443?x").unwrap();
    assert_eq!(url.to_string(), "https://customer.com/?x");
    assert_eq!(url.authority(), "customer.com");
    assert_eq!(url.port(), 443);
    assert_eq!(url.path_and_query(), "/?x");

    let url = TargetUrl::from_stored("http://[::1]:8080/").unwrap();
    assert_eq!(url.scheme(), "http");
    assert_eq!(url.host(), &Host::Ip(Ipv6Addr::LOCALHOST.into()));
    assert_eq!(url.authority(), "[::1]:8080");
    assert_eq!(url.path_and_query(), "/");
    assert_eq!(url, url.clone());
    assert_eq!(format!("{url:?}"), "TargetUrl(http://[::1]:8080/)");
}

#[test]
fn a_stored_url_is_read_without_policy_and_judged_later() {
    let stored = TargetUrl::from_stored("http://10.0.0.1:9000/").unwrap();
    assert_eq!(UrlPolicy::default().judge(&stored), Err(UrlRefusal::Scheme));
    assert_eq!(TargetUrl::from_stored("https://127.1/"), Err(UrlRefusal::NotCanonical));
    assert_eq!(TargetUrl::from_stored("ftp://a.com/"), Err(UrlRefusal::Scheme));
}

fn opened(networks: &[&str]) -> UrlPolicy {
    UrlPolicy {
        addresses: AddressPolicy {
            allowed: networks.iter().map(|network| network.parse().unwrap()).collect(),
            ..AddressPolicy::default()
        },
        ..UrlPolicy::default()
    }
}

#[test]
fn an_opened_network_is_callable_by_literal_on_any_port() {
    let policy = opened(&["10.1.0.0/16", "127.0.0.0/8", "fd12::/16"]);
    for (input, expected) in [
        ("https://10.1.2.3/", "ok"),
        ("https://10.1.2.3:22/", "ok"),
        ("https://127.0.0.1:9999/hook", "ok"),
        ("https://localhost:3000/", "ok"),
        ("https://LOCALHOST/", "ok"),
        ("https://[fd12::1]:3000/", "ok"),
        ("https://10.2.0.1/", "IP_FORBIDDEN"),
        ("https://[::1]/", "IP_FORBIDDEN"),
        ("https://8.8.8.8/", "HOST_IP_LITERAL"),
        ("https://[::ffff:7f00:1]/", "IP_FORBIDDEN"),
        ("https://127.1/", "URL_NOT_CANONICAL"),
        ("https://a.localhost/", "HOST_RESERVED"),
        ("https://localhost./", "HOST_SYNTAX"),
        ("https://user@127.0.0.1/", "URL_USERINFO"),
        ("https://customer.com:3000/", "PORT_FORBIDDEN"),
        ("http://127.0.0.1/", "URL_SCHEME"),
    ] {
        assert_eq!(code(policy.parse(input)), expected, "{input}");
    }
    assert_eq!(code(opened(&["10.0.0.0/8"]).parse("https://localhost/")), "HOST_RESERVED");
    assert_eq!(code(opened(&["::1/128"]).parse("https://localhost/")), "ok");
}

#[test]
fn plain_http_is_admitted_only_by_its_own_switch() {
    let policy = UrlPolicy { allow_http: true, ..opened(&["127.0.0.1/32"]) };
    for (input, expected) in [
        ("http://customer.com/", "ok"),
        ("http://customer.com:80/", "ok"),
        ("http://customer.com:8443/", "ok"),
        ("http://127.0.0.1:9000/", "ok"),
        ("http://localhost:9000/", "ok"),
        ("https://customer.com/", "ok"),
        ("https://customer.com:80/", "PORT_FORBIDDEN"),
        ("http://customer.com:8080/", "PORT_FORBIDDEN"),
        ("http://127.0.0.2/", "IP_FORBIDDEN"),
        ("http://127.1/", "URL_NOT_CANONICAL"),
        ("http://customer.com:080/", "URL_NOT_CANONICAL"),
        ("http://db.internal/", "HOST_RESERVED"),
        ("ftp://customer.com/", "URL_SCHEME"),
    ] {
        assert_eq!(code(policy.parse(input)), expected, "{input}");
    }
    assert_eq!(policy.parse("http://customer.com:80").unwrap().as_str(), "http://customer.com/");
}

#[test]
fn the_operator_may_add_ports_and_public_literals() {
    let policy =
        UrlPolicy { allow_ip_literals: true, extra_ports: vec![9443], ..UrlPolicy::default() };
    assert_eq!(code(policy.parse("https://customer.com:9443/")), "ok");
    assert_eq!(code(policy.parse("https://8.8.8.8/")), "ok");
    assert_eq!(code(policy.parse("https://8.8.8.8:22/")), "PORT_FORBIDDEN");
    assert_eq!(code(policy.parse("https://10.0.0.1/")), "IP_FORBIDDEN");
}

#[test]
fn metadata_stays_closed_in_an_opened_network_unless_it_is_named() {
    let everything = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    let open = AddressPolicy { allowed: everything, nat64: true, ..AddressPolicy::default() };
    for metadata in [
        "169.254.169.254",
        "169.254.170.2",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fe80::1",
        "febf::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "64:ff9b::a9fe:a9fe",
    ] {
        assert_eq!(open.judge(address(metadata)), Err(AddressRefusal::Metadata), "{metadata}");
        assert!(!open.opens(address(metadata)));
    }
    for other in ["10.0.0.1", "100.100.100.201", "127.0.0.1", "::1", "fd00::1", "8.8.8.8"] {
        assert_eq!(open.judge(address(other)), Ok(()), "{other}");
        assert!(open.opens(address(other)));
    }
    let named =
        AddressPolicy { allowed_metadata: vec!["169.254.169.254/32".parse().unwrap()], ..open };
    assert_eq!(named.judge(address("169.254.169.254")), Ok(()));
    assert!(named.opens(address("169.254.169.254")));
    assert_eq!(named.judge(address("169.254.169.253")), Err(AddressRefusal::Metadata));
}

#[test]
fn ipv4_inside_ipv6_is_opened_by_no_network() {
    let open = AddressPolicy {
        allowed: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
        ..AddressPolicy::default()
    };
    for carrier in [
        "::ffff:8.8.8.8",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "::2",
        "::ffff:0:7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::808:808",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ] {
        assert!(open.judge(address(carrier)).is_err(), "{carrier}");
    }
}

#[test]
fn nat64_is_judged_by_the_ipv4_address_inside_when_enabled() {
    let policy = AddressPolicy { nat64: true, ..AddressPolicy::default() };
    assert_eq!(policy.judge(address("64:ff9b::808:808")), Ok(()));
    assert_eq!(policy.judge(address("64:ff9b::a00:1")), Err(AddressRefusal::PrivateUse));
    assert_eq!(policy.judge(address("64:ff9b::a9fe:a9fe")), Err(AddressRefusal::Metadata));
    assert_eq!(policy.judge(address("64:ff9b:1::808:808")), Err(AddressRefusal::Nat64));
    assert_eq!(
        AddressPolicy::default().judge(address("64:ff9b::808:808")),
        Err(AddressRefusal::Nat64)
    );
}

#[test]
fn one_forbidden_answer_spoils_the_name() {
    let policy = AddressPolicy::default();
    let judge = |answers: &[&str]| {
        policy.judge_all(&answers.iter().map(|answer| address(answer)).collect::<Vec<_>>())
    };
    assert_eq!(judge(&["8.8.8.8", "2606:4700:4700::1111"]), Ok(()));
    assert_eq!(judge(&[]), Err(AnswerRefusal::Empty));
    let refusal = judge(&["10.0.0.1", "::1"]).unwrap_err();
    assert_eq!(refusal.code(), "DNS_FORBIDDEN");
    for answers in [["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["8.8.8.8", "fd00::1"]] {
        assert_eq!(judge(&answers).unwrap_err().code(), "DNS_MIXED");
    }
}

#[test]
fn each_refusal_has_a_code_and_a_sentence_of_its_own() {
    let policy = AddressPolicy::default();
    for (text, code) in [
        ("0.0.0.0", "this_network"),
        ("10.0.0.1", "private_use"),
        ("100.64.0.1", "shared_space"),
        ("127.0.0.1", "loopback"),
        ("169.254.0.1", "metadata"),
        ("192.0.0.1", "protocol_assignment"),
        ("192.0.2.1", "documentation"),
        ("192.31.196.1", "infrastructure"),
        ("192.52.193.1", "infrastructure"),
        ("192.175.48.1", "infrastructure"),
        ("192.88.99.1", "ipv4_embedded"),
        ("198.18.0.1", "benchmarking"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::ffff:1.1.1.1", "ipv4_mapped"),
        ("::5efe:7f00:1", "reserved"),
        ("64:ff9b::1.1.1.1", "nat64"),
        ("100::1", "discard"),
        ("100:0:0:1::1", "discard"),
        ("5f00::1", "segment_routing"),
        ("fc00::1", "unique_local"),
        ("fec0::1", "site_local"),
        ("ff02::1", "multicast"),
        ("4000::1", "reserved"),
    ] {
        let refusal = policy.judge(address(text)).unwrap_err();
        assert_eq!(refusal.code(), code, "{text}");
        assert!(refusal.to_string().starts_with("the address"), "{text}");
    }
}

/// Forbidden ranges once more, in another notation: (first bits, how many), over the 128-bit
/// space with IPv4 as plain 32-bit numbers.
const ORACLE_V4: [(u128, u32); 21] = [
    (0x00, 8),
    (0x0a, 8),
    (0b01_1001_0001, 10),
    (0x7f, 8),
    (0xa9fe, 16),
    (0b1010_1100_0001, 12),
    (0xc0_0000, 24),
    (0xc0_0002, 24),
    (0xc0_1fc4, 24),
    (0xc0_34c1, 24),
    (0xc0_5863, 24),
    (0xc0a8, 16),
    (0xc0_af30, 24),
    (0b110_0011_0000_1001, 15),
    (0xc6_3364, 24),
    (0xcb_0071, 24),
    (0b1110, 4),
    (0b1111, 4),
    (0xffff_ffff, 32),
    (0xa83f_8110, 32),
    (0x6464_64c8, 32),
];

/// The first bits of everything forbidden in IPv6; `001` (`2000::/3`) is the only open eighth.
const ORACLE_V6: [(u128, u32); 13] = [
    (0b000, 3),
    (0b010, 3),
    (0b011, 3),
    (0b100, 3),
    (0b101, 3),
    (0b110, 3),
    (0b111, 3),
    (0x2001_0000 >> 9, 23),
    (0x2001_0db8, 32),
    (0x2002, 16),
    (0x3fff0, 20),
    (0x2620_004f_8000, 48),
    (0xfe80 >> 6, 10),
];

fn oracle_forbids(address: IpAddr) -> bool {
    let (value, width, table): (u128, u32, &[(u128, u32)]) = match address {
        IpAddr::V4(address) => (u32::from(address).into(), 32, &ORACLE_V4),
        IpAddr::V6(address) => (address.into(), 128, &ORACLE_V6),
    };
    table.iter().any(|&(bits, length)| value >> (width - length) == bits)
}

fn assert_as_the_oracle(address: IpAddr) {
    let verdict = AddressPolicy::default().judge(address);
    assert_eq!(verdict.is_err(), oracle_forbids(address), "{address}: {verdict:?}");
}

#[test]
fn the_edges_of_every_range_agree_with_the_oracle() {
    for (bits, length) in ORACLE_V4 {
        let first = (bits << (32 - length)) as u32;
        let last = first | u32::MAX.checked_shr(length).unwrap_or(0);
        for edge in [first.wrapping_sub(1), first, last, last.wrapping_add(1)] {
            assert_as_the_oracle(Ipv4Addr::from(edge).into());
        }
    }
    for (bits, length) in ORACLE_V6 {
        let first = bits << (128 - length);
        let last = first | u128::MAX.checked_shr(length).unwrap_or(0);
        for edge in [first.wrapping_sub(1), first, last, last.wrapping_add(1)] {
            assert_as_the_oracle(Ipv6Addr::from(edge).into());
        }
    }
}

#[test]
fn every_block_of_4096_ipv4_addresses_agrees_with_the_oracle() {
    for block in 0..1_u32 << 20 {
        assert_as_the_oracle(Ipv4Addr::from(block << 12).into());
    }
}

fn inside(table: &'static [(u128, u32)], width: u32) -> impl Strategy<Value = u128> {
    (proptest::sample::select(table), any::<u128>()).prop_map(move |((bits, length), noise)| {
        let noise = noise.checked_shr(128 - width + length).unwrap_or(0);
        (bits << (width - length)) | noise
    })
}

/// URLs near the grammar: parts that are each plausible, put together at random.
fn urlish() -> impl Strategy<Value = String> {
    let scheme = proptest::sample::select(vec![
        "https://",
        "HTTPS://",
        "http://",
        "https:/",
        "https:///",
        "https:",
        "ftp://",
        "",
    ]);
    let host = prop_oneof![
        "[a-z0-9.:@%_*\\[\\]-]{0,24}",
        "([a-zA-Z0-9-]{1,8}\\.){1,3}[a-z]{2,6}",
        "[0-9a-fx]{1,10}(\\.[0-9a-fx]{1,4}){0,3}",
        "\\[[0-9a-f:.]{1,20}\\]",
        "xn--[a-z0-9-]{1,12}\\.com",
        any::<Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<Ipv6Addr>().prop_map(|address| format!("[{address}]")),
    ];
    let port = prop_oneof![Just(String::new()), ":[0-9]{0,6}", ":443", ":.{0,3}"];
    let path = prop_oneof!["[ -~]{0,20}", "/[ -~]{0,20}", "(/[a-z.%0-9]{0,5}){0,4}", ".{0,8}"];
    (scheme, host, port, path)
        .prop_map(|(scheme, host, port, path)| scheme.to_owned() + &host + &port + &path)
}

fn assert_canonical(policy: &UrlPolicy, input: &str) {
    let Ok(target) = policy.parse(input) else {
        return;
    };
    assert_eq!(policy.parse(target.as_str()).as_ref(), Ok(&target));
    assert_eq!(TargetUrl::from_stored(target.as_str()).as_ref(), Ok(&target));
    assert!(target.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(target.path_and_query().starts_with('/'));
    let rebuilt =
        format!("{}://{}{}", target.scheme(), target.authority(), target.path_and_query());
    assert_eq!(rebuilt, target.as_str());
    match target.host() {
        Host::Name(name) => {
            assert!(
                name.bytes()
                    .all(|byte| { matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.') })
            );
            assert!(target.authority().starts_with(name.as_str()));
            assert!(name.parse::<IpAddr>().is_err());
        }
        Host::Ip(address) => {
            assert!(policy.addresses.judge(*address).is_ok());
            assert!(target.authority().contains(&address.to_string()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(2_000)
    })]

    #[test]
    fn addresses_agree_with_the_oracle(v4 in any::<u32>(), v6 in any::<u128>()) {
        assert_as_the_oracle(Ipv4Addr::from(v4).into());
        assert_as_the_oracle(Ipv6Addr::from(v6).into());
        assert_as_the_oracle(Ipv6Addr::from(v6 >> 3 | 1 << 125).into());
    }

    #[test]
    fn every_address_inside_a_forbidden_range_is_refused(
        v4 in inside(&ORACLE_V4, 32),
        v6 in inside(&ORACLE_V6, 128),
    ) {
        let policy = AddressPolicy::default();
        prop_assert!(policy.judge(Ipv4Addr::from(v4 as u32).into()).is_err());
        prop_assert!(policy.judge(Ipv6Addr::from(v6).into()).is_err());
    }

    #[test]
    fn a_mapped_address_is_refused_whatever_is_opened(v4 in any::<u32>(), nat64 in any::<bool>()) {
        let open = AddressPolicy {
            allowed: vec!["::/0".parse().unwrap(), "0.0.0.0/0".parse().unwrap()],
            allowed_metadata: vec!["::/0".parse().unwrap(), "0.0.0.0/0".parse().unwrap()],
            nat64,
        };
        let mapped = Ipv4Addr::from(v4).to_ipv6_mapped();
        prop_assert_eq!(open.judge(mapped.into()), Err(AddressRefusal::Ipv4Mapped));
    }

    #[test]
    fn whatever_is_accepted_reads_back_as_itself(input in urlish()) {
        let everything = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        let open = AddressPolicy { allowed: everything, ..AddressPolicy::default() };
        assert_canonical(&UrlPolicy::default(), &input);
        assert_canonical(&UrlPolicy { allow_http: true, addresses: open, ..UrlPolicy::default() }, &input);
    }

    #[test]
    fn arbitrary_input_is_answered_without_a_panic(input in any::<String>()) {
        assert_canonical(&UrlPolicy::default(), &input);
        assert_canonical(&UrlPolicy::default(), &format!("https://{input}"));
        assert_canonical(&UrlPolicy::default(), &format!("https://a.com/{input}"));
    }
}
