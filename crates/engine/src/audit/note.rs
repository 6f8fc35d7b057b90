//! What the audit log says of each deed.
//!
//! Promise: whoever reads a note knows what was done to what, and what it was before; nobody learns
//! a key, a secret, or the value of a header from it. Pure: everything is given.

use std::time::Duration;

use domain::account::{Account, AccountChange};
use domain::audit::{Actor, AuditAction, AuditNote};
use domain::catalogue::RegisteredType;
use domain::delivery::{Delivery, EndReason};
use domain::endpoint::{DisabledReason, Endpoint, EndpointChange};
use domain::event::Event;
use domain::health::{Streak, WARNED_AFTER};
use domain::id::{AccountId, DeliveryId, EndpointId};
use domain::replay::{Replay, ReplaySelection};
use domain::sealing::SealingKeyId;
use domain::target_url::UrlPolicy;
use domain::time::Timestamp;
use serde_json::{Map, Value, json};
use store::catalogue::KeyRecord;
use store::queue::Claimed;

use super::fields::{ACCOUNT_FIELDS, ENDPOINT_FIELDS, EVENT_TYPE_FIELDS, all, changed};

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

    pub(crate) fn operations_account_created(self, account: &Account) -> AuditNote {
        let details = object([
            ("contract", account.contract.name().into()),
            ("username", account.username.as_str().into()),
        ]);
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

    pub(crate) fn endpoint_disabled(
        self,
        endpoint: &Endpoint,
        reason: DisabledReason,
        streak: Option<&Streak>,
    ) -> AuditNote {
        let mut details = failing(endpoint, streak);
        details.insert("reason".to_owned(), reason.name().into());
        self.of_endpoint(AuditAction::EndpointDisabled, endpoint, details)
    }

    /// The owner of the endpoint is warned, as often as the streak says then.
    pub(crate) fn endpoint_warned(self, endpoint: &Endpoint, streak: &Streak) -> AuditNote {
        let after = usize::from(streak.warnings).checked_sub(1);
        let after = after.and_then(|warning| WARNED_AFTER.get(warning));
        let earliest = streak.disabled_at_earliest().to_rfc3339_millis();
        let mut details = failing(endpoint, Some(streak));
        details.insert("hours".to_owned(), json!(after.map(|after| after.as_secs() / 3600)));
        details.insert("disabled_at_earliest".to_owned(), earliest.into());
        self.of_endpoint(AuditAction::EndpointWarned, endpoint, details)
    }

    pub(crate) fn endpoint_exhausting(
        self,
        endpoint: &Endpoint,
        claimed: &Claimed,
        reason: EndReason,
        streak: Option<&Streak>,
    ) -> AuditNote {
        let mut details = failing(endpoint, streak);
        details.insert("reason".to_owned(), reason.name().into());
        details.insert("event".to_owned(), claimed.payload.event.to_string().into());
        details.insert("delivery".to_owned(), claimed.lease.delivery.to_string().into());
        self.of_endpoint(AuditAction::EndpointExhausting, endpoint, details)
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

    pub(crate) fn delivery_cancelled(self, delivery: &Delivery) -> AuditNote {
        let details = object([
            ("event", delivery.event.to_string().into()),
            ("endpoint", delivery.endpoint.to_string().into()),
        ]);
        let account = Some(delivery.account);
        self.note(AuditAction::DeliveryCancelled, account, &delivery.id, details)
    }

    pub(crate) fn event_cancelled(self, event: &Event) -> AuditNote {
        self.of_event(AuditAction::EventCancelled, event)
    }

    pub(crate) fn event_erased(self, event: &Event) -> AuditNote {
        self.of_event(AuditAction::EventErased, event)
    }

    fn of_event(self, action: AuditAction, event: &Event) -> AuditNote {
        let details = object([("type", event.event_type.as_str().into())]);
        self.note(action, Some(event.account), &event.id, details)
    }

    pub(crate) fn replay_started(self, replay: &Replay) -> AuditNote {
        let ReplaySelection { fate, since, until } = replay.selection;
        let details = object([
            ("endpoint", replay.endpoint.to_string().into()),
            ("state", fate.name().into()),
            ("since", since.to_rfc3339_millis().into()),
            ("until", until.to_rfc3339_millis().into()),
            ("per_second", replay.per_second.into()),
        ]);
        self.note(AuditAction::ReplayStarted, Some(replay.account), &replay.id, details)
    }

    pub(crate) fn replay_cancelled(self, replay: &Replay) -> AuditNote {
        let details = object([("endpoint", replay.endpoint.to_string().into())]);
        self.note(AuditAction::ReplayCancelled, Some(replay.account), &replay.id, details)
    }

    /// An event type was registered, or what was registered of it is replaced.
    pub(crate) fn event_type_changed(
        self,
        before: Option<&RegisteredType>,
        after: &RegisteredType,
    ) -> AuditNote {
        let mut details = before.map_or_else(
            || all(EVENT_TYPE_FIELDS, after),
            |before| changed(EVENT_TYPE_FIELDS, before, after),
        );
        details.insert("contract".to_owned(), after.contract.name().into());
        self.note(AuditAction::EventTypeChanged, None, &after.name, details)
    }

    pub(crate) fn event_type_deleted(self, registered: &RegisteredType) -> AuditNote {
        let details = object([("contract", registered.contract.name().into())]);
        self.note(AuditAction::EventTypeDeleted, None, &registered.name, details)
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

/// Where an endpoint is, and since when nothing succeeds at it, if that is so.
fn failing(endpoint: &Endpoint, streak: Option<&Streak>) -> Map<String, Value> {
    object([
        ("url", endpoint.url.as_str().into()),
        ("since", json!(streak.map(|streak| streak.since.to_rfc3339_millis()))),
        ("failures", json!(streak.map(|streak| streak.failures))),
    ])
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use domain::contract::Contract;
    use domain::credentials::{ClientCredentials, ClientIdentity, TokenRequest};
    use domain::custom_headers::CustomHeaders;
    use domain::endpoint::{
        AttemptTimeout, EndpointStatus, MaxInFlight, Metadata, RatePerSecond, RetrySchedule,
    };
    use domain::event::{EntityId, EventType};
    use domain::filter::FilterText;
    use domain::id::{KeyId, ReplayId};
    use domain::ordering::DeliveryOrder;
    use domain::replay::{ReplayFate, ReplayState};
    use domain::subscription::Subscription;
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
    fn a_note_about_a_replay_says_which_events_and_how_far_it_got() {
        let endpoint = an_endpoint(&an_owner(), 1);
        let selection = ReplaySelection {
            fate: ReplayFate::Missing,
            since: Timestamp::from_seconds(0),
            until: Timestamp::from_seconds(60),
        };
        let id = ReplayId::from_u128(4);
        let mut replay = Replay::begin(
            id,
            endpoint.account,
            endpoint.id,
            selection,
            Timestamp::from_seconds(60),
        );
        let check = |note: AuditNote, action, details: &str| {
            assert_eq!((note.action, note.account), (action, Some(endpoint.account)));
            assert_eq!(note.subject, id.to_string());
            assert_eq!(note.details, details.replace("<endpoint>", &endpoint.id.to_string()));
        };
        check(
            deed().replay_started(&replay),
            AuditAction::ReplayStarted,
            concat!(
                r#"{"endpoint":"<endpoint>","per_second":10,"since":"1970-01-01T00:00:00.000Z","#,
                r#""state":"missing","until":"1970-01-01T00:01:00.000Z"}"#,
            ),
        );
        let cancelled = deed().replay_cancelled(&replay);
        check(cancelled, AuditAction::ReplayCancelled, r#"{"endpoint":"<endpoint>"}"#);
        (replay.looked_at, replay.created, replay.state) = (7, 3, ReplayState::Done);
        check(
            replay.ended_note(replay.created_at),
            AuditAction::ReplayEnded,
            r#"{"created":3,"endpoint":"<endpoint>","looked_at":7,"state":"done"}"#,
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
        let filter = FilterText::from_stored("data.a > 1");
        check(
            EndpointChange { filter: Some(Some(filter)), ..none() },
            r#"{"filter":{"after":"data.a > 1","before":null}}"#,
        );
        check(
            EndpointChange { order: Some(DeliveryOrder::FifoByKey), ..none() },
            r#"{"ordering":{"after":"fifo_by_key","before":null}}"#,
        );
        check(
            EndpointChange { rate: Some(RatePerSecond::new(7).ok()), ..none() },
            r#"{"rate_limit":{"after":7,"before":null}}"#,
        );
        check(
            EndpointChange { timeout: Some(AttemptTimeout::from_seconds(30).ok()), ..none() },
            r#"{"timeout_seconds":{"after":30,"before":null}}"#,
        );
        let metadata = [("team".to_owned(), "private".to_owned())];
        check(
            EndpointChange { metadata: Metadata::new(metadata.into()).ok(), ..none() },
            r#"{"metadata_names":{"after":["team"],"before":null}}"#,
        );
    }

    #[test]
    fn credentials_are_noted_by_what_everybody_may_know_of_them() {
        let before = an_endpoint(&an_owner(), 1);
        let certificate = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        let credentials = |client_secret: &str| {
            ClientCredentials::new(TokenRequest {
                token_url: TargetUrl::from_stored("https://auth.customer.com/token").unwrap(),
                client_id: "shop".to_owned(),
                client_secret: client_secret.to_owned(),
                scope: None,
                audience: None,
            })
        };
        let change = EndpointChange {
            client_identity: Some(Some(ClientIdentity::new(certificate, "private"))),
            client_credentials: Some(Some(credentials("private"))),
            ..EndpointChange::default()
        };
        assert_eq!(
            deed().endpoint_changed(&before, change.clone()).details,
            concat!(
                r#"{"client_certificate_sha256":{"after":"#,
                r#""2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824","#,
                r#""before":null},"oauth2":{"after":{"client_id":"shop","#,
                r#""token_url":"https://auth.customer.com/token"},"before":null}}"#,
            )
        );
        let mut after = before;
        change.apply(&mut after, TEST_START);
        let change = EndpointChange {
            client_credentials: Some(Some(credentials("another"))),
            ..EndpointChange::default()
        };
        let details = deed().endpoint_changed(&after, change).details;
        assert!(details.starts_with(r#"{"oauth2":{"after":{"client_id":"shop""#), "{details}");
        assert!(!details.contains("another") && !details.contains("private"), "{details}");
    }

    #[test]
    fn what_becomes_of_a_failing_endpoint_says_since_when_and_how_often() {
        let endpoint = an_endpoint(&an_owner(), 1);
        let streak = Streak { since: TEST_START, last_at: TEST_START, failures: 7, warnings: 2 };
        let since = TEST_START.to_rfc3339_millis();
        let failing = format!(
            r#""failures":7,"reason":"failing","since":"{since}","url":"{}""#,
            endpoint.url.as_str()
        );
        let disabled = deed().endpoint_disabled(&endpoint, DisabledReason::Failing, Some(&streak));
        assert_eq!(disabled.details, format!("{{{failing}}}"));
        let gone = deed().endpoint_disabled(&endpoint, DisabledReason::Gone, None);
        assert_eq!(
            gone.details,
            r#"{"failures":null,"reason":"gone","since":null,"url":"https://hooks.customer.com/1"}"#
        );
        for (warnings, hours) in [(1, 24), (2, 72)] {
            let warned = deed().endpoint_warned(&endpoint, &Streak { warnings, ..streak });
            let details: Value = serde_json::from_str(&warned.details).unwrap();
            assert_eq!(details["hours"], hours);
            let earliest = TEST_START.plus(Duration::from_hours(120)).to_rfc3339_millis();
            assert_eq!(details["disabled_at_earliest"], earliest);
            assert_eq!(details["failures"], 7);
        }
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
}
