//! Events accepted with the deliveries they owe.

use super::Scene;

pub async fn an_event_and_its_deliveries_read_back_as_they_were_accepted(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let new = scene.new_event(&account, &[&endpoint]).await;
    scene.accept_new(new.clone()).await;
    let detail = scene.store.read_event(new.event.id).await.unwrap().unwrap();
    assert_eq!(detail.event.event, new.event);
}
