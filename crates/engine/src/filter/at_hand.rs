//! Filters that were read, kept at hand by their texts, and what they say of one event.
//!
//! Promise: a text is read once however many endpoints have it and however often their rosters are
//! read again, and asked once of an event. Bounded by the memory they take: what is used least is
//! dropped and read again, which takes some ten microseconds, or at worst less than a millisecond.
//! There is room for the usual filters of a whole installation beside the largest filters of an
//! account, so that no account makes the others' filters be read again at each event.

use std::collections::HashMap;
use std::sync::Arc;

use domain::filter::FilterText;
use domain::matching::NoDelivery;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{Filter, FilterError, Subject};

/// Usual filters expected at hand: one for each endpoint of a large installation.
const KEPT: usize = 150_000;

/// What a usual filter takes, in bytes: a condition or two.
const USUAL_BYTES: u64 = 1024;

/// Most that one filter takes, in bytes: its nodes, its text twice and its automata.
const LARGEST_BYTES: u64 = 48 * 1024;

/// Filters of the largest kind for which there is room beside the usual ones: what an account with
/// as many endpoints as it may have could set.
const LARGEST_KEPT: u64 = 1_000;

/// Most memory that filters at hand may take, in bytes: some 200 MiB, if there are so many.
const BYTES_MAX: u64 = KEPT as u64 * USUAL_BYTES + LARGEST_KEPT * LARGEST_BYTES;

/// What the cache keeps of its own beside a filter, in bytes: its entry, the text's head and places
/// in its tables.
const ENTRY_BYTES: usize = 160;

/// A filter that was read, or what is wrong with one that was stored when filters could say more.
type Known = Result<Arc<Filter>, FilterError>;

/// A filter weighs what it takes.
#[derive(Clone)]
struct Weight;

impl Weighter<FilterText, Known> for Weight {
    fn weight(&self, text: &FilterText, known: &Known) -> u64 {
        let known = match known {
            Ok(filter) => filter.weight(),
            Err(error) => error.reason.len(),
        };
        (ENTRY_BYTES + text.as_str().len() + known) as u64
    }
}

/// Filters that were read.
pub struct FiltersAtHand {
    filters: Cache<FilterText, Known, Weight>,
}

impl Default for FiltersAtHand {
    fn default() -> Self {
        Self { filters: Cache::with_weighter(KEPT, BYTES_MAX, Weight) }
    }
}

impl FiltersAtHand {
    /// The filter with that text, read now if it is not at hand.
    pub fn filter(&self, text: &FilterText) -> Result<Arc<Filter>, FilterError> {
        if let Some(known) = self.filters.get(text) {
            return known;
        }
        let read = Filter::compile(text.as_str()).map(Arc::new);
        self.filters.insert(text.clone(), read.clone());
        read
    }
}

/// What filters say of one event.
pub struct Verdicts<'a> {
    filters: &'a FiltersAtHand,
    subject: Subject<'a>,
    said: HashMap<&'a FilterText, Result<(), NoDelivery>>,
}

impl<'a> Verdicts<'a> {
    /// Nothing was asked yet.
    pub fn new(filters: &'a FiltersAtHand, subject: Subject<'a>) -> Self {
        Self { filters, subject, said: HashMap::new() }
    }

    /// Whether the filter lets the event pass.
    pub fn ask(&mut self, text: &'a FilterText) -> Result<(), NoDelivery> {
        *self.said.entry(text).or_insert_with(|| match self.filters.filter(text) {
            Ok(filter) => filter.apply(&self.subject).no_delivery().map_or(Ok(()), Err),
            Err(_) => Err(NoDelivery::FilterFailed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(text: &str) -> u64 {
        let filter = Filter::compile(text).map(Arc::new);
        assert!(filter.is_ok(), "{filter:?}");
        Weight.weight(&FilterText::from_stored(text), &filter)
    }

    #[test]
    fn a_usual_filter_weighs_no_more_than_there_is_room_for() {
        for text in [
            "data.duration > 60",
            "data.status == \"completed\" && data.duration > 60",
            "data.project.id in [\"p1\", \"p17\"] || data.size < 100",
            "has(data.owner) && data.owner.name.startsWith(\"n1\")",
        ] {
            assert!(weight(text) <= USUAL_BYTES, "{text}: {}", weight(text));
        }
    }

    #[test]
    fn the_largest_filters_weigh_no_more_than_there_is_room_for() {
        let nodes = format!("data.t in [{}]", vec!["'xxxxxx'"; 190].join(","));
        let members = format!("data.{} == 1", vec!["a"; 20].join("."));
        let wide = vec!["data.a==1"; 49].join("||");
        let text = format!("data.t == '{}'", "x".repeat(2_000));
        let hosts = ["[a-z]+[.]example[.]com"; 3].join("|");
        let automata = vec![format!("data.t.matches('{hosts}')"); 4].join(" && ");
        let filled = format!("data.t.matches('a.{{5}}N') && {}", vec!["data.a==1"; 45].join("&&"));
        for text in [nodes, members, wide, text, automata, filled] {
            assert!(weight(&text) <= LARGEST_BYTES, "{text}: {}", weight(&text));
        }
        // Every part is a node or a plain value, and most of what a filter weighs is bounded so.
        let parts = super::super::expression::BYTES_MAX + super::super::pattern::AUTOMATA_BYTES_MAX;
        assert!(parts as u64 <= LARGEST_BYTES - 2 * 2_048, "{parts}");
    }

    #[test]
    fn an_accounts_largest_filters_leave_the_usual_ones_of_others_at_hand() {
        let filters = FiltersAtHand::default();
        let usual = |n: usize| FilterText::from_stored(&format!("data.duration > {n}"));
        let kept: Vec<_> = (0..500).map(|n| filters.filter(&usual(n)).unwrap()).collect();
        let large = |n: u64| {
            let text = format!("data.t.matches('a.{{5}}N') && data.n == {n}");
            filters.filter(&FilterText::from_stored(&text)).unwrap()
        };
        let largest: Vec<_> = (0..LARGEST_KEPT).map(large).collect();
        for (n, kept) in (0..).zip(&largest) {
            assert!(Arc::ptr_eq(kept, &large(n)), "{n}");
        }
        for (n, kept) in kept.iter().enumerate() {
            assert!(Arc::ptr_eq(kept, &filters.filter(&usual(n)).unwrap()), "{n}");
        }
    }
}
