//! Many events delivered again to one endpoint, step by step.

use std::sync::Arc;
use std::time::Duration;

use domain::account::Account;
use domain::delivery::{DeliveryState, Transition};
use domain::endpoint::Endpoint;
use domain::id::{DeliveryId, EndpointId, EventId, ReplayId};
use domain::matching::NoDelivery;
use domain::ordering::OrderingKey;
use domain::replay::{Replay, ReplayFate, ReplaySelection, ReplayState};
use domain::time::Timestamp;

use super::Scene;
use super::scene::{USED_UP, at_once};
use crate::queue::Cancelled;
use crate::replays::{ReplayCount, ReplayCreated, ReplayStep};

const SECOND: Duration = Duration::from_secs(1);

/// Steps that no replay in these cases needs.
const STEPS_MAX: usize = 1_000;

/// Whatever was accepted until now.
pub(super) fn until_now(scene: &Scene, fate: ReplayFate) -> ReplaySelection {
    let since = Timestamp::from_millis(0);
    ReplaySelection { fate, since, until: scene.now.plus(Duration::from_millis(1)) }
}

/// A replay that is not stored yet.
pub(super) fn new_replay(
    scene: &mut Scene,
    endpoint: &Endpoint,
    selection: ReplaySelection,
) -> Replay {
    let id = ReplayId::from_u128(scene.next_number().into());
    Replay::begin(id, endpoint.account, endpoint.id, selection, scene.now)
}

/// Begins a replay of everything accepted until now.
pub(super) async fn begin(scene: &mut Scene, endpoint: &Endpoint, fate: ReplayFate) -> Replay {
    let selection = until_now(scene, fate);
    begin_selected(scene, endpoint, selection).await
}

async fn begin_selected(
    scene: &mut Scene,
    endpoint: &Endpoint,
    selection: ReplaySelection,
) -> Replay {
    let replay = new_replay(scene, endpoint, selection);
    let created = scene.store.create_replay(replay.clone(), scene.note()).await.unwrap();
    assert_eq!(created, ReplayCreated::Created);
    replay
}

/// One step with room for that many deliveries.
pub(super) async fn step(
    scene: &mut Scene,
    replay: &Replay,
    room: usize,
    rows_max: usize,
) -> Option<ReplayStep> {
    let ids: Vec<_> =
        (0..room).map(|_| DeliveryId::from_u128(scene.next_number().into())).collect();
    scene.store.step_replay(replay.id, ids, rows_max, scene.now).await.unwrap()
}

/// Steps until the replay ends, and the replay as it ended.
pub(super) async fn finish(
    scene: &mut Scene,
    replay: &Replay,
    room: usize,
    rows_max: usize,
) -> Replay {
    let mut created = scene.store.read_replay(replay.id).await.unwrap().expect("it began").created;
    for _ in 0..STEPS_MAX {
        let step = step(scene, replay, room, rows_max).await.expect("it runs");
        assert!(step.created <= room.min(rows_max), "{step:?}");
        created += step.created as u64;
        if step.replay.state != ReplayState::Running {
            assert_eq!(step.replay.created, created, "what the steps made is what was made");
            return step.replay;
        }
        assert_eq!(step.replay.ended_at, None);
    }
    panic!("the replay does not come to an end");
}

/// The events of the deliveries that can be claimed now; all must be replays to the endpoint.
async fn replayed(scene: &Scene, endpoint: &Endpoint) -> Vec<EventId> {
    let claimed = scene.claim(endpoint, 1_000).await;
    assert!(claimed.iter().all(|it| it.is_replay && !it.is_ordered), "{claimed:?}");
    assert!(claimed.iter().all(|it| it.owed_since == scene.now), "{claimed:?}");
    let mut events: Vec<_> = claimed.iter().map(|it| it.payload.event).collect();
    events.sort_unstable();
    events
}

/// An event that the endpoint did not get, for this reason.
pub(super) async fn publish_not_made(
    scene: &mut Scene,
    account: &Account,
    endpoint: EndpointId,
    why: NoDelivery,
) -> EventId {
    let mut new = scene.new_event(account, &[]).await;
    new.not_made = vec![(endpoint, why)];
    scene.accept_new(new).await.event
}

/// Events of every fate at one endpoint.
struct Fates {
    exhausted: Vec<EventId>,
    delivered: Vec<EventId>,
    cancelled: EventId,
    missing: Vec<EventId>,
}

