//! Taking events in: check, match, render once, accept.
//!
//! Promise: an answer of [`Published`] means that the event and every delivery it owes are on
//! stable storage. The producer's `data` is looked at, never rewritten. Neighbours: `store` makes
//! it durable, [`crate::dispatch`] gets what was born leased, without reading it back.

use std::sync::Arc;

use bytes::Bytes;
use domain::endpoint::{Endpoint, EndpointStatus};
use domain::event::{EntityId, Event, IdempotencyKey};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::json_depth::is_deeper_than;
use domain::limits::{DELIVER_AT_AHEAD_MAX, ENTITY_IDS_MAX, EVENT_DATA_BYTES_MAX, JSON_DEPTH_MAX};
use domain::matching::{Matchable, NoDelivery, match_endpoint};
use domain::ordering::{OrderingKey, ordering_key_of};
use domain::rendering::render_body;
use domain::time::Timestamp;
use domain::trace::TraceContext;
use store::queue::{
    Accepted, Claimed, Idempotency, Lease, NewDelivery, NewEvent, Payload, SessionId,
};
use tokio::time::Instant;

use crate::Engine;
use crate::administer::shorten;
use crate::dispatch::Place;
use crate::error::{EngineError, ErrorCode};
use crate::filter::{Subject, Verdicts};
use crate::follow::Birth;
use crate::payload::data_ids;
use crate::registry::{RosterAtHand, endpoint_of};
use crate::scope::Scope;
use crate::trace;

use repetition::Repetition;

mod repetition;

/// An event to publish, each field as sent.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    /// The account's id or username.
    pub account: String,
    /// The event's type.
    pub event_type: String,
    /// One JSON object, already known to be valid JSON.
    pub data: Bytes,
    /// Unix seconds; now if not given.
    pub timestamp: Option<i64>,
    /// What it is about.
    pub entity_ids: Vec<String>,
    /// When its deliveries are due first; at once if that is past, or not given.
    pub deliver_at: Option<Timestamp>,
    /// What it is to stay in order with, at endpoints that keep one order for each key.
    pub ordering_key: Option<String>,
    /// The publisher's trace.
    pub trace: Option<TraceContext>,
}

/// An event that is on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: EventId,
    /// How many deliveries it owes.
    pub deliveries: u32,
}

/// How often an event is matched again because its account's endpoints changed meanwhile, before
/// we say that we are overloaded.
const MATCHES_MAX: usize = 8;

/// Most rows accepted in one step, so that a large batch with a large fan-out does not keep others
/// waiting: some 20 ms of storage.
const STEP_ROWS_MAX: usize = 2_000;

/// Deliveries for which room is made before an event is matched: what most events owe, and little
/// to waste on one that filters keep from thousands of endpoints.
const DELIVERIES_EXPECTED_MAX: usize = 16;

/// An event checked and ready to be matched.
struct Ready {
    roster: Arc<RosterAtHand>,
    event: Event,
    birth: Birth,
    /// When it was taken in.
    taken_in: Instant,
    /// The publish in the publisher's trace, if that is recorded.
    span: Option<trace::Begun>,
    data: Bytes,
    idempotency: Option<Idempotency>,
    /// The only endpoint to deliver to, whatever it subscribed to (test events).
    only: Option<EndpointId>,
}

impl Ready {
    /// Refuses a test event whose endpoint gets nothing, as the roster has it.
    fn check_only(&self) -> Result<(), EngineError> {
        self.only.map_or(Ok(()), |only| check_testable(endpoint_of(&self.roster, only)))
    }
}

/// What a publisher is answered.
type Answer = Result<Published, EngineError>;

/// An event on its way to be accepted, and where its answer belongs.
struct Waiting {
    at: usize,
    ready: Ready,
    /// Most rows that accepting it writes.
    rows_max: usize,
    /// What it owes, once it is matched.
    deliveries: Deliveries,
}

impl Waiting {
    fn new(at: usize, ready: Ready) -> Self {
        let rows_max = 1 + ready.roster.subscribers(&ready.event.event_type).count();
        Self { at, ready, rows_max, deliveries: Deliveries::default() }
    }
}

