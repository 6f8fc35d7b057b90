//! What the audit log says of each deed.
//!
//! Promise: whoever reads a note knows what was done to what, and what it was before; nobody learns
//! a key, a secret, or the value of a header from it. Pure: everything is given.

use std::time::Duration;

use domain::account::{Account, AccountChange};
use domain::audit::{Actor, AuditAction, AuditNote};
use domain::delivery::Delivery;
use domain::endpoint::{DisabledReason, Endpoint, EndpointChange, MaxInFlight};
use domain::event::EntityId;
use domain::id::{AccountId, DeliveryId, EndpointId};
use domain::sealing::SealingKeyId;
use domain::subscription::Subscription;
use domain::target_url::UrlPolicy;
use domain::time::Timestamp;
use serde_json::{Map, Value, json};
use store::catalogue::KeyRecord;

/// Most event types of an endpoint that a note lists, so that a note stays small; the number of the
/// others follows.
const EVENTS_SHOWN_MAX: usize = 50;

/// Who does something, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deed {
    pub(crate) at: Timestamp,
    pub(crate) actor: Actor,
}

impl Deed {
    /// An engine began, and these are the addresses that its rules open beyond the public ones.
    pub(crate) fn service_started(self, policy: &UrlPolicy) -> AuditNote {
        fn texts(networks: &[impl ToString]) -> Vec<String> {
            networks.iter().map(ToString::to_string).collect()
        }
        let details = object([
            ("allow_http", policy.allow_http.into()),
            ("allow_ports", policy.extra_ports.clone().into()),
            ("allow_targets", texts(&policy.addresses.allowed).into()),
            ("allow_metadata_targets", texts(&policy.addresses.allowed_metadata).into()),
            ("nat64", policy.addresses.nat64.into()),
        ]);
        self.note(AuditAction::ServiceStarted, None, &"rules", details)
    }

    /// Secrets are sealed under this key from now on.
    pub(crate) fn sealing_key_activated(
        self,
        active: SealingKeyId,
        previous: SealingKeyId,
    ) -> AuditNote {
        let details = object([("previous", previous.to_string().into())]);
        self.note(AuditAction::SealingKeyActivated, None, &active, details)
    }

    pub(crate) fn account_created(self, account: &Account, first_key: &KeyRecord) -> AuditNote {
        let mut details = all(ACCOUNT_FIELDS, account);
        details.insert("contract".to_owned(), account.contract.name().into());
        details.insert("key".to_owned(), first_key.id.to_string().into());
        details.insert("key_public_part".to_owned(), first_key.public_part.as_str().into());
        self.note(AuditAction::AccountCreated, Some(account.id), &account.id, details)
    }

    pub(crate) fn account_changed(self, before: &Account, change: AccountChange) -> AuditNote {
        let mut after = before.clone();
        change.apply(&mut after);
        let details = changed(ACCOUNT_FIELDS, before, &after);
        self.note(AuditAction::AccountChanged, Some(before.id), &before.id, details)
    }

    pub(crate) fn account_deleted(self, account: &Account) -> AuditNote {
        let details = object([("contract", account.contract.name().into())]);
        self.note(AuditAction::AccountDeleted, Some(account.id), &account.id, details)
    }

    pub(crate) fn key_created(self, key: &KeyRecord) -> AuditNote {
        self.of_key(AuditAction::KeyCreated, key)
    }

    pub(crate) fn key_revoked(self, key: &KeyRecord) -> AuditNote {
        self.of_key(AuditAction::KeyRevoked, key)
    }

    fn of_key(self, action: AuditAction, key: &KeyRecord) -> AuditNote {
        let details = object([("public_part", key.public_part.as_str().into())]);
        self.note(action, key.account, &key.id, details)
    }

    pub(crate) fn key_refused(
        self,
        account: Option<AccountId>,
        public_part: &str,
        why: &str,
    ) -> AuditNote {
        let details = object([("why", why.into())]);
        self.note(AuditAction::KeyRefused, account, &public_part, details)
    }

    pub(crate) fn endpoint_created(self, endpoint: &Endpoint) -> AuditNote {
        let details = all(ENDPOINT_FIELDS, endpoint);
        self.of_endpoint(AuditAction::EndpointCreated, endpoint, details)
    }

