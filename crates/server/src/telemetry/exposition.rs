//! Metrics that are counted elsewhere, written down in the Prometheus text format.
//!
//! What keeps its own books (the store, the operating system) is read when somebody asks, and not
//! told to the recorder of metrics a second time, which could not take its histograms anyway.

use std::fmt::Write as _;

/// A page of metrics that grows.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// How often something was in each range, and what it came to altogether.
#[derive(Clone, Copy, Debug)]
pub struct Ranges<'a> {
    /// The upper bounds of the ranges, growing.
    pub bounds: &'a [f64],
    /// How many were in each range, and not in the one before.
    pub counts: &'a [u64],
    /// How many there were, those above the last bound included.
    pub count: u64,
    /// What they came to altogether.
    pub sum: f64,
}

impl Exposition {
    /// Writes a number that only grows. Its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "counter");
        self.line(name, value);
    }

    /// Writes a number as it is now.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "gauge");
        self.line(name, value);
    }

    /// Writes a histogram.
    pub fn histogram(&mut self, name: &str, help: &str, ranges: Ranges<'_>) {
        self.head(name, help, "histogram");
        let mut seen = 0;
        for (bound, count) in ranges.bounds.iter().zip(ranges.counts) {
            seen += count;
            self.line(&format!("{name}_bucket{{le=\"{bound}\"}}"), seen as f64);
        }
        // Read while it is counted: the whole may lag behind its parts, and must not.
        let count = ranges.count.max(seen) as f64;
        self.line(&format!("{name}_bucket{{le=\"+Inf\"}}"), count);
        self.line(&format!("{name}_sum"), ranges.sum);
        self.line(&format!("{name}_count"), count);
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}")
            .expect("a String takes everything");
    }

    fn line(&mut self, series: &str, value: f64) {
        writeln!(self.0, "{series} {value}").expect("a String takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_upwards_and_ends_with_everything() {
        let mut page = Exposition::default();
        let ranges = Ranges { bounds: &[0.0005, 1.0], counts: &[2, 3], count: 6, sum: 12.5 };
        page.histogram("waits_seconds", "How long.", ranges);
        let expected = "# HELP waits_seconds How long.\n# TYPE waits_seconds histogram\n\
             waits_seconds_bucket{le=\"0.0005\"} 2\nwaits_seconds_bucket{le=\"1\"} 5\n\
             waits_seconds_bucket{le=\"+Inf\"} 6\nwaits_seconds_sum 12.5\nwaits_seconds_count 6\n";
        assert_eq!(page.into_text(), expected);
    }
}
