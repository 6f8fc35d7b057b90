//! The shape of the workspace: who may use whom, and what may come in from outside.
//!
//! The table of arrows is the architecture; a new arrow is a decision and is made here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use toml::{Table, Value};

/// Which of our crates each of our crates may use in the product.
const ARROWS: [(&str, &[&str]); 10] = [
    ("domain", &[]),
    ("store", &["domain"]),
    ("store-sqlite", &["domain", "store"]),
    ("engine", &["domain", "store"]),
    ("http-sender", &["domain", "engine"]),
    ("api", &["domain", "engine"]),
    ("server", &["api", "domain", "engine", "http-sender", "store", "store-sqlite"]),
    ("testkit", &["domain", "engine", "store"]),
    ("bench", &["api", "domain", "engine", "http-sender", "server", "store", "store-sqlite"]),
    ("faults", &["domain", "engine", "http-sender", "store", "testkit"]),
];

/// Crates that no product crate may use but in its tests.
const TEST_ONLY: [&str; 3] = ["testkit", "bench", "faults"];

/// Technologies, and the only crates that may know them in the product.
const OWNED: [(&str, &[&str]); 19] = [
    ("axum", &["api", "server"]),
    ("cel", &["engine"]),
    ("clap", &["bench", "faults", "server"]),
    ("getrandom", &["engine"]),
    ("h2", &["http-sender"]),
    ("hickory-resolver", &["http-sender"]),
    ("hyper", &["bench", "faults", "http-sender", "server", "testkit"]),
    ("jsonschema", &["engine"]),
    ("metrics-exporter-prometheus", &["server"]),
    ("opentelemetry", &["server"]),
    ("opentelemetry-http", &["server"]),
    ("opentelemetry-otlp", &["server"]),
    ("opentelemetry_sdk", &["server"]),
    ("regex-automata", &["engine"]),
    ("rusqlite", &["bench", "faults", "store-sqlite"]),
    ("rustls", &["http-sender"]),
    ("rustls-native-certs", &["http-sender"]),
    ("tokio-rustls", &["http-sender"]),
    ("utoipa", &["api"]),
];

/// What `domain` may not use: it has no input, output, waiting, clock, chance or formats.
const NOT_IN_DOMAIN: [&str; 6] =
    ["async-trait", "getrandom", "metrics", "serde", "serde_json", "tokio"];

/// Too heavy, or too delicate, to have twice.
const ONCE: [&str; 16] = [
    "axum",
    "bytes",
    "h2",
    "hickory-resolver",
    "http",
    "http-body",
    "hyper",
    "hyper-util",
    "libsqlite3-sys",
    "metrics",
    "ring",
    "rusqlite",
    "rustls",
    "serde_json",
    "tokio",
    "tracing",
];

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
});

/// Everything that is built for this machine; what it does not need may not even be here.
static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    MetadataCommand::new()
        .manifest_path(ROOT.join("Cargo.toml"))
        .other_options(["--offline".to_owned(), format!("--filter-platform={host}")])
        .exec()
        .unwrap()
});

fn members() -> Vec<&'static Package> {
    METADATA.workspace_packages()
}

/// The names of what a crate uses in the product, or in the kind of build that is given.
fn uses(package: &Package, kind: DependencyKind) -> BTreeSet<&str> {
    let dependencies = package.dependencies.iter();
    dependencies.filter(|used| used.kind == kind).map(|used| used.name.as_str()).collect()
}

fn toml(path: impl AsRef<std::path::Path>) -> Table {
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

#[test]
fn our_crates_use_one_another_only_along_the_arrows() {
    let arrows = BTreeMap::from(ARROWS);
    let names: BTreeSet<_> = members().iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, arrows.keys().copied().collect(), "the table names every crate");
    for package in members() {
        let used = uses(package, DependencyKind::Normal);
        let ours: BTreeSet<_> = used.intersection(&names).copied().collect();
        let allowed = arrows[package.name.as_str()].iter().copied().collect();
        assert!(ours.is_subset(&allowed), "{} uses {ours:?}, may use {allowed:?}", package.name);
        if !TEST_ONLY.contains(&package.name.as_str()) {
            assert!(TEST_ONLY.iter().all(|name| !used.contains(name)), "{}", package.name);
        }
    }
}

