//! Publishers: they repeat under the same key what was left open, and give up now and then.

use std::sync::Arc;
use std::time::Duration;

use domain::event::IdempotencyKey;
use engine::publish::{Publish, Published};
use engine::scope::Scope;
use engine::{Engine, EngineError, ErrorCode};
use testkit::auditor::digest;
use tokio::time::{sleep, timeout};

use super::chance::Chance;
use super::ledger::{Ledger, Standing};
use super::trace::Sometimes;
use super::world::{Phase, World};

/// How long a publisher that got no answer waits before it asks again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Most events of one run.
const WANTED_MAX: usize = 100;

/// How often publishers look for what was left open.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Publishes on this node while it lives.
pub(super) async fn run(world: Arc<World>, engine: Engine, node: usize) {
    let incarnation = world.nodes()[node].incarnation;
    let number = incarnation * 16 + node as u64;
    let mut chance = Chance::branch(world.seed, "publisher", number);
    tokio::spawn(repeat(Arc::clone(&world), engine.clone(), node));
    while world.phase() == Phase::Active {
        sleep(chance.millis(0, world.shape.rest_max_ms)).await;
        if world.phase() != Phase::Active || world.ledger().wanted.len() > WANTED_MAX {
            return;
        }
        let burst = if chance.one_in(12) { chance.between(5, 20) } else { 1 };
        for _ in 0..burst {
            begin(&world, &engine, node, &mut chance);
        }
    }
}

/// Begins a publish of one kind or another.
fn begin(world: &Arc<World>, engine: &Engine, node: usize, chance: &mut Chance) {
    let place = world.ledger().new_wanted(chance);
    let patience = chance.one_in(15).then(|| chance.millis(1, 12));
    if chance.one_in(10) {
        let places = (0..chance.between(2, 6)).map(|_| world.ledger().new_wanted(chance)).collect();
        let (world, engine) = (Arc::clone(world), engine.clone());
        tokio::spawn(async move { publish_batch(&world, &engine, node, places).await });
    }
    let is_keyed = world.ledger().wanted[place].key.is_some();
    let twice = is_keyed && chance.one_in(8);
    let reuses = is_keyed && chance.one_in(20);
    if twice {
        world.count(Sometimes::PublishedTwiceAtOnce);
    }
    for _ in 0..=u8::from(twice) {
        let (world, engine) = (Arc::clone(world), engine.clone());
        tokio::spawn(async move {
            publish(&world, &engine, node, place, patience, !twice).await;
            if reuses {
                reuse_key(&world, &engine, place).await;
            }
        });
    }
}

/// Asks again about what was left open, while the node lives.
async fn repeat(world: Arc<World>, engine: Engine, node: usize) {
    loop {
        sleep(LOOK_EVERY).await;
        let now = world.elapsed();
        let open = world.ledger().wanted.iter().position(|wanted| {
            wanted.key.is_some() && wanted.standing == Standing::Unknown && wanted.again_at <= now
        });
        if let Some(place) = open {
            world.count(Sometimes::PublishRepeated);
            world.ledger().wanted[place].standing = Standing::Asked;
            publish(&world, &engine, node, place, None, false).await;
        }
    }
}

fn request(ledger: &Ledger, place: usize) -> Publish {
    let wanted = &ledger.wanted[place];
    Publish {
        account: ledger.accounts[wanted.account].to_string(),
        event_type: wanted.event_type.to_owned(),
        data: wanted.data.clone(),
        ordering_key: wanted.ordering_key.clone(),
        ..Publish::default()
    }
}

fn key_of(ledger: &Ledger, place: usize) -> Option<(IdempotencyKey, [u8; 32])> {
    let wanted = &ledger.wanted[place];
    let key = IdempotencyKey::parse(wanted.key.as_deref()?).expect("is a key");
    Some((key, digest(&wanted.data)))
}

