//! What was kept as long as it is to be kept is removed, and nothing before.

use std::time::Duration;

use domain::account::Account;
use domain::delivery::{DeliveryState, EndReason, Transition};
use domain::endpoint::Endpoint;
use domain::matching::NoDelivery;
use domain::page::PageRequest;
use domain::replay::ReplayFate;
use domain::retention::Retention;

use super::Scene;
use super::audit::{all_deliveries, all_events, all_lanes};
use super::endpoints::disable;
use super::many_replays::{begin, finish, publish_not_made};
use super::scene::{Published, USED_UP, idempotency};
use crate::catalogue::DeletedHistory;
use crate::history::{Counts, DeliveryFilter, EventFilter};
use crate::queue::{Accepted, Added, Cleaned, Recorded};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Shorter than any that is used, so that the cases need not care for sessions that run out.
const RETENTION: Retention = Retention {
    delivered_payloads_kept_for: Duration::from_secs(10),
    records_kept_for: Duration::from_mins(1),
};

/// What a step that finds nothing to do answers.
const NOTHING: Cleaned =
    Cleaned { has_more: false, payloads: 0, events: 0, expired: 0, freed_bytes: 0 };

/// An event with one delivery that ended so, its attempt included.
async fn ended(
    scene: &mut Scene,
    account: &Account,
    endpoint: &Endpoint,
    end: Transition,
) -> Published {
    let published = scene.publish(account, &[endpoint]).await;
    scene.attempt_only(endpoint, end).await;
    published
}

async fn has_payload(scene: &Scene, published: &Published) -> bool {
    scene.detail(published.event).await.event.data.is_some()
}

async fn is_there(scene: &Scene, published: &Published) -> bool {
    scene.store.read_event(published.event).await.unwrap().is_some()
}

pub async fn the_payload_of_what_everybody_got_goes_first_and_the_record_stays(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let published = scene.publish(&account, &[&first, &second]).await;
    scene.attempt_only(&first, Transition::RetryAt(scene.now)).await;
    scene.attempt_only(&first, Transition::Delivered).await;
    scene.attempt_only(&second, Transition::Delivered).await;
    let mut detail = scene.detail(published.event).await;
    let mut attempts = Vec::new();
    for id in &published.deliveries {
        attempts.extend(scene.store.list_attempts(*id).await.unwrap());
    }
    let counts = scene.store.counts().await.unwrap();
    scene.pass(RETENTION.delivered_payloads_kept_for.saturating_sub(MILLISECOND));
    assert_eq!(scene.clean_by(&RETENTION).await, NOTHING);
    assert_eq!(scene.detail(published.event).await, detail);
    scene.pass(MILLISECOND);
    assert_eq!(scene.clean_by(&RETENTION).await, Cleaned { payloads: 1, ..NOTHING });
    detail.event.data = None;
    for attempt in &mut attempts {
        attempt.request_head.clear();
        attempt.response_excerpt.clear();
    }
    for _ in 0..2 {
        assert_eq!(scene.detail(published.event).await, detail, "also its entities");
        let mut left = Vec::new();
        for id in &published.deliveries {
            left.extend(scene.store.list_attempts(*id).await.unwrap());
        }
        assert_eq!(left, attempts);
        assert_eq!(scene.store.counts().await.unwrap(), counts);
        assert_eq!(scene.clean_by(&RETENTION).await, NOTHING, "it is removed once");
        scene.crash().await;
    }
}

pub async fn the_payload_of_what_somebody_did_not_get_is_kept_as_long_as_the_record(
    scene: &mut Scene,
) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let exhausted = ended(scene, &account, &first, USED_UP).await;
    let half = scene.publish(&account, &[&first, &second]).await;
    scene.attempt_only(&first, Transition::Delivered).await;
    let tomorrow = scene.now.plus(Duration::from_hours(24));
    scene.attempt_only(&second, Transition::RetryAt(tomorrow)).await;
    let again = ended(scene, &account, &first, Transition::Delivered).await;
    scene.replay(&account, again.event, &second).await;
    scene.attempt_only(&second, USED_UP).await;
    scene.pass(RETENTION.records_kept_for.saturating_sub(MILLISECOND));
    assert_eq!(scene.clean_by(&RETENTION).await, NOTHING);
    for published in [&exhausted, &half, &again] {
        assert!(has_payload(scene, published).await);
    }
    let attempts = scene.store.list_attempts(exhausted.only()).await.unwrap();
    assert!(!attempts[0].request_head.is_empty());
    scene.replay(&account, exhausted.event, &first).await;
    scene.claim_only(&first).await;
}

