//! What is in `deploy/` fits the program, and gives it no more than it needs.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use domain::address::AddressPolicy;
use ipnet::IpNet;
use proptest::prelude::*;

use crate::program::{binary, clean};

/// Flags of other programs that are named there.
const OF_OTHERS: [&str; 21] = [
    "--bin",
    "--cap-drop",
    "--chmod",
    "--chown",
    "--dereference",
    "--detach",
    "--env",
    "--file",
    "--from",
    "--locked",
    "--no-install-recommends",
    "--now",
    "--package",
    "--publish",
    "--read-only",
    "--release",
    "--security-opt",
    "--tag",
    "--ulimit",
    "--volume",
    "--yes",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn file(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The words of a text that begin like this, as far as they consist of these characters.
fn words(text: &str, begin: &str, is_of_word: fn(char) -> bool) -> BTreeSet<String> {
    let found = text.match_indices(begin).filter(|(at, _)| {
        !text[..*at].ends_with(|before: char| before == '-' || before.is_alphanumeric())
    });
    found
        .map(|(at, _)| text[at..].chars().take_while(|&character| is_of_word(character)).collect())
        .collect()
}

fn flags(text: &str) -> BTreeSet<String> {
    let mut flags = words(text, "--", |character| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-'
    });
    flags.retain(|flag| flag.len() > 2);
    flags
}

fn variables(text: &str) -> BTreeSet<String> {
    words(text, "POSTRIDER_", |character| {
        character.is_ascii_uppercase() || character.is_ascii_digit() || character == '_'
    })
}

#[tokio::test]
async fn every_flag_and_variable_named_there_is_one_of_the_program() {
    let mut known = String::new();
    for argument in ["--help", "--print-config"] {
        let output = clean(binary(), &["serve", argument]).output().await.unwrap();
        assert!(output.status.success());
        known.push_str(&String::from_utf8(output.stdout).unwrap());
    }
    let known: BTreeSet<_> = flags(&known).into_iter().chain(variables(&known)).collect();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for name in flags(&text).into_iter().chain(variables(&text)) {
            let is_known = known.contains(&name) || OF_OTHERS.contains(&name.as_str());
            assert!(is_known, "{}: {name} is not known to the program", path.display());
            seen += usize::from(known.contains(&name));
        }
    }
    assert!(seen > 5, "the search finds nothing any more");
}

#[test]
fn neither_unit_nor_container_gives_a_privilege() {
    let unit = file("postrider.service");
    for line in [
        "User=postrider",
        "StateDirectory=postrider",
        "StateDirectoryMode=0700",
        "UMask=0077",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "PrivateUsers=yes",
        "RestrictNamespaces=yes",
        "MemoryDenyWriteExecute=yes",
        "RestrictAddressFamilies=AF_INET AF_INET6",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "LimitCORE=0",
    ] {
        assert!(unit.lines().any(|other| other == line), "{line}");
    }
    let container = file("Containerfile");
    let last = container.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("scratch\n"), "{last}");
    assert!(last.contains("\nUSER 65532:65532\n"), "{last}");
    for base in container.lines().filter_map(|line| line.strip_prefix("FROM ")) {
        let version = base.split(' ').next().unwrap().split_once(':');
        let is_pinned = version.is_some_and(|(_, version)| version.starts_with("1.95."));
        assert!(base == "scratch" || is_pinned, "{base}");
    }
    let compose = file("compose.yaml");
    for line in [
        r#"user: "65532:65532""#,
        "read_only: true",
        "cap_drop: [ALL]",
        r#"security_opt: ["no-new-privileges:true"]"#,
    ] {
        assert!(compose.lines().any(|other| other.trim() == line), "{line}");
    }
}

/// The networks of a set in the firewall.
fn networks(text: &str, set: &str) -> Vec<IpNet> {
    let (_, set) = text.split_once(&format!("set {set} {{")).unwrap();
    let (_, elements) = set.split_once("elements = {").unwrap();
    let (elements, _) = elements.split_once('}').unwrap();
    elements.split(',').map(|network| network.trim().parse().unwrap()).collect()
}

#[test]
fn the_firewall_refuses_what_the_program_refuses_and_nothing_else() {
    let text = file("nftables.conf");
    assert!(text.contains("ip6 daddr != 2000::/3 jump refuse"), "IPv6 is an allow-list");
    let global: IpNet = "2000::/3".parse().unwrap();
    let forbidden = [networks(&text, "forbidden_v4"), networks(&text, "forbidden_v6")].concat();
    let policy = AddressPolicy::default();
    let agree = |address: IpAddr| {
        let in_set = forbidden.iter().any(|network| network.contains(&address));
        let refused = in_set || address.is_ipv6() && !global.contains(&address);
        assert_eq!(policy.judge(address).is_err(), refused, "{address}");
    };
    for network in &forbidden {
        let (first, last) = (network.network(), network.broadcast());
        agree(first);
        agree(last);
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                agree(Ipv4Addr::from(u32::from(first).wrapping_sub(1)).into());
                agree(Ipv4Addr::from(u32::from(last).wrapping_add(1)).into());
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                agree(Ipv6Addr::from(u128::from(first).wrapping_sub(1)).into());
                agree(Ipv6Addr::from(u128::from(last).wrapping_add(1)).into());
            }
            _ => unreachable!("both ends of a network are of one family"),
        }
    }
    proptest!(ProptestConfig::with_cases(20_000), |(v4: u32, v6: u128, global: u128)| {
        agree(Ipv4Addr::from(v4).into());
        agree(Ipv6Addr::from(v6).into());
        agree(Ipv6Addr::from(global >> 3 | 1 << 125).into());
    });
}
