//! Filters that were read, kept at hand by their texts, and what they say of one event.
//!
//! Promise: a text is read once however many endpoints have it and however often their rosters are
//! read again, and asked once of an event. Bounded by the memory they take: what is used least is
//! dropped and read again, which takes some microseconds.

use std::collections::HashMap;
use std::sync::Arc;

use domain::filter::FilterText;
use domain::matching::NoDelivery;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{Filter, FilterError, Subject};

/// Filters expected at hand, for the cache's own bookkeeping.
const KEPT: usize = 100_000;

/// Most memory that filters at hand may take, in bytes: room for a hundred thousand usual ones.
const BYTES_MAX: u64 = 96 * 1024 * 1024;

/// A filter that was read, or what is wrong with one that was stored when filters could say more.
type Known = Result<Arc<Filter>, FilterError>;

/// A filter weighs what it takes.
#[derive(Clone)]
struct Weight;

impl Weighter<FilterText, Known> for Weight {
    fn weight(&self, text: &FilterText, known: &Known) -> u64 {
        let filter = known.as_ref().map_or(0, |filter| filter.weight());
        (text.as_str().len() + filter) as u64
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
