//! Whose turn it is: accounts take turns, and within an account its endpoints, in each class.
//!
//! Neighbour: [`super::Lanes`] says who may start.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use domain::id::{AccountId, EndpointId};
use domain::limits::RETRY_SLOTS_PERCENT;
use store::queue::Claimed;

use super::ids::IdMap;

/// What a delivery competes with for slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// First attempts.
    First,
    /// Retries and replays.
    Rest,
}

impl Class {
    pub(super) const ALL: [Self; 2] = [Self::First, Self::Rest];

    pub(super) const fn of(claimed: &Claimed) -> Self {
        if claimed.attempts == 0 && !claimed.is_replay { Self::First } else { Self::Rest }
    }
}

/// One of something for each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Each<T> {
    first: T,
    rest: T,
}

impl<T> Index<Class> for Each<T> {
    type Output = T;

    fn index(&self, class: Class) -> &T {
        match class {
            Class::First => &self.first,
            Class::Rest => &self.rest,
        }
    }
}

impl<T> IndexMut<Class> for Each<T> {
    fn index_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::First => &mut self.first,
            Class::Rest => &mut self.rest,
        }
    }
}

/// What the rest has of some slots that first attempts want too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// How many of the rest are on their way.
    rest_in_flight: usize,
    /// Whether the last to start was one of the rest.
    was_rest: bool,
}

impl Share {
    pub(super) fn begin(&mut self, class: Class) {
        self.was_rest = class == Class::Rest;
        self.rest_in_flight += usize::from(self.was_rest);
    }

    pub(super) fn end(&mut self, class: Class) {
        self.rest_in_flight -= usize::from(class == Class::Rest);
    }

    /// Whether one more of the rest may start although first attempts wait for the same `slots`. Of
    /// a single slot they have every second turn, since there is no part of it.
    pub(super) fn is_left(&self, slots: usize) -> bool {
        let share = (slots * RETRY_SLOTS_PERCENT / 100).max(1);
        self.rest_in_flight < share && (slots > 1 || !self.was_rest)
    }
}

/// The accounts and lanes of one class that want to start something, in the order of their turns.
#[derive(Default)]
pub(super) struct Turns {
    accounts: VecDeque<AccountId>,
    lines: IdMap<AccountId, Line>,
}

/// The lanes of one account.
#[derive(Default)]
struct Line {
    lanes: VecDeque<EndpointId>,
    /// Whether the account stands in line itself.
    is_in_line: bool,
}

impl Turns {
    /// Puts the lane at the end of its account's line.
    pub(super) fn give(&mut self, account: AccountId, endpoint: EndpointId) {
        let line = self.lines.entry(account).or_default();
        line.lanes.push_back(endpoint);
        if !line.is_in_line {
            line.is_in_line = true;
            self.accounts.push_back(account);
        }
    }

    /// How many accounts stand in line.
    pub(super) fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// Takes the account whose turn it is; [`Self::put_back`] must follow. Answers how many lanes it
    /// has in line, too.
    pub(super) fn take_account(&mut self) -> Option<(AccountId, usize)> {
        let account = self.accounts.pop_front()?;
        let line = self.lines.get_mut(&account)?;
        line.is_in_line = false;
        Some((account, line.lanes.len()))
    }

    /// Takes the lane of the account whose turn it is.
    pub(super) fn take_lane(&mut self, account: AccountId) -> Option<EndpointId> {
        self.lines.get_mut(&account)?.lanes.pop_front()
    }

    /// Puts an account back at the end of the line, if it has any lane in line.
    pub(super) fn put_back(&mut self, account: AccountId) {
        let Some(line) = self.lines.get_mut(&account) else { return };
        if line.lanes.is_empty() {
            self.lines.remove(&account);
        } else if !line.is_in_line {
            line.is_in_line = true;
            self.accounts.push_back(account);
        }
    }

    pub(super) fn clear(&mut self) {
        self.accounts.clear();
        self.lines.clear();
    }
}
