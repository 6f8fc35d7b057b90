//! Taking events in: check, match, render once, accept.
//!
//! Promise: an answer of [`Published`] means that the event and every delivery it owes are on
//! stable storage. The producer's `data` is looked at, never rewritten. Neighbours: `store` makes
//! it durable, [`crate::dispatch`] gets what was born leased, without reading it back.

use std::sync::Arc;

use bytes::Bytes;
use domain::catalogue;
use domain::contract::Contract;
use domain::endpoint::Endpoint;
use domain::event::{EntityId, Event, EventType, IdempotencyKey};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::limits::{ENTITY_IDS_MAX, EVENT_DATA_BYTES_MAX, JSON_DEPTH_MAX};
use domain::matching::{Matchable, NoDelivery, match_endpoint};
use domain::rendering::render_body;
use domain::time::Timestamp;
use store::catalogue::Roster;
use store::queue::{Accepted, Claimed, Idempotency, Lease, NewDelivery, NewEvent, Payload};

use crate::Engine;
use crate::administer::shorten;
use crate::dispatch::Place;
use crate::error::{EngineError, ErrorCode};
use crate::payload::{data_ids, json_depth};
use crate::scope::Scope;

/// An event to publish, each field as sent.
#[derive(Clone, Debug)]
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

/// An event checked and ready to be matched.
struct Ready {
    roster: Arc<Roster>,
    event: Event,
    data: Bytes,
    idempotency: Option<Idempotency>,
    /// The only endpoint to deliver to, whatever it subscribed to (test events).
    only: Option<EndpointId>,
}

/// An event matched: what to accept, and where its deliveries have a place in memory.
struct Matched {
    new: NewEvent,
    born: Vec<(Claimed, Place)>,
    /// Endpoints whose delivery found no place and stays in storage for now.
    stored: Vec<EndpointId>,
}

impl Engine {
    /// Publishes one event. `request_hash` tells a repetition of the same request from another use
    /// of its idempotency key.
    pub async fn publish(
        &self,
        scope: Scope,
        publish: Publish,
        idempotency: Option<(IdempotencyKey, [u8; 32])>,
    ) -> Result<Published, EngineError> {
        let mut ready = self.check_event(scope, publish).await?;
        ready.idempotency =
            idempotency.map(|(key, request_hash)| Idempotency { key, request_hash });
        self.accept(vec![ready]).await?.pop().expect("one event, one answer")
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
        let mut accepted = match self.accept(ready).await {
            Ok(accepted) => accepted.into_iter(),
            Err(error) => {
                let refuse = |answer: Result<(), EngineError>| {
                    answer.and_then(|()| Err(EngineError::unavailable(error.message())))
                };
                return answers.into_iter().map(refuse).collect();
            }
        };
        answers
            .into_iter()
            .map(|answer| answer.and_then(|()| accepted.next().expect("one answer an event")))
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
        let (name, sample) = test_event(&endpoint, event_type)?;
        let publish = Publish {
            account: endpoint.account.to_string(),
            event_type: name,
            data: Bytes::from_static(sample.as_bytes()),
            timestamp: None,
            entity_ids: Vec::new(),
        };
        let mut ready = self.check_event(scope, publish).await?;
        ready.only = Some(endpoint.id);
        self.accept(vec![ready]).await?.pop().expect("one event, one answer")
    }

    async fn check_event(&self, scope: Scope, publish: Publish) -> Result<Ready, EngineError> {
        let roster = self.find_roster(scope, &publish.account).await?;
        let contract = roster.account.contract;
        let event_type = read_type(contract, &publish.event_type)?;
        check_data(&publish.data)?;
        if publish.entity_ids.len() > ENTITY_IDS_MAX {
            let reason = format!("must have at most {ENTITY_IDS_MAX} entries");
            return Err(EngineError::invalid("entity_ids", reason));
        }
        let entity_ids = publish
            .entity_ids
            .iter()
            .map(|id| EntityId::parse(id))
            .collect::<Result<_, _>>()
            .map_err(|error| EngineError::invalid("entity_ids", format!("are wrong: {error}")))?;
        let accepted_at = self.clock().now();
        let event = Event {
            id: EventId::from_u128(self.dice().id(accepted_at)),
            account: roster.account.id,
            event_type,
            timestamp: Timestamp::from_seconds(
                publish.timestamp.unwrap_or_else(|| accepted_at.as_seconds()),
            ),
            entity_ids,
            accepted_at,
        };
        Ok(Ready { roster, event, data: publish.data, idempotency: None, only: None })
    }

