//! Endpoints, and the roster an event is matched against.

use std::sync::Arc;
use std::time::Duration;

use domain::account::{Account, AccountChange};
use domain::contract::Contract;
use domain::credentials::{ClientCredentials, ClientIdentity, TokenRequest};
use domain::custom_headers::CustomHeaders;
use domain::endpoint::{
    AttemptTimeout, DisabledReason, Endpoint, EndpointChange, EndpointStatus, MaxInFlight,
    Metadata, RatePerSecond, RetrySchedule,
};
use domain::event::EntityId;
use domain::filter::FilterText;
use domain::id::EndpointId;
use domain::limits::RATE_PER_SECOND_MAX;
use domain::ordering::DeliveryOrder;
use domain::page::PageRequest;
use domain::subscription::{EventPattern, Subscription};
use domain::target_url::TargetUrl;
use domain::testing::{an_account, an_endpoint};

use super::Scene;
use super::scene::at_once;
use crate::catalogue::{DeletedHistory, EndpointCreated};

/// A change of every field.
fn change_of_everything() -> EndpointChange {
    let headers = [("X-Team", "video"), ("authorization", "Bearer a b")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let waits = [0, 7, 604_800].map(Duration::from_secs);
    let metadata = [("team", "video"), ("a b", ""), ("\u{fc}", "\"quoted\"\n")];
    let metadata = metadata.map(|(name, text)| (name.to_owned(), text.to_owned()));
    EndpointChange {
        url: Some(TargetUrl::from_stored("http://10.0.0.1:8443/a%20b?c=d&e").unwrap()),
        status: Some(EndpointStatus::Disabled(DisabledReason::Requested)),
        subscription: Some(subscription_to(&["b", "video.*", "a.c", "x*"])),
        entity_id: Some(Some(EntityId::parse("projekt ß").unwrap())),
        description: Some(Some("für alle\nZwecke".to_owned())),
        headers: Some(CustomHeaders::new(headers.to_vec()).unwrap()),
        max_in_flight: Some(Some(MaxInFlight::new(3).unwrap())),
        retry_schedule: Some(Some(RetrySchedule::new(waits.to_vec()).unwrap())),
        filter: Some(Some(FilterText::from_stored("data.title == \"\u{fc}\" && data.n > 60"))),
        order: Some(DeliveryOrder::FifoByKey),
        rate: Some(Some(RatePerSecond::new(u64::from(RATE_PER_SECOND_MAX)).unwrap())),
        timeout: Some(Some(AttemptTimeout::from_seconds(7).unwrap())),
        metadata: Some(Metadata::new(metadata.into()).unwrap()),
        client_identity: Some(Some(ClientIdentity::new(
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
            "-----BEGIN PRIVATE KEY-----\nBB==\n-----END PRIVATE KEY-----\n",
        ))),
        client_credentials: Some(Some(client_credentials(Some("read write"), Some("hooks")))),
    }
}

fn client_credentials(scope: Option<&str>, audience: Option<&str>) -> ClientCredentials {
    ClientCredentials::new(TokenRequest {
        token_url: TargetUrl::from_stored("https://login.customer.com/token?a=b").unwrap(),
        client_id: "client \u{e4}".to_owned(),
        client_secret: "top secret".to_owned(),
        scope: scope.map(str::to_owned),
        audience: audience.map(str::to_owned),
    })
}

/// A subscription to names and beginnings of names.
fn subscription_to(patterns: &[&str]) -> Subscription {
    Subscription::listed(patterns.iter().map(|it| EventPattern::parse(it).unwrap()))
}

/// One change per field, setting it, and one per field that can be taken back, doing so.
fn changes_of_one_field() -> Vec<EndpointChange> {
    let all = change_of_everything();
    let none = EndpointChange::default;
    vec![
        EndpointChange { url: all.url, ..none() },
        EndpointChange { status: all.status, ..none() },
        EndpointChange { subscription: all.subscription, ..none() },
        EndpointChange { entity_id: all.entity_id, ..none() },
        EndpointChange { description: all.description, ..none() },
        EndpointChange { headers: all.headers, ..none() },
        EndpointChange { max_in_flight: all.max_in_flight, ..none() },
        EndpointChange { retry_schedule: all.retry_schedule, ..none() },
        EndpointChange { filter: all.filter, ..none() },
        EndpointChange { order: all.order, ..none() },
        EndpointChange { rate: all.rate, ..none() },
        EndpointChange { timeout: all.timeout, ..none() },
        EndpointChange { metadata: all.metadata, ..none() },
        EndpointChange { client_identity: all.client_identity, ..none() },
        EndpointChange { client_credentials: all.client_credentials, ..none() },
        EndpointChange { subscription: Some(subscription_to(&["video.created"])), ..none() },
        EndpointChange { subscription: Some(subscription_to(&["video.*"])), ..none() },
        EndpointChange { subscription: Some(Subscription::Listed(Vec::new())), ..none() },
        EndpointChange { status: Some(EndpointStatus::Enabled), ..none() },
        EndpointChange { subscription: Some(Subscription::All), ..none() },
        EndpointChange { entity_id: Some(None), ..none() },
        EndpointChange { description: Some(None), ..none() },
        EndpointChange { headers: Some(CustomHeaders::default()), ..none() },
        EndpointChange { max_in_flight: Some(None), ..none() },
        EndpointChange { retry_schedule: Some(None), ..none() },
        EndpointChange { filter: Some(None), ..none() },
        EndpointChange { rate: Some(None), ..none() },
        EndpointChange { timeout: Some(None), ..none() },
        EndpointChange { metadata: Some(Metadata::default()), ..none() },
        EndpointChange { client_identity: Some(None), ..none() },
        EndpointChange { client_credentials: Some(Some(client_credentials(None, None))), ..none() },
        EndpointChange { client_credentials: Some(None), ..none() },
        none(),
    ]
}

/// One change to each value of what has few.
fn changes_of_choice() -> Vec<EndpointChange> {
    let status = DisabledReason::ALL.into_iter().map(EndpointStatus::Disabled);
    let status = status.chain([EndpointStatus::Enabled]).map(Some);
    let status = status.map(|status| EndpointChange { status, ..EndpointChange::default() });
    let order = DeliveryOrder::ALL.into_iter().rev().map(Some);
    let order = order.map(|order| EndpointChange { order, ..EndpointChange::default() });
    status.chain(order).collect()
}

async fn account_of(scene: &mut Scene, contract: Contract) -> Account {
    let account = an_account(contract, scene.next_number());
    let key = scene.new_key(Some(&account));
    scene.store.create_account(account.clone(), key, scene.note()).await.unwrap();
    account
}

pub async fn an_endpoint_reads_back_as_it_was_created(scene: &mut Scene) {
    for contract in Contract::ALL {
        let account = account_of(scene, contract).await;
        let boring = an_endpoint(&account, scene.next_number());
        let mut rich = an_endpoint(&account, scene.next_number());
        change_of_everything().apply(&mut rich, scene.now);
        rich.updated_at = scene.now.plus(Duration::from_millis(1));
        for endpoint in [boring, rich] {
            let created =
                scene.store.create_endpoint(endpoint.clone(), 20, scene.note()).await.unwrap();
            assert_eq!(created, EndpointCreated::Created);
            let found = scene.store.find_endpoint(endpoint.id).await.unwrap().unwrap();
            assert_eq!(found.secret.reveal(), endpoint.secret.reveal());
            assert_eq!(found, endpoint);
        }
    }
}

pub async fn a_change_of_an_endpoint_changes_what_it_names_and_answers_it(scene: &mut Scene) {
    let (account, mut endpoint) = scene.account_with_endpoint().await;
    for change in changes_of_one_field().into_iter().chain(changes_of_choice()) {
        scene.pass(Duration::from_millis(1));
        change.clone().apply(&mut endpoint, scene.now);
        let (id, note) = (endpoint.id, scene.note());
        let changed = scene.store.change_endpoint(account.id, id, None, change, note).await;
        assert_eq!(changed.unwrap().as_ref(), Some(&endpoint));
        let found = scene.store.find_endpoint(endpoint.id).await.unwrap();
        assert_eq!(found.as_ref(), Some(&endpoint));
    }
}

pub async fn every_setting_of_an_endpoint_is_there_after_a_crash(scene: &mut Scene) {
    let (account, mut endpoint) = scene.account_with_endpoint().await;
    change_of_everything().apply(&mut endpoint, scene.now);
    let (change, note) = (change_of_everything(), scene.note());
    scene.store.change_endpoint(account.id, endpoint.id, None, change, note).await.unwrap();
    scene.crash().await;
    let found = scene.store.find_endpoint(endpoint.id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&endpoint));
    let roster = scene.store.read_roster(account.id).await.unwrap().unwrap();
    assert_eq!(roster.endpoints, [endpoint]);
}

