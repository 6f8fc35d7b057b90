//! Keys are compared in one place, in constant time.
//!
//! How long a comparison takes cannot be tested without noise; that nothing else compares can.

use std::path::Path;

/// The lines of a source file before its tests.
fn product_lines(source: &str) -> impl Iterator<Item = &str> {
    source.lines().take_while(|line| !line.starts_with("#[cfg(test)]"))
}

/// Whether the line compares something called a hash, a key in the clear or a pepper by `==`,
/// which stops at the first difference.
fn compares_a_secret(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let compares =
        [" == ", " != ", ".eq(", ".ne(", ".cmp("].iter().any(|operator| code.contains(operator));
    let names = ["hash", "pepper", ".reveal()", "bearer", "x_api_key"];
    compares && names.iter().any(|name| code.contains(name)) && !code.contains("request_hash")
}

fn visit(folder: &Path, look: &mut impl FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, look);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            look(&path, &std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn hashes_of_keys_are_compared_in_constant_time_and_in_one_place() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let keys = std::fs::read_to_string(crates.join("engine/src/keys.rs")).unwrap();
    let (_, comparison) = keys.split_once("fn same_hash(").expect("keys are compared here");
    let body = comparison.split_once("\n}").unwrap().0;
    assert!(body.contains("left.ct_eq(right)"), "{body}");
    assert!(!body.contains("=="), "{body}");

    let mut wrong = Vec::new();
    for crate_name in ["engine", "api", "server"] {
        visit(&crates.join(crate_name).join("src"), &mut |path, source| {
            for line in product_lines(source).filter(|line| compares_a_secret(line)) {
                wrong.push(format!("{}: {}", path.display(), line.trim()));
            }
        });
    }
    assert!(wrong.is_empty(), "compare through keys::same_hash:\n{}", wrong.join("\n"));
}

#[test]
fn a_comparison_that_stops_at_the_first_difference_is_noticed() {
    for line in
        ["if record.hash == hash(key) {", "key.reveal() != given", "left_hash.eq(&right_hash)"]
    {
        assert!(compares_a_secret(line), "{line}");
    }
    for line in ["let hash = hash(pepper, key);", "// a hash == another", "entry.number == 1"] {
        assert!(!compares_a_secret(line), "{line}");
    }
}
