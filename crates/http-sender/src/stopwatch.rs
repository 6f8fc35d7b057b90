//! Where the time of an exchange goes. Survives the exchange that is cut off by its time limit.

use domain::attempt::Phases;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    Dns,
    Connect,
    Tls,
    FirstByte,
}

#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    phases: Phases,
    running: Option<(Phase, Instant)>,
}

impl Stopwatch {
    /// Ends the running phase and begins another, from zero.
    pub(crate) fn enter(&mut self, phase: Phase) {
        let now = Instant::now();
        self.close(now);
        self.running = Some((phase, now));
    }

    /// Ends the running phase.
    pub(crate) fn stop(&mut self) -> Phases {
        if self.running.is_some() {
            self.close(Instant::now());
        }
        self.phases
    }

    fn close(&mut self, now: Instant) {
        let Some((phase, began)) = self.running.take() else { return };
        let place = match phase {
            Phase::Dns => &mut self.phases.dns,
            Phase::Connect => &mut self.phases.connect,
            Phase::Tls => &mut self.phases.tls,
            Phase::FirstByte => &mut self.phases.first_byte,
        };
        *place = now - began;
    }
}