/// The deliveries of an event that is being accepted.
#[derive(Default)]
struct Deliveries {
    /// Those with a place in memory.
    born: Vec<(Claimed, Place)>,
    /// Endpoints whose delivery found no place and stays in storage for now.
    stored: Vec<EndpointId>,
}

impl Deliveries {
    /// The event was not accepted.
    fn refused(self) {
        for (_, place) in self.born {
            place.refused();
        }
    }
}

impl Engine {
    /// Publishes one event. `request_hash` tells a repetition of the same request from another use
    /// of its idempotency key; a repetition gets the first answer, even if it would be refused by now.
    pub async fn publish(
        &self,
        scope: Scope,
        publish: Publish,
        idempotency: Option<(IdempotencyKey, [u8; 32])>,
    ) -> Result<Published, EngineError> {
        let answer = async {
            let idempotency =
                idempotency.map(|(key, request_hash)| Idempotency { key, request_hash });
            let repetition = idempotency.as_ref().map(|it| Repetition::new(&publish, it));
            let mut ready = match (self.check_event(scope, publish).await, repetition) {
                (Err(refusal), Some(repetition)) if refusal.code() == ErrorCode::Invalid => {
                    // Boxed, as is whatever else is seldom needed, so that publishing takes little memory.
                    return Box::pin(self.first_answer(scope, repetition)).await?.ok_or(refusal);
                }
                (checked, _) => checked?,
            };
            ready.idempotency = idempotency;
            self.accept([ready]).await.pop().expect("one event, one answer")
        };
        answer.await.inspect_err(|error| self.metrics().refused(error))
    }

    /// Publishes many events; one refused does not fail the others. Answers in order.
    pub async fn publish_batch(
        &self,
        scope: Scope,
        batch: Vec<Result<Publish, EngineError>>,
    ) -> Vec<Result<Published, EngineError>> {
        let mut answers = Vec::with_capacity(batch.len());
        let mut ready = Vec::with_capacity(batch.len());
        for publish in batch {
            let checked = match publish {
                Ok(publish) => self.check_event(scope, publish).await,
                Err(refusal) => Err(refusal),
            };
            answers.push(checked.map(|event| ready.push(event)));
        }
        let mut accepted = self.accept(ready).await.into_iter();
        answers
            .into_iter()
            .map(|answer| answer.and_then(|()| accepted.next().expect("one answer an event")))
            .map(|answer| answer.inspect_err(|error| self.metrics().refused(error)))
            .collect()
    }

    /// Publishes the catalogue's sample of `event_type` to this endpoint only.
    pub async fn publish_test(
        &self,
        scope: Scope,
        endpoint: EndpointId,
        event_type: Option<&str>,
    ) -> Result<Published, EngineError> {
        let endpoint = self.endpoint(scope, endpoint).await?;
        check_testable(Some(&endpoint))?;
        let types = self.publishable(endpoint.contract).await?;
        let name = event_type.unwrap_or_else(|| types.test_type(&endpoint.subscription));
        let publish = Publish {
            account: endpoint.account.to_string(),
            data: types.sample(name)?,
            event_type: name.to_owned(),
            ..Publish::default()
        };
        let mut ready = self.check_event(scope, publish).await?;
        ready.only = Some(endpoint.id);
        ready.check_only()?;
        self.accept([ready]).await.pop().expect("one event, one answer")
    }

