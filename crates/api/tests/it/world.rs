//! An installation with customers of every contract, each with one of everything, and a picture of
//! all that is stored.

use std::fmt::Write as _;
use std::time::Duration;

use api::jogg_v2::HttpStatus;
use axum::body::Body;
use domain::account::Account;
use domain::attempt::Attempt;
use domain::audit::{AuditAction, AuditNote};
use domain::contract::Contract;
use domain::delivery::{Delivery, StateName};
use domain::id::AccountId;
use domain::page::PageRequest;
use domain::replay::Replay;
use engine::clock::Clock as _;
use engine::settings::Settings;
use engine::{AuditFilter, Counts, DeliveryFilter, EventFilter, EventWithData, KeyRecord};
use http::{Method, Request};
use serde_json::json;
use store::audit::Audit as _;
use store::catalogue::{Catalogue as _, Roster};
use store::history::History as _;
use store::replays::Replays as _;

use crate::app::{Answer, App};
use crate::operations::{Entry, Kind, Operation, Place, Within};

/// The operator's key.
pub(crate) const OPERATOR: &str = "operator-key-of-the-tests-0123456789";

/// An installation with customers.
pub(crate) struct World {
    pub(crate) app: App,
    /// Two of each contract.
    pub(crate) tenants: Vec<Tenant>,
}

/// A customer with one of everything.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) contract: Contract,
    pub(crate) username: String,
    /// The key it uses.
    pub(crate) key: String,
    account: String,
    /// A key it does not use.
    spare_key: String,
    endpoint: String,
    event: String,
    delivery: String,
    /// An event that is not due for long, and its delivery.
    scheduled: [String; 2],
    replay: String,
}

impl Tenant {
    pub(crate) fn id(&self, kind: Kind) -> &str {
        match kind {
            Kind::Account => &self.account,
            Kind::Key => &self.spare_key,
            Kind::Endpoint => &self.endpoint,
            Kind::Event => &self.event,
            Kind::Delivery => &self.delivery,
            Kind::Replay => &self.replay,
        }
    }

    /// The id to name so that the operation is done: only what has not ended can be cancelled.
    pub(crate) fn id_for(&self, entry: &Entry, kind: Kind) -> &str {
        match kind {
            Kind::Event if entry.path().ends_with("/cancel") => &self.scheduled[0],
            Kind::Delivery if entry.path().ends_with("/cancel") => &self.scheduled[1],
            kind => self.id(kind),
        }
    }

    pub(crate) fn account_id(&self) -> AccountId {
        AccountId::parse(&self.account).unwrap()
    }

    /// A type of event that the contract knows.
    fn event_type(&self) -> &'static str {
        match self.contract {
            Contract::JoggV2 => "generated_video_success",
            Contract::KonproV1 => "avatar_video.success",
            Contract::Standard => "video.created",
        }
    }
}

/// All that is stored, but for the audit log and when keys were used.
#[derive(Debug, PartialEq)]
pub(crate) struct Picture {
    rosters: Vec<Roster>,
    keys: Vec<Vec<KeyRecord>>,
    events: Vec<EventWithData>,
    deliveries: Vec<Delivery>,
    replays: Vec<Replay>,
    attempts: Vec<Vec<Attempt>>,
    counts: Counts,
    /// What the audit log says, but for the refusals of keys, which others' attempts are.
    log: Vec<AuditNote>,
}

impl World {
    /// The same world at every start, to the bit, with customers of every contract.
    pub(crate) async fn start() -> Self {
        Self::start_with(Contract::ALL).await
    }

    /// The same world at every start, to the bit, with customers of these contracts.
    pub(crate) async fn start_with(contracts: impl IntoIterator<Item = Contract>) -> Self {
        let settings = Settings {
            bootstrap_operator_key: Some(OPERATOR.to_owned()),
            account_key_rate: None,
            ..Settings::default()
        };
        let app = App::start_with(HttpStatus::Mapped, settings).await;
        let mut world = Self { app, tenants: Vec::new() };
        let path = "/api/v1/operations-account";
        assert_eq!(world.ask(None, OPERATOR, &Method::PUT, path, "{}").await.status, 201);
        for contract in contracts {
            for username in ["john", "jane"] {
                let username = format!("{username}_{}", contract.name());
                let tenant = world.settle_in(&username, contract).await;
                world.tenants.push(tenant);
            }
        }
        world.settle().await;
        world
    }

