//! Names that change their mind: public when asked first, forbidden when asked again, with a TTL of
//! 0. The same run, longer, is `cargo run -p http-sender --example rebinding`.

use std::fmt;
use std::time::Duration;

use domain::attempt::{Failure, Outcome};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::dns::records;
use crate::support::{PUBLIC, request};
use crate::world::{PUBLIC_TOO, World};

/// Deliveries at once, each to a name of its own.
const AT_ONCE: usize = 50;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) delivered: usize,
    pub(crate) blocked: usize,
    pub(crate) questions: usize,
    pub(crate) to_receiver: usize,
    pub(crate) to_trap: usize,
    took: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} deliveries under rebinding in {:.1} s: {} delivered, {} refused, {} questions to \
             DNS, {} connections to the receiver, {} to the trap",
            self.delivered + self.blocked,
            self.took.as_secs_f64(),
            self.delivered,
            self.blocked,
            self.questions,
            self.to_receiver,
            self.to_trap
        )
    }
}

/// Delivers to names whose answers take turns between good and bad, over and over, each time on a
/// new connection and with a resolver that has forgotten the last answer.
///
/// # Panics
///
/// When a delivery ends in any other way than by an answer or by the guard.
pub(crate) async fn rebind(deliveries: usize) -> Figures {
    let began = Instant::now();
    let mut world = World::new().await;
    for number in 0..AT_ONCE {
        let name = format!("n{number}.com");
        let turns: [&[&str]; 8] = [
            &[PUBLIC],
            &["127.0.0.1", "::1"],
            &[PUBLIC, PUBLIC_TOO],
            &[PUBLIC, "10.0.0.1"],
            &[PUBLIC_TOO],
            &["169.254.169.254", "fd00:ec2::254"],
            &[PUBLIC],
            &[PUBLIC, "::ffff:127.0.0.1"],
        ];
        world.names.script(&name, turns.map(|answers| records(&name, 0, answers)));
    }
    let (mut delivered, mut blocked) = (0, 0);
    while delivered + blocked < deliveries {
        let mut wave = JoinSet::new();
        for number in 0..AT_ONCE.min(deliveries - delivered - blocked) {
            let sender = std::sync::Arc::clone(&world.sender);
            let request = request(&format!("http://n{number}.com/"), Duration::from_secs(15));
            wave.spawn(async move {
                use engine::sender::Sender as _;
                sender.send(request).await
            });
        }
        for exchange in wave.join_all().await {
            match exchange.outcome {
                Outcome::Answered { status: 200, .. } => delivered += 1,
                Outcome::Failed(Failure::Blocked) => blocked += 1,
                _ => panic!("{exchange:?}"),
            }
        }
        world.forget();
    }
    let (to_receiver, to_trap) = world.connections();
    let questions = world.names.questions().len();
    Figures { delivered, blocked, questions, to_receiver, to_trap, took: began.elapsed() }
}

#[cfg(test)]
#[tokio::test]
async fn no_delivery_reaches_the_trap_while_names_change_their_addresses() {
    let figures = rebind(500).await;
    assert_eq!(figures.to_trap, 0, "{figures}");
    assert_eq!(figures.to_receiver, figures.delivered, "{figures}");
    assert!(figures.delivered >= 200 && figures.blocked >= 200, "both happen: {figures}");
}