    pub(crate) fn endpoint_changed(self, before: &Endpoint, change: EndpointChange) -> AuditNote {
        let mut after = before.clone();
        change.apply(&mut after, self.at);
        let details = changed(ENDPOINT_FIELDS, before, &after);
        self.of_endpoint(AuditAction::EndpointChanged, before, details)
    }

    pub(crate) fn endpoint_deleted(self, endpoint: &Endpoint) -> AuditNote {
        let details = object([("url", endpoint.url.as_str().into())]);
        self.of_endpoint(AuditAction::EndpointDeleted, endpoint, details)
    }

    pub(crate) fn secret_revealed(self, account: AccountId, subject: &str) -> AuditNote {
        self.note(AuditAction::SecretRevealed, Some(account), &subject, Map::new())
    }

    pub(crate) fn secret_rotated(
        self,
        account: AccountId,
        endpoint: EndpointId,
        overlap: Duration,
    ) -> AuditNote {
        let details = object([("overlap_seconds", overlap.as_secs().into())]);
        self.note(AuditAction::SecretRotated, Some(account), &endpoint, details)
    }

    pub(crate) fn delivery_replayed(self, old: &Delivery, new: DeliveryId) -> AuditNote {
        let details = object([
            ("event", old.event.to_string().into()),
            ("endpoint", old.endpoint.to_string().into()),
            ("new_delivery", new.to_string().into()),
        ]);
        self.note(AuditAction::DeliveryReplayed, Some(old.account), &old.id, details)
    }

    fn of_endpoint(
        self,
        action: AuditAction,
        endpoint: &Endpoint,
        details: Map<String, Value>,
    ) -> AuditNote {
        self.note(action, Some(endpoint.account), &endpoint.id, details)
    }

    fn note(
        self,
        action: AuditAction,
        account: Option<AccountId>,
        subject: &dyn ToString,
        details: Map<String, Value>,
    ) -> AuditNote {
        let details = Value::Object(details).to_string();
        AuditNote {
            at: self.at,
            actor: self.actor,
            action,
            account,
            subject: subject.to_string(),
            details,
        }
    }
}

/// A field that a note may tell of.
struct Field<T> {
    name: &'static str,
    /// What the note says; null for what goes without saying.
    show: fn(&T) -> Value,
    /// Whether it differs, which what is shown need not tell.
    differs: fn(&T, &T) -> bool,
}

const ACCOUNT_FIELDS: &[Field<Account>] = &[
    Field { name: "plan", show: |it| json!(it.plan), differs: |a, b| a.plan != b.plan },
    Field { name: "credits", show: |it| json!(it.credits), differs: |a, b| a.credits != b.credits },
    Field {
        name: "api_access",
        show: |it| it.api_access.into(),
        differs: |a, b| a.api_access != b.api_access,
    },
];

const ENDPOINT_FIELDS: &[Field<Endpoint>] = &[
    Field { name: "url", show: |it| it.url.as_str().into(), differs: |a, b| a.url != b.url },
    Field {
        name: "status",
        show: |it| it.status.name().into(),
        differs: |a, b| a.status.name() != b.status.name(),
    },
    Field {
        name: "disabled_reason",
        show: |it| json!(it.status.disabled_reason().map(DisabledReason::name)),
        differs: |a, b| a.status.disabled_reason() != b.status.disabled_reason(),
    },
    Field {
        name: "events",
        show: |it| show_events(&it.subscription),
        differs: |a, b| a.subscription != b.subscription,
    },
    Field {
        name: "entity_id",
        show: |it| json!(it.entity_id.as_ref().map(EntityId::as_str)),
        differs: |a, b| a.entity_id != b.entity_id,
    },
    Field {
        name: "description_bytes",
        show: |it| json!(it.description.as_ref().map(String::len)),
        differs: |a, b| a.description != b.description,
    },
    Field {
        name: "header_names",
        show: |it| it.headers.iter().map(|(name, _)| name).collect(),
        differs: |a, b| a.headers != b.headers,
    },
    Field {
        name: "max_in_flight",
        show: |it| json!(it.max_in_flight.map(MaxInFlight::get)),
        differs: |a, b| a.max_in_flight != b.max_in_flight,
    },
    Field {
        name: "retry_schedule",
        show: |it| {
            let seconds = |waits: &[Duration]| waits.iter().map(Duration::as_secs).collect();
            it.retry_schedule.as_ref().map_or(Value::Null, |schedule| seconds(schedule.waits()))
        },
        differs: |a, b| a.retry_schedule != b.retry_schedule,
    },
];

