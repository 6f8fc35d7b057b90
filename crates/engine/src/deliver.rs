//! One attempt: look up → sign → send → decide → hand over to be recorded.
//!
//! Promise: first attempt, retry and replay run through here and nowhere else. What the receiver
//! does is data; the endpoint as it stands now is what counts (URL, secret, status), not as it
//! stood when the event was accepted. A delivery whose work ended without an outcome again and again
//! is tried alone, and then set aside, so that it cannot bring everything down for ever.

use std::sync::Arc;
use std::time::Duration;

use domain::attempt::{Attempt, Outcome};
use domain::delivery::{EndReason, Handling, Heard, Transition, decide, handle};
use domain::endpoint::{Endpoint, EndpointStatus};
use domain::health::disabled_at_once;
use domain::rendering::{Content, Header, render_headers};
use store::queue::{AttemptRecord, Claimed, Recorded};
use tokio::time::timeout;

use crate::Engine;
use crate::dispatch::Started;
use crate::record::Work;
use crate::registry::{RosterAtHand, endpoint_of};
use crate::sender::Request;
use crate::trace;

/// How long a delivery that must be attempted alone waits for another that is just now: many answers
/// of a healthy receiver. It holds a slot meanwhile.
const ALONE_WAIT_MAX: Duration = Duration::from_millis(250);

