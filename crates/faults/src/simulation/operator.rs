//! Operators: they make endpoints, close, open, move and delete them, give them new secrets, cancel
//! and replay.
//!
//! Promise: what is asked is noted before, what is answered after; one endpoint is worked on by one
//! operator at a time. Once nothing fails any more they open what is closed, so that everything can end.

use std::sync::Arc;
use std::time::Duration;

use domain::contract::Contract;
use domain::id::{DeliveryId, EndpointId, EventId};
use domain::ordering::DeliveryOrder;
use domain::replay::ReplayFate;
use domain::testing::TEST_START;
use engine::administer::{EndpointEdit, NewAccount, NewEndpoint};
use engine::replay::many::NewReplay;
use engine::scope::Scope;
use engine::{Engine, EngineError, ErrorCode};
use tokio::time::sleep;

use super::chance::Chance;
use super::trace::Sometimes;
use super::world::{Phase, World};

/// How often everything is opened again at the end.
const OPEN_EVERY: Duration = Duration::from_secs(15);

/// Makes the accounts and their endpoints.
pub(super) async fn set_up(world: &Arc<World>, engine: &Engine) {
    let mut chance = Chance::branch(world.seed, "set up", 0);
    for number in 0..world.shape.accounts {
        let new = NewAccount {
            username: format!("user{number}"),
            contract: Contract::Standard,
            plan: None,
            credits: None,
            api_access: true,
        };
        let (account, _) =
            engine.create_account(Scope::OPERATOR, new).await.expect("nothing fails yet");
        world.ledger().accounts.push(account.id);
    }
    for _ in 0..world.shape.endpoints {
        create(world, engine, 0, &mut chance).await;
    }
    world.enter(Phase::Active);
}

/// Works on this node while it lives.
pub(super) async fn run(world: Arc<World>, engine: Engine, node: usize) {
    let incarnation = world.nodes()[node].incarnation;
    let number = incarnation * 16 + node as u64;
    let mut chance = Chance::branch(world.seed, "operator", number);
    while world.phase() == Phase::Active {
        sleep(chance.millis(2_000, 45_000)).await;
        if world.phase() == Phase::Active {
            act(&world, &engine, node, &mut chance).await;
        }
    }
    if node != 0 {
        return;
    }
    loop {
        open_all(&world, &engine).await;
        sleep(OPEN_EVERY).await;
    }
}

async fn act(world: &Arc<World>, engine: &Engine, node: usize, chance: &mut Chance) {
    match chance.below(20) {
        0 if world.ledger().slots.len() < 8 => create(world, engine, node, chance).await,
        1..5 => cancel(world, engine, node, chance).await,
        5..8 => replay(world, engine, chance).await,
        _ => change(world, engine, node, chance).await,
    }
}

/// An endpoint that this operator works on, until dropped.
struct Working<'a> {
    world: &'a World,
    slot: usize,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.world.ledger().slots[self.slot].is_busy = false;
    }
}

async fn create(world: &Arc<World>, engine: &Engine, node: usize, chance: &mut Chance) {
    let (slot, account, new) = {
        let mut ledger = world.ledger();
        let account = chance.below(ledger.accounts.len() as u64) as usize;
        let slot = ledger.new_slot(account, Contract::Standard, &world.shape);
        let order = *chance.pick(&DeliveryOrder::ALL);
        ledger.slots[slot].order = order;
        let (url, name) = (ledger.slots[slot].url(), ledger.slots[slot].name());
        world.receivers().settle(name, chance.below(8) as usize);
        let new = NewEndpoint {
            url,
            ordering: (order != DeliveryOrder::Any).then(|| order.name().to_owned()),
            timeout_seconds: chance.one_in(2).then(|| chance.between(3, 10)),
            max_in_flight: chance.one_in(4).then(|| chance.between(1, 3)),
            rate_limit: chance.one_in(6).then(|| chance.between(1, 3)),
            ..NewEndpoint::default()
        };
        (slot, ledger.accounts[account], new)
    };
    let working = Working { world, slot };
    match engine.create_endpoint(Scope::OPERATOR, account, new).await {
        Ok(endpoint) => {
            let now = world.elapsed();
            let mut ledger = world.ledger();
            let slot = &mut ledger.slots[slot];
            slot.id = Some(endpoint.id);
            endpoint.secret.reveal().clone_into(&mut slot.secret);
            slot.answered(true, now);
            world.say(format_args!("n{node} created {} as {}", slot.path(), endpoint.id));
            world.count(Sometimes::EndpointCreated);
        }
        Err(error) => world.say(format_args!("n{node} could not create: {:?}", error.code())),
    }
    drop(working);
}

