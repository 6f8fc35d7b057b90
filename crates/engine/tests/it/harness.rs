//! An engine with its doubles, and the verbs the tests speak in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::account::Account;
use domain::contract::Contract;
use domain::delivery::{Delivery, StateName};
use domain::endpoint::Endpoint;
use domain::id::KeyId;
use domain::page::PageRequest;
use domain::testing::TEST_START;
use engine::administer::{NewAccount, NewEndpoint};
use engine::clock::Clock as _;
use engine::publish::{Publish, Published};
use engine::scope::Scope;
use engine::settings::Settings;
use engine::{DeliveryFilter, Engine, EngineError, Parts};
use store::SharedStore;
use store::memory::MemoryStore;
use testkit::doubles::{ScriptedSender, SeededEntropy, TestClock};

/// An engine with its doubles.
pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) sender: ScriptedSender,
    pub(crate) clock: Arc<TestClock>,
}

impl Scene {
    /// An engine on an empty store.
    pub(crate) async fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new()), ScriptedSender::new()).await
    }

    /// An engine on this store.
    pub(crate) async fn on(store: SharedStore, sender: ScriptedSender) -> Self {
        Self::with(store, sender, Settings::default(), 7).await
    }

    /// An engine on this store with these settings; ids and jitter come from `seed`.
    pub(crate) async fn with(
        store: SharedStore,
        sender: ScriptedSender,
        settings: Settings,
        seed: u64,
    ) -> Self {
        let clock = Arc::new(TestClock::starting_at(TEST_START));
        let parts = Parts {
            store,
            sender: Arc::new(sender.clone()),
            clock: clock.clone(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            sealing: None,
            spans: None,
            settings,
        };
        let (engine, _) = Engine::start(parts).await.unwrap();
        Self { engine, sender, clock }
    }

    pub(crate) async fn account(&self, contract: Contract, username: &str) -> Account {
        let new = NewAccount {
            username: username.to_owned(),
            contract,
            plan: None,
            credits: None,
            api_access: true,
        };
        self.engine.create_account(Scope::OPERATOR, new).await.unwrap().0
    }

    pub(crate) async fn endpoint(&self, account: &Account, url: &str) -> Endpoint {
        let new = NewEndpoint { url: url.to_owned(), ..NewEndpoint::default() };
        self.engine.create_endpoint(Scope::OPERATOR, account.id, new).await.unwrap()
    }

    /// An account of the native contract with one endpoint at this URL.
    pub(crate) async fn subscriber(&self, username: &str, url: &str) -> (Account, Endpoint) {
        let account = self.account(Contract::Standard, username).await;
        let endpoint = self.endpoint(&account, url).await;
        (account, endpoint)
    }

    pub(crate) async fn publish(&self, account: &Account) -> Published {
        self.try_publish(account).await.unwrap()
    }

    pub(crate) async fn try_publish(&self, account: &Account) -> Result<Published, EngineError> {
        self.engine.publish(Scope::OPERATOR, an_event(account), None).await
    }

    /// Every delivery there is, newest first.
    pub(crate) async fn deliveries(&self) -> Vec<Delivery> {
        let mut all = Vec::new();
        let mut page = PageRequest::LARGEST;
        loop {
            let filter = DeliveryFilter::default();
            let found = self.engine.list_deliveries(Scope::OPERATOR, filter, page).await.unwrap();
            all.extend(found.items);
            match found.next_before {
                Some(before) => page.before = Some(before),
                None => return all,
            }
        }
    }

    /// The only delivery there is.
    pub(crate) async fn delivery(&self) -> Delivery {
        let deliveries = self.deliveries().await;
        assert_eq!(deliveries.len(), 1, "{deliveries:?}");
        deliveries.into_iter().next().unwrap()
    }

    /// Lets paused time pass.
    pub(crate) async fn pass(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }

    /// Lets paused time pass until nothing is pending, at most five days.
    pub(crate) async fn drain(&self) {
        let deadline = self.clock.now().plus(Duration::from_hours(120));
        let mut step = Duration::from_millis(1);
        while self.engine.counts(Scope::OPERATOR).await.unwrap().pending > 0 {
            assert!(self.clock.now() < deadline, "still pending: {:?}", self.deliveries().await);
            self.pass(step).await;
            step = (step * 2).min(Duration::from_mins(10));
        }
        self.check_balance().await;
    }

    /// Accepted = delivered + exhausted + cancelled + pending.
    pub(crate) async fn check_balance(&self) {
        let counts = self.engine.counts(Scope::OPERATOR).await.unwrap();
        assert_eq!(
            counts.created,
            counts.pending + counts.delivered + counts.exhausted + counts.cancelled,
            "{counts:?}"
        );
    }

    pub(crate) async fn count_in(&self, state: StateName) -> usize {
        self.deliveries().await.iter().filter(|one| one.state.name() == state).count()
    }
}

/// What the account may see, with a key of its own.
pub(crate) fn as_account(account: &Account) -> Scope {
    Scope::Account { account: account.id, key: KeyId::from_u128(account.id.as_u128()) }
}

/// An event of the account.
pub(crate) fn an_event(account: &Account) -> Publish {
    Publish {
        account: account.id.to_string(),
        event_type: match account.contract {
            Contract::JoggV2 => "generated_video_success".to_owned(),
            Contract::KonproV1 => "avatar_video.success".to_owned(),
            Contract::Standard => "video.ready".to_owned(),
        },
        data: Bytes::from_static(br#"{"video_id":"video_1"}"#),
        ..Publish::default()
    }
}