pub async fn an_endpoint_is_changed_for_its_account_alone(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let other = scene.account().await;
    let change = change_of_everything;
    let absent = EndpointId::from_u128(998);
    for (account, id) in [(other.id, endpoint.id), (account.id, absent)] {
        let changed =
            scene.store.change_endpoint(account, id, None, change(), scene.note()).await.unwrap();
        assert_eq!(changed, None);
    }
    assert_eq!(scene.store.find_endpoint(endpoint.id).await.unwrap(), Some(endpoint));
    assert_eq!(scene.store.find_endpoint(absent).await.unwrap(), None);
}

pub async fn a_change_that_expects_an_earlier_roster_changes_nothing(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let earlier = version(scene, &account).await;
    let edit = async |scene: &Scene, expected: u64| {
        let (change, note) = (change_of_everything(), scene.note());
        let store = &scene.store;
        store.change_endpoint(account.id, endpoint.id, Some(expected), change, note).await.unwrap()
    };
    let entries = async |scene: &Scene| scene.store.read_audit(0, 100).await.unwrap().len();
    scene.endpoint(&account).await;
    let (present, noted) = (version(scene, &account).await, entries(scene).await);
    for expected in [0, earlier, present + 1] {
        assert_eq!(edit(scene, expected).await, None, "{expected} at {present}");
    }
    assert_eq!(version(scene, &account).await, present);
    assert_eq!(entries(scene).await, noted);
    assert_eq!(scene.store.find_endpoint(endpoint.id).await.unwrap().as_ref(), Some(&endpoint));
    assert!(edit(scene, present).await.is_some());
    assert_eq!(edit(scene, present).await, None, "it is at another version now");
}

