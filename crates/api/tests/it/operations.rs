//! Every operation of the OpenAPI document, where it takes ids, and how to ask for it rightly.
//!
//! Whoever adds an operation gives it an entry in [`ENTRIES`]; the tests of tenants, secrets and
//! read-only fields take it from there.

use std::collections::BTreeSet;

use domain::contract::Contract;
use http::Method;
use serde_json::Value;

/// How to ask for an operation, so that it is done.
pub(crate) struct Entry {
    /// Method and path, as documented.
    pub(crate) operation: &'static str,
    /// Who may ask.
    pub(crate) by: By,
    /// A JSON body in which `<account>`, `<endpoint>`, `<username>`, `<contract>` and `<type>` are
    /// the owner's, and `<+>` is where an object could have more members.
    pub(crate) body: &'static str,
    /// The status of success.
    pub(crate) status: u16,
    /// What of all secrets the answer shows.
    pub(crate) shows: Shows,
}

/// Who may ask for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The account that owns what is asked for, and the operator where there is one.
    Owner,
    /// The operator only.
    Operator,
    /// Anybody, without a key.
    Anybody,
}

/// What of all secrets an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    /// None.
    Nothing,
    /// An API key that was just made.
    NewKey,
    /// A signing secret that was just made.
    NewSecret,
    /// Signing secrets that were there before: a reveal.
    Secrets,
}

const fn entry(operation: &'static str, by: By, body: &'static str, status: u16) -> Entry {
    Entry { operation, by, body, status, shows: Shows::Nothing }
}

impl Entry {
    const fn showing(self, shows: Shows) -> Self {
        Self { shows, ..self }
    }

    /// Whose customers the operation is for; `None` for the platform API.
    pub(crate) fn contract(&self) -> Option<Contract> {
        match self.path().split('/').nth(1) {
            Some("v2") => Some(Contract::JoggV2),
            Some("v1") => Some(Contract::KonproV1),
            _ => None,
        }
    }

    pub(crate) fn method(&self) -> Method {
        self.operation.split_once(' ').unwrap().0.parse().unwrap()
    }

    pub(crate) fn path(&self) -> &'static str {
        self.operation.split_once(' ').unwrap().1
    }
}

