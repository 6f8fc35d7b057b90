//! The conformance suite on the in-memory store, which the other stores are compared with.

use store::conformance::InMemory;

store::store_conformance!(InMemory::default());
