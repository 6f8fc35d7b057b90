//! What `docs/security.md` points to exists.

use std::path::Path;

/// What a row names as its test, cut at the first `…` or `*`.
fn test_names(document: &str) -> Vec<&str> {
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    quoted
        .map(|name| name.rsplit([' ', ':']).next().unwrap_or(name))
        .map(|name| name.split(['…', '*']).next().unwrap_or(name))
        .filter(|name| name.matches('_').count() >= 3)
        .collect()
}

fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_security_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let document = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let names = test_names(&document);
    assert!(names.len() >= 60, "{}", names.len());
    let mut all = String::new();
    sources(&root.join("crates"), &mut all);
    let missing: Vec<_> =
        names.into_iter().filter(|name| !all.contains(&format!("fn {name}"))).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
