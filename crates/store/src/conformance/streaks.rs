//! Failure streaks of endpoints, written down to be there after a crash.

use std::time::Duration;

use domain::endpoint::Endpoint;
use domain::health::Streak;
use domain::id::EndpointId;

use super::Scene;
use crate::catalogue::DeletedHistory;

fn a_streak(scene: &Scene, failures: u32) -> Streak {
    let since = scene.now.minus(Duration::from_millis(5));
    Streak { since, last_at: scene.now, failures, warnings: (failures % 3) as u8 }
}

async fn write(scene: &Scene, streaks: &[(EndpointId, Option<Streak>)]) {
    scene.store.write_streaks(streaks.to_vec()).await.unwrap();
}

async fn all(scene: &Scene) -> Vec<(EndpointId, Streak)> {
    scene.store.read_streaks(None, 1_000).await.unwrap()
}

pub async fn streaks_read_back_as_they_were_written_last(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    assert_eq!(all(scene).await, []);
    let (one, other) = (a_streak(scene, u32::MAX), a_streak(scene, 1));
    write(scene, &[(second.id, Some(one)), (first.id, Some(other))]).await;
    assert_eq!(all(scene).await, [(first.id, other), (second.id, one)]);
    scene.pass(Duration::from_secs(1));
    let later = a_streak(scene, 8);
    write(scene, &[(first.id, Some(other)), (first.id, Some(later)), (second.id, None)]).await;
    write(scene, &[(second.id, None)]).await;
    write(scene, &[]).await;
    for _ in 0..2 {
        assert_eq!(all(scene).await, [(first.id, later)]);
        scene.crash().await;
    }
}

pub async fn streaks_are_answered_in_order_of_endpoints_after_the_one_named(scene: &mut Scene) {
    let account = scene.account().await;
    let mut expected = Vec::new();
    for number in 0..6 {
        let endpoint = scene.endpoint(&account).await;
        let streak = a_streak(scene, number);
        write(scene, &[(endpoint.id, Some(streak))]).await;
        expected.push((endpoint.id, streak));
    }
    for limit in 1..7 {
        for after in [None, Some(expected[0].0), Some(expected[3].0), Some(expected[5].0)] {
            let answer = scene.store.read_streaks(after, limit).await.unwrap();
            let beyond = expected.iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
            assert_eq!(answer, beyond.take(limit).copied().collect::<Vec<_>>());
        }
    }
}

pub async fn endpoints_that_are_gone_have_no_streak(scene: &mut Scene) {
    let (account, kept) = scene.account_with_endpoint().await;
    let streak = a_streak(scene, 3);
    write(scene, &[(kept.id, Some(streak))]).await;
    let (doomed, with_account) = scene.account_with_endpoint().await;
    let deleted: [Endpoint; 2] = [scene.endpoint(&account).await, scene.endpoint(&account).await];
    let gone = [deleted[0].id, deleted[1].id, with_account.id, EndpointId::from_u128(900)];
    let streaks = gone.map(|id| (id, Some(streak)));
    write(scene, &streaks).await;
    assert_eq!(all(scene).await.len(), 4, "there never was one of these");
    scene.delete_endpoint(&deleted[0], DeletedHistory::Keep).await;
    scene.delete_endpoint(&deleted[1], DeletedHistory::Remove).await;
    assert!(scene.store.delete_account(doomed.id, scene.note()).await.unwrap());
    for _ in 0..2 {
        assert_eq!(all(scene).await, [(kept.id, streak)]);
        write(scene, &streaks).await;
        write(scene, &gone.map(|id| (id, None))).await;
        scene.clean_all().await;
    }
}
