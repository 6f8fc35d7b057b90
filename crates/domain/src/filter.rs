//! The text of a filter: a condition on an event's `data`, in CEL (Common Expression Language).
//!
//! Here is only the text and its bound. Neighbour: `engine::filter` reads, applies and explains it.

use std::fmt;
use std::sync::Arc;

/// A filter that was read without an error when it was set.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FilterText(Arc<str>);

impl FilterText {
    /// The text of a filter that was read.
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FilterText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}
