//! The benchmark's time: one clock that the generator, the receiver and the service share, since
//! they run on one machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) fn now_nanos() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits, as precisely as the kernel does (about 60 µs), for a thread of its own.
#[expect(clippy::disallowed_methods, reason = "a load at a fixed rate is made by waiting")]
pub(crate) fn wait_until(instant_nanos: u64) {
    if let Some(left) = instant_nanos.checked_sub(now_nanos()) {
        std::thread::sleep(Duration::from_nanos(left));
    }
}

/// Waits between two looks at another process, which has no other way to be watched.
pub(crate) fn pause(length: Duration) {
    wait_until(now_nanos() + u64::try_from(length.as_nanos()).unwrap_or(u64::MAX));
}
