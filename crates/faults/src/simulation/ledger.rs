//! What publishers and operators were told, and what that obliges to.
//!
//! Promise: a fact enters when its answer came, and not before; what is uncertain (a change that
//! overlapped, an answer that was lost) obliges to nothing. Neighbours: [`super::publisher`],
//! [`super::operator`] and [`super::watched`] write it, [`super::judge`] reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use domain::attempt::Outcome;
use domain::contract::Contract;
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::ordering::DeliveryOrder;

use super::chance::Chance;
use super::world::{NODES_MAX, Shape};

/// How long after a `410 Gone` the endpoint may be disabled by it yet: the longest stall of storage
/// and more.
const GONE_HOLDS: Duration = Duration::from_mins(5);

/// Where a publish stands, as its publisher knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// On its way.
    Asked,
    /// There was no answer, or one that leaves it open.
    Unknown,
    Refused,
    Acknowledged {
        event: EventId,
        deliveries: u32,
    },
}

/// An event that a publisher wants published.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) account: usize,
    pub(super) data: Bytes,
    pub(super) event_type: &'static str,
    pub(super) key: Option<String>,
    pub(super) ordering_key: Option<String>,
    pub(super) standing: Standing,
    /// The endpoints that were enabled, for certain, from the question to the answer.
    pub(super) owed: BTreeSet<usize>,
    /// Those that were disabled or not there, for certain.
    pub(super) not_owed: BTreeSet<usize>,
    /// When its publisher asks again.
    pub(super) again_at: Duration,
}

/// An endpoint, as operators know it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Slot {
    pub(super) number: usize,
    pub(super) account: usize,
    pub(super) id: Option<EndpointId>,
    pub(super) contract: Contract,
    /// The secret it was created with, which signs throughout.
    pub(super) secret: String,
    pub(super) order: DeliveryOrder,
    /// Most attempts of one delivery.
    pub(super) attempts_max: usize,
    /// Whether it is enabled, where that is certain.
    enabled: Option<bool>,
    /// Grows with everything that may change whether it is enabled.
    version: u64,
    gone_at: Option<Duration>,
    /// Whether somebody works on it.
    pub(super) is_busy: bool,
    pub(super) is_deleted: bool,
    pub(super) deletion_asked: bool,
    /// Whether a replay of many events was asked for.
    pub(super) many_replayed: bool,
    /// How often its URL changed.
    pub(super) url_version: u32,
    /// On each node: whether it was answered that the endpoint is closed.
    pub(super) closed_on: [bool; NODES_MAX],
    /// On each node: the version of the URL that holds.
    pub(super) url_on: [u32; NODES_MAX],
    /// On each node: the secret that signs, too.
    pub(super) secret_on: [Option<String>; NODES_MAX],
    pub(super) was_rotated: bool,
    /// Whether nobody was told its id when it was made.
    pub(super) is_adopted: bool,
}

impl Slot {
    pub(super) fn path(&self) -> String {
        format!("/e{}", self.number)
    }

    pub(super) fn name(&self) -> String {
        format!("e{}.customers.com", self.number)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}{}?v={}", self.name(), self.path(), self.url_version)
    }

    /// Something was asked that may change whether it is enabled.
    pub(super) fn asked(&mut self) {
        self.version += 1;
        self.enabled = None;
    }

    /// It was answered that it is enabled or not.
    pub(super) fn answered(&mut self, enabled: bool, now: Duration) {
        self.version += 1;
        let may_be_gone = self.gone_at.is_some_and(|at| now < at + GONE_HOLDS);
        self.enabled = (!may_be_gone || !enabled).then_some(enabled);
    }

    /// Its receiver said 410.
    pub(super) fn said_gone(&mut self, now: Duration) {
        self.version += 1;
        self.gone_at = Some(now);
        if self.enabled == Some(true) {
            self.enabled = None;
        }
    }
}

/// One request as it was handed to the sender.
#[derive(Clone, Debug)]
pub(super) struct Send {
    pub(super) node: usize,
    pub(super) event: EventId,
    pub(super) slot: usize,
    /// Its `webhook-timestamp`.
    pub(super) stamp: String,
    pub(super) outcome: Option<Outcome>,
    /// Whether storage recorded it.
    pub(super) is_recorded: bool,
}

