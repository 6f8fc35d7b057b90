//! Many durations in four numbers.

use serde::Serialize;

/// In milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to the name in the JSON")]
pub(crate) struct Percentiles {
    /// Half are at most this.
    pub(crate) p50_ms: f64,
    /// 99 in 100 are at most this.
    pub(crate) p99_ms: f64,
    /// All are at most this.
    pub(crate) max_ms: f64,
}

impl Percentiles {
    /// Of these nanoseconds; all zero if there are none.
    pub(crate) fn of(nanos: impl IntoIterator<Item = u64>) -> Self {
        let mut sorted: Vec<u64> = nanos.into_iter().collect();
        sorted.sort_unstable();
        let at = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).map_or(0.0, |nanos| *nanos as f64 / 1e6)
        };
        Self { p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} / {:.2} / {:.2}", self.p50_ms, self.p99_ms, self.max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() {
        let of_hundred = Percentiles::of((1..=100).rev().map(|ms| ms * 1_000_000));
        let shown = (of_hundred.p50_ms, of_hundred.p99_ms, of_hundred.max_ms);
        assert_eq!(shown, (50.0, 99.0, 100.0));
        assert!(Percentiles::of([]).max_ms.abs() < f64::EPSILON);
    }
}
