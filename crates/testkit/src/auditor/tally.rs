//! What the auditor answers: a count of everything, and every broken promise by name.

use std::ops::AddAssign;

use domain::id::EventId;
use store::history::Counts;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged event never got a 2xx from an endpoint it was owed to, and the service does
    /// not say that it is pending, exhausted or cancelled.
    Lost {
        /// The event.
        event: EventId,
        /// The endpoint's path.
        path: String,
    },
    /// A delivery came of an event that nobody published or that was refused, or to an endpoint it
    /// was not owed to.
    Phantom {
        /// Its `webhook-id`, as it came.
        webhook_id: Option<String>,
        /// The path it came to.
        path: String,
    },
    /// A delivery came again after a 2xx, more often than the faults explain.
    Duplicate {
        /// The event.
        event: EventId,
        /// The endpoint's path.
        path: String,
    },
    /// One request, with its repeats, became two events.
    MadeTwice {
        /// One of them.
        first: EventId,
        /// The other.
        second: EventId,
    },
    /// A repeat had another body than the first delivery of the event.
    BodyChanged {
        /// The event.
        event: EventId,
        /// The endpoint's path.
        path: String,
    },
    /// A delivery had other data than was published.
    Corrupted {
        /// The event.
        event: EventId,
        /// The endpoint's path.
        path: String,
    },
    /// A delivery's signature does not verify.
    NotGenuine {
        /// Its `webhook-id`, as it came.
        webhook_id: Option<String>,
        /// The path it came to.
        path: String,
        /// What is wrong with it.
        error: String,
    },
    /// A delivery came before the one ahead of it in its line had ended.
    OutOfOrder {
        /// The event.
        event: EventId,
        /// The one ahead of it.
        ahead: EventId,
        /// The endpoint's path.
        path: String,
    },
    /// A delivery came more often than its attempts and the faults explain.
    OverAttempted {
        /// The event.
        event: EventId,
        /// The endpoint's path.
        path: String,
    },
    /// created ≠ pending + delivered + exhausted + cancelled.
    Unbalanced(Counts),
}

/// How many deliveries ended how, and how often each promise was broken. The deliveries of
/// acknowledged events are delivered, pending, exhausted, cancelled or lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Deliveries that acknowledged events owe.
    pub acknowledged: u64,
    /// Of these, answered 2xx by their receiver.
    pub delivered: u64,
    /// Of these, still to be delivered, as the service says.
    pub pending: u64,
    /// Of these, given up after their last attempt, as the service says.
    pub exhausted: u64,
    /// Of these, cancelled, as the service says.
    pub cancelled: u64,
    /// Of these, none of all that.
    pub lost: u64,
    /// Requests for events that nobody published or that were refused, and events made twice.
    pub phantom: u64,
    /// Requests for what had succeeded before.
    pub duplicated: u64,
    /// Requests with another body or other data.
    pub corrupted: u64,
    /// Requests whose signature does not verify.
    pub bad_signature: u64,
    /// Requests before those ahead of them in their line.
    pub out_of_order: u64,
    /// Deliveries with more requests than are explained.
    pub over_attempted: u64,
}

impl Tally {
    /// Every count with its name, in the order of printing.
    pub fn counts(&self) -> [(&'static str, u64); 12] {
        [
            ("acknowledged", self.acknowledged),
            ("delivered", self.delivered),
            ("pending", self.pending),
            ("exhausted", self.exhausted),
            ("cancelled", self.cancelled),
            ("lost", self.lost),
            ("phantom", self.phantom),
            ("duplicated", self.duplicated),
            ("corrupted", self.corrupted),
            ("bad signature", self.bad_signature),
            ("out of order", self.out_of_order),
            ("over-attempted", self.over_attempted),
        ]
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.delivered += other.delivered;
        self.pending += other.pending;
        self.exhausted += other.exhausted;
        self.cancelled += other.cancelled;
        self.lost += other.lost;
        self.phantom += other.phantom;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
        self.bad_signature += other.bad_signature;
        self.out_of_order += other.out_of_order;
        self.over_attempted += other.over_attempted;
    }
}

/// The auditor's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The counts.
    pub tally: Tally,
    /// Every broken promise.
    pub violations: Vec<Violation>,
}

/// Whether the counts balance: accepted = delivered + exhausted + cancelled + pending.
pub fn judge_counts(counts: Counts) -> Result<(), Violation> {
    let accounted = counts.pending + counts.delivered + counts.exhausted + counts.cancelled;
    if counts.created == accounted { Ok(()) } else { Err(Violation::Unbalanced(counts)) }
}