    async fn find_roster(&self, scope: Scope, name: &str) -> Result<Arc<Roster>, EngineError> {
        let unknown = || EngineError::not_found(&format!("account `{}`", shorten(name)));
        let id = match AccountId::parse(name) {
            Ok(id) => Some(id),
            Err(_) => self.registry().account_named(name).await?,
        };
        let id = id.ok_or_else(unknown)?;
        scope.check(id, &format!("account `{}`", shorten(name)))?;
        self.registry().roster(id).await?.ok_or_else(unknown)
    }

    /// Accepts events, matching those again whose account's endpoints changed meanwhile.
    async fn accept(
        &self,
        ready: Vec<Ready>,
    ) -> Result<Vec<Result<Published, EngineError>>, EngineError> {
        let mut answers: Vec<Option<Result<Published, EngineError>>> =
            ready.iter().map(|_| None).collect();
        let mut left: Vec<(usize, Ready)> = ready.into_iter().enumerate().collect();
        for _ in 0..MATCHES_MAX {
            if left.is_empty() {
                break;
            }
            let mut new = Vec::with_capacity(left.len());
            let mut places = Vec::with_capacity(left.len());
            for (_, ready) in &left {
                let matched = self.match_event(ready);
                let owed = u32::try_from(matched.new.deliveries.len()).unwrap_or(u32::MAX);
                new.push(matched.new);
                places.push((matched.born, matched.stored, owed));
            }
            let accepted = self.store().accept(self.session(), new).await?;
            let mut changed = Vec::new();
            for (((at, mut ready), accepted), (born, stored, owed)) in
                left.into_iter().zip(accepted).zip(places)
            {
                let answer = match accepted {
                    Accepted::New => {
                        let Event { id, account, accepted_at, .. } = ready.event;
                        self.metrics().accepted(owed);
                        self.dispatch().offer(born);
                        self.start_ready();
                        for endpoint in stored {
                            self.dispatch().note_stored(endpoint, account, accepted_at);
                        }
                        Ok(Published { id, deliveries: owed })
                    }
                    Accepted::Repeated { event, deliveries } => {
                        Ok(Published { id: event, deliveries })
                    }
                    Accepted::KeyReused => Err(EngineError::new(
                        ErrorCode::Conflict,
                        "this idempotency key was used with another request; use a new one",
                    )),
                    Accepted::NoAccount => Err(EngineError::not_found("account")),
                    Accepted::RosterChanged => {
                        self.registry().forget(ready.event.account);
                        match self.registry().roster(ready.event.account).await? {
                            Some(roster) => {
                                ready.roster = roster;
                                changed.push((at, ready));
                                continue;
                            }
                            None => Err(EngineError::not_found("account")),
                        }
                    }
                };
                answers[at] = Some(answer);
            }
            left = changed;
        }
        let overloaded =
            || EngineError::unavailable("the account's endpoints change too fast just now");
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(overloaded()))).collect())
    }

    /// Matches, renders, and reserves places in memory for the deliveries that find room.
    fn match_event(&self, ready: &Ready) -> Matched {
        let Ready { roster, event, data, idempotency, only } = ready;
        let wants_entity = roster.endpoints.iter().any(|endpoint| endpoint.entity_id.is_some());
        let ids = if wants_entity { data_ids(data) } else { Vec::new() };
        let matchable = Matchable {
            event_type: &event.event_type,
            entity_ids: &event.entity_ids,
            data_ids: &ids,
        };
        let mut owed: Vec<&Endpoint> = Vec::new();
        let mut not_made = Vec::new();
        for endpoint in &roster.endpoints {
            match only.map_or_else(
                || match_endpoint(matchable, endpoint),
                |only| if endpoint.id == only { Ok(()) } else { Err(NoDelivery::NotSubscribed) },
            ) {
                Ok(()) => owed.push(endpoint),
                Err(NoDelivery::NotSubscribed) => {}
                Err(reason @ (NoDelivery::Entity | NoDelivery::Disabled)) => {
                    not_made.push((endpoint.id, reason));
                }
            }
        }
        let rendered = render_body(
            roster.account.contract,
            event.id,
            &event.event_type,
            event.timestamp,
            data,
        );
        let body = Bytes::from(rendered.bytes);
        let payload = Arc::new(Payload {
            event: event.id,
            event_type: event.event_type.clone(),
            body: body.clone(),
        });
        let mut deliveries = Vec::with_capacity(owed.len());
        let mut born = Vec::new();
        let mut stored = Vec::new();
        for endpoint in owed {
            let id = DeliveryId::from_u128(self.dice().id(event.accepted_at));
            let place = self.dispatch().reserve(endpoint, body.len());
            deliveries.push(NewDelivery { id, endpoint: endpoint.id, leased: place.is_some() });
            let Some(place) = place else {
                stored.push(endpoint.id);
                continue;
            };
            let claimed = Claimed {
                lease: Lease { session: self.session(), delivery: id, fence: 1 },
                account: event.account,
                endpoint: endpoint.id,
                attempts: 0,
                created_at: event.accepted_at,
                payload: Arc::clone(&payload),
            };
            born.push((claimed, place));
        }
        let new = NewEvent {
            event: event.clone(),
            body,
            data: rendered.data,
            deliveries,
            not_made,
            roster_version: roster.version,
            idempotency: idempotency.clone(),
        };
        Matched { new, born, stored }
    }
}

