//! Instants in bodies: RFC 3339 with an offset, or Unix seconds.

use domain::time::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

/// What an instant must be, for whoever sent something else.
pub(super) const EXPECTED: &str = "an RFC 3339 time with an offset, or whole Unix seconds";

/// The last second of the year 9999, the last that RFC 3339 can write. Also tells milliseconds,
/// sent by mistake, from seconds.
pub(super) const SECONDS_MAX: i64 = 253_402_300_799;

/// An instant of a body.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(try_from = "WrittenInstant")]
pub(super) struct Instant(pub(super) Timestamp);

/// RFC 3339 with an offset, or Unix seconds.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Instant)]
pub(super) enum WrittenInstant {
    /// Unix seconds.
    Seconds(i64),
    /// RFC 3339.
    Text(String),
}

impl TryFrom<WrittenInstant> for Instant {
    type Error = &'static str;

    fn try_from(written: WrittenInstant) -> Result<Self, Self::Error> {
        let instant = match written {
            WrittenInstant::Seconds(seconds) => {
                (0..=SECONDS_MAX).contains(&seconds).then(|| Timestamp::from_seconds(seconds))
            }
            WrittenInstant::Text(text) => Timestamp::parse_rfc3339(&text),
        };
        instant.map(Self).ok_or(EXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_rfc_3339_with_an_offset_or_unix_seconds() {
        let read = |json: &str| serde_json::from_str::<Instant>(json).ok().map(|it| it.0);
        let instant = Some(Timestamp::from_seconds(1_705_314_600));
        assert_eq!(read("1705314600"), instant);
        assert_eq!(read(r#""2024-01-15T10:30:00Z""#), instant);
        assert_eq!(read(r#""2024-01-15T11:30:00.000+01:00""#), instant);
        for wrong in [
            "1705314600000",
            "-1",
            "1705314600.5",
            "true",
            r#""1705314600""#,
            r#""2024-01-15T10:30:00""#,
            r#""tomorrow""#,
            r#""""#,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