#[test]
fn technologies_are_known_to_their_owners_only() {
    for package in members() {
        let used = uses(package, DependencyKind::Normal);
        for (technology, owners) in OWNED {
            let may = owners.contains(&package.name.as_str());
            assert!(may || !used.contains(technology), "{} uses {technology}", package.name);
        }
        if package.name.as_str() == "domain" {
            let forbidden: Vec<_> =
                NOT_IN_DOMAIN.iter().filter(|name| used.contains(*name)).collect();
            assert!(forbidden.is_empty(), "domain uses {forbidden:?}");
        }
    }
}

#[test]
fn heavy_dependencies_are_there_once() {
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in &METADATA.packages {
        versions.entry(&package.name).or_default().insert(package.version.to_string());
    }
    for name in ONCE {
        let found = versions.get(name).map_or(0, BTreeSet::len);
        assert_eq!(found, 1, "{name}: {:?}", versions.get(name));
    }
}

/// What deny.toml says.
static DENY: LazyLock<Table> = LazyLock::new(|| toml(ROOT.join("deny.toml")));

fn denied(table: &str, key: &str) -> &'static [Value] {
    DENY[table][key].as_array().unwrap()
}

fn texts(list: &[Value]) -> BTreeSet<String> {
    list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Every package that any platform or test needs, by name, with its version and source.
fn locked() -> Vec<Table> {
    let lock = toml(ROOT.join("Cargo.lock"));
    let packages = lock["package"].as_array().unwrap().iter();
    packages.map(|package| package.as_table().unwrap().clone()).collect()
}

#[test]
fn everything_comes_from_crates_io_under_a_licence_we_allow() {
    let allowed = texts(denied("licenses", "allow"));
    for package in METADATA.packages.iter().filter(|package| package.source.is_some()) {
        let licence = package.license.as_deref().unwrap_or_default();
        assert!(permits(licence, &allowed), "{} is under {licence:?}", package.name);
    }

    let registries = texts(denied("sources", "allow-registry"));
    assert_eq!(registries.len(), 1);
    let members: BTreeSet<_> = members().iter().map(|package| package.name.to_string()).collect();
    for package in locked() {
        let name = package["name"].as_str().unwrap();
        let Some(source) = package.get("source") else {
            assert!(members.contains(name), "{name} comes from a path");
            continue;
        };
        let source = source.as_str().unwrap();
        let registry = source.strip_prefix("registry+").unwrap_or(source);
        assert!(registries.contains(registry), "{name} comes from {registry}");
        assert!(package.contains_key("checksum"), "{name} has no checksum");
    }
}

#[test]
fn every_licence_we_allow_is_one_that_something_is_under() {
    for licence in texts(denied("licenses", "allow")) {
        let needed = METADATA.packages.iter().any(|package| {
            let expression = package.license.as_deref().unwrap_or_default();
            package.source.is_some() && names(expression).any(|name| name == licence)
        });
        assert!(needed, "{licence} is allowed and nothing is under it");
    }
}

#[test]
fn what_is_banned_is_on_no_platform_and_in_no_test() {
    let banned: BTreeSet<_> = denied("bans", "deny")
        .iter()
        .map(|ban| ban["crate"].as_str().unwrap().to_owned())
        .collect();
    assert!(banned.contains("openssl-sys") && banned.contains("aws-lc-sys"), "{banned:?}");
    for package in locked() {
        let name = package["name"].as_str().unwrap();
        assert!(!banned.contains(name), "{name} is banned");
    }
}

#[test]
fn nothing_is_built_twice_but_what_deny_toml_names_with_a_reason() {
    assert_eq!(DENY["bans"]["multiple-versions"].as_str(), Some("deny"));
    // `name@version`, the version as long as it needs to be.
    let skipped: Vec<(&str, &str)> = denied("bans", "skip")
        .iter()
        .map(|skip| {
            assert!(!skip["reason"].as_str().unwrap().is_empty(), "{skip}");
            skip["crate"].as_str().unwrap().split_once('@').unwrap()
        })
        .collect();
    let is_skipped = |name: &str, version: &str| {
        let begins = |begin: &str| version == begin || version.starts_with(&format!("{begin}."));
        skipped.iter().any(|(other, begin)| *other == name && begins(begin))
    };
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in built() {
        versions.entry(&package.name).or_default().insert(package.version.to_string());
    }
    for (name, versions) in versions {
        let wanted = versions.iter().filter(|version| !is_skipped(name, version)).count();
        assert!(versions.len() == 1 || wanted == 1, "{name}: {versions:?}");
    }
    let locked = locked();
    for (name, begin) in skipped {
        let found = locked.iter().filter(|package| package["name"].as_str() == Some(name)).count();
        assert!(found > 1, "{name}@{begin} is there once, and need not be skipped");
    }
}

/// What is in the product or builds it, on this machine.
fn built() -> Vec<&'static Package> {
    let resolve = METADATA.resolve.as_ref().unwrap();
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut reached = BTreeSet::new();
    let mut next: Vec<_> = METADATA.workspace_members.iter().collect();
    while let Some(id) = next.pop() {
        if reached.insert(id) {
            let used = nodes[id].deps.iter().filter(|used| {
                used.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
            });
            next.extend(used.map(|used| &used.pkg));
        }
    }
    reached.into_iter().map(|id| &METADATA[id]).collect()
}