fn show_events(subscription: &Subscription) -> Value {
    let Subscription::Listed(types) = subscription else { return "all".into() };
    let mut shown: Vec<Value> =
        types.iter().take(EVENTS_SHOWN_MAX).map(|pattern| pattern.to_string().into()).collect();
    if types.len() > EVENTS_SHOWN_MAX {
        shown.push(format!("… and {} more", types.len() - EVENTS_SHOWN_MAX).into());
    }
    shown.into()
}

/// Every field that says something.
fn all<T>(fields: &[Field<T>], of: &T) -> Map<String, Value> {
    let shown = fields.iter().map(|field| (field.name.to_owned(), (field.show)(of)));
    shown.filter(|(_, value)| !value.is_null()).collect()
}

/// Every field that differs, before and after.
fn changed<T>(fields: &[Field<T>], before: &T, after: &T) -> Map<String, Value> {
    let differing = fields.iter().filter(|field| (field.differs)(before, after));
    differing
        .map(|field| {
            let both = json!({"before": (field.show)(before), "after": (field.show)(after)});
            (field.name.to_owned(), both)
        })
        .collect()
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use domain::contract::Contract;
    use domain::custom_headers::CustomHeaders;
    use domain::endpoint::{EndpointStatus, RetrySchedule};
    use domain::event::EventType;
    use domain::id::KeyId;
    use domain::target_url::TargetUrl;
    use domain::testing::{TEST_START, an_account, an_endpoint};

    use super::*;

    fn deed() -> Deed {
        Deed { at: TEST_START, actor: Actor::Key(KeyId::from_u128(9)) }
    }

    fn an_owner() -> Account {
        an_account(Contract::Standard, 1)
    }

    fn a_key() -> KeyRecord {
        KeyRecord {
            id: KeyId::from_u128(3),
            account: Some(an_owner().id),
            public_part: "0123456789abcdef".to_owned(),
            hash: [1; 32],
            created_at: TEST_START,
            last_used_at: None,
        }
    }

    fn headers(value: &str) -> CustomHeaders {
        CustomHeaders::new(vec![("x-tenant".to_owned(), value.to_owned())]).unwrap()
    }

    fn listed(count: usize) -> Subscription {
        Subscription::listed((0..count).map(|n| EventType::parse(&format!("a.{n}")).unwrap()))
    }

    #[test]
    fn a_note_says_who_did_what_to_what_and_when() {
        let account = an_owner();
        let endpoint = an_endpoint(&account, 1);
        let key = a_key();
        let check = |note: AuditNote, action, subject: &dyn ToString, details: &str| {
            assert_eq!(note.at, TEST_START);
            assert_eq!(note.actor, deed().actor);
            assert_eq!(note.account, Some(account.id));
            assert_eq!(note.action, action);
            assert_eq!(note.subject, subject.to_string());
            assert_eq!(note.details, details);
        };
        check(
            deed().account_created(&account, &key),
            AuditAction::AccountCreated,
            &account.id,
            r#"{"api_access":true,"contract":"standard","key":"key_00000000000000000000000000000003","key_public_part":"0123456789abcdef"}"#,
        );
        let deleted = deed().account_deleted(&account);
        check(deleted, AuditAction::AccountDeleted, &account.id, r#"{"contract":"standard"}"#);
        let public_part = r#"{"public_part":"0123456789abcdef"}"#;
        check(deed().key_created(&key), AuditAction::KeyCreated, &key.id, public_part);
        check(deed().key_revoked(&key), AuditAction::KeyRevoked, &key.id, public_part);
        check(
            deed().key_refused(Some(account.id), "0123456789abcdef", "wrong secret"),
            AuditAction::KeyRefused,
            &"0123456789abcdef",
            r#"{"why":"wrong secret"}"#,
        );
        check(
            deed().endpoint_created(&endpoint),
            AuditAction::EndpointCreated,
            &endpoint.id,
            r#"{"events":"all","header_names":[],"status":"enabled","url":"https://hooks.customer.com/1"}"#,
        );
        check(
            deed().endpoint_deleted(&endpoint),
            AuditAction::EndpointDeleted,
            &endpoint.id,
            r#"{"url":"https://hooks.customer.com/1"}"#,
        );
        check(
            deed().secret_revealed(account.id, "wh_1"),
            AuditAction::SecretRevealed,
            &"wh_1",
            "{}",
        );
        check(
            deed().secret_rotated(account.id, endpoint.id, Duration::from_mins(1)),
            AuditAction::SecretRotated,
            &endpoint.id,
            r#"{"overlap_seconds":60}"#,
        );
    }

    #[test]
    fn a_change_says_what_was_before_and_nothing_of_what_stayed() {
        let before = an_endpoint(&an_owner(), 1);
        let check = |change: EndpointChange, expected: &str| {
            assert_eq!(deed().endpoint_changed(&before, change).details, expected);
        };
        let none = EndpointChange::default;
        check(none(), "{}");
        check(EndpointChange { url: Some(before.url.clone()), ..none() }, "{}");
        let url = TargetUrl::from_stored("https://hooks.customer.com/2").unwrap();
        check(
            EndpointChange { url: Some(url), ..none() },
            r#"{"url":{"after":"https://hooks.customer.com/2","before":"https://hooks.customer.com/1"}}"#,
        );
        let gone = EndpointStatus::Disabled(DisabledReason::Gone);
        check(
            EndpointChange { status: Some(gone), ..none() },
            r#"{"disabled_reason":{"after":"gone","before":null},"status":{"after":"disabled","before":"enabled"}}"#,
        );
        check(
            EndpointChange { subscription: Some(listed(2)), ..none() },
            r#"{"events":{"after":["a.0","a.1"],"before":"all"}}"#,
        );
        let entity = EntityId::parse("robot").unwrap();
        check(
            EndpointChange { entity_id: Some(Some(entity)), ..none() },
            r#"{"entity_id":{"after":"robot","before":null}}"#,
        );
        check(
            EndpointChange { description: Some(Some("private".to_owned())), ..none() },
            r#"{"description_bytes":{"after":7,"before":null}}"#,
        );
        check(
            EndpointChange { headers: Some(headers("token")), ..none() },
            r#"{"header_names":{"after":["x-tenant"],"before":[]}}"#,
        );
        check(
            EndpointChange { max_in_flight: Some(Some(MaxInFlight::new(2).unwrap())), ..none() },
            r#"{"max_in_flight":{"after":2,"before":null}}"#,
        );
        let schedule = RetrySchedule::new(vec![Duration::ZERO, Duration::from_secs(5)]).unwrap();
        check(
            EndpointChange { retry_schedule: Some(Some(schedule)), ..none() },
            r#"{"retry_schedule":{"after":[0,5],"before":null}}"#,
        );
    }

    #[test]
    fn a_change_of_an_account_says_what_was_before() {
        let change = AccountChange { credits: Some(Some(5)), ..AccountChange::default() };
        let note = deed().account_changed(&an_owner(), change);
        assert_eq!(note.details, r#"{"credits":{"after":5,"before":null}}"#);
    }

    #[test]
    fn a_header_whose_value_changes_shows_as_changed_without_its_value() {
        let mut before = an_endpoint(&an_owner(), 1);
        before.headers = headers("old-token");
        let change =
            EndpointChange { headers: Some(headers("new-token")), ..EndpointChange::default() };
        assert_eq!(
            deed().endpoint_changed(&before, change).details,
            r#"{"header_names":{"after":["x-tenant"],"before":["x-tenant"]}}"#
        );
    }

    #[test]
    fn a_long_list_of_events_is_cut() {
        let shown = show_events(&listed(60));
        let shown = shown.as_array().unwrap();
        assert_eq!(shown.len(), 51);
        assert_eq!(shown[50], "… and 10 more");
        assert_eq!(show_events(&listed(50)).as_array().unwrap().len(), 50);
    }
}
