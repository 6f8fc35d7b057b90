//! What goes wrong, when, and for how long: hosts, links, names, storage, clocks, moods.
//!
//! Promise: everything that begins ends, and in the end nothing is wrong any more. A calm run has
//! moody receivers and nothing else. Neighbours: [`super::run`] asks at every step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use store::fault::{Fault, FaultStore, Method, Odds, Stall};
use turmoil::Sim;

use super::chance::Chance;
use super::network::{Says, node_host, receiver_host};
use super::receiver::Receivers;
use super::trace::Sometimes;
use super::world::World;

/// What an engine cannot do without.
const STALLED: [Method; 10] = [
    Method::Accept,
    Method::AddDelivery,
    Method::ClaimDue,
    Method::GiveBack,
    Method::Record,
    Method::BeginTrial,
    Method::BeginSession,
    Method::ExtendSession,
    Method::ReleaseExpired,
    Method::WaitingLanes,
];

/// Calls whose answers get lost. Not those that hand out leases: the port promises that a failed one
/// changed nothing, and a store that one process opens keeps that.
const ANSWERS_LOST: [Method; 7] = [
    Method::Accept,
    Method::Record,
    Method::GiveBack,
    Method::ChangeEndpoint,
    Method::DeleteEndpoint,
    Method::CancelEvent,
    Method::AddDelivery,
];

/// How messages travel when nothing is wrong.
pub(super) fn usual_latency(seed: u64) -> Duration {
    Chance::branch(seed, "latency", 0).millis(2, 90)
}

/// Something that is to end.
enum End {
    StartNode(usize),
    CrashNode(usize),
    StartReceiver(usize),
    Repair(usize, usize),
    Release(usize, usize),
    UsualLatency(usize, usize),
    Name(String, Says),
    Heal(Arc<FaultStore>),
    GoOn(Vec<Stall>),
}

/// What is wrong just now.
pub(super) struct Weather {
    world: Arc<World>,
    chance: Chance,
    next_fault_at: Duration,
    next_mood_at: Duration,
    ends: Vec<(Duration, End)>,
    /// Links that something is wrong with.
    busy_links: BTreeSet<(usize, usize)>,
    /// Receivers that are down.
    down: BTreeSet<usize>,
    /// How long faults are apart, at most.
    apart_max_ms: u64,
}

impl Weather {
    pub(super) fn new(world: Arc<World>) -> Self {
        let mut chance = Chance::branch(world.seed, "weather", 0);
        let apart_max_ms = *chance.pick(&[10_000, 40_000, 120_000]);
        Self {
            world,
            chance,
            next_fault_at: Duration::ZERO,
            next_mood_at: Duration::ZERO,
            ends: Vec::new(),
            busy_links: BTreeSet::new(),
            down: BTreeSet::new(),
            apart_max_ms,
        }
    }

    /// Begins and ends what is due.
    pub(super) fn step(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        self.end_due(sim, now);
        if self.next_mood_at <= now {
            self.next_mood_at = now + self.chance.millis(1_000, 40_000);
            self.change_mood();
        }
        if self.next_fault_at <= now {
            self.next_fault_at = now + self.chance.millis(2_000, self.apart_max_ms);
            if !self.world.shape.is_calm {
                self.begin(sim, now);
            }
        }
    }

    /// Ends everything.
    pub(super) fn clear_up(&mut self, sim: &mut Sim<'_>) {
        self.end_due(sim, Duration::MAX);
        for node in 0..self.world.shape.nodes {
            if let Some(faults) = &self.world.nodes()[node].faults {
                faults.heal();
            }
        }
        for node in 0..self.world.shape.nodes {
            let is_broken = self.world.nodes()[node].is_broken;
            if is_broken || !sim.is_host_running(node_host(node)) {
                self.crash(sim, node);
                sim.bounce(node_host(node));
            }
        }
        self.world.receivers().calm_down();
    }

    fn end_due(&mut self, sim: &mut Sim<'_>, now: Duration) {
        // Ending may begin something that ends at once.
        while let Some(due) = self.ends.iter().position(|(at, _)| *at <= now) {
            let (_, end) = self.ends.remove(due);
            self.end(sim, end);
        }
    }

    fn change_mood(&mut self) {
        let slots = self.world.ledger().slots.len() as u64;
        if slots > 0 {
            let slot = self.chance.below(slots) as usize;
            let mood = Receivers::any_mood(&mut self.chance);
            self.world.say(format_args!("/e{slot} is {mood:?}"));
            self.world.receivers().moods.insert(slot, mood);
        }
    }