pub async fn the_payload_goes_where_nobody_wants_it_or_any_more(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let unwanted = scene.publish(&account, &[]).await;
    let cancelled = scene.publish(&account, &[&endpoint]).await;
    scene.store.cancel_event(account.id, cancelled.event, scene.note()).await.unwrap();
    scene.pass(RETENTION.delivered_payloads_kept_for);
    assert_eq!(scene.clean_by(&RETENTION).await, Cleaned { payloads: 2, ..NOTHING });
    for published in [&unwanted, &cancelled] {
        assert!(!has_payload(scene, published).await);
        let (new, note) = (scene.new_delivery(endpoint.id), scene.note());
        let (session, event) = (scene.session, published.event);
        let added = scene.store.add_delivery(session, account.id, event, new, note).await.unwrap();
        assert_eq!(added, Added::NoEvent, "its payload is no longer kept");
    }
}

pub async fn a_payload_that_a_replay_still_needs_is_kept(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let published = ended(scene, &account, &endpoint, Transition::Delivered).await;
    scene.replay(&account, published.event, &endpoint).await;
    scene.pass(RETENTION.delivered_payloads_kept_for);
    assert_eq!(scene.clean_by(&RETENTION).await, NOTHING);
    let claimed = scene.claim(&endpoint, 1).await.remove(0);
    assert_eq!(scene.clean_by(&RETENTION).await, NOTHING);
    let recorded = scene.record(claimed.lease, Transition::Delivered).await;
    assert_eq!(recorded, Recorded::Applied);
    assert_eq!(scene.clean_by(&RETENTION).await, Cleaned { payloads: 1, ..NOTHING });
}

pub async fn the_payload_of_what_an_endpoint_missed_is_kept_until_it_is_made_up_for(
    scene: &mut Scene,
) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut missed = Vec::new();
    for why in NoDelivery::ALL {
        let event = publish_not_made(scene, &account, endpoint.id, why).await;
        if matches!(why, NoDelivery::Disabled | NoDelivery::FilterFailed) {
            missed.push(Published { event, deliveries: Vec::new() });
        }
    }
    scene.pass(RETENTION.delivered_payloads_kept_for);
    assert_eq!(scene.clean_by(&RETENTION).await, Cleaned { payloads: 3, ..NOTHING });
    for published in &missed {
        assert!(has_payload(scene, published).await);
    }
    scene.replay(&account, missed[0].event, &endpoint).await;
    assert_eq!(scene.clean_by(&RETENTION).await, NOTHING);
    scene.attempt_only(&endpoint, Transition::Delivered).await;
    assert_eq!(scene.clean_by(&RETENTION).await, Cleaned { payloads: 1, ..NOTHING });
    scene.pass(RETENTION.records_kept_for.saturating_sub(RETENTION.delivered_payloads_kept_for));
    scene.now = scene.now.minus(MILLISECOND);
    assert_eq!(scene.clean_by(&RETENTION).await, NOTHING);
    assert!(has_payload(scene, &missed[1]).await);
    scene.pass(MILLISECOND);
    assert_eq!(scene.clean_by(&RETENTION).await, Cleaned { events: 5, ..NOTHING });
}

pub async fn what_was_accepted_while_the_clock_was_ahead_keeps_nothing_else(scene: &mut Scene) {
    let ahead = Duration::from_hours(24);
    let account = scene.account().await;
    let now = scene.now;
    scene.pass(ahead);
    let of_tomorrow = scene.publish(&account, &[]).await;
    scene.now = now;
    scene.publish(&account, &[]).await;
    scene.pass(RETENTION.delivered_payloads_kept_for);
    assert_eq!(scene.clean_by(&RETENTION).await, Cleaned { payloads: 1, ..NOTHING });
    scene.pass(RETENTION.records_kept_for);
    assert_eq!(scene.clean_by(&RETENTION).await, Cleaned { events: 1, ..NOTHING });
    scene.now = now.plus(ahead);
    assert_eq!(scene.clean_by(&RETENTION).await, NOTHING);
    assert!(has_payload(scene, &of_tomorrow).await);
    scene.pass(RETENTION.delivered_payloads_kept_for);
    assert_eq!(scene.clean_by(&RETENTION).await, Cleaned { payloads: 1, ..NOTHING });
    scene.pass(RETENTION.records_kept_for);
    assert_eq!(scene.clean_by(&RETENTION).await, Cleaned { events: 1, ..NOTHING });
}

