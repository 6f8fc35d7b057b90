//! What every metric of the recorder means. The same words stand in docs/metrics.md, which a test
//! holds to them; the metrics of the store and of the process bring their own.

use metrics::{describe_counter, describe_gauge, describe_histogram};

const COUNTERS: [(&str, &str); 17] = [
    ("postrider_events_accepted_total", "Events accepted by this process"),
    (
        "postrider_events_refused_total",
        "Events that this process did not accept, by reason; requests that could not be read are \
         not counted",
    ),
    ("postrider_events_total", "Events accepted since the store was made"),
    ("postrider_deliveries_created_total", "Deliveries made with events by this process"),
    (
        "postrider_store_deliveries_total",
        "Deliveries made since the store was made, replays included",
    ),
    ("postrider_attempts_total", "Attempts made by this process, by outcome"),
    (
        "postrider_replay_deliveries_created_total",
        "Deliveries made again by this process, one by one or by replays of many",
    ),
    ("postrider_breaker_changes_total", "Changes of breakers, by the state they changed to"),
    (
        "postrider_endpoints_disabled_total",
        "Endpoints that this process disabled without anybody's doing, by reason",
    ),
    ("postrider_notices_total", "Operational events that this process published, by type"),
    ("postrider_leases_lost_total", "Attempts recorded too late to count"),
    ("postrider_key_refusals_total", "Keys refused, in the audit log or beyond it"),
    (
        "postrider_retention_payloads_removed_total",
        "Payloads removed because they were kept long enough",
    ),
    (
        "postrider_retention_events_removed_total",
        "Events removed with all their records because they were kept long enough",
    ),
    (
        "postrider_retention_deliveries_expired_total",
        "Deliveries cancelled because they were still pending when their payload had been kept long \
         enough",
    ),
    ("postrider_retention_freed_bytes_total", "Bytes of the store given back to the disk"),
    ("postrider_spans_total", "Spans of recorded traces, by what became of them"),
];

const GAUGES: [(&str, &str); 12] = [
    ("postrider_build_info", "The version that runs; always 1"),
    ("postrider_attempts_in_flight", "Attempts on their way now"),
    ("postrider_deliveries_in_memory", "Deliveries in memory now"),
    ("postrider_lanes", "Endpoints with something to do now"),
    ("postrider_lanes_paused", "Endpoints that asked for a pause which is not over"),
    ("postrider_breakers", "Endpoints whose breaker is not closed, by state"),
    (
        "postrider_oldest_due_seconds",
        "For how long the oldest due delivery of an enabled endpoint with a closed breaker has been \
         due; 0 when none is",
    ),
    ("postrider_replays_running", "Replays of many deliveries that run now"),
    (
        "postrider_endpoints_failing",
        "Endpoints at which something failed since anything last succeeded",
    ),
    ("postrider_connections", "Connections of callers, open now"),
    ("postrider_deliveries", "Deliveries since the store was made, by state"),
    ("postrider_balance", "Deliveries made, less those in any state: anything but 0 is a fault"),
];

const HISTOGRAMS: [(&str, &str); 4] = [
    ("postrider_publish_seconds", "From taking an event in to its being on stable storage"),
    ("postrider_attempt_seconds", "How long attempts took"),
    (
        "postrider_event_to_first_attempt_seconds",
        "From when a delivery was owed (its event accepted, or due if scheduled) to its first attempt",
    ),
    (
        "postrider_event_to_delivered_seconds",
        "From when a delivery was owed to the end of the attempt that succeeded",
    ),
];

/// Says what every metric means.
pub(super) fn describe() {
    for (name, help) in COUNTERS {
        describe_counter!(name, help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(name, help);
    }
    for (name, help) in HISTOGRAMS {
        describe_histogram!(name, help);
    }
}
