//! The TOML file: from its tables to values by key, and from values to TOML.
//!
//! Promise: an unknown key is refused with the nearest known one; a value of the wrong kind is
//! refused with a right one; a broken file is refused with the line.

use std::fmt::Write as _;
use std::path::Path;

use toml::{Table, Value};

use super::layers::{Given, Origin, Values};
use super::settings::{ALL, Setting, Shape, find};
use crate::ending::Ending;

const PER_MINUTE: &str = "per_minute";
const PER_DAY: &str = "per_day";

/// Reads the file that `named_by` (a flag or a variable) names.
pub(super) fn read(named_by: &str, path: &Path) -> Result<Values, Ending> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let fix = format!("name a readable TOML file with {named_by}, or leave it away");
        Ending::misconfigured(format!("cannot read the configuration file {shown}: {error}; {fix}"))
    })?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        Ending::misconfigured(format!("{shown}, line {line}, is not TOML: {}", error.message()))
    })?;
    let mut values = Values::new();
    collect("", table, path, &mut values)?;
    Ok(values)
}

fn collect(prefix: &str, table: Table, path: &Path, values: &mut Values) -> Result<(), Ending> {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        if let Some(setting) = find(&key) {
            let texts = texts(setting, value).map_err(|why| {
                let example = toml_value(setting, &setting.split(setting.example));
                let shown = path.display();
                Ending::misconfigured(format!(
                    "{key} in {shown} {why}; for example: {key} = {example}"
                ))
            })?;
            values.insert(setting.key, texts);
            continue;
        }
        let group = format!("{key}.");
        match value {
            Value::Table(inner) if ALL.iter().any(|setting| setting.key.starts_with(&group)) => {
                collect(&group, inner, path, values)?;
            }
            _ => {
                // Weighs the beginning most, so that a wrong name in a table stays in the table.
                let likeness = |setting: &Setting| strsim::jaro_winkler(&key, setting.key);
                let near = ALL
                    .iter()
                    .max_by(|left, right| likeness(left).total_cmp(&likeness(right)))
                    .map_or("", |setting| setting.key);
                let shown = path.display();
                let line = format!("{key} in {shown} is no option; the nearest is {near}");
                return Err(Ending::misconfigured(line));
            }
        }
    }
    Ok(())
}

/// The texts a value of the file stands for.
fn texts(setting: &Setting, value: Value) -> Result<Vec<String>, &'static str> {
    let integers = |values: Vec<Value>| {
        let integer = |value: Value| value.as_integer().map(|number| number.to_string());
        values.into_iter().map(integer).collect::<Option<_>>()
    };
    match (setting.shape, value) {
        (Shape::Text | Shape::SecretUrl, Value::String(text)) => Ok(vec![text]),
        (Shape::Text | Shape::SecretUrl, _) => Err("must be a text in quotes"),
        (Shape::Number, Value::Integer(number)) => Ok(vec![number.to_string()]),
        (Shape::Number, _) => Err("must be a whole number"),
        (Shape::Switch, Value::Boolean(on)) => Ok(vec![on.to_string()]),
        (Shape::Switch, _) => Err("must be true or false"),
        (Shape::Texts, Value::Array(values)) => values
            .into_iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or("must be a list of texts"),
        (Shape::Texts, _) => Err("must be a list of texts"),
        (Shape::Numbers, Value::Array(values)) => {
            integers(values).ok_or("must be a list of whole numbers")
        }
        (Shape::Numbers, _) => Err("must be a list of whole numbers"),
        (Shape::Plans, Value::Table(plans)) => plans
            .into_iter()
            .map(|(name, limits)| plan(&name, &limits))
            .collect::<Option<_>>()
            .ok_or("must be a table of plans, each with per_minute and per_day and nothing else"),
        (Shape::Plans, _) => Err("must be a table of plans"),
    }
}

fn plan(name: &str, limits: &Value) -> Option<String> {
    let limits = limits.as_table().filter(|limits| limits.len() == 2)?;
    let per_minute = limits.get(PER_MINUTE)?.as_integer()?;
    let per_day = limits.get(PER_DAY)?.as_integer()?;
    Some(format!("{name}={per_minute}/{per_day}"))
}

/// The value of these texts, as the file would hold it.
pub(super) fn toml_value(setting: &Setting, texts: &[String]) -> String {
    let quoted = |text: &String| Value::String(text.clone()).to_string();
    match setting.shape {
        Shape::Text | Shape::SecretUrl => texts.first().map(quoted).unwrap_or_default(),
        Shape::Number | Shape::Switch => texts.first().cloned().unwrap_or_default(),
        Shape::Texts => format!("[{}]", texts.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        Shape::Numbers => format!("[{}]", texts.join(", ")),
        Shape::Plans => {
            let inline = |text: &String| {
                let (name, limits) = text.split_once('=')?;
                let (per_minute, per_day) = limits.split_once('/')?;
                Some(format!("{name} = {{ {PER_MINUTE} = {per_minute}, {PER_DAY} = {per_day} }}"))
            };
            let plans: Vec<_> = texts.iter().filter_map(inline).collect();
            format!("{{ {} }}", plans.join(", "))
        }
    }
}

/// Everything that is in force, as a file; what holds a secret is a comment, without the secret.
pub(super) fn print(all: impl Iterator<Item = Given>) -> String {
    let mut text = String::new();
    for Given { setting, texts, origin } in all {
        let flag = setting.flag.map(|flag| format!("--{flag}, ")).unwrap_or_default();
        let from = match origin {
            Origin::Default => String::new(),
            Origin::Flag => ", given by flag".to_owned(),
            Origin::Environment => ", given by environment".to_owned(),
            Origin::File(path) => format!(", given by {}", path.display()),
        };
        let about = setting.about;
        let variable = setting.variable;
        // Emptied is not the same as left alone where there is a default.
        let is_unset = texts.is_empty() && setting.default.is_empty();
        let line = if is_unset || setting.flag.is_none() {
            let example = toml_value(setting, &setting.split(setting.example));
            format!("# {} = {example}", setting.key)
        } else if texts.iter().any(|text| setting.shown(text) != *text) {
            let shown: Vec<_> = texts.iter().map(|text| setting.shown(text).into_owned()).collect();
            format!("# {} = {}", setting.key, toml_value(setting, &shown))
        } else {
            format!("{} = {}", setting.key, toml_value(setting, &texts))
        };
        writeln!(text, "# {about}.\n# {flag}{variable}{from}\n{line}\n")
            .expect("a String takes everything");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
