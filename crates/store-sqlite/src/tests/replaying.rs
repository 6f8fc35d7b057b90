//! A replay of a short span of a long history costs what the span does.

use std::time::Duration;

use domain::id::{DeliveryId, ReplayId};
use domain::replay::{Replay, ReplayFate, ReplaySelection, ReplayState};
use domain::testing::TEST_START;
use store::conformance::scene::note_at;
use store::queue::Queue as _;
use store::replays::{ReplayCount, ReplayCreated, Replays as _};

use super::{Scene, body};

#[tokio::test]
async fn a_replay_begins_where_its_span_does_and_ends_soon_after_it() {
    /// More outside the span, on either side, than a step reads there.
    const EVENTS: u128 = 4_000;
    let scene = Scene::open().await;
    let at = |number: u128| TEST_START.plus(Duration::from_secs(60 * number as u64));
    for first in (1..=EVENTS).step_by(1_000) {
        let event = |number| {
            let mut new = scene.event(number, body());
            new.event.accepted_at = at(number);
            new
        };
        let events = (first..first + 1_000).map(event).collect();
        scene.store.accept(scene.session, events).await.unwrap();
    }
    let account = scene.account.id;
    scene
        .write(|ledger| {
            ledger.file()?;
            ledger.execute(
                "UPDATE deliveries SET state = 3, reason = 'too_old', due_at = NULL, ended_at = 0",
                [],
            )
        })
        .await
        .unwrap();
    for (since, until) in [(2_000, 2_010), (1, 3), (3_991, 9_999)] {
        let fate = ReplayFate::Exhausted;
        let selection = ReplaySelection { fate, since: at(since), until: at(until) };
        let wanted = until.min(EVENTS + 1) - since;
        let count = scene.store.count_replay(account, scene.endpoint.id, selection, 100).await;
        assert_eq!(count.unwrap(), ReplayCount { events: wanted as u64, is_complete: true });
        let id = ReplayId::from_u128(since);
        let replay = Replay::begin(id, account, scene.endpoint.id, selection, at(EVENTS));
        let created = scene.store.create_replay(replay, note_at(at(EVENTS))).await.unwrap();
        assert_eq!(created, ReplayCreated::Created);
        let ids = (0..100).map(|it| DeliveryId::from_u128(since * 1_000_000 + it)).collect();
        let step = scene.store.step_replay(id, ids, 100, at(EVENTS)).await.unwrap().unwrap();
        assert_eq!((step.created, step.replay.looked_at), (wanted as usize, wanted as u64));
        assert_eq!(step.replay.state, ReplayState::Done, "{since} to {until}, in one step");
    }
}