/// Takes an endpoint that nobody works on.
fn take<'a>(world: &'a World, chance: &mut Chance) -> Option<(Working<'a>, EndpointId)> {
    let mut ledger = world.ledger();
    let free: Vec<usize> = ledger
        .slots
        .iter()
        .filter(|slot| slot.id.is_some() && !slot.is_busy && !slot.deletion_asked)
        .map(|slot| slot.number)
        .collect();
    if free.is_empty() {
        return None;
    }
    let slot = *chance.pick(&free);
    ledger.slots[slot].is_busy = true;
    let id = ledger.slots[slot].id?;
    drop(ledger);
    Some((Working { world, slot }, id))
}

async fn change(world: &World, engine: &Engine, node: usize, chance: &mut Chance) {
    let Some((working, id)) = take(world, chance) else { return };
    let slot = working.slot;
    match chance.below(13) {
        0..3 => set_disabled(world, engine, (node, slot, id), true).await,
        3..8 => set_disabled(world, engine, (node, slot, id), false).await,
        8..10 => move_url(world, engine, (node, slot, id)).await,
        10 => rotate(world, engine, (node, slot, id)).await,
        11 if chance.one_in(2) => delete(world, engine, (node, slot, id)).await,
        _ => replay_many(world, engine, (slot, id), chance).await,
    }
}

/// The node, the number of the endpoint, and its id.
type Which = (usize, usize, EndpointId);

fn told<T>(world: &World, (node, slot, _): Which, what: &str, answer: &Result<T, EngineError>) {
    match answer {
        Ok(_) => world.say(format_args!("n{node} {what} /e{slot}")),
        Err(error) => world.say(format_args!("n{node} {what} /e{slot}: {:?}", error.code())),
    }
}

async fn set_disabled(world: &World, engine: &Engine, which: Which, disabled: bool) {
    let (node, slot, id) = which;
    {
        let mut ledger = world.ledger();
        ledger.slots[slot].asked();
        if !disabled {
            ledger.slots[slot].closed_on.fill(false);
        }
    }
    let edit = EndpointEdit { is_disabled: Some(disabled), ..EndpointEdit::default() };
    let answer = engine.change_endpoint(Scope::OPERATOR, id, edit).await;
    told(world, which, if disabled { "disabled" } else { "enabled" }, &answer);
    if answer.is_err() {
        return;
    }
    let now = world.elapsed();
    let mut ledger = world.ledger();
    ledger.slots[slot].answered(!disabled, now);
    ledger.slots[slot].closed_on[node] |= disabled;
    world.count(if disabled { Sometimes::EndpointDisabled } else { Sometimes::EndpointEnabled });
}

async fn move_url(world: &World, engine: &Engine, which: Which) {
    let (node, slot, id) = which;
    let (url, version) = {
        let mut ledger = world.ledger();
        ledger.slots[slot].url_version += 1;
        (ledger.slots[slot].url(), ledger.slots[slot].url_version)
    };
    let edit = EndpointEdit { url: Some(url), ..EndpointEdit::default() };
    let answer = engine.change_endpoint(Scope::OPERATOR, id, edit).await;
    told(world, which, "moved", &answer);
    if answer.is_ok() {
        world.ledger().slots[slot].url_on[node] = version;
        world.count(Sometimes::EndpointMoved);
    }
}

async fn rotate(world: &World, engine: &Engine, which: Which) {
    let (node, slot, id) = which;
    if std::mem::replace(&mut world.ledger().slots[slot].was_rotated, true) {
        return;
    }
    let answer = engine.rotate_secret(Scope::OPERATOR, id, None).await;
    told(world, which, "rotated", &answer);
    if let Ok(endpoint) = answer {
        let secret = endpoint.secret.reveal().to_owned();
        world.ledger().slots[slot].secret_on[node] = Some(secret);
        world.count(Sometimes::SecretRotated);
    }
}

