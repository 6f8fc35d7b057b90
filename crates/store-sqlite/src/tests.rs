//! What no other store has to prove: group commit, syncing, a full disk, a failing writer, query
//! plans. These tests reach behind the port.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};

use bytes::Bytes;
use domain::account::Account;
use domain::contract::Contract;
use domain::endpoint::Endpoint;
use domain::event::{Event, EventType};
use domain::id::{DeliveryId, EventId, KeyId};
use domain::sealing::{KEY_BYTES, KeyRing, SealingKey, SealingKeyId};
use domain::testing::{TEST_START, an_account, an_endpoint};
use store::catalogue::{AccountCreated, Catalogue as _, KeyRecord};
use store::conformance::scene::note_at;
use store::queue::{Accepted, NewDelivery, NewEvent, Queue as _, SessionId};
use store::vault::{Vault, a_vault_with};
use tempfile::TempDir;

use crate::SqliteStore;
use crate::ledger::Ledger;
use crate::writer::Haste;

mod backlog;
mod backup;
mod damaged;
mod erasing;
mod failing;
mod fresh;
mod group_commit;
mod logged;
mod reading;
mod replaying;
mod retention;
mod sealed;
mod upgrading;

/// A vault with one master key, as every process has it that opens a file of these tests.
pub(crate) fn a_vault() -> Arc<Vault> {
    a_vault_with(KeyRing::of(a_key(1)))
}

fn a_key(number: u8) -> SealingKey {
    SealingKey::new(SealingKeyId::from_bytes([number; 8]), [0xd0 + number; KEY_BYTES])
}

/// An open store with an account and an endpoint.
struct Scene {
    store: Arc<SqliteStore>,
    account: Account,
    endpoint: Endpoint,
    session: SessionId,
    path: PathBuf,
    _directory: TempDir,
}

impl Scene {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("postrider.db");
        let store = Arc::new(SqliteStore::open(&path, a_vault()).unwrap());
        let session = store.begin_session(TEST_START).await.unwrap();
        let account = an_account(Contract::Standard, 1);
        let key = KeyRecord {
            id: KeyId::from_u128(1),
            account: Some(account.id),
            public_part: "one".to_owned(),
            hash: [1; 32],
            created_at: TEST_START,
            last_used_at: None,
        };
        let created =
            store.create_account(account.clone(), key, note_at(TEST_START)).await.unwrap();
        assert_eq!(created, AccountCreated::Created);
        let endpoint = an_endpoint(&account, 1);
        store.create_endpoint(endpoint.clone(), 10, note_at(TEST_START)).await.unwrap();
        Self { store, account, endpoint, session, path, _directory: directory }
    }

    /// An event with one delivery that is not leased, both of that number.
    fn event(&self, number: u128, body: Bytes) -> NewEvent {
        NewEvent {
            event: Event {
                id: EventId::from_u128(number),
                account: self.account.id,
                event_type: EventType::parse("video.created").unwrap(),
                timestamp: TEST_START,
                entity_ids: Vec::new(),
                accepted_at: TEST_START,
                deliver_at: None,
                ordering_key: None,
                trace: None,
            },
            data: 0..body.len(),
            body,
            deliveries: vec![NewDelivery {
                id: DeliveryId::from_u128(number),
                endpoint: self.endpoint.id,
                leased: false,
                ordering_key: None,
            }],
            not_made: Vec::new(),
            roster_version: 2,
            idempotency: None,
        }
    }

    async fn publish(&self, number: u128, body: Bytes) -> Result<Vec<Accepted>, store::StoreError> {
        self.store.accept(self.session, vec![self.event(number, body)]).await
    }

    /// Runs `work` in the writer's thread.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger<'_>) -> crate::failure::Result<T> + Send + 'static,
    ) -> Result<T, store::StoreError> {
        self.store.write(Haste::AtOnce, 1, work).await
    }

    /// Holds the writer inside a transaction until the sender is dropped; answers once it is there.
    async fn hold_writer(&self) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (entered, inside) = tokio::sync::oneshot::channel();
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            let hold = move |_: &mut Ledger<'_>| {
                entered.send(()).unwrap();
                let _ = released.recv();
                Ok(())
            };
            store.write(Haste::AtOnce, 1, hold).await
        });
        inside.await.unwrap();
        release
    }
}

fn body() -> Bytes {
    Bytes::from_static(b"{\"a\":1}")
}

/// Asks now, to be answered later: the request is in the writer's inbox when this returns.
fn ask<'a, T>(asking: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    let mut asking = Box::pin(tokio::task::unconstrained(asking));
    let first_poll = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(first_poll.is_pending(), "the writer is held");
    asking
}
