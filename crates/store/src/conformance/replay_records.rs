//! Replays of many events: begun, ended, cancelled, listed.

use std::sync::Arc;
use std::time::Duration;

use domain::endpoint::Endpoint;
use domain::id::ReplayId;
use domain::matching::NoDelivery;
use domain::page::PageRequest;
use domain::replay::{Replay, ReplayFate, ReplaySelection, ReplayState};

use super::Scene;
use super::many_replays::{begin, finish, new_replay, publish_not_made, step, until_now};
use super::paging::pages_hold;
use super::scene::{USED_UP, at_once};
use crate::catalogue::DeletedHistory;
use crate::replays::ReplayCreated;

const SECOND: Duration = Duration::from_secs(1);

pub async fn a_replay_reads_back_as_it_was_begun(scene: &mut Scene) {
    let (_, endpoint) = scene.account_with_endpoint().await;
    for fate in ReplayFate::ALL {
        let selection = ReplaySelection { fate, since: scene.now.minus(SECOND), until: scene.now };
        let replay = Replay { per_second: 999, ..new_replay(scene, &endpoint, selection) };
        let created = scene.store.create_replay(replay.clone(), scene.note()).await.unwrap();
        assert_eq!(created, ReplayCreated::Created);
        for _ in 0..2 {
            assert_eq!(scene.store.read_replay(replay.id).await.unwrap().as_ref(), Some(&replay));
            let running = scene.store.running_replays(None, 9).await.unwrap();
            assert_eq!(running, std::slice::from_ref(&replay));
            scene.crash().await;
        }
        finish(scene, &replay, 1, 1).await;
    }
    assert_eq!(scene.store.read_replay(ReplayId::from_u128(900)).await.unwrap(), None);
}

pub async fn a_replay_is_begun_for_an_endpoint_of_its_account(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let (_, foreign) = scene.account_with_endpoint().await;
    let deleted = scene.endpoint(&account).await;
    scene.delete_endpoint(&deleted, DeletedHistory::Keep).await;
    let stolen = Endpoint { account: account.id, ..foreign };
    for endpoint in [&stolen, &deleted] {
        let selection = until_now(scene, ReplayFate::All);
        let replay = new_replay(scene, endpoint, selection);
        let id = replay.id;
        let created = scene.store.create_replay(replay, scene.note()).await.unwrap();
        assert_eq!(created, ReplayCreated::NoEndpoint);
        assert_eq!(scene.store.read_replay(id).await.unwrap(), None);
    }
    begin(scene, &endpoint, ReplayFate::All).await;
}

pub async fn one_replay_runs_at_an_endpoint_at_a_time(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let other = scene.endpoint(&account).await;
    let first = begin(scene, &endpoint, ReplayFate::All).await;
    begin(scene, &other, ReplayFate::All).await;
    let selection = until_now(scene, ReplayFate::All);
    let second = new_replay(scene, &endpoint, selection);
    let (store, note) = (&scene.store, || scene.note());
    let refused = store.create_replay(second.clone(), note()).await.unwrap();
    assert_eq!(refused, ReplayCreated::LimitReached);
    assert_eq!(store.read_replay(second.id).await.unwrap(), None);
    store.cancel_replay(first.id, note()).await.unwrap().unwrap();
    assert_eq!(store.create_replay(second.clone(), note()).await.unwrap(), ReplayCreated::Created);
    finish(scene, &second, 1, 1).await;
    begin(scene, &endpoint, ReplayFate::All).await;
}

pub async fn of_replays_begun_at_once_one_runs(scene: &mut Scene) {
    let (_, endpoint) = scene.account_with_endpoint().await;
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let selection = until_now(scene, ReplayFate::All);
        let replay = new_replay(scene, &endpoint, selection);
        let (store, note) = (Arc::clone(&scene.store), scene.note());
        tasks.push(async move { store.create_replay(replay, note).await.unwrap() });
    }
    let answers = at_once(tasks).await;
    let created = answers.iter().filter(|answer| **answer == ReplayCreated::Created).count();
    assert_eq!(created, 1);
    assert_eq!(scene.store.running_replays(None, 9).await.unwrap().len(), 1);
}

pub async fn a_cancelled_replay_makes_nothing_more_and_what_it_made_stays(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for _ in 0..3 {
        scene.publish(&account, &[&endpoint]).await;
        scene.attempt_only(&endpoint, USED_UP).await;
    }
    let replay = begin(scene, &endpoint, ReplayFate::Exhausted).await;
    let step_made = step(scene, &replay, 1, 9).await.unwrap();
    scene.pass(SECOND);
    let cancelled = scene.store.cancel_replay(replay.id, scene.note()).await.unwrap().unwrap();
    let expected =
        Replay { state: ReplayState::Cancelled, ended_at: Some(scene.now), ..step_made.replay };
    assert_eq!(cancelled, expected);
    assert_eq!(step(scene, &replay, 1, 9).await, None);
    assert_eq!(scene.store.read_replay(replay.id).await.unwrap(), Some(cancelled));
    assert_eq!(scene.store.running_replays(None, 9).await.unwrap(), []);
    assert_eq!(scene.claim(&endpoint, 9).await.len(), 1);
}