/// The licences an SPDX expression names.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|character: char| character.is_whitespace() || "()/".contains(character))
        .filter(|word| !["", "OR", "AND", "WITH"].contains(word))
}

#[test]
fn every_crate_keeps_the_rules_of_the_workspace() {
    let root = toml(ROOT.join("Cargo.toml"));
    let lints = &root["workspace"]["lints"];
    assert_eq!(lints["rust"]["unsafe_code"].as_str(), Some("forbid"));
    for package in members() {
        let manifest = toml(&package.manifest_path);
        let name = &package.name;
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{name}");
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            let inherited = manifest["package"][key].get("workspace").and_then(Value::as_bool);
            assert_eq!(inherited, Some(true), "{name}: {key}");
        }
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let dependencies = manifest.get(table).and_then(Value::as_table);
            for (dependency, how) in dependencies.into_iter().flatten() {
                let inherited = how.get("workspace").and_then(Value::as_bool);
                assert_eq!(inherited, Some(true), "{name}: the version of {dependency}");
            }
        }
    }
}

/// Whether an SPDX expression can be met with these licences alone. `/` is an old way to write OR.
fn permits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words, allowed);
    met && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// OR binds less than AND (SPDX specification, annex D).
fn any(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    match words.next() {
        Some("(") => {
            let met = any(words, allowed);
            met && words.next() == Some(")")
        }
        Some(name) => {
            let mut licence = name.to_owned();
            if words.next_if_eq(&"WITH").is_some() {
                licence = format!("{name} WITH {}", words.next().unwrap_or_default());
            }
            allowed.contains(&licence)
        }
        None => false,
    }
}

#[test]
fn a_licence_expression_is_met_by_what_is_allowed_alone() {
    let allowed = ["MIT", "Apache-2.0", "A WITH B"].map(str::to_owned).into();
    let met =
        ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "(GPL-3.0 OR MIT) AND Apache-2.0", "A WITH B"];
    let not_met =
        ["", "GPL-3.0", "A", "MIT AND GPL-3.0", "MIT AND (GPL-3.0 OR A)", "MIT )", "MIT MIT"];
    for expression in met {
        assert!(permits(expression, &allowed), "{expression}");
    }
    for expression in not_met {
        assert!(!permits(expression, &allowed), "{expression}");
    }
}
