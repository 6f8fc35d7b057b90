//! What a sender's API looks like, read from TOML: the calls that set it up, the call that
//! publishes, and where the receiver finds an event's number.
//!
//! Promise: whatever is wrong with a description is said before the first call is made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::template::{Template, Values, is_name};

/// What the program fills in, in every call.
const ALWAYS_GIVEN: [&str; 2] = ["receiver_url", "run"];

/// What the program fills in for each event.
const GIVEN_PER_EVENT: [&str; 3] = ["data", "number", "unique"];

/// A sender's API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// What the sender is called in reports.
    pub(crate) name: String,
    /// Where its API is: `http://host:port`, with a path if every call has one in common.
    pub(crate) base_url: String,
    /// JSON pointer (RFC 6901) to the event's number in the body that arrives.
    pub(crate) number: String,
    /// Values for templates; an empty one must be given by the user.
    #[serde(default)]
    pub(crate) variables: Values,
    /// Headers of every call.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Template>,
    /// Made once, in this order.
    #[serde(default)]
    pub(crate) setup: Vec<Call>,
    /// Made for each event.
    pub(crate) publish: Call,
}

/// A request and what is expected of its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// Its method.
    #[serde(default = "post")]
    pub(crate) method: String,
    /// Its path, behind that of the base URL.
    pub(crate) path: Template,
    /// Its own headers, which go before those of every call.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Template>,
    /// Its body, JSON unless a header says otherwise.
    #[serde(default)]
    pub(crate) body: Template,
    /// The statuses that mean success; every 2xx if there are none.
    #[serde(default)]
    pub(crate) accepted: Vec<u16>,
    /// Values to take from the JSON answer, by the names they get, each a JSON pointer.
    #[serde(default)]
    pub(crate) capture: BTreeMap<String, String>,
}

fn post() -> String {
    "POST".to_owned()
}

impl Call {
    /// Whether an answer with this status means success.
    pub(crate) fn accepts(&self, status: u16) -> bool {
        match self.accepted.as_slice() {
            [] => (200..300).contains(&status),
            accepted => accepted.contains(&status),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.values().flat_map(Template::names);
        self.path.names().chain(headers).chain(self.body.names())
    }
}

impl Description {
    /// Reads a file, with values that the user gives for its variables.
    pub(crate) fn read(file: &Path, given: &[(String, String)]) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("reading the description {}", file.display()))?;
        Self::parse(&text, given).with_context(|| format!("the description {}", file.display()))
    }

    fn parse(text: &str, given: &[(String, String)]) -> Result<Self> {
        let mut description: Self = toml::from_str(text)?;
        for (name, value) in given {
            let variable = description.variables.get_mut(name);
            variable.with_context(|| format!("it has no variable `{name}`"))?.clone_from(value);
        }
        for call in description.setup.iter_mut().chain([&mut description.publish]) {
            for (name, value) in &description.headers {
                let own = |header: &String| header.eq_ignore_ascii_case(name);
                if !call.headers.keys().any(own) {
                    call.headers.insert(name.clone(), value.clone());
                }
            }
        }
        description.check()?;
        Ok(description)
    }

    fn check(&self) -> Result<()> {
        check_pointer(&self.number).context("`number`")?;
        let mut known: BTreeSet<&str> = ALWAYS_GIVEN.into();
        for (name, value) in &self.variables {
            check_new_name(name, &known)?;
            ensure!(!value.is_empty(), "`{name}` has no value: give it with --set {name}=VALUE");
            known.insert(name);
        }
        for (index, call) in self.setup.iter().enumerate() {
            let place = format!("set-up call {}", index + 1);
            check_call(call, &known).context(place.clone())?;
            for (name, pointer) in &call.capture {
                check_new_name(name, &known).context(place.clone())?;
                check_pointer(pointer).with_context(|| format!("{place} captures `{name}`"))?;
                known.insert(name);
            }
        }
        known.extend(GIVEN_PER_EVENT);
        check_call(&self.publish, &known).context("the publish call")?;
        ensure!(self.publish.capture.is_empty(), "the publish call can capture nothing");
        let carries_number = |name| name == "data" || name == "number";
        ensure!(
            self.publish.body.names().any(carries_number),
            "the publish call's body has neither {{{{data}}}} nor {{{{number}}}}, so nobody could \
             tell the events apart"
        );
        Ok(())
    }
}

