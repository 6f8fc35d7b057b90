//! Doubles of the engine's ports: a sender by script, a clock that follows the runtime's time, and
//! entropy from a seed.
//!
//! Promise: with these, an engine under a paused runtime does the same at every run, and days pass
//! in milliseconds.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::attempt::{Failure, Outcome, Phases, ReceiverControl};
use domain::credentials::ClientIdentity;
use domain::target_url::TargetUrl;
use domain::time::Timestamp;
use engine::clock::Clock;
use engine::entropy::Entropy;
use engine::sender::{Exchange, IdentityRefusal, Request, Sender};
use tokio::time::Instant;

use crate::gate::Gate;
use crate::journal::Journal;

/// How long [`ScriptedSender`] waits for what must happen, in paused time: longer than the life of
/// any delivery.
const PAUSED_PATIENCE: Duration = Duration::from_hours(40 * 24);

/// What a scripted receiver does with one request.
#[derive(Clone, Debug)]
pub struct Reply {
    outcome: Outcome,
    delay: Duration,
    gate: Option<Gate>,
    excerpt: Bytes,
    control: Option<ReceiverControl>,
}

impl Reply {
    /// Answers with this status at once.
    pub fn status(status: u16) -> Self {
        Self::outcome(Outcome::Answered { status, retry_after: None })
    }

    /// Answers with this status and asks to wait so long.
    pub fn retry_after(status: u16, wait: Duration) -> Self {
        Self::outcome(Outcome::Answered { status, retry_after: Some(wait) })
    }

    /// Fails so at once.
    pub fn failure(failure: Failure) -> Self {
        Self::outcome(Outcome::Failed(failure))
    }

    /// Never answers; the request's time limit passes.
    pub fn silence() -> Self {
        Self::failure(Failure::Timeout).after(Duration::MAX)
    }

    /// Ends with this outcome at once.
    pub fn outcome(outcome: Outcome) -> Self {
        Self { outcome, delay: Duration::ZERO, gate: None, excerpt: Bytes::new(), control: None }
    }

    /// Not before `delay` has passed; a delay of the request's time limit or more is a time-out.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Not before the gate is open, and without a time limit while it is closed.
    #[must_use]
    pub fn held_by(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// With this answer body.
    #[must_use]
    pub fn with_excerpt(mut self, excerpt: impl Into<Bytes>) -> Self {
        self.excerpt = excerpt.into();
        self
    }

    /// Asking for this with a header of the answer.
    #[must_use]
    pub fn with_control(mut self, control: ReceiverControl) -> Self {
        self.control = Some(control);
        self
    }
}

/// A request as it was handed to the sender.
#[derive(Clone, Debug)]
pub struct SentRequest {
    /// The request.
    pub request: Request,
    /// When.
    pub at: Instant,
}

impl SentRequest {
    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }
}

/// A sender that sends nothing and answers by script, 200 at once unless told otherwise.
#[derive(Clone, Debug, Default)]
pub struct ScriptedSender(Arc<ScriptedSenderState>);

#[derive(Debug, Default)]
struct ScriptedSenderState {
    requests: Journal<SentRequest>,
    ended: Journal<()>,
    probes: Journal<String>,
    scripts: Mutex<SenderScripts>,
}

#[derive(Debug, Default)]
struct SenderScripts {
    queues: HashMap<String, VecDeque<Reply>>,
    per_url: HashMap<String, Reply>,
    otherwise: Option<Reply>,
    identities_refused: Option<IdentityRefusal>,
    probes: HashMap<String, VecDeque<Outcome>>,
    in_flight: HashMap<String, usize>,
    in_flight_peak: HashMap<String, usize>,
    in_flight_in_all: usize,
    in_flight_in_all_peak: usize,
}

impl ScriptedSender {
    /// A sender to which everything succeeds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends replies for the next requests to this URL, one each.
    pub fn script(&self, url: &str, replies: impl IntoIterator<Item = Reply>) {
        self.scripts().queues.entry(url.to_owned()).or_default().extend(replies);
    }

