//! The audit log: who changed, revealed or tried what, in a chain that shows gaps.
//!
//! Promise: an entry's hash covers everything it says and the hash of the entry before it, so an
//! entry that was altered, removed or put in between is found by whoever walks the chain. No entry
//! holds a key, a secret or a payload. Neighbours: `engine` says what happened, a store writes it
//! down in the same step as the change itself and links it.

use sha2::{Digest, Sha256};

use crate::id::{AccountId, KeyId};
use crate::time::Timestamp;

/// The hash that the first entry links to.
pub const CHAIN_START: [u8; 32] = [0; 32];

/// What to write down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditNote {
    /// When it happened.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// What was done.
    pub action: AuditAction,
    /// The account it is about, which may read the entry; `None` for the operator's own affairs.
    pub account: Option<AccountId>,
    /// What it was done to, usually an id.
    pub subject: String,
    /// A JSON object of what is worth knowing about it; never a key, secret or payload.
    pub details: String,
}

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Whoever holds the operator key of the configuration.
    Operator,
    /// Whoever holds this key, of the operator or of an account.
    Key(KeyId),
    /// Postrider by itself.
    System,
    /// Somebody without a good key.
    Stranger,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditAction {
    /// The process began, with these rules of what may be called.
    ServiceStarted,
    /// An account was created with its first key.
    AccountCreated,
    /// An account's plan, credits or access changed.
    AccountChanged,
    /// An account was deleted with all it owned.
    AccountDeleted,
    /// A key was issued.
    KeyCreated,
    /// A key was revoked.
    KeyRevoked,
    /// A key was refused: revoked, made up, or of an account without access.
    KeyRefused,
    /// An endpoint was created.
    EndpointCreated,
    /// An endpoint was changed.
    EndpointChanged,
    /// An endpoint was deleted.
    EndpointDeleted,
    /// Signing secrets were shown.
    SecretRevealed,
    /// An endpoint got a new signing secret.
    SecretRotated,
    /// A delivery was made again.
    DeliveryReplayed,
    /// Secrets were sealed again under another key of the ring.
    SealingKeyActivated,
    /// Postrider disabled an endpoint by itself.
    EndpointDisabled,
    /// Nothing succeeded at an endpoint for a day, or for three.
    EndpointWarned,
    /// Deliveries to an endpoint were given up; once an hour at most.
    EndpointExhausting,
    /// A delivery was cancelled by request.
    DeliveryCancelled,
    /// What was pending of an event was cancelled by request.
    EventCancelled,
    /// An event's payload was erased.
    EventErased,
    /// A replay of many events began.
    ReplayStarted,
    /// A replay was cancelled.
    ReplayCancelled,
    /// A replay came to its end.
    ReplayEnded,
    /// An event type was registered or changed.
    EventTypeChanged,
    /// An event type was taken out of the catalogue.
    EventTypeDeleted,
}

impl AuditAction {
    /// Every action.
    pub const ALL: [Self; 25] = [
        Self::ServiceStarted,
        Self::AccountCreated,
        Self::AccountChanged,
        Self::AccountDeleted,
        Self::KeyCreated,
        Self::KeyRevoked,
        Self::KeyRefused,
        Self::EndpointCreated,
        Self::EndpointChanged,
        Self::EndpointDeleted,
        Self::SecretRevealed,
        Self::SecretRotated,
        Self::DeliveryReplayed,
        Self::SealingKeyActivated,
        Self::EndpointDisabled,
        Self::EndpointWarned,
        Self::EndpointExhausting,
        Self::DeliveryCancelled,
        Self::EventCancelled,
        Self::EventErased,
        Self::ReplayStarted,
        Self::ReplayCancelled,
        Self::ReplayEnded,
        Self::EventTypeChanged,
        Self::EventTypeDeleted,
    ];

    /// The words used in JSON and storage.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServiceStarted => "service.started",
            Self::AccountCreated => "account.created",
            Self::AccountChanged => "account.changed",
            Self::AccountDeleted => "account.deleted",
            Self::KeyCreated => "key.created",
            Self::KeyRevoked => "key.revoked",
            Self::KeyRefused => "key.refused",
            Self::EndpointCreated => "endpoint.created",
            Self::EndpointChanged => "endpoint.changed",
            Self::EndpointDeleted => "endpoint.deleted",
            Self::SecretRevealed => "secret.revealed",
            Self::SecretRotated => "secret.rotated",
            Self::DeliveryReplayed => "delivery.replayed",
            Self::SealingKeyActivated => "sealing_key.activated",
            Self::EndpointDisabled => "endpoint.disabled",
            Self::EndpointWarned => "endpoint.warned",
            Self::EndpointExhausting => "endpoint.exhausting",
            Self::DeliveryCancelled => "delivery.cancelled",
            Self::EventCancelled => "event.cancelled",
            Self::EventErased => "event.erased",
            Self::ReplayStarted => "replay.started",
            Self::ReplayCancelled => "replay.cancelled",
            Self::ReplayEnded => "replay.ended",
            Self::EventTypeChanged => "event_type.changed",
            Self::EventTypeDeleted => "event_type.deleted",
        }
    }

    /// The action of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

