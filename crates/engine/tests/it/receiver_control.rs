//! What a receiver asks for with a header of its answer.

use std::time::Duration;

use domain::attempt::ReceiverControl;
use domain::audit::AuditAction;
use domain::delivery::{DeliveryState, EndReason, StateName};
use domain::endpoint::{DisabledReason, EndpointStatus};
use engine::administer::EndpointEdit;
use engine::scope::Scope;
use testkit::doubles::Reply;
use testkit::gate::Gate;

use crate::harness::Scene;
use crate::health::{enable, notes, status};

const URL: &str = "https://hooks.customer.com/a";
const ASKED: EndpointStatus = EndpointStatus::Disabled(DisabledReason::ReceiverAsked);

#[tokio::test(start_paused = true)]
async fn disable_on_any_answer_disables_the_endpoint_and_what_is_pending_waits() {
    for answered in [200, 404, 429, 500] {
        let scene = Scene::new().await;
        let (account, endpoint) = scene.subscriber("john", URL).await;
        let reply = Reply::status(answered).with_control(ReceiverControl::Disable);
        scene.sender.script(URL, [reply]);
        scene.publish(&account).await;
        scene.sender.wait_for_replies(1).await;
        scene.pass(Duration::from_secs(1)).await;
        assert_eq!(status(&scene, &endpoint).await, ASKED, "{answered}");
        let noted = notes(&scene, AuditAction::EndpointDisabled).await;
        let [note] = noted.as_slice() else { panic!("{noted:?}") };
        assert!(note.details.contains(r#""reason":"receiver_asked""#), "{}", note.details);
        let (delivered, pending) = if answered == 200 { (1, 0) } else { (0, 1) };
        assert_eq!(scene.count_in(StateName::Delivered).await, delivered, "{answered}");
        assert_eq!(scene.count_in(StateName::Pending).await, pending, "{answered}");

        scene.pass(Duration::from_hours(1)).await;
        assert_eq!(scene.sender.requests().len(), 1);
        enable(&scene, &endpoint).await;
        scene.drain().await;
        assert_eq!(scene.count_in(StateName::Delivered).await, 1, "{answered}");
    }
}

#[tokio::test(start_paused = true)]
async fn abort_message_on_a_failure_ends_the_delivery_and_no_other() {
    for answered in [302, 404, 429, 503] {
        let scene = Scene::new().await;
        let (account, endpoint) = scene.subscriber("john", URL).await;
        let reply = Reply::status(answered).with_control(ReceiverControl::Abort);
        scene.sender.script(URL, [reply, Reply::status(500)]);
        scene.publish(&account).await;
        scene.sender.wait_for_replies(1).await;
        scene.pass(Duration::from_millis(10)).await;
        let delivery = scene.delivery().await;
        assert_eq!(delivery.state, DeliveryState::Exhausted(EndReason::ReceiverRefused));
        assert_eq!(delivery.attempts, 1);
        scene.publish(&account).await;
        scene.drain().await;
        assert_eq!(scene.count_in(StateName::Delivered).await, 1);
        assert_eq!(scene.sender.requests().len(), 3);
        assert_eq!(status(&scene, &endpoint).await, EndpointStatus::Enabled);
    }
}

#[tokio::test(start_paused = true)]
async fn abort_message_on_a_success_changes_nothing() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.sender.script(URL, [Reply::status(204).with_control(ReceiverControl::Abort)]);
    scene.publish(&account).await;
    scene.drain().await;
    assert_eq!(scene.delivery().await.state, DeliveryState::Delivered);
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_nothing_about_an_endpoint_that_was_changed_meanwhile() {
    let replies = [
        Reply::status(410),
        Reply::status(200).with_control(ReceiverControl::Disable),
        Reply::status(500).with_control(ReceiverControl::Disable),
    ];
    for reply in replies {
        let scene = Scene::new().await;
        let (account, endpoint) = scene.subscriber("john", URL).await;
        let gate = Gate::new();
        scene.sender.script(URL, [reply.held_by(&gate)]);
        scene.publish(&account).await;
        scene.sender.wait_for(1).await;
        let elsewhere = "https://hooks.customer.com/b";
        let edit = EndpointEdit { url: Some(elsewhere.to_owned()), ..EndpointEdit::default() };
        scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
        gate.open();
        scene.drain().await;
        assert_eq!(status(&scene, &endpoint).await, EndpointStatus::Enabled);
        assert!(notes(&scene, AuditAction::EndpointDisabled).await.is_empty());
    }
}
