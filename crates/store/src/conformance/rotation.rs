//! New secrets for endpoints, and how long the ones before them still sign.

use std::sync::Arc;
use std::time::Duration;

use domain::account::Account;
use domain::endpoint::{Endpoint, PreviousSecret, StillOverlapping};
use domain::id::EndpointId;
use domain::page::PageRequest;
use domain::secret::{SECRET_BYTES, SigningSecret};

use super::Scene;
use super::endpoints::{disable, version};
use super::scene::at_once;
use crate::catalogue::SecretRotated;
use crate::queue::Accepted;

const HOUR: Duration = Duration::from_hours(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn a_secret(scene: &mut Scene) -> SigningSecret {
    SigningSecret::from_random(&[scene.next_number() as u8; SECRET_BYTES])
}

/// Asks for a new secret now.
pub(super) async fn rotate(
    scene: &mut Scene,
    endpoint: &Endpoint,
    overlap: Duration,
) -> SecretRotated {
    let (new, note) = (a_secret(scene), scene.note());
    let (account, id) = (endpoint.account, endpoint.id);
    scene.store.rotate_secret(account, id, new, overlap, note).await.unwrap()
}

/// Gives the endpoint a new secret now and answers it as it is then.
async fn rotated(scene: &mut Scene, endpoint: &Endpoint, overlap: Duration) -> Endpoint {
    match rotate(scene, endpoint, overlap).await {
        SecretRotated::Rotated(endpoint) => *endpoint,
        other => panic!("{other:?}"),
    }
}

/// Checks that every reader sees the endpoint like this, to the letters of its secrets.
async fn endpoint_is(scene: &Scene, account: &Account, expected: &Endpoint) {
    let found = scene.store.find_endpoint(expected.id).await.unwrap();
    let listed = scene.store.list_endpoints(account.id, PageRequest::LARGEST).await.unwrap().items;
    let roster = scene.store.read_roster(account.id).await.unwrap().unwrap().endpoints;
    for seen in found.iter().chain(&listed).chain(&roster) {
        assert_eq!(seen, expected);
        assert_eq!(letters(seen), letters(expected));
    }
    assert_eq!((found.iter().count(), listed.len(), roster.len()), (1, 1, 1));
}

fn letters(endpoint: &Endpoint) -> (&str, Option<&str>) {
    let previous = endpoint.previous_secret.as_ref().map(|previous| previous.secret.reveal());
    (endpoint.secret.reveal(), previous)
}

pub async fn both_secrets_are_kept_until_the_instant_asked_for(scene: &mut Scene) {
    let (account, before) = scene.account_with_endpoint().await;
    scene.pass(MILLISECOND);
    let after = rotated(scene, &before, HOUR).await;
    let signs_until = scene.now.plus(HOUR);
    let expected = Endpoint {
        secret: after.secret.clone(),
        previous_secret: Some(PreviousSecret { secret: before.secret.clone(), signs_until }),
        updated_at: scene.now,
        ..before.clone()
    };
    assert_ne!(after.secret.reveal(), before.secret.reveal());
    assert_eq!(after, expected);
    endpoint_is(scene, &account, &after).await;
    let last = signs_until.minus(MILLISECOND);
    assert_eq!(after.previous_secret_at(last), Some(&before.secret));
    assert_eq!(after.previous_secret_at(signs_until), None);
}

pub async fn a_second_rotation_inside_the_overlap_is_refused_and_changes_nothing(
    scene: &mut Scene,
) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let endpoint = rotated(scene, &endpoint, HOUR).await;
    let (signs_until, before) = (scene.now.plus(HOUR), version(scene, &account).await);
    for time in [MILLISECOND, HOUR.saturating_sub(MILLISECOND * 2)] {
        scene.pass(time);
        let again = rotate(scene, &endpoint, HOUR).await;
        assert_eq!(again, SecretRotated::StillOverlapping(StillOverlapping { signs_until }));
        endpoint_is(scene, &account, &endpoint).await;
    }
    assert_eq!(version(scene, &account).await, before);
    scene.pass(MILLISECOND);
    rotated(scene, &endpoint, HOUR).await;
}

