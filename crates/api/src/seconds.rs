//! Instants and lengths as whole seconds, rounded so that a caller who waits that long has waited
//! long enough.

use std::time::Duration;

use domain::time::Timestamp;

/// Whole seconds that are at least `length`; one at least, since `Retry-After: 0` invites a storm.
pub(crate) fn whole_seconds(length: Duration) -> u64 {
    length.as_millis().div_ceil(1000).clamp(1, u128::from(u64::MAX)) as u64
}

/// The first whole Unix second that is not before `instant`.
pub(crate) fn unix_seconds_not_before(instant: Timestamp) -> i64 {
    instant.plus(Duration::from_millis(999)).as_seconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_the_whole_seconds_has_waited_long_enough() {
        let check = |millis, expected| {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), expected, "{millis} ms");
        };
        check(0, 1);
        check(1, 1);
        check(1000, 1);
        check(1001, 2);
        assert_eq!(unix_seconds_not_before(Timestamp::from_millis(5_000)), 5);
        assert_eq!(unix_seconds_not_before(Timestamp::from_millis(5_001)), 6);
    }
}