pub async fn replays_of_many_events_go_as_long_after_they_ended(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let running = begin(scene, &first, ReplayFate::Missing).await;
    let ended = begin(scene, &second, ReplayFate::Missing).await;
    scene.pass(Duration::from_secs(1));
    finish(scene, &ended, 1, 1).await;
    for (pass, expected) in [
        (RETENTION.records_kept_for.saturating_sub(MILLISECOND), vec![ended.id, running.id]),
        (MILLISECOND, vec![running.id]),
    ] {
        scene.pass(pass);
        scene.clean_by(&RETENTION).await;
        let page = PageRequest::LARGEST;
        let listed = scene.store.list_replays(None, None, page).await.unwrap().items;
        assert_eq!(listed.iter().map(|replay| replay.id).collect::<Vec<_>>(), expected);
    }
    assert_eq!(scene.store.read_replay(ended.id).await.unwrap(), None);
}

pub async fn everything_of_an_event_goes_when_its_record_was_kept_long_enough(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut all = Vec::new();
    for end in [Transition::Delivered, USED_UP] {
        all.push(ended(scene, &account, &endpoint, end).await);
    }
    all.push(scene.publish(&account, &[]).await);
    let replay = scene.replay(&account, all[1].event, &endpoint).await;
    scene.attempt_only(&endpoint, Transition::Delivered).await;
    all[1].deliveries.push(replay);
    let counts = scene.store.counts().await.unwrap();
    scene.pass(RETENTION.records_kept_for.saturating_sub(MILLISECOND));
    let fresh = ended(scene, &account, &endpoint, Transition::Delivered).await;
    scene.clean_by(&RETENTION).await;
    for published in &all {
        assert!(is_there(scene, published).await);
    }
    scene.pass(MILLISECOND);
    let cleaned = scene.clean_by(&RETENTION).await;
    assert_eq!((cleaned.events, cleaned.expired), (3, 0));
    for _ in 0..2 {
        for published in &all {
            assert!(!is_there(scene, published).await);
            for id in &published.deliveries {
                assert_eq!(scene.store.read_delivery(*id).await.unwrap(), None);
                assert_eq!(scene.store.list_attempts(*id).await.unwrap(), []);
            }
        }
        let left = all_events(&*scene.store, &EventFilter::default()).await;
        assert_eq!(left.iter().map(|it| it.event.id).collect::<Vec<_>>(), [fresh.event]);
        let left = all_deliveries(&*scene.store, &DeliveryFilter::default()).await;
        assert_eq!(left.iter().map(|it| it.id).collect::<Vec<_>>(), fresh.deliveries);
        assert_eq!(scene.clean_by(&RETENTION).await, NOTHING);
        scene.crash().await;
    }
    let after = scene.store.counts().await.unwrap();
    assert_eq!((after.events, after.created), (counts.events + 1, counts.created + 1));
    assert_eq!((after.exhausted, after.delivered), (counts.exhausted, counts.delivered + 1));
}

pub async fn what_is_still_pending_then_is_cancelled_leased_or_not(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let disabled = scene.endpoint(&account).await;
    let waiting = scene.publish(&account, &[&disabled]).await;
    disable(scene, &disabled).await;
    let lease = scene.publish_leased(&account, &endpoint).await;
    let old = ended(scene, &account, &endpoint, USED_UP).await;
    let replay = scene.replay(&account, old.event, &endpoint).await;
    let before = scene.store.counts().await.unwrap();
    scene.pass(RETENTION.records_kept_for);
    let cleaned = scene.clean_by(&RETENTION).await;
    assert_eq!((cleaned.events, cleaned.expired), (3, 3));
    for id in [waiting.only(), lease.delivery, replay, old.only()] {
        assert_eq!(scene.store.read_delivery(id).await.unwrap(), None);
    }
    assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::LeaseLost);
    assert_eq!(scene.give_back(lease).await, Recorded::LeaseLost);
    assert_eq!(all_lanes(&*scene.store).await, []);
    for endpoint in [&endpoint, &disabled] {
        assert_eq!(scene.claim(endpoint, 5).await, []);
    }
    let counts = scene.store.counts().await.unwrap();
    let expected =
        Counts { pending: before.pending - 3, cancelled: before.cancelled + 3, ..before };
    assert_eq!(counts, expected);
    assert_eq!(scene.lose_session().await, 0, "nothing is leased");
}