pub async fn a_rotation_after_the_overlap_forgets_the_secret_before_the_last(scene: &mut Scene) {
    let (account, mut endpoint) = scene.account_with_endpoint().await;
    for overlap in [HOUR, MILLISECOND, HOUR] {
        let before = endpoint.secret.clone();
        endpoint = rotated(scene, &endpoint, overlap).await;
        let signs_until = scene.now.plus(overlap);
        let previous = PreviousSecret { secret: before, signs_until };
        assert_eq!(endpoint.previous_secret, Some(previous));
        endpoint_is(scene, &account, &endpoint).await;
        scene.pass(overlap);
    }
}

pub async fn a_rotation_without_overlap_drops_every_secret_before_it_at_once(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for overlap in [Duration::ZERO, HOUR] {
        rotated(scene, &endpoint, overlap).await;
        let after = rotated(scene, &endpoint, Duration::ZERO).await;
        assert_eq!(after.previous_secret, None);
        endpoint_is(scene, &account, &after).await;
    }
}

pub async fn a_secret_is_rotated_for_its_account_alone(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let other = scene.account().await;
    let foreign = Endpoint { account: other.id, ..endpoint.clone() };
    let absent = Endpoint { id: EndpointId::from_u128(998), ..endpoint.clone() };
    for not_there in [foreign, absent] {
        for overlap in [Duration::ZERO, HOUR] {
            let answer = rotate(scene, &not_there, overlap).await;
            assert_eq!(answer, SecretRotated::NoEndpoint);
        }
    }
    endpoint_is(scene, &account, &endpoint).await;
}

pub async fn a_change_of_an_endpoint_leaves_its_secrets_alone(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let after = rotated(scene, &endpoint, HOUR).await;
    let disabled = disable(scene, &after).await;
    assert_eq!(letters(&disabled), letters(&after));
    assert_eq!(disabled.previous_secret, after.previous_secret);
    endpoint_is(scene, &account, &disabled).await;
}

pub async fn both_secrets_and_their_instant_are_there_after_a_crash(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let after = rotated(scene, &endpoint, HOUR).await;
    scene.crash().await;
    endpoint_is(scene, &account, &after).await;
    let again = rotate(scene, &after, HOUR).await;
    assert!(matches!(again, SecretRotated::StillOverlapping(_)), "{again:?}");
    let after = rotated(scene, &after, Duration::ZERO).await;
    scene.crash().await;
    endpoint_is(scene, &account, &after).await;
}

pub async fn an_event_matched_before_a_rotation_is_not_stored(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for overlap in [HOUR, Duration::ZERO] {
        let matched = scene.new_event(&account, &[&endpoint]).await;
        rotated(scene, &endpoint, overlap).await;
        assert_eq!(scene.accept(matched).await, Accepted::RosterChanged);
    }
    scene.publish(&account, &[&endpoint]).await;
}

pub async fn of_rotations_at_once_with_an_overlap_one_happens(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let (store, new, note) = (Arc::clone(&scene.store), a_secret(scene), scene.note());
        let (account, id) = (account.id, endpoint.id);
        tasks.push(async move { store.rotate_secret(account, id, new, HOUR, note).await.unwrap() });
    }
    let answers = at_once(tasks).await;
    let rotated: Vec<_> = answers
        .into_iter()
        .filter_map(|answer| match answer {
            SecretRotated::Rotated(endpoint) => Some(*endpoint),
            _ => None,
        })
        .collect();
    assert_eq!(rotated.len(), 1, "{rotated:?}");
    let previous = rotated[0].previous_secret.as_ref().map(|previous| &previous.secret);
    assert_eq!(previous, Some(&endpoint.secret));
    endpoint_is(scene, &account, &rotated[0]).await;
}