    async fn settle_in(&self, username: &str, contract: Contract) -> Tenant {
        let operator = async |path: String, body: serde_json::Value| {
            let answer = self.ask(None, OPERATOR, &Method::POST, &path, &body.to_string()).await;
            assert!(answer.status.is_success(), "{path} {answer:?}");
            answer
        };
        let body = json!({"username": username, "contract": contract.name()});
        let created = operator("/api/v1/accounts".to_owned(), body).await;
        let account = created.text("/id");
        let of_account = format!("/api/v1/accounts/{account}");
        let spare = operator(format!("{of_account}/keys"), json!({})).await;
        let url = json!({"url": format!("https://your-domain.com/{username}")});
        let endpoint = operator(format!("{of_account}/endpoints"), url).await;
        let mut tenant = Tenant {
            contract,
            username: username.to_owned(),
            key: created.text("/api_key"),
            account,
            spare_key: spare.text("/id"),
            endpoint: endpoint.text("/id"),
            event: String::new(),
            delivery: String::new(),
            scheduled: [String::new(), String::new()],
            replay: String::new(),
        };
        let mut body =
            json!({"account": username, "type": tenant.event_type(), "data": {"video_id": "v1"}});
        let publish = async |body: &serde_json::Value| {
            let event = operator("/api/v1/events".to_owned(), body.clone()).await.text("/id");
            let path = format!("/api/v1/events/{event}");
            let story = self.ask(None, OPERATOR, &Method::GET, &path, "").await;
            [event, story.text("/deliveries/0/delivery")]
        };
        [tenant.event, tenant.delivery] = publish(&body).await;
        body["deliver_at"] = "2024-01-25T10:30:00Z".into();
        tenant.scheduled = publish(&body).await;
        let path =
            format!("/api/v1/contracts/{}/event-types/{}", contract.name(), tenant.event_type());
        let put = self.ask(None, OPERATOR, &Method::PUT, &path, r#"{"description":"old"}"#).await;
        assert!(put.status.is_success(), "{path} {put:?}");
        let path = format!("/api/v1/endpoints/{}/replay", tenant.endpoint);
        tenant.replay = operator(path, json!({"since": 1_705_314_000})).await.text("/id");
        tenant
    }

    /// Two customers of the contract.
    pub(crate) fn pair(&self, contract: Contract) -> [&Tenant; 2] {
        let mut tenants = self.tenants.iter().filter(|tenant| tenant.contract == contract);
        [tenants.next().unwrap(), tenants.next().unwrap()]
    }

    /// Waits until every delivery that is due has ended, and every replay, without time passing.
    pub(crate) async fn settle(&self) {
        const TURNS_MAX: usize = 10_000;
        let filter =
            DeliveryFilter { state: Some(StateName::Pending), ..DeliveryFilter::default() };
        for _ in 0..TURNS_MAX {
            let now = self.app.clock.now();
            let pending = self.app.store.list_deliveries(filter.clone(), PageRequest::LARGEST);
            let is_due = |delivery: &Delivery| delivery.due_at.is_some_and(|due| due <= now);
            if !pending.await.unwrap().items.iter().any(is_due)
                && self.app.store.running_replays(None, 1).await.unwrap().is_empty()
            {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the deliveries never ended");
    }

    /// All that is stored once every delivery has ended.
    pub(crate) async fn picture(&self) -> Picture {
        self.settle().await;
        let store = &self.app.store;
        let all = PageRequest::LARGEST;
        let accounts: Vec<Account> = store.list_accounts(all).await.unwrap().items;
        let (mut rosters, mut keys) = (Vec::new(), Vec::new());
        for account in accounts {
            rosters.extend(store.read_roster(account.id).await.unwrap());
            let mut of_account = store.list_keys(Some(account.id), all).await.unwrap().items;
            for key in &mut of_account {
                key.last_used_at = None;
            }
            keys.push(of_account);
        }
        let deliveries = store.list_deliveries(DeliveryFilter::default(), all).await.unwrap().items;
        let mut attempts = Vec::new();
        for delivery in &deliveries {
            attempts.push(store.list_attempts(delivery.id).await.unwrap());
        }
        let log = store.read_audit(0, usize::MAX).await.unwrap();
        let log = log.into_iter().map(|entry| entry.note);
        Picture {
            log: log.filter(|note| note.action != AuditAction::KeyRefused).collect(),
            rosters,
            keys,
            events: store.list_events(EventFilter::default(), all).await.unwrap().items,
            deliveries,
            replays: store.list_replays(None, None, all).await.unwrap().items,
            attempts,
            counts: store.counts().await.unwrap(),
        }
    }

    /// What of this kind the audit log says about the customer, oldest first.
    pub(crate) async fn audited(&self, owner: &Tenant, action: AuditAction) -> Vec<AuditNote> {
        let filter = AuditFilter {
            account: Some(owner.account_id()),
            action: Some(action),
            ..AuditFilter::default()
        };
        let page = self.app.store.list_audit(filter, PageRequest::LARGEST).await.unwrap();
        page.items.into_iter().rev().map(|entry| entry.note).collect()
    }

    /// Asks for the operation with this key about what is the `owner`'s.
    pub(crate) async fn ask_for(&self, operation: &Operation, key: &str, owner: &Tenant) -> Answer {
        let entry = operation.entry;
        let body = body_of(entry, owner, None);
        let id = |place: &Place| Some(owner.id_for(entry, place.kind).to_owned());
        self.ask_with(operation, key, owner, id, &body).await
    }

    /// Asks for the operation with this key, in the catalogue of this tenant's contract, with these
    /// ids (a place without one is left out) and this body, in which the ids are already.
    pub(crate) async fn ask_with(
        &self,
        operation: &Operation,
        key: &str,
        tenant: &Tenant,
        id: impl Fn(&Place) -> Option<String>,
        body: &str,
    ) -> Answer {
        let Operation { entry, places, .. } = operation;
        let mut path = entry
            .path()
            .replace("{contract}", tenant.contract.name())
            .replace("{name}", tenant.event_type());
        let mut separator = '?';
        for place in places {
            match (place.within, id(place)) {
                (Within::Path, Some(id)) => {
                    path = path.replace(&format!("{{{}}}", place.name), &id);
                }
                (Within::Query, Some(id)) => {
                    write!(path, "{separator}{}={id}", place.name).unwrap();
                    separator = '&';
                }
                _ => {}
            }
        }
        self.ask(entry.contract(), key, &entry.method(), &path, body).await
    }

    /// Sends a request with this key in the header of the contract's API, or of the platform's.
    pub(crate) async fn ask(
        &self,
        contract: Option<Contract>,
        key: &str,
        method: &Method,
        path: &str,
        body: &str,
    ) -> Answer {
        // The limits of requests are not what these tests are about.
        self.app.pass(Duration::from_secs(5));
        let request = Request::builder().method(method).uri(path);
        let request = match contract {
            _ if key.is_empty() => request,
            Some(_) => request.header("x-api-key", key),
            None => request.header("authorization", format!("Bearer {key}")),
        };
        let request = request.header("content-type", "application/json");
        self.app.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }
}

/// The body of the operation about what is the `owner`'s, with these members added at the `<+>` of
/// that number.
pub(crate) fn body_of(entry: &Entry, owner: &Tenant, added: Option<(usize, &str)>) -> String {
    let body = body_with(entry.body, owner, &owner.account, &owner.endpoint);
    let mut filled = String::new();
    for (number, part) in body.split("<+>").enumerate() {
        if let Some((at, members)) = added
            && number == at + 1
        {
            filled.push_str(if filled.ends_with('{') { "" } else { "," });
            filled.push_str(members);
        }
        filled.push_str(part);
    }
    filled
}

/// The body with these ids in their places.
fn body_with(body: &str, owner: &Tenant, account: &str, endpoint: &str) -> String {
    body.replace("<account>", account)
        .replace("<endpoint>", endpoint)
        .replace("<contract>", owner.contract.name())
        .replace("<type>", owner.event_type())
}

/// The body of the operation about what is the `owner`'s, but with this id in that place.
pub(crate) fn body_naming(entry: &Entry, owner: &Tenant, place: &Place, id: &str) -> String {
    let (mut account, mut endpoint) = (owner.account.as_str(), owner.endpoint.as_str());
    match (place.within, place.kind) {
        (Within::Body, Kind::Account) => account = id,
        (Within::Body, Kind::Endpoint) => endpoint = id,
        _ => {}
    }
    body_with(entry.body, owner, account, endpoint).replace("<+>", "")
}