pub async fn a_replay_that_has_ended_stays_as_it_ended(scene: &mut Scene) {
    let (_, endpoint) = scene.account_with_endpoint().await;
    let replay = begin(scene, &endpoint, ReplayFate::All).await;
    let done = finish(scene, &replay, 1, 1).await;
    scene.pass(SECOND);
    assert_eq!(step(scene, &replay, 1, 1).await, None);
    for _ in 0..2 {
        let answer = scene.store.cancel_replay(replay.id, scene.note()).await.unwrap();
        assert_eq!(answer.as_ref(), Some(&done));
    }
    let absent = ReplayId::from_u128(900);
    assert_eq!(scene.store.cancel_replay(absent, scene.note()).await.unwrap(), None);
    let nothing = scene.store.step_replay(absent, Vec::new(), 1, scene.now).await.unwrap();
    assert_eq!(nothing, None);
}

pub async fn a_replay_to_a_deleted_endpoint_is_cancelled_by_its_next_step(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for history in [DeletedHistory::Keep, DeletedHistory::Remove] {
        let endpoint = if history == DeletedHistory::Keep {
            endpoint.clone()
        } else {
            scene.endpoint(&account).await
        };
        publish_not_made(scene, &account, endpoint.id, NoDelivery::Disabled).await;
        let replay = begin(scene, &endpoint, ReplayFate::Missing).await;
        scene.delete_endpoint(&endpoint, history).await;
        scene.pass(SECOND);
        let step_made = step(scene, &replay, 5, 5).await.unwrap();
        assert_eq!(step_made.created, 0);
        let ended = step_made.replay;
        assert_eq!((ended.state, ended.ended_at), (ReplayState::Cancelled, Some(scene.now)));
        assert_eq!(scene.store.read_replay(replay.id).await.unwrap(), Some(ended));
        assert_eq!(step(scene, &replay, 5, 5).await, None);
    }
}

pub async fn replays_of_a_deleted_account_are_out_of_sight(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let (other, kept) = scene.account_with_endpoint().await;
    let ended = begin(scene, &endpoint, ReplayFate::All).await;
    finish(scene, &ended, 1, 1).await;
    let running = begin(scene, &endpoint, ReplayFate::All).await;
    let stays = begin(scene, &kept, ReplayFate::All).await;
    assert!(scene.store.delete_account(account.id, scene.note()).await.unwrap());
    for _ in 0..2 {
        for replay in [&ended, &running] {
            assert_eq!(scene.store.read_replay(replay.id).await.unwrap(), None);
            assert_eq!(step(scene, replay, 1, 1).await, None);
            let cancelled = scene.store.cancel_replay(replay.id, scene.note()).await.unwrap();
            assert_eq!(cancelled, None);
        }
        let running = scene.store.running_replays(None, 9).await.unwrap();
        assert_eq!(running, std::slice::from_ref(&stays));
        for account in [None, Some(account.id), Some(other.id)] {
            let page = PageRequest::LARGEST;
            let listed = scene.store.list_replays(account, None, page).await.unwrap();
            assert_eq!(listed.items.contains(&stays), account.is_none_or(|it| it == other.id));
            assert!(listed.items.iter().all(|replay| replay.account == other.id));
        }
        scene.clean_all().await;
    }
}

pub async fn replays_are_listed_by_account_and_endpoint_newest_first(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let (other, third) = scene.account_with_endpoint().await;
    let mut all = Vec::new();
    for endpoint in [&first, &second, &third, &first] {
        let replay = begin(scene, endpoint, ReplayFate::All).await;
        all.insert(0, finish(scene, &replay, 1, 1).await);
    }
    for account in [None, Some(account.id), Some(other.id)] {
        for endpoint in [None, Some(first.id), Some(second.id), Some(third.id)] {
            let passes = |replay: &&Replay| {
                account.is_none_or(|it| it == replay.account)
                    && endpoint.is_none_or(|it| it == replay.endpoint)
            };
            let page = PageRequest::LARGEST;
            let listed = scene.store.list_replays(account, endpoint, page).await.unwrap();
            let expected: Vec<_> = all.iter().filter(passes).cloned().collect();
            assert_eq!((listed.items, listed.next_before), (expected, None));
        }
    }
}

pub async fn pages_of_replays_neither_repeat_nor_skip_while_replays_arrive(scene: &mut Scene) {
    let account = scene.account().await;
    let id = account.id;
    let read = async |scene: &Scene, page| {
        let page = scene.store.list_replays(Some(id), None, page).await.unwrap();
        page.map(|replay| replay.id.as_u128())
    };
    let arrive = async |scene: &mut Scene| {
        let endpoint = scene.endpoint(&account).await;
        begin(scene, &endpoint, ReplayFate::All).await;
    };
    pages_hold(scene, read, arrive).await;
}

pub async fn running_replays_are_answered_oldest_first_after_the_one_named(scene: &mut Scene) {
    let account = scene.account().await;
    let mut running = Vec::new();
    for number in 0..6 {
        let endpoint = scene.endpoint(&account).await;
        let replay = begin(scene, &endpoint, ReplayFate::All).await;
        match number {
            2 => {
                finish(scene, &replay, 1, 1).await;
            }
            4 => {
                scene.store.cancel_replay(replay.id, scene.note()).await.unwrap();
            }
            _ => running.push(replay),
        }
    }
    for limit in 1..5 {
        for after in [None, Some(running[0].id), Some(running[1].id), Some(running[3].id)] {
            let answer = scene.store.running_replays(after, limit).await.unwrap();
            let beyond = running.iter().filter(|it| after.is_none_or(|after| it.id > after));
            assert_eq!(answer, beyond.take(limit).cloned().collect::<Vec<_>>());
        }
    }
}