    async fn check_event(&self, scope: Scope, publish: Publish) -> Result<Ready, EngineError> {
        let taken_in = Instant::now();
        let roster = self.find_roster(scope, &publish.account).await?;
        let types = self.publishable(roster.account.contract).await?;
        let event_type = types.read_type(&publish.event_type)?;
        check_data(&publish.data)?;
        types.check_data(&event_type, &publish.data)?;
        if publish.entity_ids.len() > ENTITY_IDS_MAX {
            let reason = format!("must have at most {ENTITY_IDS_MAX} entries");
            return Err(EngineError::invalid("entity_ids", reason));
        }
        let entity_ids = publish
            .entity_ids
            .iter()
            .map(|id| EntityId::parse(id))
            .collect::<Result<_, _>>()
            .map_err(|error| EngineError::invalid("entity_ids", error.to_string()))?;
        let ordering_key = publish.ordering_key.as_deref().map(OrderingKey::parse).transpose();
        let ordering_key = ordering_key
            .map_err(|error| EngineError::invalid("ordering_key", error.to_string()))?;
        let accepted_at = self.clock().now();
        let span = self.begin_publish_span(publish.trace);
        let birth = self
            .births()
            .begin(roster.account.id, || EventId::from_u128(self.dice().id(accepted_at)));
        let event = Event {
            id: birth.id(),
            account: roster.account.id,
            event_type,
            timestamp: Timestamp::from_seconds(
                publish.timestamp.unwrap_or_else(|| self.clock().told().as_seconds()),
            ),
            entity_ids,
            accepted_at,
            deliver_at: read_deliver_at(publish.deliver_at, accepted_at)?,
            ordering_key,
            trace: span.map_or(publish.trace, |span| Some(span.context())),
        };
        let data = publish.data;
        Ok(Ready { roster, event, birth, taken_in, span, data, idempotency: None, only: None })
    }

    /// The account with that id or username.
    pub async fn account_named(&self, scope: Scope, name: &str) -> Result<AccountId, EngineError> {
        match self.find_roster(scope, name).await {
            Ok(roster) => Ok(roster.account.id),
            Err(error) if error.code() == ErrorCode::NotFound => {
                Err(EngineError::not_found("account"))
            }
            Err(error) => Err(error),
        }
    }

    async fn find_roster(
        &self,
        scope: Scope,
        name: &str,
    ) -> Result<Arc<RosterAtHand>, EngineError> {
        let unknown = || EngineError::not_found(&format!("account `{}`", shorten(name)));
        let id = match AccountId::parse(name) {
            Ok(id) => Some(id),
            Err(_) => self.registry().account_named(name).await?,
        };
        let id = id.ok_or_else(unknown)?;
        scope.check(id, "account").map_err(|_| unknown())?;
        self.registry().roster(id).await?.ok_or_else(unknown)
    }

