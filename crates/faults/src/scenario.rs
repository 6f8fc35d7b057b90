//! The scenarios: what is broken, and what must hold all the same.
//!
//! A new one is a file here and a line in [`SCENARIOS`].

use std::pin::Pin;

use anyhow::Result;

use crate::needs::Need;
use crate::plan::Plan;
use crate::report::Report;

pub(crate) mod acknowledgements;
pub(crate) mod backup;
pub(crate) mod calls;
pub(crate) mod clock;
pub(crate) mod damage;
pub(crate) mod freeze;
pub(crate) mod kill;
pub(crate) mod limits;
pub(crate) mod power;
pub(crate) mod simulate;
pub(crate) mod soak;
pub(crate) mod space;
pub(crate) mod stop;
pub(crate) mod storage;
pub(crate) mod upgrade;

/// A scenario under way.
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Result<Report>> + 'a>>;

/// A scenario.
pub(crate) struct Scenario {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it does, in a line.
    pub(crate) about: &'static str,
    /// What this machine must have for it.
    pub(crate) needs: &'static [Need],
    /// Runs it.
    pub(crate) run: for<'a> fn(&'a Plan) -> Running<'a>,
}

/// Every scenario, in the order of `all`.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kill",
        about: "kill -9 at random moments under load",
        needs: &[],
        run: |plan| Box::pin(kill::run(plan)),
    },
    Scenario {
        name: "calls",
        about: "kill -9 at every system call of a script that changes files",
        needs: &[Need::Strace],
        run: |plan| Box::pin(calls::run(plan)),
    },
    Scenario {
        name: "stop",
        about: "SIGTERM with 200 attempts on their way",
        needs: &[],
        run: |plan| Box::pin(stop::run(plan)),
    },
    Scenario {
        name: "acknowledgements",
        about: "answers to publishers cut off, and asked for again",
        needs: &[],
        run: |plan| Box::pin(acknowledgements::run(plan)),
    },
    Scenario {
        name: "power",
        about: "the power is cut: unsynced writes are lost, reordered and torn",
        needs: &[Need::Fuse],
        run: |plan| Box::pin(power::run(plan)),
    },
    Scenario {
        name: "storage",
        about: "syncs and writes fail, find no space, are short",
        needs: &[Need::Fuse],
        run: |plan| Box::pin(storage::run(plan)),
    },
    Scenario {
        name: "space",
        about: "the disk is full, has space again, becomes read-only",
        needs: &[Need::Fuse],
        run: |plan| Box::pin(space::run(plan)),
    },
    Scenario {
        name: "damage",
        about: "flipped bits, cut, emptied and missing files while the service is stopped",
        needs: &[],
        run: |plan| Box::pin(damage::run(plan)),
    },
    Scenario {
        name: "clock",
        about: "the machine's clock is set forward and back while retries wait",
        needs: &[Need::Faketime],
        run: |plan| Box::pin(clock::run(plan)),
    },
    Scenario {
        name: "freeze",
        about: "the process is frozen under load, and let go on",
        needs: &[],
        run: |plan| Box::pin(freeze::run(plan)),
    },
    Scenario {
        name: "limits",
        about: "too few descriptors, too little memory",
        needs: &[Need::Prlimit],
        run: |plan| Box::pin(limits::run(plan)),
    },
    Scenario {
        name: "soak",
        about: "a steady load for a long time, bad endpoints, and kills",
        needs: &[],
        run: |plan| Box::pin(soak::run(plan)),
    },
    Scenario {
        name: "backup",
        about: "backups under load, each served elsewhere",
        needs: &[],
        run: |plan| Box::pin(backup::run(plan)),
    },
    Scenario {
        name: "simulate",
        about: "engine, sender and store in a simulated world, by seed",
        needs: &[],
        run: |plan| Box::pin(simulate::run(plan)),
    },
    Scenario {
        name: "upgrade",
        about: "stores of earlier versions with a backlog; the start killed at its system calls",
        needs: &[Need::Strace],
        run: |plan| Box::pin(upgrade::run(plan)),
    },
];