/// Every operation.
pub(crate) const ENTRIES: &[Entry] = &[
    entry("GET /v2/endpoints", By::Owner, "", 200).showing(Shows::Secrets),
    entry("POST /v2/endpoint", By::Owner, JOGG_V2_FIELDS, 200).showing(Shows::NewSecret),
    entry("PUT /v2/endpoint/{endpoint_id}", By::Owner, JOGG_V2_FIELDS, 200).showing(Shows::Secrets),
    entry("DELETE /v2/endpoint/{endpoint_id}", By::Owner, "", 200),
    entry("GET /v2/events", By::Owner, "", 200),
    entry("GET /v1/webhook/endpoint.list", By::Owner, "", 200).showing(Shows::Secrets),
    entry(
        "POST /v1/webhook/endpoint.add",
        By::Owner,
        r#"{"url":"https://your-domain.com/new","events":["avatar_video.success"]<+>}"#,
        200,
    )
    .showing(Shows::NewSecret),
    entry(
        "PATCH /v1/webhook/endpoint.update",
        By::Owner,
        r#"{"endpoint_id":"<endpoint>","url":"https://your-domain.com/new"<+>}"#,
        200,
    )
    .showing(Shows::Secrets),
    entry("DELETE /v1/webhook/endpoint.delete", By::Owner, "", 200),
    entry("GET /v1/webhook/webhook.list", By::Owner, "", 200),
    entry(
        "POST /api/v1/accounts",
        By::Operator,
        r#"{"username":"new_<contract>","contract":"<contract>"<+>}"#,
        201,
    )
    .showing(Shows::NewKey),
    entry("GET /api/v1/accounts", By::Owner, "", 200),
    entry("GET /api/v1/accounts/{id}", By::Owner, "", 200),
    entry("PATCH /api/v1/accounts/{id}", By::Operator, r#"{"credits":7<+>}"#, 200),
    entry("DELETE /api/v1/accounts/{id}", By::Operator, "", 204),
    entry("PUT /api/v1/operations-account", By::Operator, "{<+>}", 200),
    entry("GET /api/v1/operations-account", By::Operator, "", 200),
    entry("POST /api/v1/accounts/{id}/keys", By::Owner, "{<+>}", 201).showing(Shows::NewKey),
    entry("GET /api/v1/accounts/{id}/keys", By::Owner, "", 200),
    entry("DELETE /api/v1/accounts/{id}/keys/{key_id}", By::Owner, "", 204),
    entry(
        "POST /api/v1/accounts/{id}/endpoints",
        By::Owner,
        r#"{"url":"https://your-domain.com/new"<+>}"#,
        201,
    )
    .showing(Shows::NewSecret),
    entry("GET /api/v1/accounts/{id}/endpoints", By::Owner, "", 200),
    entry("GET /api/v1/endpoints/{id}", By::Owner, "", 200),
    entry("PATCH /api/v1/endpoints/{id}", By::Owner, r#"{"description":"new"<+>}"#, 200),
    entry("DELETE /api/v1/endpoints/{id}", By::Owner, "", 204),
    entry("GET /api/v1/endpoints/{id}/secret", By::Owner, "", 200).showing(Shows::Secrets),
    entry(
        "POST /api/v1/endpoints/{id}/rotate-secret",
        By::Owner,
        r#"{"overlap_seconds":60<+>}"#,
        200,
    )
    .showing(Shows::NewSecret),
    entry("POST /api/v1/endpoints/{id}/test", By::Owner, r#"{"type":"<type>"<+>}"#, 202),
    entry(
        "POST /api/v1/events",
        By::Owner,
        r#"{"account":"<account>","type":"<type>","data":{"video_id":"v2"}<+>}"#,
        202,
    ),
    entry(
        "POST /api/v1/events/batch",
        By::Owner,
        r#"{"events":[{"account":"<account>","type":"<type>","data":{}<+>}]<+>}"#,
        202,
    ),
    entry("GET /api/v1/events", By::Owner, "", 200),
    entry("GET /api/v1/events/follow", By::Owner, "", 200),
    entry("GET /api/v1/events/{id}", By::Owner, "", 200),
    entry("POST /api/v1/events/{id}/cancel", By::Owner, "{<+>}", 200),
    entry("POST /api/v1/events/{id}/erase", By::Owner, "{<+>}", 200),
    entry("GET /api/v1/deliveries", By::Owner, "", 200),
    entry("GET /api/v1/deliveries/{id}", By::Owner, "", 200),
    entry("GET /api/v1/deliveries/{id}/attempts", By::Owner, "", 200),
    entry("POST /api/v1/deliveries/{id}/replay", By::Owner, "{<+>}", 202),
    entry("POST /api/v1/deliveries/{id}/cancel", By::Owner, "{<+>}", 200),
    entry(
        "POST /api/v1/endpoints/{id}/replay",
        By::Owner,
        r#"{"since":"2024-01-15T10:00:00Z"<+>}"#,
        202,
    ),
    entry("GET /api/v1/replays", By::Owner, "", 200),
    entry("GET /api/v1/replays/{id}", By::Owner, "", 200),
    entry("DELETE /api/v1/replays/{id}", By::Owner, "", 200),
    entry(
        "POST /api/v1/endpoints/{id}/filter/test",
        By::Owner,
        r#"{"filter":"has(data.video_id)","data":{}<+>}"#,
        200,
    ),
    entry("GET /api/v1/contracts/{contract}/event-types", By::Owner, "", 200),
    entry("GET /api/v1/contracts/{contract}/event-types/{name}", By::Owner, "", 200),
    entry(
        "PUT /api/v1/contracts/{contract}/event-types/{name}",
        By::Operator,
        r#"{"description":"new"<+>}"#,
        200,
    ),
    entry("DELETE /api/v1/contracts/{contract}/event-types/{name}", By::Operator, "", 204),
    entry("GET /api/v1/audit", By::Owner, "", 200),
    entry("GET /api/v1/audit/chain", By::Operator, "", 200),
    entry("GET /api/v1/sealing-keys", By::Operator, "", 200),
    entry("POST /api/v1/sealing-keys/reload", By::Operator, "{<+>}", 200),
    entry("GET /api/v1/stats", By::Operator, "", 200),
    entry("GET /healthz", By::Anybody, "", 200),
    entry("GET /readyz", By::Anybody, "", 200),
    entry("GET /openapi.json", By::Anybody, "", 200),
];

const JOGG_V2_FIELDS: &str = concat!(
    r#"{"url":"https://your-domain.com/new","status":"enabled","#,
    r#""events":["generated_video_success"]<+>}"#,
);

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Account,
    Key,
    Endpoint,
    Event,
    Delivery,
    Replay,
}

/// Where in a request an id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    Path,
    Query,
    Body,
}

/// An id that an operation takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) within: Within,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) is_required: bool,
}

/// An operation as it is documented, and its entry.
pub(crate) struct Operation {
    pub(crate) entry: &'static Entry,
    pub(crate) needs_key: bool,
    pub(crate) places: Vec<Place>,
    /// The fields of its body, those of objects within included.
    pub(crate) fields: BTreeSet<String>,
}

/// Parameters and fields that are called like ids and name nothing of ours: the platform's own ids.
const FOREIGN_IDS: [&str; 3] = ["entity_id", "entity_ids", "client_id"];