    /// Accepts events, matching those again whose account's endpoints changed meanwhile. Answers
    /// in order.
    async fn accept(&self, ready: impl IntoIterator<Item = Ready>) -> Vec<Answer> {
        let ready = ready.into_iter().enumerate();
        let mut left: Vec<Waiting> = ready.map(|(at, ready)| Waiting::new(at, ready)).collect();
        let mut answers: Vec<Option<Answer>> = left.iter().map(|_| None).collect();
        for _ in 0..MATCHES_MAX {
            let mut changed = Vec::new();
            while !left.is_empty() {
                let step = take_step(&mut left);
                changed.extend(self.accept_step(step, &mut answers).await);
            }
            for Waiting { at, mut ready, .. } in changed {
                let account = ready.event.account;
                self.registry().forget(account);
                match self.registry().roster(account).await {
                    Ok(Some(roster)) => {
                        ready.roster = roster;
                        match ready.check_only() {
                            Ok(()) => left.push(Waiting::new(at, ready)),
                            Err(error) => answers[at] = Some(Err(error)),
                        }
                    }
                    Ok(None) => answers[at] = Some(Err(EngineError::not_found("account"))),
                    Err(error) => answers[at] = Some(Err(error.into())),
                }
            }
        }
        let overloaded =
            || EngineError::unavailable("the account's endpoints change too fast just now");
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(overloaded()))).collect()
    }

    /// Accepts some events in one step and answers them; those to be matched again come back.
    async fn accept_step(
        &self,
        mut step: Vec<Waiting>,
        answers: &mut [Option<Answer>],
    ) -> Vec<Waiting> {
        let refuse = |step: Vec<Waiting>, answers: &mut [Option<Answer>], error: &EngineError| {
            for waiting in step {
                answers[waiting.at] = Some(Err(error.clone()));
            }
            Vec::new()
        };
        if self.is_stopping() {
            return refuse(step, answers, &EngineError::unavailable("shutting down"));
        }
        let bytes = step.iter().map(|waiting| waiting.ready.data.len()).sum();
        let rows = step.iter().map(|waiting| waiting.rows_max).sum();
        let admitted = match self.intake().admit(bytes, rows).await {
            Ok(admitted) => admitted,
            Err(error) => return refuse(step, answers, &error),
        };
        let session = self.session();
        let mut new = Vec::with_capacity(step.len());
        for waiting in &mut step {
            waiting.ready.birth.is_submitted = true;
            new.push(self.match_event(waiting, session));
        }
        let accepted = self.store().accept(session, new).await;
        for waiting in &mut step {
            waiting.ready.birth.is_submitted = false;
        }
        let accepted = match accepted {
            Ok(accepted) => accepted,
            // What was born may be durable all the same: its places say so when dropped.
            Err(error) => return refuse(step, answers, &error.into()),
        };
        drop(admitted);
        let mut changed = Vec::new();
        for (mut waiting, accepted) in step.into_iter().zip(accepted) {
            let deliveries = std::mem::take(&mut waiting.deliveries);
            answers[waiting.at] = Some(match accepted {
                Accepted::New => Ok(self.accepted(&waiting.ready, deliveries)),
                Accepted::Repeated { event, deliveries: owed } => {
                    deliveries.refused();
                    Ok(Published { id: event, deliveries: owed })
                }
                Accepted::KeyReused => {
                    deliveries.refused();
                    Err(EngineError::new(
                        ErrorCode::Conflict,
                        "this idempotency key was used with another request; use a new one",
                    ))
                }
                Accepted::NoAccount => {
                    deliveries.refused();
                    Err(EngineError::not_found("account"))
                }
                Accepted::RosterChanged => {
                    deliveries.refused();
                    changed.push(waiting);
                    continue;
                }
            });
        }
        changed
    }

    /// Sends the deliveries of an accepted event on their way.
    fn accepted(&self, ready: &Ready, deliveries: Deliveries) -> Published {
        let event = &ready.event;
        let owed = u32::try_from(deliveries.born.len() + deliveries.stored.len());
        let owed = owed.unwrap_or(u32::MAX);
        self.metrics().accepted(owed, ready.taken_in.elapsed(), event.accepted_at);
        if let Some(span) = ready.span {
            self.end_span(span, || trace::Work::Publish {
                event: event.id,
                event_type: event.event_type.clone(),
                deliveries: owed,
            });
        }
        self.dispatch().offer(deliveries.born);
        self.start_ready();
        for endpoint in deliveries.stored {
            self.dispatch().note_first_stored(endpoint, event.account, event.owed_since());
        }
        Published { id: event.id, deliveries: owed }
    }

    /// Matches, renders, and reserves places in memory for the deliveries that find room.
    fn match_event(&self, waiting: &mut Waiting, session: SessionId) -> NewEvent {
        let Waiting { ready, rows_max, deliveries, .. } = waiting;
        let Ready { roster, event, data, idempotency, only, .. } = ready;
        let ids = if roster.wants_entities { data_ids(data) } else { Vec::new() };
        let matchable = Matchable {
            event_type: &event.event_type,
            entity_ids: &event.entity_ids,
            data_ids: &ids,
        };
        let contract = roster.account.contract;
        let rendered = render_body(contract, event.id, &event.event_type, event.timestamp, data);
        let body = Bytes::from(rendered.bytes);
        let payload = Arc::new(Payload {
            event: event.id,
            event_type: event.event_type.clone(),
            trace: event.trace,
            body: body.clone(),
        });
        let expected = (*rows_max - 1).min(DELIVERIES_EXPECTED_MAX);
        let mut new = NewEvent {
            event: event.clone(),
            body,
            data: rendered.data,
            deliveries: Vec::with_capacity(expected),
            not_made: Vec::new(),
            roster_version: roster.version,
            idempotency: idempotency.clone(),
        };
        deliveries.born.reserve_exact(expected);
        let mut verdicts = Verdicts::new(self.registry().filters(), Subject::of(event, data));
        let only_one = only.and_then(|only| endpoint_of(roster, only));
        let subscribers = roster.subscribers(&event.event_type).filter(|_| only.is_none());
        for endpoint in only_one.into_iter().chain(subscribers) {
            let matched = match only {
                Some(_) => Ok(()),
                None => match_endpoint(matchable, endpoint, |text| verdicts.ask(text)),
            };
            match matched {
                Ok(()) => {}
                Err(NoDelivery::NotSubscribed) => continue,
                Err(reason) => {
                    new.not_made.push((endpoint.id, reason));
                    continue;
                }
            }
            let id = DeliveryId::from_u128(self.dice().id(event.accepted_at));
            let lease = Lease { session, delivery: id, fence: 1 };
            let ordering_key = ordering_key_of(endpoint, event);
            let can_start_now = ordering_key.is_none() && event.owed_since() <= event.accepted_at;
            let place = can_start_now
                .then(|| self.dispatch().reserve(endpoint, payload.body.len(), lease))
                .flatten();
            new.deliveries.push(NewDelivery {
                id,
                endpoint: endpoint.id,
                leased: place.is_some(),
                ordering_key,
            });
            let Some(place) = place else {
                deliveries.stored.push(endpoint.id);
                continue;
            };
            let claimed = Claimed {
                lease,
                account: event.account,
                endpoint: endpoint.id,
                attempts: 0,
                lost_claims: 0,
                owed_since: event.accepted_at,
                is_ordered: false,
                is_replay: false,
                payload: Arc::clone(&payload),
            };
            deliveries.born.push((claimed, place));
        }
        new
    }
}

