//! The configuration file: read or refused in one line, never with a key we do not know.

#![no_main]

use std::io::Write as _;
use std::str;

use libfuzzer_sys::fuzz_target;
use server::config::settings::{ALL, Setting, Shape};
use server::config::{Config, Environment, Flags};
use tempfile::NamedTempFile;
use toml::{Table, Value};

fuzz_target!(|input: &[u8]| {
    match read(input) {
        Ok(config) => {
            let text = str::from_utf8(input).expect("TOML is UTF-8");
            let table: Table = text.parse().expect("what was read is TOML");
            let options = options("", &table);
            if options
                .iter()
                .all(|option| option.flag.is_some() && option.shape != Shape::SecretUrl)
            {
                // No secret, which would not be printed.
                assert_prints_itself(input, &config);
            }
        }
        Err(line) => assert!(!line.is_empty() && !line.contains('\n'), "{line:?}"),
    }
});

fn with_file<T>(text: &[u8], read: impl FnOnce(&std::path::Path) -> T) -> T {
    let mut file = NamedTempFile::new().expect("there is room for a temporary file");
    file.write_all(text).expect("there is room for a temporary file");
    read(file.path())
}

fn read(text: &[u8]) -> Result<String, String> {
    with_file(text, |path| {
        let read = Config::read(Flags::default(), Environment::default(), Some(path));
        read.map(|config| format!("{config:?}")).map_err(|ending| ending.to_string())
    })
}

/// What is printed of a configuration is read as the same.
fn assert_prints_itself(text: &[u8], config: &str) {
    let printed =
        with_file(text, |path| Config::print(Flags::default(), Environment::default(), Some(path)));
    let printed = printed.expect("what was read can be printed");
    assert_eq!(read(printed.as_bytes()).as_deref(), Ok(config), "{printed}");
}

/// The options that are in it. Every key is one, or the beginning of one.
fn options(prefix: &str, table: &Table) -> Vec<&'static Setting> {
    let mut found = Vec::new();
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        let option = ALL.iter().find(|setting| setting.key == key);
        found.extend(option);
        match (option, value) {
            (Some(Setting { shape: Shape::Plans, .. }), Value::Table(plans)) => {
                for limits in plans.values() {
                    let limits = limits.as_table().expect("a plan is a table");
                    assert!(limits.keys().all(|key| matches!(&**key, "per_minute" | "per_day")));
                }
            }
            (Some(_), value) => assert!(!value.is_table(), "{key}"),
            (None, Value::Table(inner)) => {
                let group = format!("{key}.");
                assert!(ALL.iter().any(|setting| setting.key.starts_with(&group)), "{key}");
                found.extend(options(&group, inner));
            }
            (None, _) => panic!("{key} is no option"),
        }
    }
    found
}