impl Fates {
    /// Makes them, among others that no replay to the endpoint wants.
    async fn make(scene: &mut Scene, account: &Account, endpoint: &Endpoint) -> Self {
        let other = scene.endpoint(account).await;
        let ended = async |scene: &mut Scene, end| {
            let event = scene.publish(account, &[&other, endpoint]).await.event;
            scene.attempt_only(endpoint, end).await;
            event
        };
        let exhausted = ended(scene, USED_UP).await;
        let delivered = ended(scene, Transition::Delivered).await;
        let exhausted_later = ended(scene, Transition::Delivered).await;
        let delivered_later = ended(scene, USED_UP).await;
        let events = [(exhausted_later, USED_UP), (delivered_later, Transition::Delivered)];
        for (event, end) in events {
            scene.replay(account, event, endpoint).await;
            scene.attempt_only(endpoint, end).await;
        }
        let cancelled = scene.publish(account, &[endpoint]).await.event;
        let note = scene.note();
        let answer = scene.store.cancel_event(account.id, cancelled, note).await.unwrap();
        assert_eq!(answer, Cancelled::Deliveries(1));
        let mut missing = Vec::new();
        for why in NoDelivery::ALL {
            let event = publish_not_made(scene, account, endpoint.id, why).await;
            if matches!(why, NoDelivery::Disabled | NoDelivery::FilterFailed) {
                missing.push(event);
                let replayed = publish_not_made(scene, account, endpoint.id, why).await;
                scene.replay(account, replayed, endpoint).await;
                let lease = scene.claim_only(endpoint).await;
                let tomorrow = scene.now.plus(Duration::from_hours(24));
                scene.record(lease, Transition::RetryAt(tomorrow)).await;
            }
        }
        publish_not_made(scene, account, other.id, NoDelivery::Disabled).await;
        let pending_again = ended(scene, USED_UP).await;
        scene.replay(account, pending_again, endpoint).await;
        let lease = scene.claim_only(endpoint).await;
        let tomorrow = scene.now.plus(Duration::from_hours(24));
        scene.record(lease, Transition::RetryAt(tomorrow)).await;
        scene.publish(account, &[&other]).await;
        Self {
            exhausted: vec![exhausted, exhausted_later],
            delivered: vec![delivered, delivered_later],
            cancelled,
            missing,
        }
    }

    /// What a replay of this fate delivers.
    fn of(&self, fate: ReplayFate) -> Vec<EventId> {
        let mut events = match fate {
            ReplayFate::Exhausted => self.exhausted.clone(),
            ReplayFate::Missing => self.missing.clone(),
            ReplayFate::All => [&self.exhausted[..], &self.delivered, &[self.cancelled]].concat(),
        };
        events.sort_unstable();
        events
    }
}

pub async fn a_replay_delivers_the_events_of_its_fate_and_no_others(scene: &mut Scene) {
    for fate in ReplayFate::ALL {
        for (room, rows_max) in [(1, 1), (2, 3), (3, 2), (100, 100)] {
            let (account, endpoint) = scene.account_with_endpoint().await;
            let fates = Fates::make(scene, &account, &endpoint).await;
            let expected = fates.of(fate);
            scene.pass(SECOND);
            let selection = until_now(scene, fate);
            let (id, there) = (account.id, endpoint.id);
            let count = scene.store.count_replay(id, there, selection, STEPS_MAX).await.unwrap();
            let all = ReplayCount { events: expected.len() as u64, is_complete: true };
            assert_eq!(count, all);
            let replay = begin_selected(scene, &endpoint, selection).await;
            let ended = finish(scene, &replay, room, rows_max).await;
            assert_eq!((ended.state, ended.ended_at), (ReplayState::Done, Some(scene.now)));
            assert_eq!(ended.created, expected.len() as u64);
            assert_eq!(replayed(scene, &endpoint).await, expected, "{fate:?}");
            let read = scene.store.read_replay(replay.id).await.unwrap();
            assert_eq!(read, Some(ended));
        }
    }
}

pub async fn deliveries_of_a_replay_are_due_at_once_with_the_ids_given(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut new = scene.new_event(&account, &[&endpoint]).await;
    new.event.deliver_at = Some(scene.now.plus(SECOND));
    new.deliveries[0].ordering_key = OrderingKey::parse("k").ok();
    let event = scene.accept_new(new).await.event;
    let cancelled = scene.store.cancel_event(account.id, event, scene.note()).await.unwrap();
    assert_eq!(cancelled, Cancelled::Deliveries(1));
    let replay = begin(scene, &endpoint, ReplayFate::All).await;
    scene.pass(SECOND * 2);
    let before = scene.store.counts().await.unwrap();
    let ids = [scene.next_number(), scene.next_number()].map(|it| DeliveryId::from_u128(it.into()));
    let step = scene.store.step_replay(replay.id, ids.to_vec(), 10, scene.now).await.unwrap();
    assert_eq!(step.map(|step| step.created), Some(1));
    let made = scene.delivery(ids[0]).await;
    assert_eq!((made.event, made.endpoint, made.account), (event, endpoint.id, account.id));
    assert_eq!((made.state, made.attempts), (DeliveryState::Pending, 0));
    assert_eq!((made.created_at, made.due_at), (scene.now, Some(scene.now)));
    assert_eq!(made.waits_for, None);
    assert_eq!(scene.store.read_delivery(ids[1]).await.unwrap(), None, "an id that is left over");
    let counts = scene.store.counts().await.unwrap();
    assert_eq!((counts.created, counts.pending), (before.created + 1, before.pending + 1));
    assert_eq!(scene.claim_only(&endpoint).await.delivery, ids[0]);
}