pub async fn a_hundred_endpoints_created_at_once_with_room_for_20_leave_20(scene: &mut Scene) {
    let account = scene.account().await;
    let mut tasks = Vec::new();
    for _ in 0..100 {
        let endpoint = scene.new_endpoint(&account);
        let (store, note) = (Arc::clone(&scene.store), scene.note());
        tasks.push(async move { store.create_endpoint(endpoint, 20, note).await.unwrap() });
    }
    let answers = at_once(tasks).await;
    let count = |wanted| answers.iter().filter(|answer| **answer == wanted).count();
    assert_eq!(count(EndpointCreated::Created), 20);
    assert_eq!(count(EndpointCreated::LimitReached), 80);
    let roster = scene.store.read_roster(account.id).await.unwrap().unwrap();
    assert_eq!(roster.endpoints.len(), 20);
}

pub async fn disabled_endpoints_count_towards_the_limit(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    disable(scene, &endpoint).await;
    let second = scene.new_endpoint(&account);
    let created = scene.store.create_endpoint(second, 1, scene.note()).await.unwrap();
    assert_eq!(created, EndpointCreated::LimitReached);
}

pub async fn the_limit_counts_each_account_by_itself(scene: &mut Scene) {
    scene.account_with_endpoint().await;
    let account = scene.account().await;
    let endpoint = scene.new_endpoint(&account);
    let created = scene.store.create_endpoint(endpoint, 1, scene.note()).await.unwrap();
    assert_eq!(created, EndpointCreated::Created);
}

