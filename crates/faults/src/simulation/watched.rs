//! The sender of an engine, watched: what is begun is held against what was answered before.
//!
//! Promise: nothing is begun for an endpoint that was answered to be closed, to a URL that was
//! answered to be replaced, of an event that was answered to be cancelled, or of one in a line while
//! the one ahead is pending. What it does itself is exactly what the product's sender does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::attempt::{Failure, Outcome};
use domain::credentials::ClientIdentity;
use domain::delivery::StateName;
use domain::id::EventId;
use domain::ordering::DeliveryOrder;
use domain::page::PageRequest;
use domain::target_url::TargetUrl;
use engine::sender::{Exchange, Request, Sender};
use http_sender::HttpSender;
use store::history::{DeliveryFilter, History as _};
use testkit::verify::verify_standard;

use super::judge::at_once;
use super::ledger::{Ledger, Send};
use super::trace::Sometimes;
use super::world::World;

/// The product's sender, watched.
pub(super) struct Watched {
    pub(super) world: Arc<World>,
    pub(super) node: usize,
    pub(super) sender: HttpSender,
}

/// On its way, until dropped.
struct OnItsWay<'a>(&'a Watched);

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.world.nodes()[self.0.node].in_flight -= 1;
    }
}

impl Watched {
    /// Notes the request; answers its place in the ledger.
    fn begin(&self, request: &Request) -> Option<usize> {
        let world = &self.world;
        let header = |name: &str| {
            let found = request.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map_or("", |(_, value)| value.as_ref())
        };
        let full = request.url.path_and_query();
        let (path, query) = full.split_once("?v=").unwrap_or((full, "0"));
        let event = EventId::parse(header("webhook-id")).ok();
        let slot = world.ledger().slot_at(path);
        let (Some(event), Some(slot)) = (event, slot) else {
            world.violation(format_args!("a request for nobody knows what: {path}"));
            return None;
        };
        world.say(format_args!("n{} send {event} to {full}", self.node));
        let mut ledger = world.ledger();
        let broken = broken_promise(&ledger, (self.node, world.shape.nodes), event, slot, query);
        let secret = ledger.slots[slot].secret_on[self.node].clone();
        let secret = secret.filter(|_| world.shape.nodes == 1);
        ledger.sends.push(Send {
            node: self.node,
            event,
            slot,
            stamp: header("webhook-timestamp").to_owned(),
            outcome: None,
            is_recorded: false,
        });
        let place = ledger.sends.len() - 1;
        drop(ledger);
        if let Some(broken) = broken {
            world.violation(format_args!("{broken}: {event} to {full} by n{}", self.node));
        }
        if let Some(secret) = secret {
            let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
            let signatures = header("webhook-signature");
            if let Err(error) = verify_standard(id, at, signatures, &secret, &request.body) {
                world.violation(format_args!("not signed with the new secret: {event}: {error}"));
            }
        }
        self.check_line(event, slot);
        Some(place)
    }

    /// Whether those ahead in the line have ended.
    fn check_line(&self, event: EventId, slot: usize) {
        let ledger = self.world.ledger();
        let (order, endpoint) = (ledger.slots[slot].order, ledger.slots[slot].id);
        let is_replayed = |event: EventId| {
            ledger.slots[slot].many_replayed || ledger.replay_asked.contains(&(event, slot))
        };
        let own_place = ledger.accepted.iter().position(|other| *other == event);
        let Some(own_place) = own_place.filter(|_| order != DeliveryOrder::Any) else { return };
        if is_replayed(event) {
            return;
        }
        let memory = self.world.memory();
        let key_of = |event: EventId| {
            let detail = at_once(memory.read_event(event)).ok().flatten();
            detail.and_then(|detail| detail.event.event.ordering_key)
        };
        let own_key = key_of(event);
        if order == DeliveryOrder::FifoByKey && own_key.is_none() {
            return;
        }
        let filter = DeliveryFilter {
            endpoint,
            state: Some(StateName::Pending),
            ..DeliveryFilter::default()
        };
        let pending = at_once(memory.list_deliveries(filter, PageRequest::LARGEST));
        for other in pending.into_iter().flat_map(|page| page.items) {
            let other = other.event;
            let is_ahead = ledger.accepted[..own_place].contains(&other);
            let is_of_line = order == DeliveryOrder::Fifo || key_of(other) == own_key;
            if is_ahead && is_of_line && !is_replayed(other) {
                self.world.violation(format_args!("{event} overtook {other} at /e{slot}"));
            }
        }
    }

    fn end(&self, place: Option<usize>, exchange: &Exchange) {
        if let Some(place) = place {
            let mut ledger = self.world.ledger();
            ledger.sends[place].outcome = Some(exchange.outcome);
            let event = ledger.sends[place].event;
            drop(ledger);
            let (name, status) = (exchange.outcome.name(), exchange.outcome.status());
            let took = exchange.duration.as_millis();
            let status = status.map_or(String::new(), |status| format!(" {status}"));
            self.world.say(format_args!("n{} heard {event} {name}{status} {took}ms", self.node));
        }
        if exchange.outcome == Outcome::Failed(Failure::Timeout) {
            self.world.count(Sometimes::TimeLimitPassed);
        }
    }
}

/// What was answered on this node and does not hold.
///
/// With several engines on one store nobody tells the others of a change, so that what one of them
/// has at hand may be old; nothing is promised there yet.
fn broken_promise(
    ledger: &Ledger,
    (node, nodes): (usize, usize),
    event: EventId,
    slot: usize,
    query: &str,
) -> Option<&'static str> {
    if nodes > 1 {
        return None;
    }
    let replayed = ledger.replay_asked.contains(&(event, slot));
    let slot = &ledger.slots[slot];
    if slot.closed_on[node] {
        return Some("an attempt at a closed endpoint");
    }
    if query.parse::<u32>().is_ok_and(|version| version < slot.url_on[node]) {
        return Some("an attempt at a URL that was replaced");
    }
    let cancelled = ledger.cancelled_on.get(&event) == Some(&node);
    (cancelled && !replayed && !slot.many_replayed).then_some("an attempt of what was cancelled")
}

#[async_trait]
impl Sender for Watched {
    async fn send(&self, request: Request) -> Exchange {
        self.world.nodes()[self.node].in_flight += 1;
        let _on_its_way = OnItsWay(self);
        let place = self.begin(&request);
        let exchange = self.sender.send(request).await;
        self.end(place, &exchange);
        exchange
    }

    async fn probe(
        &self,
        url: &TargetUrl,
        identity: Option<&ClientIdentity>,
        timeout: Duration,
    ) -> Outcome {
        self.sender.probe(url, identity, timeout).await
    }
}
