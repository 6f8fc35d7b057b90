//! Rows to domain types and back.
//!
//! Promise: a row that says something we never write becomes [`Failure::Unreadable`], naming
//! table, column and row; never a panic, never a guess. So does a sealed text that does not open.

use std::fmt::Write as _;
use std::time::Duration;

use domain::account::{Account, Username};
use domain::contract::Contract;
use domain::custom_headers::CustomHeaders;
use domain::endpoint::{
    AttemptTimeout, DisabledReason, Endpoint, EndpointStatus, MaxInFlight, PreviousSecret,
    RatePerSecond, RetrySchedule,
};
use domain::event::EntityId;
use domain::filter::FilterText;
use domain::id::{AccountId, EndpointId, KeyId};
use domain::matching::NoDelivery;
use domain::ordering::DeliveryOrder;
use domain::sealing::Binding;
use domain::secret::SigningSecret;
use domain::subscription::{EventPattern, Subscription};
use domain::target_url::TargetUrl;
use domain::time::Timestamp;
use rusqlite::Row;
use rusqlite::types::{FromSql, ValueRef};
use sha2::{Digest as _, Sha256};
use store::catalogue::KeyRecord;
use store::vault::Vault;

use crate::failure::{Failure, Result};
use crate::sealed_texts::{parse_credentials, parse_identity, parse_metadata};

/// A row of a table, read by the names of its columns.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'r, 's> {
    table: &'static str,
    row: &'r Row<'s>,
    /// The column that says which row it is; `None` for the first.
    key: Option<&'static str>,
}

impl<'r, 's> Fields<'r, 's> {
    pub(crate) fn new(table: &'static str, row: &'r Row<'s>) -> Self {
        Self { table, row, key: None }
    }

    /// The part of a joined row that is of another table than its first column.
    pub(crate) fn joined(table: &'static str, row: &'r Row<'s>, key: &'static str) -> Self {
        Self { table, row, key: Some(key) }
    }

    /// The column's value.
    pub(crate) fn get<T: FromSql>(&self, column: &'static str) -> Result<T> {
        self.row.get(column).map_err(|_| self.unreadable(column))
    }

    /// What `read` makes of the column's text.
    pub(crate) fn parse<T>(
        &self,
        column: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T> {
        let value = self.row.get_ref(column).ok();
        let text = value.and_then(|value| value.as_str().ok());
        text.and_then(read).ok_or_else(|| self.unreadable(column))
    }

    /// What `read` makes of the column's text, unless it is NULL.
    pub(crate) fn parse_if_any<T>(
        &self,
        column: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.row.get_ref(column) {
            Ok(ValueRef::Null) => Ok(None),
            _ => self.parse(column, read).map(Some),
        }
    }

    /// What `read` makes of the column's bytes.
    pub(crate) fn decode<T>(
        &self,
        column: &'static str,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T> {
        let value = self.row.get_ref(column).ok();
        let bytes = value.and_then(|value| value.as_blob().ok());
        bytes.and_then(read).ok_or_else(|| self.unreadable(column))
    }

    /// What `read` makes of the column's bytes, unless it is NULL.
    pub(crate) fn decode_if_any<T>(
        &self,
        column: &'static str,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.row.get_ref(column) {
            Ok(ValueRef::Null) => Ok(None),
            _ => self.decode(column, read).map(Some),
        }
    }

    /// What `read` makes of the column's number, unless it is NULL.
    pub(crate) fn number_if_any<T>(
        &self,
        column: &'static str,
        read: impl FnOnce(u64) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(number) = self.get::<Option<i64>>(column)? else { return Ok(None) };
        let number = u64::try_from(number).ok().and_then(read);
        number.map(Some).ok_or_else(|| self.unreadable(column))
    }

    /// A count that is never below zero.
    pub(crate) fn count(&self, column: &'static str) -> Result<u64> {
        u64::try_from(self.get::<i64>(column)?).map_err(|_| self.unreadable(column))
    }

    /// The id in the column.
    pub(crate) fn id<T>(&self, column: &'static str, of: impl FnOnce([u8; 16]) -> T) -> Result<T> {
        self.get(column).map(of)
    }

    pub(crate) fn instant(&self, column: &'static str) -> Result<Timestamp> {
        self.get(column).map(Timestamp::from_millis)
    }

    pub(crate) fn instant_if_any(&self, column: &'static str) -> Result<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_millis))
    }