pub async fn a_deleted_endpoint_makes_room_for_another(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let second = scene.new_endpoint(&account);
    scene.delete_endpoint(&endpoint, DeletedHistory::Keep).await;
    let created = scene.store.create_endpoint(second, 1, scene.note()).await.unwrap();
    assert_eq!(created, EndpointCreated::Created);
}

pub async fn an_endpoint_of_an_absent_account_is_not_stored(scene: &mut Scene) {
    let nobody = scene.new_account();
    let endpoint = scene.new_endpoint(&nobody);
    let created = scene.store.create_endpoint(endpoint.clone(), 20, scene.note()).await.unwrap();
    assert_eq!(created, EndpointCreated::NoAccount);
    assert_eq!(scene.store.find_endpoint(endpoint.id).await.unwrap(), None);
}

pub async fn endpoints_are_listed_for_their_account_alone(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let (_, _) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let page = scene.store.list_endpoints(account.id, PageRequest::LARGEST).await.unwrap();
    assert_eq!(page.items, [second, endpoint], "newest first");
    assert_eq!(page.next_before, None);
}

pub async fn a_roster_has_every_endpoint_of_its_account_oldest_first(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let first = disable(scene, &first).await;
    let roster = scene.store.read_roster(account.id).await.unwrap().unwrap();
    assert_eq!(roster.account, account);
    assert_eq!(roster.endpoints, [first, second], "disabled ones included");
}

pub async fn a_roster_has_the_account_as_it_is_now(scene: &mut Scene) {
    let mut account = scene.account().await;
    let change = AccountChange { credits: Some(Some(5)), ..AccountChange::default() };
    change.clone().apply(&mut account);
    scene.store.change_account(account.id, change, scene.note()).await.unwrap();
    let roster = scene.store.read_roster(account.id).await.unwrap().unwrap();
    assert_eq!(roster.account, account);
}

pub async fn the_version_of_a_roster_grows_with_every_change(scene: &mut Scene) {
    let account = scene.account().await;
    let endpoint = scene.new_endpoint(&account);
    let mut last = version(scene, &account).await;
    let mut grown = async |scene: &Scene| {
        let now = version(scene, &account).await;
        assert!(now > last, "{now} after {last}");
        last = now;
    };
    scene.store.create_endpoint(endpoint.clone(), 20, scene.note()).await.unwrap();
    grown(scene).await;
    disable(scene, &endpoint).await;
    grown(scene).await;
    let change = AccountChange { api_access: Some(false), ..AccountChange::default() };
    scene.store.change_account(account.id, change, scene.note()).await.unwrap();
    grown(scene).await;
    scene.delete_endpoint(&endpoint, DeletedHistory::Remove).await;
    grown(scene).await;
}

pub async fn the_version_of_a_roster_stays_while_nothing_changes(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let before = version(scene, &account).await;
    scene.publish(&account, &[&endpoint]).await;
    let one_too_many = scene.new_endpoint(&account);
    scene.store.create_endpoint(one_too_many, 1, scene.note()).await.unwrap();
    let other = scene.account().await;
    let (change, note) = (change_of_everything(), scene.note());
    let changed = scene.store.change_endpoint(other.id, endpoint.id, None, change, note).await;
    assert_eq!(changed.unwrap(), None);
    assert_eq!(version(scene, &account).await, before);
}

pub(super) async fn version(scene: &Scene, account: &Account) -> u64 {
    scene.store.read_roster(account.id).await.unwrap().unwrap().version
}

/// Disables the endpoint and answers it as it is then.
pub(super) async fn disable(scene: &Scene, endpoint: &Endpoint) -> Endpoint {
    let status = Some(EndpointStatus::Disabled(DisabledReason::Requested));
    let change = EndpointChange { status, ..EndpointChange::default() };
    let (account, id) = (endpoint.account, endpoint.id);
    scene.store.change_endpoint(account, id, None, change, scene.note()).await.unwrap().unwrap()
}
