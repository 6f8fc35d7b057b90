//! `deliveries.state`: small numbers, so that the index of what is open is small.

use domain::delivery::{DeliveryState, EndReason};

/// Pending, claimable.
pub(crate) const WAITING: i64 = 0;
/// Pending, leased.
pub(crate) const LEASED: i64 = 1;
/// Ended with a 2xx.
pub(crate) const DELIVERED: i64 = 2;
/// Ended, attempts or age used up.
pub(crate) const EXHAUSTED: i64 = 3;
/// Ended, nobody wants it any more.
pub(crate) const CANCELLED: i64 = 4;
/// Pending, behind another of its endpoint and key.
pub(crate) const BEHIND: i64 = 5;
/// Pending, leased since it was accepted, its event not filed yet: not in the index of what is open.
pub(crate) const FRESH: i64 = 6;

/// The state that a row says; `None` if we never write that.
pub(crate) fn parse(state: i64, reason: Option<EndReason>) -> Option<DeliveryState> {
    match (state, reason) {
        (WAITING | LEASED | BEHIND | FRESH, None) => Some(DeliveryState::Pending),
        (DELIVERED, None) => Some(DeliveryState::Delivered),
        (EXHAUSTED, Some(reason)) => Some(DeliveryState::Exhausted(reason)),
        (CANCELLED, Some(reason)) => Some(DeliveryState::Cancelled(reason)),
        _ => None,
    }
}