pub async fn a_replay_takes_the_oldest_events_first_and_no_more_than_it_has_ids(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut events = Vec::new();
    for _ in 0..7 {
        events.push(scene.publish(&account, &[&endpoint]).await.event);
        scene.attempt_only(&endpoint, USED_UP).await;
    }
    let replay = begin(scene, &endpoint, ReplayFate::Exhausted).await;
    for (taken, room) in [(0, 2), (2, 1), (3, 3)] {
        let step = step(scene, &replay, room, 100).await.unwrap();
        assert_eq!(step.created, room);
        assert_eq!(
            (step.replay.state, step.replay.created),
            (ReplayState::Running, (taken + room) as u64)
        );
        assert_eq!(replayed(scene, &endpoint).await, events[taken..taken + room]);
    }
    let ended = finish(scene, &replay, 100, 100).await;
    assert_eq!((ended.created, ended.looked_at), (7, 7));
    assert_eq!(replayed(scene, &endpoint).await, events[6..]);
}

pub async fn a_replay_looks_at_no_more_events_at_once_than_it_may(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for _ in 0..6 {
        scene.publish(&account, &[]).await;
    }
    let wanted = scene.publish(&account, &[&endpoint]).await.event;
    scene.attempt_only(&endpoint, USED_UP).await;
    let replay = begin(scene, &endpoint, ReplayFate::Exhausted).await;
    let mut looked_at = 0;
    for _ in 0..3 {
        let step = step(scene, &replay, 5, 2).await.unwrap();
        assert_eq!((step.created, step.replay.state), (0, ReplayState::Running));
        let more = step.replay.looked_at - looked_at;
        assert!((1..=2).contains(&more), "{step:?}");
        looked_at = step.replay.looked_at;
        assert!(step.replay.through.is_some_and(|through| through < wanted));
    }
    let ended = finish(scene, &replay, 5, 2).await;
    assert_eq!((ended.looked_at, ended.created), (7, 1));
    let selection = until_now(scene, ReplayFate::All);
    let count = scene.store.count_replay(account.id, endpoint.id, selection, 3).await.unwrap();
    assert_eq!(count, ReplayCount { events: 0, is_complete: false });
}

pub async fn a_replay_selects_by_when_events_were_accepted(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let start = scene.now;
    let mut events = Vec::new();
    for _ in 0..5 {
        events.push(scene.publish(&account, &[&endpoint]).await.event);
        scene.attempt_only(&endpoint, Transition::Delivered).await;
        scene.pass(SECOND);
    }
    for (since, until) in [(0, 5), (1, 4), (2, 3), (2, 2), (4, 9), (5, 9), (3, 1)] {
        let selection = ReplaySelection {
            fate: ReplayFate::All,
            since: start.plus(SECOND * since),
            until: start.plus(SECOND * until),
        };
        let expected: Vec<_> = (since..until).filter_map(|it| events.get(it as usize)).collect();
        let (id, there) = (account.id, endpoint.id);
        let count = scene.store.count_replay(id, there, selection, 100).await.unwrap();
        assert_eq!(count, ReplayCount { events: expected.len() as u64, is_complete: true });
        let replay = begin_selected(scene, &endpoint, selection).await;
        let ended = finish(scene, &replay, 2, 2).await;
        assert_eq!(ended.looked_at, expected.len() as u64, "{since} to {until}");
        assert_eq!(replayed(scene, &endpoint).await.iter().collect::<Vec<_>>(), expected);
        for id in expected {
            let pending = scene.detail(*id).await.deliveries.last().unwrap().id;
            scene.store.cancel_delivery(account.id, pending, scene.note()).await.unwrap();
        }
    }
}

pub async fn a_replay_finds_what_was_accepted_while_the_clock_was_set_back(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let start = scene.now;
    let accepted = async |scene: &mut Scene, hours: u64| {
        scene.now = start.plus(Duration::from_hours(hours));
        let event = scene.publish(&account, &[&endpoint]).await.event;
        scene.attempt_only(&endpoint, Transition::Delivered).await;
        event
    };
    let mut events = Vec::new();
    for hours in [1, 9, 2, 8, 3] {
        events.push(accepted(scene, hours).await);
    }
    scene.now = start.plus(Duration::from_hours(4));
    let replay = begin(scene, &endpoint, ReplayFate::All).await;
    let selection = until_now(scene, ReplayFate::All);
    let (id, there) = (account.id, endpoint.id);
    let count = scene.store.count_replay(id, there, selection, 100).await.unwrap();
    assert_eq!(count, ReplayCount { events: 3, is_complete: true });
    accepted(scene, 3).await;
    scene.now = start.plus(Duration::from_hours(4));
    let ended = finish(scene, &replay, 2, 2).await;
    assert_eq!((ended.looked_at, ended.created), (3, 3), "none that came after the replay");
    assert_eq!(replayed(scene, &endpoint).await, [events[0], events[2], events[4]]);
}