/// Leaves a publish open if its caller is no longer there when it ends.
struct Asking<'a> {
    world: &'a World,
    place: usize,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let again_at = self.world.elapsed() + AGAIN_AFTER;
        let wanted = &mut self.world.ledger().wanted[self.place];
        if wanted.standing == Standing::Asked {
            wanted.standing = Standing::Unknown;
            wanted.again_at = again_at;
        }
    }
}

async fn publish(
    world: &World,
    engine: &Engine,
    node: usize,
    place: usize,
    patience: Option<Duration>,
    is_first: bool,
) {
    let (request, key, before) = {
        let ledger = world.ledger();
        (request(&ledger, place), key_of(&ledger, place), ledger.certainties())
    };
    world.say(format_args!("n{node} publish {place}"));
    let asking = Asking { world, place };
    let answer = engine.publish(Scope::OPERATOR, request, key);
    let answer = match patience {
        Some(patience) => timeout(patience, answer).await.ok(),
        None => Some(answer.await),
    };
    if let Some(answer) = answer {
        note(world, node, place, answer, is_first.then_some(&before));
    } else {
        world.count(Sometimes::PublishGivenUp);
    }
    drop(asking);
}

async fn publish_batch(world: &World, engine: &Engine, node: usize, places: Vec<usize>) {
    world.count(Sometimes::BatchPublished);
    let (requests, before) = {
        let mut ledger = world.ledger();
        // A batch has no keys.
        for place in &places {
            ledger.wanted[*place].key = None;
        }
        let requests = places.iter().map(|place| Ok(request(&ledger, *place))).collect();
        (requests, ledger.certainties())
    };
    world.say(format_args!("n{node} publish batch {places:?}"));
    let asking: Vec<_> = places.iter().map(|place| Asking { world, place: *place }).collect();
    let answers = engine.publish_batch(Scope::OPERATOR, requests).await;
    for (place, answer) in places.into_iter().zip(answers) {
        note(world, node, place, answer, Some(&before));
    }
    drop(asking);
}

fn note(
    world: &World,
    node: usize,
    place: usize,
    answer: Result<Published, EngineError>,
    before: Option<&super::ledger::Certainties>,
) {
    let again_at = world.elapsed() + AGAIN_AFTER;
    let mut ledger = world.ledger();
    match answer {
        Ok(Published { id, deliveries }) => {
            world.say(format_args!("n{node} published {place} as {id}, {deliveries} owed"));
            if let Standing::Acknowledged { event, .. } = ledger.wanted[place].standing
                && event != id
            {
                world.violation(format_args!("publish {place} became {event} and {id}"));
            }
            ledger.acknowledged(place, (id, deliveries), before);
        }
        Err(error) => {
            world.say(format_args!("n{node} publish {place} refused: {:?}", error.code()));
            let is_open = matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Internal);
            let wanted = &mut ledger.wanted[place];
            if matches!(wanted.standing, Standing::Acknowledged { .. }) {
                return;
            }
            if is_open {
                world.count(Sometimes::PublishUnknown);
                wanted.standing = Standing::Unknown;
                wanted.again_at = again_at;
            } else {
                wanted.standing = Standing::Refused;
            }
        }
    }
}

/// Uses the key of what was published for something else, which must be refused.
async fn reuse_key(world: &World, engine: &Engine, place: usize) {
    let (mut request, key) = {
        let ledger = world.ledger();
        if !matches!(ledger.wanted[place].standing, Standing::Acknowledged { .. }) {
            return;
        }
        (request(&ledger, place), key_of(&ledger, place))
    };
    request.data = br#"{"other":true}"#.as_slice().into();
    let key = key.map(|(key, _)| (key, digest(&request.data)));
    match engine.publish(Scope::OPERATOR, request, key).await {
        Ok(published) => world.violation(format_args!(
            "the key of publish {place} was good for another: {}",
            published.id
        )),
        Err(error) if error.code() == ErrorCode::Conflict => {
            world.count(Sometimes::KeyReused);
        }
        Err(_) => {}
    }
}