/// Refuses to test an endpoint that is not there or gets nothing.
fn check_testable(endpoint: Option<&Endpoint>) -> Result<(), EngineError> {
    match endpoint.map(|endpoint| endpoint.status) {
        Some(EndpointStatus::Enabled) => Ok(()),
        Some(EndpointStatus::Disabled(_)) => Err(EngineError::new(
            ErrorCode::Conflict,
            "the endpoint is disabled; enable it to test it",
        )),
        None => Err(EngineError::not_found("endpoint")),
    }
}

/// Takes as many events as one step may have.
fn take_step(left: &mut Vec<Waiting>) -> Vec<Waiting> {
    let mut rows = 0;
    let fits = |waiting: &&Waiting| {
        rows += waiting.rows_max;
        rows <= STEP_ROWS_MAX
    };
    let count = left.iter().take_while(fits).count().max(1);
    let rest = left.split_off(count.min(left.len()));
    std::mem::replace(left, rest)
}

/// When deliveries are due first, if that is ahead.
fn read_deliver_at(
    asked: Option<Timestamp>,
    accepted_at: Timestamp,
) -> Result<Option<Timestamp>, EngineError> {
    let Some(at) = asked.filter(|at| *at > accepted_at) else { return Ok(None) };
    if at > accepted_at.plus(DELIVER_AT_AHEAD_MAX) {
        let days = DELIVER_AT_AHEAD_MAX.as_secs() / (24 * 3600);
        return Err(EngineError::invalid(
            "deliver_at",
            format!("must be at most {days} days ahead"),
        ));
    }
    Ok(Some(at))
}

/// Refuses `data` that is no JSON object, too large or nested too deep.
pub(crate) fn check_data(data: &[u8]) -> Result<(), EngineError> {
    if data.first() != Some(&b'{') {
        return Err(EngineError::invalid("data", "must be a JSON object"));
    }
    if data.len() > EVENT_DATA_BYTES_MAX {
        let message = format!(
            "data has {} bytes; an event may carry at most {EVENT_DATA_BYTES_MAX}",
            data.len()
        );
        return Err(EngineError::new(ErrorCode::TooLarge, message));
    }
    if is_deeper_than(data, JSON_DEPTH_MAX) {
        let reason = format!("is nested deeper than {JSON_DEPTH_MAX} levels");
        return Err(EngineError::invalid("data", reason));
    }
    Ok(())
}
