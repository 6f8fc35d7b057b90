//! Erasing what an event carried.

use std::time::Duration;

use domain::audit::AuditAction;
use domain::delivery::{DeliveryState, EndReason};
use domain::page::PageRequest;
use engine::publish::Publish;
use engine::scope::Scope;
use engine::{AuditFilter, ErrorCode};
use testkit::doubles::Reply;

use crate::harness::{Scene, an_event, as_account};

const URL: &str = "https://hooks.customer.com/a";

#[tokio::test(start_paused = true)]
async fn an_erased_event_is_sent_no_more_and_shows_that_it_was_but_not_what() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.endpoint(&account, "https://hooks.customer.com/b").await;
    scene.sender.script(URL, [Reply::status(503).with_excerpt("about video_1")]);
    let event = Publish {
        entity_ids: vec!["video_1".to_owned()],
        ordering_key: Some("video_1".to_owned()),
        ..an_event(&account)
    };
    let id = scene.engine.publish(Scope::OPERATOR, event, None).await.unwrap().id;
    scene.sender.wait_for_replies(2).await;
    scene.pass(Duration::from_millis(1)).await;

    let scope = as_account(&account);
    assert_eq!(scene.engine.erase_event(scope, id).await.unwrap(), 1);
    assert_eq!(scene.engine.erase_event(scope, id).await.unwrap(), 0);
    scene.pass(Duration::from_hours(9)).await;
    assert_eq!(scene.sender.requests().len(), 2, "nothing was sent any more");

    let story = scene.engine.event(scope, id).await.unwrap();
    assert_eq!(story.event.data, None);
    assert_eq!(story.event.event.entity_ids, []);
    assert_eq!(story.event.event.ordering_key, None);
    let mut states = Vec::new();
    for fate in story.fates {
        let delivery = fate.delivery.unwrap();
        states.push(delivery.state);
        for attempt in scene.engine.attempts(scope, delivery.id).await.unwrap() {
            assert!(attempt.response_excerpt.is_empty());
            assert!(attempt.request_head.is_empty());
            assert!(attempt.outcome.status().is_some(), "how it ended stays");
        }
        let refused = scene.engine.replay_delivery(scope, delivery.id).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Conflict);
    }
    assert!(states.contains(&DeliveryState::Delivered));
    assert!(states.contains(&DeliveryState::Cancelled(EndReason::Erased)));

    let action = Some(AuditAction::EventErased);
    let filter = AuditFilter { action, ..AuditFilter::default() };
    let entries = scene.engine.list_audit(scope, filter, PageRequest::LARGEST).await.unwrap();
    assert_eq!(entries.items.len(), 1, "what changes nothing leaves no entry");
    scene.check_balance().await;
}