    pub(crate) fn duration(&self, column: &'static str) -> Result<Duration> {
        let nanoseconds = u64::try_from(self.get::<i64>(column)?);
        nanoseconds.map(Duration::from_nanos).map_err(|_| self.unreadable(column))
    }

    pub(crate) fn unreadable(&self, column: &'static str) -> Failure {
        Failure::Unreadable { table: self.table, column, row: self.name() }
    }

    fn name(&self) -> String {
        let value = self.key.map_or_else(|| self.row.get_ref(0), |key| self.row.get_ref(key));
        match value {
            Ok(ValueRef::Blob(bytes)) => hex(bytes),
            Ok(ValueRef::Integer(number)) => number.to_string(),
            _ => "?".to_owned(),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// A length of time as it is stored; beyond 292 years it is 292 years.
pub(crate) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Texts without line breaks, one a line.
pub(crate) fn lines<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut joined = String::new();
    for text in texts {
        joined.push_str(text);
        joined.push('\n');
    }
    joined
}

pub(crate) fn account(row: &Row<'_>) -> Result<Account> {
    let fields = Fields::new("accounts", row);
    Ok(Account {
        id: fields.id("id", AccountId::from_bytes)?,
        username: fields.parse("username", |text| Username::parse(text).ok())?,
        contract: fields.parse("contract", Contract::from_name)?,
        plan: fields.get("plan")?,
        credits: fields.get("credits")?,
        api_access: fields.get("api_access")?,
        created_at: fields.instant("created_at")?,
    })
}

pub(crate) fn key(row: &Row<'_>) -> Result<KeyRecord> {
    let fields = Fields::new("keys", row);
    Ok(KeyRecord {
        id: fields.id("id", KeyId::from_bytes)?,
        account: fields.get::<Option<_>>("account")?.map(AccountId::from_bytes),
        public_part: fields.get("public_part")?,
        hash: fields.get("hash")?,
        created_at: fields.instant("created_at")?,
        last_used_at: fields.instant_if_any("last_used_at")?,
    })
}

/// What of an endpoint's row stands in the clear. What is sealed tells by itself when it was altered.
pub(crate) const ENDPOINT_CLEAR: [&str; 18] = [
    "id",
    "account",
    "contract",
    "url",
    "previous_signs_until",
    "disabled_reason",
    "event_types",
    "entity_id",
    "description",
    "max_in_flight",
    "retry_schedule_ms",
    "created_at",
    "updated_at",
    "filter",
    "delivery_order",
    "rate",
    "timeout_s",
    "metadata",
];

/// SHA-256 over [`ENDPOINT_CLEAR`], each with its type and length.
pub(crate) fn endpoint_digest(row: &Row<'_>) -> rusqlite::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    for column in ENDPOINT_CLEAR {
        let number: [u8; 8];
        let (kind, bytes): (u8, &[u8]) = match row.get_ref(column)? {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(value) => {
                number = value.to_be_bytes();
                (1, &number)
            }
            ValueRef::Real(value) => {
                number = value.to_be_bytes();
                (2, &number)
            }
            ValueRef::Text(text) => (3, text),
            ValueRef::Blob(blob) => (4, blob),
        };
        hash.update([kind]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }
    Ok(hash.finalize().into())
}

/// Reads an endpoint; nothing of a row that was altered.
pub(crate) fn endpoint(row: &Row<'_>, vault: &Vault) -> Result<Endpoint> {
    let fields = Fields::new("endpoints", row);
    let id = fields.id("id", EndpointId::from_bytes)?;
    let account = fields.id("account", AccountId::from_bytes)?;
    let opened = |binding: Binding, sealed: &[u8]| {
        String::from_utf8(vault.open_secret(&binding, sealed).ok()?).ok()
    };
    let secret =
        |binding: Binding, sealed: &[u8]| SigningSecret::parse(&opened(binding, sealed)?).ok();
    let previous_secret = fields
        .decode_if_any("previous_secret", |it| secret(Binding::PreviousSecret(account, id), it))?;
    let endpoint = Endpoint {
        id,
        account,
        contract: fields.parse("contract", Contract::from_name)?,
        url: fields.parse("url", |text| TargetUrl::from_stored(text).ok())?,
        secret: fields.decode("secret", |it| secret(Binding::Secret(account, id), it))?,
        previous_secret: match previous_secret {
            Some(secret) => {
                let signs_until = fields.instant("previous_signs_until")?;
                Some(PreviousSecret { secret, signs_until })
            }
            None => None,
        },
        status: match fields.parse_if_any("disabled_reason", DisabledReason::from_name)? {
            Some(reason) => EndpointStatus::Disabled(reason),
            None => EndpointStatus::Enabled,
        },
        subscription: match fields.parse_if_any("event_types", parse_event_types)? {
            Some(types) => Subscription::Listed(types),
            None => Subscription::All,
        },
        entity_id: fields.parse_if_any("entity_id", |text| EntityId::parse(text).ok())?,
        description: fields.get("description")?,
        headers: fields.decode("headers", |sealed| {
            parse_headers(&opened(Binding::Headers(account, id), sealed)?)
        })?,
        max_in_flight: fields
            .number_if_any("max_in_flight", |number| MaxInFlight::new(number).ok())?,
        retry_schedule: fields.parse_if_any("retry_schedule_ms", parse_schedule)?,
        filter: fields.parse_if_any("filter", |text| Some(FilterText::from_stored(text)))?,
        order: fields.parse("delivery_order", DeliveryOrder::from_name)?,
        rate: fields.number_if_any("rate", |number| RatePerSecond::new(number).ok())?,
        timeout: fields
            .number_if_any("timeout_s", |number| AttemptTimeout::from_seconds(number).ok())?,
        metadata: fields.decode_if_any("metadata", parse_metadata)?.unwrap_or_default(),
        client_identity: fields.decode_if_any("client_identity", |sealed| {
            let place = Binding::ClientIdentity(account, id);
            parse_identity(&vault.open_secret(&place, sealed).ok()?)
        })?,
        client_credentials: fields.decode_if_any("client_credentials", |sealed| {
            let place = Binding::ClientCredentials(account, id);
            parse_credentials(&vault.open_secret(&place, sealed).ok()?)
        })?,
        created_at: fields.instant("created_at")?,
        updated_at: fields.instant("updated_at")?,
    };
    // Last, since what cannot be read names its column.
    let digest = endpoint_digest(row)?;
    fields.decode("digest", |kept| (kept == digest).then_some(()))?;
    Ok(endpoint)
}

fn parse_event_types(text: &str) -> Option<Vec<EventPattern>> {
    text.lines().map(|line| EventPattern::parse(line).ok()).collect()
}

pub(crate) fn event_types(subscription: &Subscription) -> Option<String> {
    match subscription {
        Subscription::All => None,
        Subscription::Listed(types) => Some({
            let texts: Vec<String> = types.iter().map(ToString::to_string).collect();
            lines(texts.iter().map(String::as_str))
        }),
    }
}

/// Neither names nor values hold line breaks, and names no colon.
fn parse_headers(text: &str) -> Option<CustomHeaders> {
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_owned(), value.to_owned()))
    };
    CustomHeaders::new(text.lines().map(header).collect::<Option<_>>()?).ok()
}

