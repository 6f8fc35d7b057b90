//! The conformance suite: every sentence of the port, as a case that a store passes or breaks.
//!
//! An adapter writes a [`Harness`] and one line, `store_conformance!(harness)`, and gets one test
//! per case, in a module per topic, and [`model`], which compares it with
//! [`crate::memory::MemoryStore`] over random sequences of calls. A case is a function over a
//! [`Scene`]; its name is the sentence it proves. After every case the store is [audited](audit):
//! the counts balance and no two readings contradict each other.
//!
//! Ids, instants and payloads in the cases are small and made up. A store must not read anything
//! into an id but its order.

#![expect(clippy::unwrap_used, reason = "these are tests: an error is a failure")]
#![expect(missing_docs, reason = "the name of a case is the sentence it proves")]

use async_trait::async_trait;

use crate::SharedStore;

pub mod accept;
pub mod accounts_and_keys;
pub mod audit;
pub mod claims;
pub mod scene;

pub use scene::Scene;

/// The place where one store lives, made anew for every case.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Opens the store, empty. Called once.
    async fn open(&self) -> SharedStore;

    /// The store as the next process finds it when the one that used `store` dies: without being
    /// closed, unless the case did that. All handles but this one are gone.
    async fn reopen(&self, store: SharedStore) -> SharedStore;
}

/// One `#[tokio::test]` per case of the suite, in modules by topic, against the store of the
/// harness that the expression makes; it is evaluated once per case. The crate that uses it needs
/// `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! store_conformance {
    ($harness:expr) => {
        $crate::store_conformance! { @topics $harness;
            accounts_and_keys {
                an_account_reads_back_as_it_was_created
            }
            accept {
                an_event_and_its_deliveries_read_back_as_they_were_accepted
            }
            claims {
                two_sessions_never_hold_one_lease
            }
        }
    };
    (@topics $harness:expr; $($topic:ident { $($case:ident)* })*) => {
        $(mod $topic {
            #[allow(unused_imports, reason = "the harness is often named in the file itself")]
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let mut scene = $crate::conformance::Scene::open($harness).await;
                    $crate::conformance::$topic::$case(&mut scene).await;
                    scene.close().await;
                }
            )*
        })*
    };
}
