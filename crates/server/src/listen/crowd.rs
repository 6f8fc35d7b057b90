//! The connections that are open, and who goes when there are too many.
//!
//! Promise: whoever lets us wait too long is closed in time; and when there is no room, it is made
//! at the cost of those who let us wait, never of those who wait for us.
//!
//! Room is made where the crowd is: of those waiting for a head, those waiting for a body and the
//! idle ones, the most numerous give up who has been so for longest. A flood of one kind therefore
//! costs itself. A share per address would not do: behind a reverse proxy all callers have one.

use std::cmp::Reverse;
use std::sync::Arc;

use tokio::task::AbortHandle;

use super::pulse::{Phase, Pulse, Verdict};

/// The part of all connections that is closed at once to make room, so that looking for them is
/// not done for each newcomer of a flood.
const ROOM: usize = 64;

/// The connections that are open, in the order in which they were accepted.
#[derive(Debug)]
pub(super) struct Crowd {
    connections_max: usize,
    open: Vec<(Arc<Pulse>, AbortHandle)>,
}

impl Crowd {
    pub(super) fn new(connections_max: usize) -> Self {
        Self { connections_max, open: Vec::new() }
    }

    pub(super) fn add(&mut self, pulse: Arc<Pulse>, task: AbortHandle) {
        self.open.push((pulse, task));
    }

    /// Lets each connection know if its time is up.
    pub(super) fn sweep(&mut self) {
        self.open.retain(|(pulse, task)| {
            match pulse.verdict() {
                Verdict::Keep => {}
                Verdict::AskToEnd => pulse.ask_to_end(),
                Verdict::CutOff => task.abort(),
            }
            !task.is_finished()
        });
    }

    /// Closes some connections that wait for their callers. Answers how many.
    pub(super) fn make_room(&mut self) -> usize {
        let mut waiting = [Phase::Head, Phase::Body, Phase::Idle].map(|phase| {
            let of_phase = |at: &usize| {
                let (pulse, task) = &self.open[*at];
                pulse.phase() == phase && !task.is_finished()
            };
            (0..self.open.len()).filter(of_phase).collect::<Vec<_>>()
        });
        waiting.sort_by_key(Vec::len);
        let [.., most] = &mut waiting;
        // Stable: of those who have waited equally long, the first to come are the first to go.
        most.sort_by_key(|at| Reverse(self.open[*at].0.waited()));
        most.truncate((self.connections_max / ROOM).max(1));
        for at in &*most {
            self.open[*at].1.abort();
        }
        // From the last to the first, so that the places of the others hold.
        most.sort_unstable_by_key(|at| Reverse(*at));
        for at in &*most {
            self.open.remove(*at);
        }
        most.len()
    }
}