    /// Replies so to every request to this URL, once its script is used up.
    pub fn always(&self, url: &str, reply: Reply) {
        self.scripts().per_url.insert(url.to_owned(), reply);
    }

    /// Replies so whatever nothing else is said about.
    pub fn otherwise(&self, reply: Reply) {
        self.scripts().otherwise = Some(reply);
    }

    /// Appends outcomes for the next probes of this URL, one each; afterwards probes succeed.
    pub fn script_probes(&self, url: &str, outcomes: impl IntoIterator<Item = Outcome>) {
        self.scripts().probes.entry(url.to_owned()).or_default().extend(outcomes);
    }

    /// Takes no client certificate from now on, for this reason.
    pub fn refuse_identities(&self, refusal: IdentityRefusal) {
        self.scripts().identities_refused = Some(refusal);
    }

    /// Every request so far, in the order of their beginnings.
    pub fn requests(&self) -> Vec<SentRequest> {
        self.0.requests.entries()
    }

    /// Every request to this URL so far.
    pub fn requests_to(&self, url: &str) -> Vec<SentRequest> {
        self.requests().into_iter().filter(|sent| sent.request.url.as_str() == url).collect()
    }

    /// The URLs probed so far.
    pub fn probes(&self) -> Vec<String> {
        self.0.probes.entries()
    }

    /// Every request so far, once there are `count`. For paused time.
    ///
    /// # Panics
    ///
    /// When they do not come within 40 days.
    pub async fn wait_for(&self, count: usize) -> Vec<SentRequest> {
        self.wait_until(&format!("{count} requests"), |requests| requests.len() >= count).await
    }

    /// Every request so far, once `enough` holds of them. For paused time.
    ///
    /// # Panics
    ///
    /// When it does not within 40 days; the message says `awaited` and what was seen.
    pub async fn wait_until(
        &self,
        awaited: &str,
        enough: impl FnMut(&[SentRequest]) -> bool,
    ) -> Vec<SentRequest> {
        self.0.requests.wait_until(awaited, PAUSED_PATIENCE, enough).await
    }

    /// Ends once `count` requests have been replied to. For paused time.
    ///
    /// # Panics
    ///
    /// When they are not within 40 days.
    pub async fn wait_for_replies(&self, count: usize) {
        let awaited = format!("{count} replies");
        self.0.ended.wait_until(&awaited, PAUSED_PATIENCE, |ended| ended.len() >= count).await;
    }

    /// Requests to this URL on their way now.
    pub fn in_flight_to(&self, url: &str) -> usize {
        self.scripts().in_flight.get(url).copied().unwrap_or(0)
    }

    /// The most requests to this URL that were on their way at once.
    pub fn in_flight_peak_to(&self, url: &str) -> usize {
        self.scripts().in_flight_peak.get(url).copied().unwrap_or(0)
    }

    /// The most requests that were on their way at once, to all URLs.
    pub fn in_flight_peak(&self) -> usize {
        self.scripts().in_flight_in_all_peak
    }

    fn scripts(&self) -> MutexGuard<'_, SenderScripts> {
        self.0.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, url: &str) -> Reply {
        let mut scripts = self.scripts();
        scripts.in_flight_in_all += 1;
        scripts.in_flight_in_all_peak = scripts.in_flight_in_all_peak.max(scripts.in_flight_in_all);
        let in_flight = scripts.in_flight.entry(url.to_owned()).or_default();
        *in_flight += 1;
        let in_flight = *in_flight;
        let peak = scripts.in_flight_peak.entry(url.to_owned()).or_default();
        *peak = in_flight.max(*peak);
        let scripted = scripts.queues.get_mut(url).and_then(VecDeque::pop_front);
        scripted
            .or_else(|| scripts.per_url.get(url).cloned())
            .or_else(|| scripts.otherwise.clone())
            .unwrap_or_else(|| Reply::status(200))
    }
}