pub async fn a_replay_delivers_events_of_its_account_alone(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let (other, foreign) = scene.account_with_endpoint().await;
    publish_not_made(scene, &other, endpoint.id, NoDelivery::Disabled).await;
    scene.publish(&other, &[&foreign]).await;
    scene.attempt_only(&foreign, USED_UP).await;
    for fate in ReplayFate::ALL {
        let selection = until_now(scene, fate);
        let (id, there) = (account.id, endpoint.id);
        let count = scene.store.count_replay(id, there, selection, 9).await.unwrap();
        assert_eq!(count, ReplayCount { events: 0, is_complete: true });
        let replay = begin(scene, &endpoint, fate).await;
        assert_eq!(finish(scene, &replay, 9, 9).await.looked_at, 0);
    }
    assert_eq!(scene.claim(&endpoint, 9).await, []);
}

pub async fn events_without_a_payload_are_passed_over(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let erased = scene.publish(&account, &[&endpoint]).await.event;
    scene.store.erase_event(account.id, erased, scene.note()).await.unwrap();
    let missed = publish_not_made(scene, &account, endpoint.id, NoDelivery::Disabled).await;
    scene.store.erase_event(account.id, missed, scene.note()).await.unwrap();
    for fate in ReplayFate::ALL {
        let selection = until_now(scene, fate);
        let (id, there) = (account.id, endpoint.id);
        let count = scene.store.count_replay(id, there, selection, 9).await.unwrap();
        assert_eq!(count, ReplayCount { events: 0, is_complete: true });
        let replay = begin(scene, &endpoint, fate).await;
        let ended = finish(scene, &replay, 9, 9).await;
        assert_eq!((ended.looked_at, ended.created), (2, 0));
    }
    assert_eq!(scene.claim(&endpoint, 9).await, []);
}

pub async fn of_steps_at_once_no_event_is_delivered_twice_or_passed_over(scene: &mut Scene) {
    const EVENTS: usize = 30;
    let (account, endpoint) = scene.account_with_endpoint().await;
    for _ in 0..EVENTS {
        scene.publish(&account, &[&endpoint]).await;
        scene.attempt_only(&endpoint, USED_UP).await;
    }
    let replay = begin(scene, &endpoint, ReplayFate::Exhausted).await;
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let ids = [0; 3].map(|_| DeliveryId::from_u128(scene.next_number().into()));
        let (store, now) = (Arc::clone(&scene.store), scene.now);
        tasks.push(async move {
            let step = store.step_replay(replay.id, ids.to_vec(), 5, now).await.unwrap();
            step.map_or(0, |step| step.created)
        });
    }
    assert_eq!(at_once(tasks).await.into_iter().sum::<usize>(), EVENTS);
    let mut events = replayed(scene, &endpoint).await;
    events.dedup();
    assert_eq!(events.len(), EVENTS);
}

pub async fn a_replay_goes_on_after_a_crash_where_it_was(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut events = Vec::new();
    for _ in 0..9 {
        events.push(scene.publish(&account, &[&endpoint]).await.event);
        scene.attempt_only(&endpoint, USED_UP).await;
    }
    let replay = begin(scene, &endpoint, ReplayFate::Exhausted).await;
    for number in 0..3 {
        let step = step(scene, &replay, 2, 5).await.unwrap();
        assert_eq!(step.created, 2, "step {number}");
        scene.crash().await;
        assert_eq!(scene.store.read_replay(replay.id).await.unwrap(), Some(step.replay.clone()));
        assert_eq!(scene.store.running_replays(None, 9).await.unwrap(), [step.replay]);
    }
    let mut ended = scene.store.read_replay(replay.id).await.unwrap().unwrap();
    for _ in 0..STEPS_MAX {
        if ended.state == ReplayState::Running {
            ended = step(scene, &replay, 2, 5).await.unwrap().replay;
        }
    }
    assert_eq!((ended.state, ended.created), (ReplayState::Done, 9));
    assert_eq!(replayed(scene, &endpoint).await, events);
    scene.crash().await;
    assert_eq!(scene.store.read_replay(replay.id).await.unwrap(), Some(ended));
    assert_eq!(scene.store.running_replays(None, 9).await.unwrap(), []);
}
