//! Lists, page by page: newest first, nothing twice, nothing skipped.

use domain::account::Username;
use domain::id::{AccountId, DeliveryId, EventId};
use domain::page::{Page, PageRequest};

use super::Scene;
use super::audit::{all_deliveries, all_events};
use crate::history::{DeliveryFilter, EventFilter};

/// Pages after which rows arrive while a list is read.
const ARRIVALS: usize = 3;

/// Reads pages of two to the end while rows arrive; answers the ids.
async fn read_while_rows_arrive(
    scene: &mut Scene,
    read: impl AsyncFn(&Scene, PageRequest) -> Page<u128>,
    arrive: impl AsyncFn(&mut Scene),
) -> Vec<u128> {
    let mut all = Vec::new();
    let mut request = PageRequest { before: None, limit: 2 };
    for pages in 1.. {
        let page = read(scene, request).await;
        assert!(page.items.len() <= request.limit);
        all.extend(page.items);
        let Some(next) = page.next_before else { break };
        request.before = Some(next);
        if pages <= ARRIVALS {
            arrive(scene).await;
        }
    }
    all
}

/// Checks that the rows there were at first are all read, newest first, and nothing else.
pub(super) async fn pages_hold(
    scene: &mut Scene,
    read: impl AsyncFn(&Scene, PageRequest) -> Page<u128>,
    arrive: impl AsyncFn(&mut Scene),
) {
    for _ in 0..ARRIVALS {
        arrive(scene).await;
    }
    let before = read(scene, PageRequest::LARGEST).await;
    assert_eq!(before.next_before, None, "the last page names no next");
    assert!(before.items.is_sorted_by(|newer, older| newer > older), "newest first");
    let paged = read_while_rows_arrive(scene, &read, &arrive).await;
    assert_eq!(paged, before.items, "neither repeated nor skipped");

    let all = read(scene, PageRequest::LARGEST).await.items;
    assert!(all.len() > paged.len(), "what arrived is there");
    let full = read(scene, PageRequest { before: None, limit: all.len() }).await;
    assert_eq!((&full.items, full.next_before), (&all, None), "a full last page names no next");
    let beyond = PageRequest { before: all.last().copied(), limit: 2 };
    let beyond = read(scene, beyond).await;
    assert_eq!((beyond.items, beyond.next_before), (Vec::new(), None));
}

pub async fn pages_of_accounts_neither_repeat_nor_skip_while_rows_arrive(scene: &mut Scene) {
    let read = async |scene: &Scene, page| {
        let page = scene.store.list_accounts(page).await.unwrap();
        page.map(|account| account.id.as_u128())
    };
    pages_hold(scene, read, async |scene| drop(scene.account().await)).await;
}

pub async fn pages_of_keys_neither_repeat_nor_skip_while_rows_arrive(scene: &mut Scene) {
    let account = scene.account().await;
    for owner in [None, Some(&account)] {
        let read = async |scene: &Scene, page| {
            let owner = owner.map(|account| account.id);
            scene.store.list_keys(owner, page).await.unwrap().map(|key| key.id.as_u128())
        };
        let arrive = async |scene: &mut Scene| {
            let (key, other) = (scene.new_key(owner), scene.new_key(None));
            assert!(scene.store.create_key(key, scene.note()).await.unwrap());
            assert!(scene.store.create_key(other, scene.note()).await.unwrap());
        };
        pages_hold(scene, read, arrive).await;
    }
}

pub async fn pages_of_endpoints_neither_repeat_nor_skip_while_rows_arrive(scene: &mut Scene) {
    let (account, other) = (scene.account().await, scene.account().await);
    let read = async |scene: &Scene, page| {
        let page = scene.store.list_endpoints(account.id, page).await.unwrap();
        page.map(|endpoint| endpoint.id.as_u128())
    };
    let arrive = async |scene: &mut Scene| {
        scene.endpoint(&account).await;
        scene.endpoint(&other).await;
    };
    pages_hold(scene, read, arrive).await;
}

pub async fn pages_of_events_neither_repeat_nor_skip_while_rows_arrive(scene: &mut Scene) {
    let (account, other) = (scene.account().await, scene.account().await);
    for filter in [
        EventFilter::default(),
        EventFilter { account: Some(account.id), ..EventFilter::default() },
        EventFilter { since: Some(scene.now), ..EventFilter::default() },
    ] {
        let read = async |scene: &Scene, page| {
            let page = scene.store.list_events(filter.clone(), page).await.unwrap();
            page.map(|event| event.event.id.as_u128())
        };
        let arrive = async |scene: &mut Scene| {
            scene.publish(&account, &[]).await;
            scene.publish(&other, &[]).await;
        };
        pages_hold(scene, read, arrive).await;
    }
}

pub async fn pages_of_deliveries_neither_repeat_nor_skip_while_rows_arrive(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let event = scene.publish(&account, &[]).await.event;
    let any = DeliveryFilter::default;
    for filter in [
        any(),
        DeliveryFilter { account: Some(account.id), ..any() },
        DeliveryFilter { endpoint: Some(first.id), ..any() },
        DeliveryFilter { event: Some(event), ..any() },
        DeliveryFilter { state: Some(domain::delivery::StateName::Pending), ..any() },
    ] {
        let read = async |scene: &Scene, page| {
            let page = scene.store.list_deliveries(filter.clone(), page).await.unwrap();
            page.map(|delivery| delivery.id.as_u128())
        };
        let arrive = async |scene: &mut Scene| {
            scene.publish(&account, &[&first, &second]).await;
            scene.replay(&account, event, &first).await;
        };
        pages_hold(scene, read, arrive).await;
    }
}

pub async fn ids_of_any_bits_are_kept_and_sort_as_numbers(scene: &mut Scene) {
    const BITS: [u128; 5] =
        [0xff, 1 << 63, u128::MAX >> 1, 1 << 127, 0xfedc_ba98_7654_3210_0123_4567_89ab_cdef];
    for bits in BITS {
        let mut account = scene.new_account();
        account.id = AccountId::from_u128(bits);
        account.username = Username::parse(&format!("user {bits}")).unwrap();
        let key = scene.new_key(Some(&account));
        scene.store.create_account(account.clone(), key, scene.note()).await.unwrap();
        let endpoint = scene.endpoint(&account).await;
        let mut new = scene.new_event(&account, &[&endpoint]).await;
        new.event.id = EventId::from_u128(bits);
        new.deliveries[0].id = DeliveryId::from_u128(bits);
        scene.accept_new(new).await;
    }
    let newest_first: Vec<_> = BITS.iter().rev().copied().collect();
    let accounts = scene.store.list_accounts(PageRequest::LARGEST).await.unwrap().items;
    assert_eq!(accounts.iter().map(|it| it.id.as_u128()).collect::<Vec<_>>(), newest_first);
    let events = all_events(&*scene.store, &EventFilter::default()).await;
    assert_eq!(events.iter().map(|it| it.event.id.as_u128()).collect::<Vec<_>>(), newest_first);
    let deliveries = all_deliveries(&*scene.store, &DeliveryFilter::default()).await;
    assert_eq!(deliveries.iter().map(|it| it.id.as_u128()).collect::<Vec<_>>(), newest_first);
}