fn read_type(contract: Contract, name: &str) -> Result<EventType, EngineError> {
    if contract != Contract::Standard && catalogue::find(contract, name).is_none() {
        let nearest = catalogue::nearest(contract, name).join("`, `");
        let reason = format!(
            "`{}` is not an event type of {}; the nearest are `{nearest}`",
            shorten(name),
            contract.name()
        );
        return Err(EngineError::invalid("type", reason));
    }
    EventType::parse(name)
        .map_err(|error| EngineError::invalid("type", format!("is wrong: {error}")))
}

fn check_data(data: &[u8]) -> Result<(), EngineError> {
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
    if json_depth(data) > JSON_DEPTH_MAX {
        let reason = format!("is nested deeper than {JSON_DEPTH_MAX} levels");
        return Err(EngineError::invalid("data", reason));
    }
    Ok(())
}

/// The type and sample to test an endpoint with: the one asked for, else the first the endpoint
/// subscribed to that has a sample, else the first of the catalogue.
fn test_event(
    endpoint: &Endpoint,
    asked: Option<&str>,
) -> Result<(String, &'static str), EngineError> {
    const NO_SAMPLE: &str = r#"{"test":true}"#;
    let contract = endpoint.contract;
    if let Some(name) = asked {
        let event_type = read_type(contract, name)?;
        let sample = catalogue::find(contract, name).map_or(NO_SAMPLE, |entry| entry.sample);
        return Ok((event_type.as_str().to_owned(), sample));
    }
    let known = catalogue::event_types(contract);
    let wanted = known.iter().find(|entry| {
        EventType::parse(entry.name).is_ok_and(|name| endpoint.subscription.wants(&name))
    });
    Ok(wanted.or_else(|| known.first()).map_or_else(
        || ("postrider.test".to_owned(), NO_SAMPLE),
        |entry| (entry.name.to_owned(), entry.sample),
    ))
}
