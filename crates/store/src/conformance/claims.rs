//! Deliveries claimed.

use super::Scene;

pub async fn two_sessions_never_hold_one_lease(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    assert_eq!(scene.claim(&endpoint, 10).await.len(), 1);
    assert_eq!(scene.claim(&endpoint, 10).await.len(), 0);
}