    fn begin(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let node = self.chance.below(self.world.shape.nodes as u64) as usize;
        let receiver = self.chance.below(self.world.shape.receivers as u64) as usize;
        match self.chance.below(20) {
            0..3 => {
                let until = now + self.chance.millis(500, 60_000);
                self.crash(sim, node);
                self.ends.push((until, End::StartNode(node)));
            }
            3 if !self.down.contains(&receiver) => {
                self.world.count(Sometimes::ReceiverCrashed);
                self.world.say(format_args!("r{receiver} crashes"));
                sim.crash(receiver_host(receiver));
                self.down.insert(receiver);
                let until = now + self.chance.millis(500, 60_000);
                self.ends.push((until, End::StartReceiver(receiver)));
            }
            4..8 => self.trouble_link(sim, now, (node, receiver)),
            8..10 => self.trouble_name(now),
            10..12 => self.refuse(now, node),
            12..14 => self.lose_answers(node),
            14..17 => self.stall(now, node),
            17 => self.break_store(now, node),
            18 => self.set_clock(),
            _ => {}
        }
    }

    fn crash(&mut self, sim: &mut Sim<'_>, node: usize) {
        if !sim.is_host_running(node_host(node)) {
            return;
        }
        let in_flight = self.world.nodes()[node].in_flight;
        self.world.say(format_args!("n{node} crashes, {in_flight} in flight"));
        self.world.count(Sometimes::EngineCrashed);
        if in_flight > 0 {
            self.world.count(Sometimes::CrashMetWorkInFlight);
        }
        sim.crash(node_host(node));
        let now = self.world.elapsed();
        self.world.ledger().upset.push((node, now));
        let mut nodes = self.world.nodes();
        nodes[node].is_up = false;
        nodes[node].faults = None;
    }

    fn trouble_link(&mut self, sim: &mut Sim<'_>, now: Duration, link: (usize, usize)) {
        if !self.busy_links.insert(link) {
            return;
        }
        let (node, receiver) = (node_host(link.0), receiver_host(link.1));
        let until = now + self.chance.millis(1_000, 90_000);
        let (what, end) = match self.chance.below(5) {
            0 => {
                sim.partition(node.as_str(), receiver.as_str());
                (Sometimes::LinkPartitioned, End::Repair(link.0, link.1))
            }
            1 => {
                sim.partition_oneway(node.as_str(), receiver.as_str());
                (Sometimes::LinkOneWay, End::Repair(link.0, link.1))
            }
            2 => {
                sim.partition_oneway(receiver.as_str(), node.as_str());
                (Sometimes::LinkOneWay, End::Repair(link.0, link.1))
            }
            3 => {
                sim.hold(node.as_str(), receiver.as_str());
                (Sometimes::LinkHeld, End::Release(link.0, link.1))
            }
            _ => {
                let latency = self.chance.millis(200, 3_000);
                sim.set_link_latency(node.as_str(), receiver.as_str(), latency);
                (Sometimes::LinkSlow, End::UsualLatency(link.0, link.1))
            }
        };
        self.world.count(what);
        self.world.say(format_args!("{node}-{receiver}: {what:?}"));
        self.ends.push((until, end));
    }

    fn trouble_name(&mut self, now: Duration) {
        let (name, before) = {
            let receivers = self.world.receivers();
            let names: Vec<_> = receivers.names.iter().collect();
            if names.is_empty() {
                return;
            }
            let (name, says) = *self.chance.pick(&names);
            (name.clone(), *says)
        };
        let Says::Receiver(number) = before else { return };
        let says = match self.chance.below(6) {
            0 => Says::Nothing,
            1 => Says::Silence,
            2 => Says::Metadata,
            3 => Says::ReceiverAndLoopback(number),
            _ => {
                self.world.count(Sometimes::AddressChanged);
                Says::Receiver((number + 1) % self.world.shape.receivers)
            }
        };
        self.world.say(format_args!("{name} is {says:?}"));
        self.world.receivers().names.insert(name.clone(), says);
        if !matches!(says, Says::Receiver(_)) {
            let until = now + self.chance.millis(5_000, 120_000);
            self.ends.push((until, End::Name(name, before)));
        }
    }

    /// The node's way to the store, if its engine runs.
    fn faults(&self, node: usize) -> Option<Arc<FaultStore>> {
        let nodes = self.world.nodes();
        nodes[node].faults.clone().filter(|_| nodes[node].is_up)
    }

    fn refuse(&mut self, now: Duration, node: usize) {
        let Some(faults) = self.faults(node) else { return };
        let before = *self.chance.pick(&[50, 300, 1_000]);
        self.world.count(Sometimes::StoreRefused);
        self.world.say(format_args!("n{node} store refuses {before} in 1000"));
        faults.fail_by_chance(self.chance.bits(), Odds { before, after: 0 });
        let until = now + self.chance.millis(1_000, 45_000);
        self.ends.push((until, End::Heal(faults)));
    }