pub(crate) fn headers(headers: &CustomHeaders) -> String {
    headers.iter().fold(String::new(), |mut text, (name, value)| {
        writeln!(text, "{name}: {value}").expect("writing to a string does not fail");
        text
    })
}

fn parse_schedule(text: &str) -> Option<RetrySchedule> {
    let wait = |line: &str| line.parse().ok().map(Duration::from_millis);
    RetrySchedule::new(text.lines().map(wait).collect::<Option<_>>()?).ok()
}

pub(crate) fn schedule(schedule: &RetrySchedule) -> String {
    schedule.waits().iter().fold(String::new(), |mut text, wait| {
        writeln!(text, "{}", wait.as_millis()).expect("writing to a string does not fail");
        text
    })
}

pub(crate) fn parse_entity_ids(text: &str) -> Option<Vec<EntityId>> {
    text.lines().map(|line| EntityId::parse(line).ok()).collect()
}

/// What was sent and answered, to be sealed as one: the length of the request head in 4 bytes, most
/// significant first, the head, and the excerpt of the answer.
pub(crate) fn exchange(request_head: &str, response_excerpt: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(4 + request_head.len() + response_excerpt.len());
    let head_bytes = u32::try_from(request_head.len()).expect("a head is far below 4 GiB");
    plain.extend_from_slice(&head_bytes.to_be_bytes());
    plain.extend_from_slice(request_head.as_bytes());
    plain.extend_from_slice(response_excerpt);
    plain
}

