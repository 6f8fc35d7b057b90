//! How things stand.

use domain::contract::Contract;
use serde_json::json;

use super::harness::{OPERATOR, Platform};

#[tokio::test(start_paused = true)]
async fn stats_count_what_is_and_measure_what_happened_lately() {
    let platform = Platform::start().await;
    let stats = async || platform.get(OPERATOR, "/api/v1/stats").await.json();
    let before = stats().await;
    assert_eq!(before["events"], 0);
    assert_eq!(before["latency_ms"]["publish"], json!({"p50": null, "p99": null}));

    let owner = platform.owner("johndoe", Contract::Standard).await;
    platform.endpoint(&owner, &json!({"url": "https://your-domain.com/a"})).await;
    let event = platform.publish(&owner, "video.created").await;
    let story = platform.get(&owner.key, &format!("/api/v1/events/{event}")).await;
    let delivery = story.text("/deliveries/0/delivery");
    platform.delivery_in_state(&owner.key, &delivery, "delivered").await;

    let after = stats().await;
    assert_eq!(after["events"], 1);
    let counts =
        json!({"created": 1, "pending": 0, "delivered": 1, "exhausted": 0, "cancelled": 0});
    assert_eq!(after["deliveries"], counts);
    assert_eq!(after["in_flight"], 0);
    assert_eq!(after["oldest_due_seconds"], json!(null));
    assert_eq!(after["breakers"], json!({"open": 0, "half_open": 0}));
    assert_eq!(after["window_seconds"], 300);
    for what in ["publish", "first_attempt", "delivered"] {
        assert!(after["latency_ms"][what]["p99"].is_number(), "{what}: {after}");
    }
    assert_eq!(platform.get(&owner.key, "/api/v1/stats").await.status, 404);
}
