//! Instants and the arithmetic we allow on them.
//!
//! Promise: an instant is always milliseconds in UTC; arithmetic saturates and never panics.
//! Where it is printed (RFC 3339, Unix seconds) is the business of the surfaces.

use std::time::Duration;

/// An instant: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `milliseconds` after the Unix epoch.
    pub const fn from_millis(milliseconds: i64) -> Self {
        Self(milliseconds)
    }

    /// The instant `seconds` after the Unix epoch; saturates.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant plus `length`; saturates.
    #[must_use]
    pub fn plus(self, length: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(length.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This instant minus `length`; saturates.
    #[must_use]
    pub fn minus(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(length.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this instant is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Timestamp {
    /// RFC 3339 in UTC with milliseconds, `2026-01-15T10:30:00.000Z`: the form of the platform API.
    pub fn to_rfc3339_millis(self) -> String {
        format!("{:.3}", self.as_civil())
    }

    /// RFC 3339 in UTC with whole seconds, `2024-01-15T10:30:00Z`: the form of KonPro v1 and of
    /// `standard` deliveries.
    pub fn to_rfc3339_seconds(self) -> String {
        format!("{:.0}", self.as_civil())
    }

    /// Reads an RFC 3339 instant, with any offset and any fraction of a second.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|instant| Self(instant.as_millisecond()))
    }

    /// Instants outside the years −9999 to 9999 cannot be written in RFC 3339 and print as the
    /// nearest one that can.
    fn as_civil(self) -> jiff::Timestamp {
        let seconds_floor =
            Self(self.0.clamp(
                jiff::Timestamp::MIN.as_millisecond(),
                jiff::Timestamp::MAX.as_millisecond(),
            ));
        jiff::Timestamp::from_millisecond(seconds_floor.0).unwrap_or(jiff::Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_print_as_the_contracts_show_them() {
        let instant = Timestamp::from_millis(1_705_314_600_999);
        assert_eq!(instant.to_rfc3339_seconds(), "2024-01-15T10:30:00Z");
        assert_eq!(instant.to_rfc3339_millis(), "2024-01-15T10:30:00.999Z");
        assert_eq!(
            Timestamp::from_seconds(1_705_314_600).to_rfc3339_millis(),
            "2024-01-15T10:30:00.000Z"
        );
        assert_eq!(Timestamp::parse_rfc3339("2024-01-15T11:30:00.999+01:00"), Some(instant));
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn no_instant_panics() {
        for millis in [i64::MIN, -1, 0, i64::MAX] {
            let instant = Timestamp::from_millis(millis);
            assert!(!instant.to_rfc3339_millis().is_empty());
            let _ = instant.plus(Duration::MAX).minus(Duration::MAX).since(instant);
        }
    }
}
