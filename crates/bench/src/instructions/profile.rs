//! What callgrind wrote: instructions by the crate whose source they come from.
//!
//! The format is described in the manual of valgrind, "Callgrind Format Specification". Instructions
//! that the compiler moved into another function are still told by their source file, because the
//! profiles of this workspace keep line tables.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};

use super::counts::HASHING;

/// Where sources of the standard library are said to be.
const STD: &str = "/rustc/";

/// The instructions of one load.
#[derive(Debug)]
pub(super) struct Profile {
    events: usize,
    by_part: BTreeMap<String, u64>,
    by_function: HashMap<String, u64>,
    compiler: Option<String>,
}

/// Names that callgrind writes once and then numbers.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    /// `(7) name` names the seventh, `(7)` is the seventh.
    fn read(&mut self, text: &str) -> String {
        let Some((number, name)) = text.strip_prefix('(').and_then(|text| text.split_once(')'))
        else {
            return text.to_owned();
        };
        let name = name.trim_start();
        if name.is_empty() {
            return self.0.get(number).cloned().unwrap_or_default();
        }
        self.0.insert(number.to_owned(), name.to_owned());
        name.to_owned()
    }
}

impl Profile {
    /// Reads one dump, in which so many events went their way.
    pub(super) fn read(text: &str, events: usize) -> Result<Self> {
        let (mut files, mut functions) = (Names::default(), Names::default());
        let (mut object_names, mut object) = (Names::default(), String::new());
        let (mut file, mut home, mut function) = (String::new(), String::new(), String::new());
        let mut of_call = false;
        let mut profile =
            Self { events, by_part: BTreeMap::new(), by_function: HashMap::new(), compiler: None };
        let mut costs: HashMap<(String, String), u64> = HashMap::new();
        for line in text.lines() {
            if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
                // What a call cost is also in the lines of the function that was called.
                if !std::mem::take(&mut of_call) {
                    let cost = line.split(' ').nth(1).unwrap_or("0");
                    let cost: u64 = cost.parse().with_context(|| format!("reading {line:?}"))?;
                    *costs.entry((file.clone(), function.clone())).or_default() += cost;
                }
                continue;
            }
            let Some((what, name)) = line.split_once('=') else { continue };
            match what {
                "ob" => object = object_names.read(name),
                "cob" => drop(object_names.read(name)),
                "fl" => {
                    home = files.read(name);
                    file.clone_from(&home);
                }
                "fi" | "fe" => file = files.read(name),
                "cfi" | "cfl" => drop(files.read(name)),
                "fn" => {
                    function = functions.read(name);
                    file.clone_from(&home);
                    if file == "???" {
                        home.clone_from(&object);
                        file.clone_from(&object);
                    }
                }
                "cfn" => drop(functions.read(name)),
                "calls" => of_call = true,
                _ => {}
            }
        }
        for ((file, function), cost) in costs {
            if profile.compiler.is_none() {
                profile.compiler = compiler_of(&file).map(str::to_owned);
            }
            *profile.by_part.entry(part_of(&file, &function)).or_default() += cost;
            *profile.by_function.entry(function).or_default() += cost;
        }
        Ok(profile)
    }

    /// Instructions per event, by part.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&str, f64)> {
        self.by_part.iter().map(|(part, cost)| (part.as_str(), *cost as f64 / self.events as f64))
    }

    /// Every function with its own instructions per event, dearest first.
    pub(super) fn functions(&self) -> Vec<(&str, f64)> {
        let mut functions: Vec<_> = self
            .by_function
            .iter()
            .map(|(function, cost)| (function.as_str(), *cost as f64 / self.events as f64))
            .collect();
        functions.sort_unstable_by(|one, other| other.1.total_cmp(&one.1));
        functions
    }

    /// The compiler, by the commit that its standard library was built from.
    pub(super) fn compiler(&self) -> Option<&str> {
        self.compiler.as_deref()
    }
}

fn compiler_of(file: &str) -> Option<&str> {
    file.strip_prefix(STD)?.split('/').next()?.get(..9)
}

