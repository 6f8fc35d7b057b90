//! Which event types an endpoint wants: by name, by the beginning of the name, or all.

use std::fmt;

use thiserror::Error;

use crate::event::{EventType, EventTypeError};

/// Which event types an endpoint wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Every one.
    All,
    /// Those that one of these names; duplicates folded, first occurrence kept.
    Listed(Vec<EventPattern>),
}

impl Subscription {
    /// A subscription to these, duplicates folded, first occurrence kept.
    pub fn listed(patterns: impl IntoIterator<Item = impl Into<EventPattern>>) -> Self {
        let mut kept: Vec<EventPattern> = Vec::new();
        for pattern in patterns {
            let pattern = pattern.into();
            if !kept.contains(&pattern) {
                kept.push(pattern);
            }
        }
        Self::Listed(kept)
    }

    /// Whether events of this type are wanted.
    pub fn wants(&self, event_type: &EventType) -> bool {
        match self {
            Self::All => true,
            Self::Listed(patterns) => patterns.iter().any(|pattern| pattern.names(event_type)),
        }
    }
}

/// One entry of a subscription: a name, or the beginning of names and a `*`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum EventPattern {
    /// `video.created`: this type.
    Exact(EventType),
    /// `video.*`: every type that begins so; the text is kept without its `*`.
    Beginning(String),
}

/// A text that is not an entry of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EventPatternError {
    /// Without a `*`, it must be an event type.
    #[error(transparent)]
    EventType(#[from] EventTypeError),
    /// A `*` that is not the last character, or what stands before it begins no event type.
    #[error(
        "a `*` may only stand at the end, after the beginning of an event type such as `video.`; \
         `*` alone, as the only entry, means all"
    )]
    Star,
}

impl EventPattern {
    /// Reads an entry.
    pub fn parse(text: &str) -> Result<Self, EventPatternError> {
        let Some(beginning) = text.strip_suffix('*') else {
            if text.contains('*') {
                return Err(EventPatternError::Star);
            }
            return Ok(Self::Exact(EventType::parse(text)?));
        };
        // What may stand before one more letter may stand before the star.
        if beginning.is_empty() || EventType::parse(&format!("{beginning}a")).is_err() {
            return Err(EventPatternError::Star);
        }
        Ok(Self::Beginning(beginning.to_owned()))
    }

    /// Whether it names the type.
    pub fn names(&self, event_type: &EventType) -> bool {
        match self {
            Self::Exact(exact) => exact == event_type,
            Self::Beginning(beginning) => event_type.as_str().starts_with(beginning.as_str()),
        }
    }
}

impl From<EventType> for EventPattern {
    fn from(event_type: EventType) -> Self {
        Self::Exact(event_type)
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(event_type) => f.write_str(event_type.as_str()),
            Self::Beginning(beginning) => write!(f, "{beginning}*"),
        }
    }
}

impl fmt::Debug for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_event_types_are_folded_and_the_first_kept() {
        let patterns = ["b", "a.*", "b", "a.*"].map(|text| EventPattern::parse(text).unwrap());
        let kept = Subscription::listed(patterns.clone());
        assert_eq!(kept, Subscription::Listed(patterns[..2].to_vec()));
    }

    #[test]
    fn a_star_at_the_end_names_every_type_that_begins_so() {
        let event_type = |text| EventType::parse(text).unwrap();
        for (pattern, wanted, unwanted) in [
            ("video.*", "video.created", "videos.created"),
            ("video.*", "video.a.b", "video"),
            ("video*", "videos.created", "vide"),
            ("video.created", "video.created", "video.created.twice"),
        ] {
            let pattern = EventPattern::parse(pattern).unwrap();
            assert!(pattern.names(&event_type(wanted)), "{pattern} {wanted}");
            assert!(!pattern.names(&event_type(unwanted)), "{pattern} {unwanted}");
            assert_eq!(EventPattern::parse(&pattern.to_string()), Ok(pattern));
        }
    }

    #[test]
    fn a_star_elsewhere_or_alone_is_refused() {
        for text in ["*", "*.created", "video.*.created", "video**", "_*", ".*", "a b*", ""] {
            assert!(EventPattern::parse(text).is_err(), "{text}");
        }
    }
}