fn check_call(call: &Call, known: &BTreeSet<&str>) -> Result<()> {
    if let Some(unknown) = call.names().find(|name| !known.contains(name)) {
        let known: Vec<_> = known.iter().copied().collect();
        bail!("nothing fills `{{{{{unknown}}}}}`; known there: {}", known.join(", "));
    }
    Ok(())
}

fn check_new_name(name: &str, known: &BTreeSet<&str>) -> Result<()> {
    ensure!(is_name(name), "`{name}` is no name: lower-case letters, digits and _ only");
    let taken = known.contains(name) || GIVEN_PER_EVENT.contains(&name);
    ensure!(!taken, "the name `{name}` is taken");
    Ok(())
}

fn check_pointer(pointer: &str) -> Result<()> {
    ensure!(pointer.starts_with('/'), "`{pointer}` is no JSON pointer: it begins with /");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        name = "Sender"
        base_url = "http://127.0.0.1:1"
        number = "/number"
        [variables]
        key = "k"
        [headers]
        Authorization = "Bearer {{key}}"
        [[setup]]
        path = "/accounts"
        body = '{"name":"{{run}}"}'
        capture = { account = "/id" }
        [publish]
        path = "/accounts/{{account}}/events"
        headers = { Idempotency-Key = "{{unique}}" }
        body = '{{data}}'
        accepted = [202]
    "#;

    fn refusal(text: &str, given: &[(&str, &str)]) -> String {
        let given: Vec<_> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        format!("{:#}", Description::parse(text, &given).unwrap_err())
    }

    #[test]
    fn every_call_gets_the_common_headers_beside_its_own() {
        let description = Description::parse(SMALL, &[]).unwrap();
        let names: Vec<_> = description.publish.headers.keys().collect();
        assert_eq!(names, ["Authorization", "Idempotency-Key"]);
        assert!(description.publish.accepts(202) && !description.publish.accepts(200));
        let setup = &description.setup[0];
        assert!(setup.accepts(299) && !setup.accepts(300) && setup.method == "POST");
    }

    #[test]
    fn what_is_wrong_with_a_description_is_said_in_so_many_words() {
        let wrong: [(&str, &str, &str); 8] = [
            ("{{account}}/events", "{{acount}}/events", "publish call: nothing fills `{{acount}}`"),
            (r#""name":"{{run}}""#, r#""name":"{{account}}""#, "set-up call 1: nothing fills"),
            ("account = \"/id\"", "account = \"id\"", "`id` is no JSON pointer"),
            ("account = \"/id\"", "key = \"/id\"", "the name `key` is taken"),
            ("key = \"k\"", "key = \"\"", "give it with --set key=VALUE"),
            ("body = '{{data}}'", "body = '{}'", "neither {{data}} nor {{number}}"),
            ("[publish]", "[publish]\nbogus = 1", "unknown field `bogus`"),
            ("body = '{{data}}'", "body = '{{data'", "has no `}}`"),
        ];
        for (from, to, said) in wrong {
            assert!(SMALL.contains(from), "{from}");
            let error = refusal(&SMALL.replace(from, to), &[]);
            assert!(error.contains(said), "{to}: {error}");
        }
        assert!(refusal("name = ", &[]).contains("line 1"));
        assert_eq!(refusal(SMALL, &[("kee", "x")]), "it has no variable `kee`");
    }

    #[test]
    fn every_description_that_is_shipped_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("targets");
        let mut read = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let wanted: Values = toml::from_str::<toml::Table>(&text).unwrap()["variables"]
                .clone()
                .try_into()
                .unwrap();
            let given: Vec<_> = wanted.into_keys().map(|name| (name, "x".to_owned())).collect();
            Description::parse(&text, &given).unwrap();
            read += 1;
        }
        assert_eq!(read, 3);
    }
}