/// The part of the program that a function in a file belongs to.
fn part_of(file: &str, function: &str) -> String {
    const ALLOCATION: [&str; 6] = ["malloc", "free", "calloc", "realloc", "_int_", "__rust"];
    const COPYING: [&str; 6] = ["memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen"];
    let is_of = |names: &[&str]| names.iter().any(|name| function.contains(name));
    if is_of(&["sha2::", "sha256", "sha512"]) {
        return HASHING.to_owned();
    }
    if let Some((_, rest)) = file.split_once("/registry/src/") {
        let package = rest.split('/').nth(1).unwrap_or(rest);
        return family(package.rsplit_once('-').map_or(package, |(name, _)| name));
    }
    if file.starts_with(STD) {
        // What the standard library puts into a function is that function's.
        return family(crate_of(function));
    }
    if let Some((_, rest)) = file.split_once("crates/") {
        return rest.split('/').next().unwrap_or(rest).to_owned();
    }
    // What has no lines of Rust: the system's libraries, SQLite, assembly.
    let part = match () {
        () if is_of(&COPYING) => "copying and comparing bytes",
        () if file.contains("sqlite3") || function.starts_with("sqlite3") => "SQLite",
        () if is_of(&ALLOCATION) => "allocation",
        () if is_of(&["chacha", "poly1305"]) => "sealing",
        () => "other",
    };
    part.to_owned()
}

/// The crate of a function, by the beginning of its path: `<api::Key as core::fmt::Debug>::fmt` is
/// of `api`.
fn crate_of(function: &str) -> &str {
    let path = function.trim_start_matches(['<', '&', '(', '[']).trim_start_matches("mut ");
    let name = path.split_once("::").map_or("", |(name, _)| name);
    let is_name = name.len() > 2 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_name { name } else { "std" }
}

/// Libraries that do one job together, by what they do.
fn family(package: &str) -> String {
    let package = package.replace('_', "-");
    let family = match package.as_str() {
        "libsqlite3-sys" | "rusqlite" | "fallible-iterator" | "hashlink" => "SQLite",
        "hyper" | "hyper-util" | "http" | "http-body" | "http-body-util" | "httparse" | "h2"
        | "axum" | "axum-core" | "tower" | "tower-service" | "matchit" | "httpdate" | "mime" => {
            "HTTP libraries"
        }
        "tokio" | "mio" | "tokio-util" | "futures-util" | "futures-core" | "futures-channel"
        | "futures-task" | "parking-lot" | "parking-lot-core" | "want" | "try-lock"
        | "atomic-waker" | "slab" | "pin-project-lite" => "tokio and futures",
        "serde" | "serde-core" | "serde-json" | "itoa" | "zmij" | "ryu" => "JSON",
        "chacha20poly1305" | "chacha20" | "poly1305" | "aead" | "universal-hash" | "cipher"
        | "inout" | "hybrid-array" | "ring" => "sealing",
        "hmac" | "digest" | "block-buffer" | "crypto-common" => HASHING,
        "bytes" | "memchr" | "smallvec" | "hashbrown" | "indexmap" | "arrayvec" | "foldhash"
        | "quick-cache" => "containers",
        "core" | "alloc" | "std" => "std",
        "--rustc" => "allocation",
        other => other,
    };
    family.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\
version: 1
events: Ir

ob=(1) /work/target/release/bench
fl=(1) /home/me/.cargo/registry/src/index.crates.io-1949/hyper-util-1.12.0/src/server.rs
fn=(1) <hyper_util::Serve as core::future::Future>::poll
10 100
fi=(2) /rustc/59807616e1fa/library/core/src/ptr.rs
+2 7
fe=(1)
-2 3
cfi=(3) crates/engine/src/publish.rs
cfn=(2) engine::publish
calls=2 40
* 5000

fl=(3)
fn=(2)
40 600

ob=(2) /usr/lib/x86_64-linux-gnu/libc.so.6
fl=(4) ???
fn=(3) malloc
0 40
";

    #[test]
    fn instructions_belong_to_the_crate_their_source_is_in_and_calls_are_not_counted_twice() {
        let profile = Profile::read(DUMP, 10).unwrap();
        let parts: Vec<_> = profile.parts().collect();
        let expected = [("HTTP libraries", 11.0), ("allocation", 4.0), ("engine", 60.0)];
        assert_eq!(parts, expected);
        assert_eq!(profile.functions()[0], ("engine::publish", 60.0));
        assert_eq!(profile.compiler(), Some("59807616e"));
    }
}