impl Actor {
    /// The text used in JSON, storage and the chain: `operator`, `system`, `stranger`, or a key's id.
    pub fn name(self) -> String {
        match self {
            Self::Operator => "operator".to_owned(),
            Self::Key(key) => key.to_string(),
            Self::System => "system".to_owned(),
            Self::Stranger => "stranger".to_owned(),
        }
    }

    /// The actor of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "operator" => Some(Self::Operator),
            "system" => Some(Self::System),
            "stranger" => Some(Self::Stranger),
            key => KeyId::parse(key).ok().map(Self::Key),
        }
    }
}

/// A note with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number: 1, 2, 3, … without a gap.
    pub number: u64,
    /// What happened.
    pub note: AuditNote,
    /// [`link`] of the entry before it and of itself.
    pub hash: [u8; 32],
}

/// The hash of an entry: SHA-256 over the hash before it and every field, each preceded by its
/// length in 8 bytes, most significant first, as the text that the API shows.
///
/// Fields in order: number, instant (milliseconds since the Unix epoch), actor, action, account
/// (empty if none), subject, details.
pub fn link(previous: &[u8; 32], number: u64, note: &AuditNote) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    let account = note.account.map(|account| account.to_string()).unwrap_or_default();
    for field in [
        number.to_string().as_str(),
        note.at.as_millis().to_string().as_str(),
        note.actor.name().as_str(),
        note.action.name(),
        account.as_str(),
        note.subject.as_str(),
        note.details.as_str(),
    ] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field.as_bytes());
    }
    hash.finalize().into()
}

/// Follows the chain through `entries`, the first of which comes right after number `after` with
/// hash `previous`. Answers the first number where it breaks, if it does: an entry is missing
/// there, or says what it did not say when it was written.
pub fn first_break(after: u64, previous: [u8; 32], entries: &[AuditEntry]) -> Option<u64> {
    let mut last = (after, previous);
    for entry in entries {
        let expected = last.0 + 1;
        if entry.number != expected || entry.hash != link(&last.1, expected, &entry.note) {
            return Some(expected);
        }
        last = (entry.number, entry.hash);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: u64) -> Vec<AuditEntry> {
        let mut entries: Vec<AuditEntry> = Vec::new();
        for number in 1..=length {
            let note = AuditNote {
                at: Timestamp::from_seconds(number as i64),
                actor: Actor::Key(KeyId::from_u128(7)),
                action: AuditAction::EndpointChanged,
                account: Some(AccountId::from_u128(1)),
                subject: format!("wh_{number}"),
                details: "{}".to_owned(),
            };
            let previous = entries.last().map_or(CHAIN_START, |entry| entry.hash);
            entries.push(AuditEntry { number, hash: link(&previous, number, &note), note });
        }
        entries
    }

    #[test]
    fn an_entry_altered_removed_or_put_in_breaks_the_chain_where_it_is() {
        let whole = chain(5);
        assert_eq!(first_break(0, CHAIN_START, &whole), None);
        assert_eq!(first_break(2, whole[1].hash, &whole[2..]), None);

        let alterations: [fn(&mut AuditNote); 6] = [
            |note| note.at = Timestamp::from_seconds(99),
            |note| note.actor = Actor::System,
            |note| note.action = AuditAction::KeyRevoked,
            |note| note.account = None,
            |note| note.subject.push('x'),
            |note| note.details = r#"{"a":1}"#.to_owned(),
        ];
        for alter in alterations {
            let mut altered = whole.clone();
            alter(&mut altered[2].note);
            assert_eq!(first_break(0, CHAIN_START, &altered), Some(3));
        }
        for at in 0..4 {
            let mut shortened = whole.clone();
            shortened.remove(at);
            assert_eq!(first_break(0, CHAIN_START, &shortened), Some(at as u64 + 1));
            let mut doubled = whole.clone();
            doubled.insert(at, whole[at].clone());
            assert_eq!(first_break(0, CHAIN_START, &doubled), Some(at as u64 + 2));
        }
    }

    #[test]
    fn the_border_between_two_fields_counts() {
        let note = |subject: &str, details: &str| AuditNote {
            subject: subject.to_owned(),
            details: details.to_owned(),
            ..chain(1)[0].note.clone()
        };
        assert_ne!(
            link(&CHAIN_START, 1, &note("ab", "c")),
            link(&CHAIN_START, 1, &note("a", "bc"))
        );
    }

    #[test]
    fn every_name_reads_back() {
        for action in AuditAction::ALL {
            assert_eq!(AuditAction::from_name(action.name()), Some(action));
        }
        for actor in
            [Actor::Operator, Actor::System, Actor::Stranger, Actor::Key(KeyId::from_u128(9))]
        {
            assert_eq!(Actor::from_name(&actor.name()), Some(actor));
        }
    }
}