/// Request head and response excerpt.
pub(crate) fn parse_exchange(plain: &[u8]) -> Option<(String, Vec<u8>)> {
    let (head_bytes, rest) = plain.split_first_chunk::<4>()?;
    let head_bytes = usize::try_from(u32::from_be_bytes(*head_bytes)).ok()?;
    let (head, excerpt) = rest.split_at_checked(head_bytes)?;
    Some((std::str::from_utf8(head).ok()?.to_owned(), excerpt.to_vec()))
}

/// Endpoints without a delivery, 17 bytes each: the id, and a letter for the reason.
pub(crate) fn push_not_made(blob: &mut Vec<u8>, endpoint: EndpointId, reason: NoDelivery) {
    blob.extend_from_slice(&endpoint.to_bytes());
    blob.push(match reason {
        NoDelivery::NotSubscribed => b's',
        NoDelivery::Entity => b'e',
        NoDelivery::Disabled => b'd',
        NoDelivery::Filter => b'f',
        NoDelivery::FilterFailed => b'x',
    });
}

/// The endpoints that wanted the event and got no delivery when it was accepted: a replay of what
/// is missing makes up for it.
pub(crate) fn missed_by(
    not_made: &[(EndpointId, NoDelivery)],
) -> impl Iterator<Item = EndpointId> + '_ {
    let wanted = |reason| matches!(reason, NoDelivery::Disabled | NoDelivery::FilterFailed);
    not_made.iter().filter(move |(_, reason)| wanted(*reason)).map(|(id, _)| *id)
}

pub(crate) fn parse_not_made(blob: &[u8]) -> Option<Vec<(EndpointId, NoDelivery)>> {
    let (entries, rest) = blob.as_chunks::<17>();
    let entry = |entry: &[u8; 17]| {
        let (id, letter) = entry.split_first_chunk::<16>()?;
        let reason = match letter {
            b"s" => NoDelivery::NotSubscribed,
            b"e" => NoDelivery::Entity,
            b"d" => NoDelivery::Disabled,
            b"f" => NoDelivery::Filter,
            b"x" => NoDelivery::FilterFailed,
            _ => return None,
        };
        Some((EndpointId::from_bytes(*id), reason))
    };
    if rest.is_empty() { entries.iter().map(entry).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_back_as_they_were_written() {
        let given = vec![("X-Empty".to_owned(), String::new()), ("X-A".to_owned(), "b: c".into())];
        let custom = CustomHeaders::new(given).unwrap();
        assert_eq!(parse_headers(&headers(&custom)), Some(custom));
        assert_eq!(parse_headers(""), Some(CustomHeaders::default()));

        let waits = RetrySchedule::default();
        assert_eq!(parse_schedule(&schedule(&waits)), Some(waits));

        let none = Subscription::Listed(Vec::new());
        assert_eq!(parse_event_types(&event_types(&none).unwrap()), Some(Vec::new()));

        let entries = [NoDelivery::NotSubscribed, NoDelivery::Entity, NoDelivery::Disabled]
            .map(|reason| (EndpointId::from_u128(reason as u128 + 7), reason));
        let mut blob = Vec::new();
        for (endpoint, reason) in entries {
            push_not_made(&mut blob, endpoint, reason);
        }
        assert_eq!(parse_not_made(&blob), Some(entries.to_vec()));
        assert_eq!(parse_not_made(&blob[1..]), None);

        let plain = exchange("POST / HTTP/1.1\n", b"\xff\0ok");
        let read = ("POST / HTTP/1.1\n".to_owned(), b"\xff\0ok".to_vec());
        assert_eq!(parse_exchange(&plain), Some(read));
        assert_eq!(parse_exchange(&exchange("", b"")), Some((String::new(), Vec::new())));
        assert_eq!(parse_exchange(&plain[..10]), None);
        assert_eq!(parse_exchange(&plain[..3]), None);
    }

    #[test]
    fn entity_ids_may_hold_anything_but_control_characters() {
        let ids = ["a b", "\u{2028}", "ü", " ", "\u{85}x"].map(EntityId::parse);
        let ids: Vec<_> = ids.into_iter().filter_map(std::result::Result::ok).collect();
        let text = lines(ids.iter().map(EntityId::as_str));
        assert_eq!(parse_entity_ids(&text), Some(ids));
    }
}