/// When it is claimed again if that was not long enough.
const ALONE_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Engine {
    /// Makes one attempt of a delivery whose lease we hold.
    pub(crate) async fn deliver(&self, started: &mut Started) {
        let work = self.work_of(&started.claimed).await;
        if let Some(work) = work {
            if let Some(attempt) = work.attempt() {
                started.ended(attempt, self.dice());
            }
            self.recorder().send(work).await;
        }
        started.taken_over();
    }

    /// Makes the attempt, if one is to be made; answers what is to be written down.
    async fn work_of(&self, claimed: &Claimed) -> Option<Work> {
        let roster = match self.roster_to_attempt(claimed).await {
            Ok(roster) => roster,
            Err(instead) => return instead,
        };
        let endpoint = endpoint_of(&roster, claimed.endpoint)?;
        match handle(claimed.lost_claims) {
            Handling::Attempt => Some(self.attempt(claimed, endpoint).await),
            Handling::Trial => self.attempt_on_trial(claimed).await,
            Handling::TrialAlone => self.attempt_alone(claimed).await,
            Handling::SetAside => {
                tracing::error!(
                    delivery = %claimed.lease.delivery,
                    event = %claimed.payload.event,
                    endpoint = %endpoint.id,
                    claims = claimed.lost_claims,
                    "set aside: its attempts end without an outcome; replay it once this is mended"
                );
                let note = self.note_of_exhausting(endpoint, claimed, EndReason::SetAside);
                Some(Work::set_aside(claimed).noting(note))
            }
        }
    }

    /// The account's endpoints, if that of the delivery takes attempts now; otherwise what to do
    /// instead.
    async fn roster_to_attempt(
        &self,
        claimed: &Claimed,
    ) -> Result<Arc<RosterAtHand>, Option<Work>> {
        let roster = match self.registry().roster(claimed.account).await {
            Ok(roster) => roster,
            Err(error) => {
                tracing::warn!(%error, delivery = %claimed.lease.delivery, "could not read the endpoint");
                return Err(Some(Work::give_back(claimed)));
            }
        };
        if self.withdrawn().has(claimed.lease.delivery) {
            return Err(None);
        }
        // Deleted: its deliveries are cancelled, and with them the lease.
        let roster = roster.ok_or(None)?;
        let endpoint = endpoint_of(&roster, claimed.endpoint).ok_or(None)?;
        if endpoint.status == EndpointStatus::Enabled {
            Ok(roster)
        } else {
            Err(Some(Work::give_back(claimed)))
        }
    }

    /// Makes the attempt while no other delivery must be alone; until its outcome is written down,
    /// none is. Whoever waits too long for another makes room, and is claimed again.
    async fn attempt_alone(&self, claimed: &Claimed) -> Option<Work> {
        let alone = Arc::clone(self.dispatch().alone()).acquire_owned();
        let Ok(Ok(alone)) = timeout(ALONE_WAIT_MAX, alone).await else {
            return Some(Work::give_back_until(
                claimed,
                self.clock().now().plus(ALONE_AGAIN_AFTER),
            ));
        };
        let work = self.attempt_on_trial(claimed).await?;
        Some(work.holding(alone))
    }

    /// Makes the attempt after announcing it in storage.
    async fn attempt_on_trial(&self, claimed: &Claimed) -> Option<Work> {
        match self.store().begin_trial(claimed.lease).await {
            Ok(Recorded::Applied) => {}
            Ok(Recorded::LeaseLost) => {
                self.metrics().lease_lost();
                return None;
            }
            Err(error) => {
                tracing::warn!(%error, delivery = %claimed.lease.delivery, "could not begin a trial");
                return Some(Work::give_back(claimed));
            }
        }
        // Looked for again: the endpoint may have changed, and its owner been answered, meanwhile.
        match self.roster_to_attempt(claimed).await {
            Ok(roster) => {
                let endpoint = endpoint_of(&roster, claimed.endpoint)?;
                Some(self.attempt(claimed, endpoint).await)
            }
            Err(instead) => instead,
        }
    }

    async fn attempt(&self, claimed: &Claimed, endpoint: &Endpoint) -> Work {
        let payload = &claimed.payload;
        let number = claimed.attempts.saturating_add(1);
        let at = self.clock().now();
        let standard_headers =
            !self.settings().without_standard_headers.contains(&endpoint.contract);
        let span = self.begin_span(payload.trace);
        let content = Content {
            event: payload.event,
            event_type: &payload.event_type,
            body: &payload.body,
            trace: span.map(|span| span.context()),
        };
        // Receivers refuse what is signed at another time than theirs.
        let signed_at = self.clock().told();
        let headers = render_headers(endpoint, &content, signed_at, standard_headers);
        let request_head = request_head(endpoint, &headers);
        let exchange = self
            .sender()
            .send(Request {
                url: endpoint.url.clone(),
                headers,
                body: payload.body.clone(),
                timeout: endpoint.attempt_timeout(),
                identity: endpoint.client_identity.clone(),
                credentials: endpoint.client_credentials.clone(),
            })
            .await;
        let schedule = endpoint.retry_schedule.as_ref().unwrap_or(&self.settings().retry_schedule);
        let now = self.clock().now();
        let outcome = exchange.outcome;
        let chance = self.dice().chance();
        let heard = Heard { outcome, asked: exchange.control };
        let transition = decide(schedule, number, claimed.owed_since, heard, now, chance);
        self.metrics().attempt(outcome, exchange.duration, number, claimed.owed_since, at);
        if let Some(span) = span {
            self.end_span(span, || attempt_work(claimed, number, outcome));
        }
        if !outcome.is_success() {
            tracing::debug!(
                delivery = %claimed.lease.delivery,
                endpoint = %endpoint.id,
                attempt = number,
                outcome = outcome.name(),
                status = outcome.status(),
                detail = exchange.detail,
                "an attempt failed"
            );
        }
        self.health().heed(endpoint.id, outcome, now);
        if let Some(reason) = disabled_at_once(outcome, exchange.control)
            && let Err(error) = self.disable(endpoint, reason).await
        {
            // The next attempt will hear the same.
            tracing::warn!(%error, endpoint = %endpoint.id, "could not disable");
        }
        let attempt = Attempt {
            number,
            at,
            duration: exchange.duration,
            phases: exchange.phases,
            outcome,
            request_head,
            response_excerpt: exchange.response_excerpt.to_vec(),
            next_at: transition.next_at(),
        };
        let record = AttemptRecord { lease: claimed.lease, attempt, transition };
        let work = Work::record(claimed, record);
        match transition {
            Transition::Exhausted(reason) => {
                work.noting(self.note_of_exhausting(endpoint, claimed, reason))
            }
            Transition::Delivered | Transition::RetryAt(_) => work,
        }
    }
}

/// The attempt as its span tells it.
fn attempt_work(claimed: &Claimed, number: u32, outcome: Outcome) -> trace::Work {
    trace::Work::Attempt {
        event: claimed.payload.event,
        event_type: claimed.payload.event_type.clone(),
        delivery: claimed.lease.delivery,
        endpoint: claimed.endpoint,
        number,
        outcome,
    }
}

/// The request's line and headers as sent, one a line.
fn request_head(endpoint: &Endpoint, headers: &[Header]) -> String {
    let mut head = String::with_capacity(640);
    for part in ["POST ", endpoint.url.path_and_query(), " HTTP/1.1\n"] {
        head.push_str(part);
    }
    for part in ["host: ", endpoint.url.authority(), "\n"] {
        head.push_str(part);
    }
    for (name, value) in headers {
        for part in [name, ": ", value, "\n"] {
            head.push_str(part);
        }
    }
    if endpoint.client_credentials.is_some() {
        head.push_str("authorization: Bearer [hidden]\n");
    }
    head
}