async fn delete(world: &World, engine: &Engine, which: Which) {
    let (node, slot, id) = which;
    {
        let mut ledger = world.ledger();
        ledger.slots[slot].asked();
        ledger.slots[slot].deletion_asked = true;
    }
    let answer = engine.delete_endpoint(Scope::OPERATOR, id).await;
    told(world, which, "deleted", &answer);
    let is_gone = match &answer {
        Ok(()) => true,
        Err(error) => error.code() == ErrorCode::NotFound,
    };
    if is_gone {
        let now = world.elapsed();
        let mut ledger = world.ledger();
        ledger.slots[slot].answered(false, now);
        ledger.slots[slot].is_deleted = true;
        ledger.slots[slot].closed_on[node] |= answer.is_ok();
        world.count(Sometimes::EndpointDeleted);
    }
}

async fn replay_many(
    world: &World,
    engine: &Engine,
    (slot, id): (usize, EndpointId),
    chance: &mut Chance,
) {
    world.ledger().slots[slot].many_replayed = true;
    let new = NewReplay {
        fate: *chance.pick(&ReplayFate::ALL),
        since: TEST_START.minus(Duration::from_hours(1)),
        until: None,
        per_second: Some(20),
    };
    let answer = engine.start_replay(Scope::OPERATOR, id, new).await;
    told(world, (0, slot, id), "replay of many at", &answer);
    if answer.is_ok() {
        world.count(Sometimes::ManyReplayed);
    }
}

/// One of the last events.
fn recent(world: &World, chance: &mut Chance) -> Option<EventId> {
    let ledger = world.ledger();
    let recent = &ledger.accepted[ledger.accepted.len().saturating_sub(20)..];
    (!recent.is_empty()).then(|| *chance.pick(recent))
}

async fn cancel(world: &World, engine: &Engine, node: usize, chance: &mut Chance) {
    let Some(event) = recent(world, chance) else { return };
    world.ledger().cancel_asked.insert(event);
    let answer = engine.cancel_event(Scope::OPERATOR, event).await;
    world.say(format_args!("n{node} cancel {event}: {:?}", answer.as_ref().ok()));
    if answer.is_ok() {
        world.ledger().cancelled_on.insert(event, node);
        world.count(Sometimes::EventCancelled);
    }
}

async fn replay(world: &World, engine: &Engine, chance: &mut Chance) {
    let Some(event) = recent(world, chance) else { return };
    let of_it: Vec<(DeliveryId, EndpointId)> = {
        let ledger = world.ledger();
        let of_it = ledger.deliveries.iter().filter(|(_, (other, _))| *other == event);
        of_it.map(|(id, (_, endpoint))| (*id, *endpoint)).collect()
    };
    if of_it.is_empty() {
        return;
    }
    let (delivery, endpoint) = *chance.pick(&of_it);
    {
        let mut ledger = world.ledger();
        let Some(slot) = ledger.slot_of(endpoint).map(|slot| slot.number) else { return };
        ledger.replay_asked.insert((event, slot));
    }
    let answer = engine.replay_delivery(Scope::OPERATOR, delivery).await;
    world.say(format_args!("replay of {event}: {}", answer.is_ok()));
    if answer.is_ok() {
        world.count(Sometimes::DeliveryReplayed);
    }
}

/// Opens everything that is closed, finishes what was to be deleted, and finds what was created
/// without an answer.
async fn open_all(world: &World, engine: &Engine) {
    let accounts = world.ledger().accounts.clone();
    for account in accounts {
        let Ok(endpoints) = engine.all_endpoints(Scope::OPERATOR, account).await else { continue };
        for endpoint in endpoints {
            let path = endpoint.url.path_and_query();
            let path = path.split('?').next().unwrap_or(path);
            let mut ledger = world.ledger();
            let Some(slot) = ledger.slot_at(path) else { continue };
            let slot = &mut ledger.slots[slot];
            if slot.id.is_none() {
                slot.id = Some(endpoint.id);
                slot.is_adopted = true;
                endpoint.secret.reveal().clone_into(&mut slot.secret);
            }
        }
    }
    let slots: Vec<(usize, EndpointId, bool)> = {
        let ledger = world.ledger();
        let left = ledger.slots.iter().filter(|slot| !slot.is_deleted && !slot.is_busy);
        left.filter_map(|slot| Some((slot.number, slot.id?, slot.deletion_asked))).collect()
    };
    for (slot, id, is_to_go) in slots {
        if is_to_go {
            delete(world, engine, (0, slot, id)).await;
        } else {
            set_disabled(world, engine, (0, slot, id), false).await;
        }
    }
    world.ledger().is_open = true;
}
