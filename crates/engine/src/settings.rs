//! What the operator may set about the engine. `server` fills it from flags, environment and file.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::contract::Contract;
use domain::endpoint::RetrySchedule;
use domain::limits::{IN_FLIGHT_PER_ENDPOINT_MAX, IN_FLIGHT_PER_HOST_MAX, IN_FLIGHT_PER_NODE_MAX};
use domain::retention::Retention;
use domain::target_url::UrlPolicy;

/// What the operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which URLs endpoints may have, and which addresses may be called.
    pub urls: UrlPolicy,
    /// Whether a `konpro_v1` endpoint is asked with `OPTIONS` before it is registered.
    pub probe_endpoints: bool,
    /// Contracts whose deliveries do without the Standard Webhooks headers.
    pub without_standard_headers: Vec<Contract>,
    /// Request limits of `konpro_v1` plans by name.
    pub plans: BTreeMap<String, PlanLimits>,
    /// When failed deliveries are tried again, unless the endpoint says otherwise.
    pub retry_schedule: RetrySchedule,
    /// Attempts on their way at once.
    pub in_flight_max: usize,
    /// Attempts on their way at once to one endpoint, unless the endpoint says otherwise.
    pub in_flight_per_endpoint_max: usize,
    /// How long what has ended is kept.
    pub retention: Retention,
    /// Attempts on their way at once to one host and port.
    pub in_flight_per_host_max: usize,
    /// An operator key that is good beside those in storage.
    pub bootstrap_operator_key: Option<String>,
    /// Requests to the platform API that each account key may make; `None` for no limit.
    pub account_key_rate: Option<BucketRate>,
    /// Requests to the platform API that each operator key may make; `None` for no limit.
    pub operator_key_rate: Option<BucketRate>,
}

/// A steady rate of requests, and how many may come at once after a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketRate {
    /// Requests a second in the long run; 0 counts as 1.
    pub per_second: u32,
    /// Requests at once; 0 counts as 1.
    pub burst: u32,
}

/// How many requests a plan allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanLimits {
    /// In any 60 seconds.
    pub per_minute: u32,
    /// In a day, UTC.
    pub per_day: u32,
}

/// `POST` requests a `jogg_v2` key may make in any [`JOGG_V2_POST_WINDOW`] (JoggAI v2, rate
/// limits: "20 POST requests per minute per API key").
pub const JOGG_V2_POSTS_MAX: u32 = 20;

/// The window of [`JOGG_V2_POSTS_MAX`].
pub const JOGG_V2_POST_WINDOW: Duration = Duration::from_mins(1);

impl Default for Settings {
    fn default() -> Self {
        // KonPro v1, "Authentication": requests per minute and day by plan.
        let plans = [("trial", 10, 100), ("pro", 60, 1_000), ("scale", 300, 10_000)];
        Self {
            urls: UrlPolicy::default(),
            probe_endpoints: true,
            without_standard_headers: Vec::new(),
            plans: plans
                .map(|(name, per_minute, per_day)| {
                    (name.to_owned(), PlanLimits { per_minute, per_day })
                })
                .into(),
            retry_schedule: RetrySchedule::default(),
            in_flight_max: IN_FLIGHT_PER_NODE_MAX,
            in_flight_per_endpoint_max: IN_FLIGHT_PER_ENDPOINT_MAX,
            retention: Retention::default(),
            in_flight_per_host_max: IN_FLIGHT_PER_HOST_MAX,
            bootstrap_operator_key: None,
            // Far above what a customer's own scripts need, far below what one of them could take
            // from all others.
            account_key_rate: Some(BucketRate { per_second: 100, burst: 200 }),
            // A platform's own back end publishes tens of thousands of events a second.
            operator_key_rate: None,
        }
    }
}