    fn lose_answers(&mut self, node: usize) {
        let Some(faults) = self.faults(node) else { return };
        let method = *self.chance.pick(&ANSWERS_LOST);
        let calls = self.chance.between(1, 3) as usize;
        self.world.count(Sometimes::StoreAnswerLost);
        self.world.say(format_args!("n{node} store loses {calls} answers of {method:?}"));
        faults.script(method, std::iter::repeat_n(Some(Fault::After), calls));
    }

    fn stall(&mut self, now: Duration, node: usize) {
        let Some(faults) = self.faults(node) else { return };
        let length = match self.chance.below(3) {
            0 => self.chance.millis(500, 5_000),
            1 => self.chance.millis(5_000, 60_000),
            // Longer than a session lives.
            _ => self.chance.millis(70_000, 150_000),
        };
        self.world.count(Sometimes::StoreStalled);
        self.world.say(format_args!("n{node} store stalls for {length:?}"));
        let stalls = STALLED.iter().map(|method| faults.stall(*method)).collect();
        self.ends.push((now + length, End::GoOn(stalls)));
        // What came to the gate goes through it; what comes later meets none.
        self.ends.push((now + length, End::Heal(faults)));
    }

    fn break_store(&mut self, now: Duration, node: usize) {
        let Some(faults) = self.faults(node) else { return };
        self.world.count(Sometimes::StoreBroken);
        self.world.say(format_args!("n{node} store breaks"));
        self.world.nodes()[node].is_broken = true;
        faults.fail(Method::Record, Fault::Broken);
        faults.fail(Method::Accept, Fault::Broken);
        let until = now + self.chance.millis(2_000, 15_000);
        self.ends.push((until, End::CrashNode(node)));
    }

    fn set_clock(&mut self) {
        if self.chance.one_in(2) {
            self.world.count(Sometimes::ClockSetForward);
            let by = self.chance.between(1_000, 1_200_000) as i64;
            self.shift_clock(by);
        } else {
            self.world.count(Sometimes::ClockSetBack);
            let by = self.chance.between(1_000, 300_000) as i64;
            self.shift_clock(-by);
        }
    }

    fn shift_clock(&mut self, by_ms: i64) {
        self.world.say(format_args!("clocks are set by {by_ms} ms"));
        self.world.shift_clock(by_ms);
    }

    fn end(&mut self, sim: &mut Sim<'_>, end: End) {
        match end {
            End::CrashNode(node) => {
                self.crash(sim, node);
                self.ends.push((Duration::ZERO, End::StartNode(node)));
            }
            End::StartNode(node) => self.start(sim, node),
            End::StartReceiver(receiver) => {
                self.world.say(format_args!("r{receiver} starts"));
                self.down.remove(&receiver);
                sim.bounce(receiver_host(receiver));
            }
            End::Repair(node, receiver) => {
                sim.repair(node_host(node), receiver_host(receiver));
                self.free(node, receiver);
            }
            End::Release(node, receiver) => {
                sim.release(node_host(node), receiver_host(receiver));
                self.free(node, receiver);
            }
            End::UsualLatency(node, receiver) => {
                let usual = usual_latency(self.world.seed);
                sim.set_link_latency(node_host(node), receiver_host(receiver), usual);
                self.free(node, receiver);
            }
            End::Name(name, says) => {
                self.world.say(format_args!("{name} is {says:?}"));
                self.world.receivers().names.insert(name, says);
            }
            End::Heal(faults) => {
                self.world.say(format_args!("a store is well"));
                faults.heal();
            }
            End::GoOn(stalls) => {
                self.world.say(format_args!("a store goes on"));
                stalls.into_iter().for_each(Stall::release);
            }
        }
    }

    fn free(&mut self, node: usize, receiver: usize) {
        self.world.say(format_args!("n{node}-r{receiver} is well"));
        self.busy_links.remove(&(node, receiver));
    }

    fn start(&mut self, sim: &mut Sim<'_>, node: usize) {
        if sim.is_host_running(node_host(node)) {
            return;
        }
        if self.world.shape.nodes == 1 && self.chance.one_in(4) {
            self.world.count(Sometimes::MachineWasOff);
            let by = self.chance.between(60_000, 7_200_000) as i64;
            self.shift_clock(by);
        }
        self.world.count(Sometimes::EngineRestarted);
        self.world.say(format_args!("n{node} starts"));
        sim.bounce(node_host(node));
    }
}
