//! A gate that a test opens: whatever waits at it goes on, whatever comes later passes.

use std::sync::Arc;

use tokio::sync::watch;

/// A gate, closed until [`Gate::open`]; clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets through who waits and who comes.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Ends when the gate is open.
    pub async fn passed(&self) {
        self.0
            .subscribe()
            .wait_for(|open| *open)
            .await
            .expect("this gate holds the sender while it waits");
    }
}