pub async fn what_waited_behind_an_expired_delivery_is_due(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let expired = scene.publish_in_line(&account, &endpoint, "video_1").await;
    scene.pass(Duration::from_secs(1));
    let next = scene.publish_in_line(&account, &endpoint, "video_1").await.only();
    let last = scene.publish_in_line(&account, &endpoint, "video_1").await.only();
    assert_eq!(scene.delivery(next).await.waits_for, Some(expired.only()));
    scene.pass(RETENTION.records_kept_for.saturating_sub(Duration::from_secs(1)));
    let cleaned = scene.clean_by(&RETENTION).await;
    assert_eq!((cleaned.events, cleaned.expired), (1, 1));
    let head = scene.delivery(next).await;
    assert_eq!((head.waits_for, head.due_at), (None, Some(scene.now)));
    assert_eq!(scene.delivery(last).await.waits_for, Some(next));
    assert_eq!(scene.claim_only(&endpoint).await.delivery, next);
}

pub async fn what_was_scheduled_is_kept_from_when_it_was_to_be_delivered(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut new = scene.new_event(&account, &[&endpoint]).await;
    new.event.deliver_at = Some(scene.now.plus(RETENTION.records_kept_for));
    let published = scene.accept_new(new).await;
    scene.pass(RETENTION.records_kept_for);
    assert_eq!(scene.clean_by(&RETENTION).await, NOTHING);
    scene.attempt_only(&endpoint, Transition::Delivered).await;
    scene.pass(RETENTION.delivered_payloads_kept_for);
    assert_eq!(scene.clean_by(&RETENTION).await, Cleaned { payloads: 1, ..NOTHING });
    scene.pass(RETENTION.records_kept_for.saturating_sub(RETENTION.delivered_payloads_kept_for));
    assert_eq!(scene.clean_by(&RETENTION).await.events, 1);
    assert!(!is_there(scene, &published).await);
}

pub async fn retention_takes_small_steps_until_all_is_done(scene: &mut Scene) {
    const EVENTS: usize = 20;
    let (account, endpoint) = scene.account_with_endpoint().await;
    for _ in 0..EVENTS {
        ended(scene, &account, &endpoint, Transition::Delivered).await;
        ended(scene, &account, &endpoint, USED_UP).await;
    }
    for (pass, left) in
        [(RETENTION.delivered_payloads_kept_for, EVENTS * 2), (RETENTION.records_kept_for, 0)]
    {
        scene.pass(pass);
        let mut steps = 0;
        loop {
            let cleaned = scene.store.clean(scene.now, &RETENTION, 1).await.unwrap();
            assert!(cleaned.payloads <= 1 && cleaned.events <= 1, "{cleaned:?}");
            steps += 1;
            assert!(steps < 10_000, "cleaning comes to an end");
            if !cleaned.has_more {
                break;
            }
        }
        assert!(steps >= EVENTS, "{steps}");
        assert_eq!(all_events(&*scene.store, &EventFilter::default()).await.len(), left);
        assert_eq!(scene.clean_by(&RETENTION).await, NOTHING);
    }
}

pub async fn a_key_answers_as_before_although_its_event_was_kept_long_enough(scene: &mut Scene) {
    let account = scene.account().await;
    let mut new = scene.new_event(&account, &[]).await;
    new.idempotency = idempotency("order", 1);
    let again = scene.another(&new, &[]);
    let event = scene.accept_new(new).await.event;
    scene.pass(RETENTION.records_kept_for);
    scene.clean_by(&RETENTION).await;
    assert_eq!(scene.store.read_event(event).await.unwrap(), None);
    let answer = scene.accept(again).await;
    assert_eq!(answer, Accepted::Repeated { event, deliveries: 0 });
}

pub async fn what_is_removed_of_one_endpoint_does_not_keep_the_rest(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let published = scene.publish(&account, &[&first, &second]).await;
    scene.attempt_only(&first, USED_UP).await;
    scene.attempt_only(&second, Transition::Delivered).await;
    scene.delete_endpoint(&first, DeletedHistory::Remove).await;
    scene.pass(RETENTION.delivered_payloads_kept_for);
    assert_eq!(scene.clean_by(&RETENTION).await.payloads, 1);
    assert!(!has_payload(scene, &published).await);
    let other = scene.publish(&account, &[&second]).await;
    scene.delete_endpoint(&second, DeletedHistory::Keep).await;
    let state = scene.delivery(other.only()).await.state;
    assert_eq!(state, DeliveryState::Cancelled(EndReason::EndpointDeleted));
    scene.pass(RETENTION.delivered_payloads_kept_for);
    assert_eq!(scene.clean_by(&RETENTION).await.payloads, 1);
    scene.pass(RETENTION.records_kept_for);
    assert_eq!(scene.clean_by(&RETENTION).await.events, 2);
    assert_eq!(all_deliveries(&*scene.store, &DeliveryFilter::default()).await, []);
}