/// A request on its way, counted until it ends or is given up.
struct OnItsWay<'a> {
    sender: &'a ScriptedSender,
    url: String,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let mut scripts = self.sender.scripts();
        scripts.in_flight_in_all -= 1;
        if let Some(in_flight) = scripts.in_flight.get_mut(&self.url) {
            *in_flight -= 1;
        }
    }
}

#[async_trait]
impl Sender for ScriptedSender {
    async fn send(&self, request: Request) -> Exchange {
        let began_at = Instant::now();
        let timeout = request.timeout;
        let url = request.url.as_str().to_owned();
        let reply = self.begin(&url);
        let on_its_way = OnItsWay { sender: self, url };
        self.0.requests.push(SentRequest { request, at: began_at });
        if let Some(gate) = &reply.gate {
            gate.passed().await;
        }
        let in_time = reply.delay < timeout;
        if !reply.delay.is_zero() {
            tokio::time::sleep(reply.delay.min(timeout)).await;
        }
        drop(on_its_way);
        self.0.ended.push(());
        let duration = began_at.elapsed();
        let outcome = if in_time { reply.outcome } else { Outcome::Failed(Failure::Timeout) };
        let answered = outcome.status().is_some();
        Exchange {
            outcome,
            duration,
            phases: Phases {
                first_byte: if answered { duration } else { Duration::ZERO },
                ..Phases::default()
            },
            response_excerpt: if answered { reply.excerpt } else { Bytes::new() },
            control: reply.control.filter(|_| answered),
            detail: None,
        }
    }

    async fn probe(
        &self,
        url: &TargetUrl,
        _identity: Option<&ClientIdentity>,
        _timeout: Duration,
    ) -> Outcome {
        self.0.probes.push(url.as_str().to_owned());
        let scripted = self.scripts().probes.get_mut(url.as_str()).and_then(VecDeque::pop_front);
        scripted.unwrap_or(Outcome::Answered { status: 204, retry_after: None })
    }

    fn check_identity(&self, _identity: &ClientIdentity) -> Result<(), IdentityRefusal> {
        self.scripts().identities_refused.clone().map_or(Ok(()), Err)
    }
}

/// A clock that starts where it is told and goes with the runtime's time, paused or running.
#[derive(Debug)]
pub struct TestClock {
    start: Timestamp,
    created: Instant,
    shift_millis: AtomicI64,
    told_ahead_millis: AtomicI64,
}

impl TestClock {
    /// A clock that shows `start` now.
    pub fn starting_at(start: Timestamp) -> Self {
        Self {
            start,
            created: Instant::now(),
            shift_millis: AtomicI64::new(0),
            told_ahead_millis: AtomicI64::new(0),
        }
    }

    /// Sets the clock forward, as an administrator or NTP might; the runtime's time stays.
    pub fn set_forward(&self, length: Duration) {
        self.shift_millis.fetch_add(length.as_millis() as i64, Ordering::SeqCst);
    }

    /// Sets the machine's clock forward, which this one does not follow: only what others take for now.
    pub fn set_told_forward(&self, length: Duration) {
        self.told_ahead_millis.fetch_add(length.as_millis() as i64, Ordering::SeqCst);
    }

    /// Sets the clock back; the runtime's time stays.
    pub fn set_back(&self, length: Duration) {
        self.shift_millis.fetch_sub(length.as_millis() as i64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let shown = self.start.plus(self.created.elapsed()).as_millis();
        Timestamp::from_millis(shown + self.shift_millis.load(Ordering::SeqCst))
    }

    fn told(&self) -> Timestamp {
        let ahead = self.told_ahead_millis.load(Ordering::SeqCst);
        Timestamp::from_millis(self.now().as_millis() + ahead)
    }
}

/// Entropy that is the same for the same seed. SplitMix64 (Steele, Lea, Flood: "Fast splittable
/// pseudorandom number generators", 2014).
#[derive(Debug)]
pub struct SeededEntropy(AtomicU64);

impl SeededEntropy {
    /// The entropy of this seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn next(&self) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut bits = self.0.fetch_add(GOLDEN, Ordering::SeqCst).wrapping_add(GOLDEN);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}
