//! What is in `deploy/` fits the program, and gives it no more than it needs.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use domain::address::AddressPolicy;
use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::Value;

use crate::metrics::{Documented, documented};
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
    "--profile",
    "--publish",
    "--read-only",
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

/// Every file in a folder and in those within.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
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
    for path in files(&folder()) {
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

/// What an expression asks of metrics: their names, each with what it says of labels.
fn selectors(expression: &str) -> Vec<(String, String)> {
    let is_of_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find(is_of_name) {
        rest = &rest[at..];
        let end = rest.find(|character| !is_of_name(character)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if ["postrider_", "process_"].iter().any(|begin| name.starts_with(begin)) {
            let labels = after.strip_prefix('{').and_then(|labels| labels.split_once('}'));
            found.push((name.to_owned(), labels.map_or("", |(labels, _)| labels).to_owned()));
        }
        rest = after;
    }
    found
}

/// Labels that an expression groups by.
fn grouped_by(expression: &str) -> BTreeSet<&str> {
    let groups = expression.split("by (").skip(1).filter_map(|rest| rest.split_once(')'));
    groups.flat_map(|(labels, _)| labels.split(',').map(str::trim)).collect()
}

/// Holds what an expression asks for to the documented metrics.
fn check_expression(expression: &str, documented: &[Documented]) -> usize {
    let mut known_labels = BTreeSet::from(["le".to_owned()]);
    let selectors = selectors(expression);
    for (name, labels) in &selectors {
        let metric = documented.iter().find(|metric| metric.series().contains(name));
        let metric = metric.unwrap_or_else(|| panic!("no metric {name}: {expression}"));
        known_labels.extend(metric.label.clone());
        // Prometheus itself adds the job.
        let own = labels.split(',').filter(|label| !label.is_empty() && !label.starts_with("job="));
        for label in own {
            let (label, values) = label.split_once('=').unwrap();
            assert_eq!(metric.label.as_deref(), Some(label), "{expression}");
            for value in values.trim_start_matches('~').trim_matches('"').split('|') {
                assert!(metric.values.contains(value), "{label}={value}: {expression}");
            }
        }
    }
    for label in grouped_by(expression) {
        assert!(known_labels.contains(label), "no label {label}: {expression}");
    }
    let balance =
        |open, close| expression.matches(open).count() == expression.matches(close).count();
    assert!(balance('(', ')') && balance('{', '}') && balance('[', ']'), "{expression}");
    selectors.len()
}

/// Every value of this name in a JSON document.
fn named<'a>(document: &'a Value, name: &str, found: &mut Vec<&'a str>) {
    match document {
        Value::Object(members) => {
            for (member, value) in members {
                match value {
                    Value::String(text) if member == name => found.push(text),
                    value => named(value, name, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| named(item, name, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_shows_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(&file("grafana/postrider.json")).unwrap();
    let documented = documented();
    let mut expressions = Vec::new();
    named(&dashboard, "expr", &mut expressions);
    let metrics: usize =
        expressions.iter().map(|expression| check_expression(expression, &documented)).sum();
    assert!(metrics >= 50, "only {metrics} metrics are shown");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has an id of its own");
}

#[test]
fn every_alert_watches_metrics_that_there_are_and_says_what_to_do() {
    let text = file("prometheus/postrider.rules.yml");
    let documented = documented();
    let alerts: Vec<&str> = text.split("\n      - alert: ").skip(1).collect();
    let mut names = BTreeSet::new();
    for alert in &alerts {
        let (name, rest) = alert.split_once('\n').unwrap();
        assert!(names.insert(name), "{name} is there twice");
        let mut fields: Vec<(&str, String)> = Vec::new();
        for line in rest.lines().filter(|line| !line.trim().is_empty()) {
            let depth = line.len() - line.trim_start().len();
            assert!(depth >= 8 && depth % 2 == 0 && !line.contains('\t'), "{name}: {line:?}");
            let field = line.trim().split_once(':');
            if let Some((key, value)) = field.filter(|(key, _)| !key.contains([' ', '(', '{'])) {
                fields.push((key, value.trim().to_owned()));
            } else {
                let (_, value) = fields.last_mut().unwrap();
                value.push(' ');
                value.push_str(line.trim());
            }
        }
        let field = |key: &str| {
            let found = fields.iter().find(|(known, _)| *known == key);
            found.map(|(_, value)| value.trim_start_matches(['|', '>', '-', ' ']))
        };
        let expression = field("expr").unwrap();
        let is_of_ours = check_expression(expression, &documented) > 0;
        assert!(is_of_ours || expression.contains("up{"), "{name}: {expression}");
        assert!(["page", "ticket"].contains(&field("severity").unwrap()), "{name}");
        assert!(field("summary").unwrap().ends_with('.'), "{name} has no summary");
        assert!(field("runbook").unwrap().len() > 100, "{name} does not say what to do");
    }
    assert!(names.len() >= 9, "{names:?}");
    assert!(text.starts_with('#') && text.contains("\ngroups:\n  - name: postrider\n"));
}