/// Parts of paths that name what is no account's: the catalogue of a contract and what is in it.
const COMMON_NAMES: [&str; 2] = ["contract", "name"];

/// Every operation of the document with its entry.
pub(crate) fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(api::openapi_document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, described) in item.as_object().unwrap() {
            let name = format!("{} {path}", method.to_uppercase());
            let entry = ENTRIES.iter().find(|entry| entry.operation == name);
            let entry = entry.unwrap_or_else(|| panic!("`{name}` has no entry in `ENTRIES`"));
            let security = described["security"].as_array().unwrap();
            let needs_key = security.iter().any(|scheme| !scheme.as_object().unwrap().is_empty());
            let mut fields = BTreeSet::new();
            collect_fields(&described["requestBody"], &document, &mut fields);
            let places = places(path, described, &fields);
            operations.push(Operation { entry, needs_key, places, fields });
        }
    }
    operations
}

fn places(path: &str, described: &Value, fields: &BTreeSet<String>) -> Vec<Place> {
    let mut places = Vec::new();
    for parameter in described["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let is_required = parameter["required"] == true;
        let (within, kind) = match parameter["in"].as_str().unwrap() {
            "path" if COMMON_NAMES.contains(&name) => continue,
            "path" => {
                let kind = kind_of(name).or_else(|| kind_before(path, name));
                (Within::Path, Some(kind.unwrap_or_else(|| panic!("{path}: what is `{name}`?"))))
            }
            "query" => (Within::Query, kind_of(name)),
            _ => continue,
        };
        if let Some(kind) = kind {
            places.push(Place { within, name: name.to_owned(), kind, is_required });
        }
    }
    for field in fields {
        if let Some(kind) = kind_of(field) {
            let name = field.clone();
            places.push(Place { within: Within::Body, name, kind, is_required: true });
        }
    }
    places
}

/// What a parameter or field of that name names, if it is an id of ours.
fn kind_of(name: &str) -> Option<Kind> {
    match name.strip_suffix("_id").unwrap_or(name) {
        _ if FOREIGN_IDS.contains(&name) => None,
        "account" => Some(Kind::Account),
        "key" => Some(Kind::Key),
        "endpoint" => Some(Kind::Endpoint),
        "event" => Some(Kind::Event),
        "delivery" => Some(Kind::Delivery),
        "replay" => Some(Kind::Replay),
        what => {
            assert!(what == name, "what does `{name}` name?");
            None
        }
    }
}

/// What the segment before `{name}` says it names.
fn kind_before(path: &str, name: &str) -> Option<Kind> {
    let (before, _) = path.split_once(&format!("/{{{name}}}"))?;
    kind_of(match before.rsplit('/').next()? {
        "deliveries" => "delivery",
        plural => plural.strip_suffix('s')?,
    })
}

/// The names of all properties of a schema and of those it refers to.
fn collect_fields(schema: &Value, document: &Value, fields: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("$ref", Value::String(reference)) => {
                        let pointer = reference.strip_prefix('#').unwrap();
                        collect_fields(document.pointer(pointer).unwrap(), document, fields);
                    }
                    ("properties", Value::Object(properties)) => {
                        fields.extend(properties.keys().cloned());
                        properties
                            .values()
                            .for_each(|property| collect_fields(property, document, fields));
                    }
                    ("example" | "examples", _) => {}
                    _ => collect_fields(member, document, fields),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                collect_fields(item, document, fields);
            }
        }
        _ => {}
    }
}

#[test]
fn every_operation_of_the_document_has_one_entry_and_every_entry_an_operation() {
    let operations = operations();
    let documented: BTreeSet<_> =
        operations.iter().map(|operation| operation.entry.operation).collect();
    let listed: BTreeSet<_> = ENTRIES.iter().map(|entry| entry.operation).collect();
    assert_eq!(documented, listed);
    assert_eq!(listed.len(), ENTRIES.len());
    for Operation { entry, needs_key, places, fields } in &operations {
        let name = entry.operation;
        assert_eq!(*needs_key, entry.by != By::Anybody, "{name}");
        assert!(fields.is_empty() || entry.body.contains("<+>"), "{name} takes a body");
        for place in places.iter().filter(|place| place.within == Within::Body) {
            let filled = match place.kind {
                Kind::Account => "<account>",
                Kind::Endpoint => "<endpoint>",
                kind => panic!("{name}: bodies have no placeholder for {kind:?}"),
            };
            assert!(entry.body.contains(filled), "{name} leaves out {}", place.name);
        }
    }
    let ids: usize = operations.iter().map(|operation| operation.places.len()).sum();
    assert!(ids >= 28, "only {ids} places for ids were found");
}