/// The ledger.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) accounts: Vec<AccountId>,
    pub(super) slots: Vec<Slot>,
    pub(super) wanted: Vec<Wanted>,
    pub(super) sends: Vec<Send>,
    /// Events in the order in which storage accepted them.
    pub(super) accepted: Vec<EventId>,
    /// Whose deliveries storage handed out.
    pub(super) deliveries: BTreeMap<DeliveryId, (EventId, EndpointId)>,
    /// Events of which something was to be cancelled.
    pub(super) cancel_asked: BTreeSet<EventId>,
    /// Events of which all was cancelled, as one node answered.
    pub(super) cancelled_on: BTreeMap<EventId, usize>,
    /// Events that were to be delivered again, and where.
    pub(super) replay_asked: BTreeSet<(EventId, usize)>,
    /// When a node lost what it knew or its leases: a crash, a session that ran out.
    pub(super) upset: Vec<(usize, Duration)>,
    /// Whether everything was opened at the end.
    pub(super) is_open: bool,
    /// The number of the next publish.
    pub(super) next_number: u64,
}

/// What an endpoint's state was when a publish was asked.
pub(super) type Certainties = Vec<(u64, Option<bool>)>;

impl Ledger {
    pub(super) fn new(_shape: &Shape) -> Self {
        Self::default()
    }

    pub(super) fn slot_of(&self, id: EndpointId) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.id == Some(id))
    }

    /// The endpoint with that path, without its query.
    pub(super) fn slot_at(&self, path: &str) -> Option<usize> {
        let number: usize = path.strip_prefix("/e")?.parse().ok()?;
        (number < self.slots.len()).then_some(number)
    }

    /// Notes an endpoint before it exists.
    pub(super) fn new_slot(&mut self, account: usize, contract: Contract, shape: &Shape) -> usize {
        let number = self.slots.len();
        self.slots.push(Slot {
            number,
            account,
            id: None,
            contract,
            secret: String::new(),
            order: DeliveryOrder::Any,
            attempts_max: shape.retry_schedule.waits().len(),
            enabled: None,
            version: 0,
            gone_at: None,
            is_busy: true,
            is_deleted: false,
            deletion_asked: false,
            many_replayed: false,
            url_version: 0,
            closed_on: [false; NODES_MAX],
            url_on: [0; NODES_MAX],
            secret_on: [const { None }; NODES_MAX],
            was_rotated: false,
            is_adopted: false,
        });
        number
    }

    /// An event to publish.
    pub(super) fn new_wanted(&mut self, chance: &mut Chance) -> usize {
        let number = self.next_number;
        self.next_number += 1;
        let padding = "x".repeat(chance.below(200) as usize);
        self.wanted.push(Wanted {
            account: chance.below(self.accounts.len() as u64) as usize,
            data: format!(r#"{{"number":{number},"padding":"{padding}"}}"#).into(),
            event_type: "video.ready",
            key: (!chance.one_in(4)).then(|| format!("key-{number}")),
            ordering_key: chance.one_in(2).then(|| format!("line-{}", chance.below(3))),
            standing: Standing::Asked,
            owed: BTreeSet::new(),
            not_owed: BTreeSet::new(),
            again_at: Duration::ZERO,
        });
        self.wanted.len() - 1
    }

    /// What is certain of each endpoint.
    pub(super) fn certainties(&self) -> Certainties {
        self.slots.iter().map(|slot| (slot.version, slot.enabled)).collect()
    }

    /// Notes the answer of a publish. If this was the only time it was asked, it tells whom the event
    /// is owed to: endpoints stood as in `before` when it was asked.
    pub(super) fn acknowledged(
        &mut self,
        number: usize,
        (event, deliveries): (EventId, u32),
        before: Option<&Certainties>,
    ) {
        let account = self.wanted[number].account;
        let (mut owed, mut not_owed) = (BTreeSet::new(), BTreeSet::new());
        for (slot, (version, enabled)) in self.slots.iter().zip(before.into_iter().flatten()) {
            if slot.account == account && slot.version == *version {
                match enabled {
                    Some(true) => drop(owed.insert(slot.number)),
                    Some(false) => drop(not_owed.insert(slot.number)),
                    None => {}
                }
            }
        }
        let wanted = &mut self.wanted[number];
        wanted.owed.extend(owed);
        wanted.not_owed.extend(not_owed);
        wanted.standing = Standing::Acknowledged { event, deliveries };
    }

    /// The last request of the event to the endpoint that the node began.
    pub(super) fn last_send(&self, node: usize, event: EventId, slot: usize) -> Option<usize> {
        let is_it = |send: &Send| (send.node, send.event, send.slot) == (node, event, slot);
        self.sends.iter().rposition(is_it)
    }

    /// The request that came with this stamp, which may have been long on its way.
    pub(super) fn send_of(
        &self,
        node: usize,
        event: EventId,
        slot: usize,
        stamp: &str,
    ) -> Option<usize> {
        self.sends.iter().rposition(|send| {
            (send.node, send.event, send.slot) == (node, event, slot) && send.stamp == stamp
        })
    }
}
