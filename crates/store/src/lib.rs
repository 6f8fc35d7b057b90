//! The storage port: what the engine needs kept, in words of intent.
//!
//! Promise of every implementation, held by [`conformance`]: each method is one atomic step, safe
//! on its own; a method that answers has its effect on stable storage; nothing of the technology
//! (transactions, SQL, rows) shows. The in-memory implementation, [`memory`], is the one to read to
//! learn what the port means. Neighbours: `engine` is the only caller; `store-sqlite` is the
//! embedded default.

#![warn(missing_docs)]

use std::sync::Arc;

pub mod audit;
pub mod catalogue;
pub mod error;
pub mod history;
pub mod memory;
pub mod queue;
pub mod replays;
pub mod vault;

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
pub mod fault;

pub use audit::Audit;
pub use catalogue::Catalogue;
pub use error::StoreError;
pub use history::History;
pub use queue::Queue;
pub use replays::Replays;

/// Everything the engine needs of a store.
pub trait Store: Catalogue + Queue + History + Audit + Replays {}

impl<T: Catalogue + Queue + History + Audit + Replays> Store for T {}

/// A store, shared.
pub type SharedStore = Arc<dyn Store>;
