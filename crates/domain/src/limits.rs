//! Every bound that more than one crate must know, each with its reason.

use std::time::Duration;

/// Largest `data` of an event, in bytes. Webhook payloads are advised to stay under 20 KB
/// (Standard Webhooks); 256 KiB leaves room and keeps memory in flight bounded.
pub const EVENT_DATA_BYTES_MAX: usize = 256 * 1024;

/// Largest body of a publish request: the data, and room for the fields around it.
pub const PUBLISH_BODY_BYTES_MAX: usize = EVENT_DATA_BYTES_MAX + 64 * 1024;

/// Most events in one batch, so that one request is one bounded piece of work.
pub const BATCH_EVENTS_MAX: usize = 1_000;

/// Largest body of a batch request, in bytes.
pub const BATCH_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest body of any other request, in bytes; management bodies are small.
pub const REQUEST_BODY_BYTES_MAX: usize = 64 * 1024;

/// Deepest nesting of JSON we take, so that no reader downstream runs out of stack.
pub const JSON_DEPTH_MAX: usize = 64;

/// How long an `Idempotency-Key` is remembered.
pub const IDEMPOTENCY_KEPT_FOR: Duration = Duration::from_hours(72);

/// Longest `Idempotency-Key`, in characters.
pub const IDEMPOTENCY_KEY_LENGTH_MAX: usize = 255;

/// Most entity ids on one event; they are matched one by one.
pub const ENTITY_IDS_MAX: usize = 100;

/// Longest entity id, in bytes.
pub const ENTITY_ID_BYTES_MAX: usize = 255;

/// Longest event type name, in bytes; it travels in a header.
pub const EVENT_TYPE_BYTES_MAX: usize = 128;

/// Most event types one endpoint may list.
pub const SUBSCRIPTION_TYPES_MAX: usize = 500;

/// Longest username, in characters.
pub const USERNAME_LENGTH_MAX: usize = 100;

/// Longest description of an endpoint, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 1024;

/// Most keys of one account: enough for every machine and every rotation, and a bound on what one
/// account can make us watch.
pub const KEYS_PER_ACCOUNT_MAX: usize = 100;

/// Page size of a list when the caller names none.
pub const PAGE_SIZE_DEFAULT: usize = 50;

/// Largest page a caller may ask for.
pub const PAGE_SIZE_MAX: usize = 500;

/// Most rows one list call reads while it looks for matches. A sparse filter over a long history
/// answers a short page and a cursor rather than scanning without end.
pub const PAGE_ROWS_SCANNED_MAX: usize = 10_000;

/// How much of a receiver's answer is kept with an attempt, in bytes.
pub const RESPONSE_EXCERPT_BYTES_MAX: usize = 8 * 1024;

/// Attempts on their way at once, per node: the sockets and memory we are willing to spend.
pub const IN_FLIGHT_PER_NODE_MAX: usize = 512;

/// Attempts on their way at once to one endpoint, unless the endpoint sets fewer.
pub const IN_FLIGHT_PER_ENDPOINT_MAX: usize = 32;

/// Longest retry schedule an endpoint may set, in attempts.
pub const RETRY_ATTEMPTS_MAX: usize = 30;

/// Claims of a delivery that end without an outcome before each further attempt is announced in
/// storage. One: most of what a crash took along was not even on its way, and from now on only what
/// was counts.
pub const TRIAL_AFTER_LOST_CLAIMS: u32 = 1;

/// Claims of a delivery that end without an outcome before it is attempted alone: the second was
/// announced, so it was on its way when the process died.
pub const ALONE_AFTER_LOST_CLAIMS: u32 = 2;

/// Claims of a delivery that end without an outcome before it is set aside: the third was alone.
pub const SET_ASIDE_AFTER_LOST_CLAIMS: u32 = 3;

/// How long both secrets of an endpoint sign after a rotation, unless asked otherwise (Svix and
/// Stripe: 24 hours).
pub const SECRET_OVERLAP_DEFAULT: Duration = Duration::from_hours(24);

/// Longest overlap of a rotation (Stripe and Svix: 7 days).
pub const SECRET_OVERLAP_MAX: Duration = Duration::from_hours(7 * 24);

/// Most attempts a second an endpoint may ask for; above, a limit protects nobody.
pub const RATE_PER_SECOND_MAX: u32 = 10_000;

/// Shortest time limit of one attempt an endpoint may ask for.
pub const ATTEMPT_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// Longest time limit of one attempt an endpoint may ask for (Svix, Hookdeck: 30 seconds).
pub const ATTEMPT_TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Most entries of an endpoint's metadata (Stripe: 50 keys).
pub const METADATA_ENTRIES_MAX: usize = 50;

/// Longest name in an endpoint's metadata, in bytes (Stripe: 40 characters).
pub const METADATA_KEY_BYTES_MAX: usize = 40;

/// Longest text in an endpoint's metadata, in bytes (Stripe: 500 characters).
pub const METADATA_VALUE_BYTES_MAX: usize = 500;

/// Longest filter, in bytes: many conditions, and still compiled in well under a millisecond.
pub const FILTER_BYTES_MAX: usize = 2_048;

/// Attempts on their way at once to one destination (host and port), over all accounts: nobody can
/// make us a flood.
pub const IN_FLIGHT_PER_HOST_MAX: usize = 64;

/// The share of the slots that retries and replays may take while first attempts wait, in per cent
/// (Finagle's retry budget: 20 %).
pub const RETRY_SLOTS_PERCENT: usize = 20;

/// How far ahead an event may be scheduled: well within how long records are kept.
pub const DELIVER_AT_AHEAD_MAX: Duration = Duration::from_hours(14 * 24);

/// Deliveries a replay makes each second unless asked otherwise: fresh events keep their latency.
pub const REPLAY_PER_SECOND_DEFAULT: u32 = 10;

/// Most deliveries a replay may make each second.
pub const REPLAY_PER_SECOND_MAX: u32 = 1_000;

/// Replays of one endpoint that run at once: one, since a second would look at the same events.
pub const REPLAYS_PER_ENDPOINT_MAX: usize = 1;

/// Most event types that may be registered for one contract.
pub const EVENT_TYPES_PER_CONTRACT_MAX: usize = 1_000;

/// Largest JSON Schema of an event type, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 32 * 1024;

/// Largest sample of an event type, in bytes.
pub const SAMPLE_BYTES_MAX: usize = 32 * 1024;

/// Longest description of an event type, in bytes.
pub const EVENT_TYPE_DESCRIPTION_BYTES_MAX: usize = 1_024;
