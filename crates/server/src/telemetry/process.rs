//! What the operating system says about this process (proc(5)), under the names that every client
//! of Prometheus uses. Elsewhere than on Linux there is none of it.

use domain::time::Timestamp;

use super::exposition::Exposition;

/// Writes what is known about this process, which began at `started_at`.
pub(super) fn write(page: &mut Exposition, started_at: Timestamp) {
    let name = "process_start_time_seconds";
    page.gauge(name, "When the process began, in seconds since 1970", seconds(started_at));
    #[cfg(target_os = "linux")]
    linux::write(page);
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1_000.0
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use rustix::process::{Resource, getrlimit};

    use super::Exposition;

    /// Ticks a second of the times in `/proc/self/stat`; Linux tells every program 100, whatever
    /// its own clock does (time(7), `USER_HZ`).
    const TICKS_PER_SECOND: f64 = 100.0;

    pub(super) fn write(page: &mut Exposition) {
        if let Some(seconds) =
            fs::read_to_string("/proc/self/stat").ok().and_then(|s| cpu_seconds(&s))
        {
            let help = "Processor time of all threads, in user and system mode";
            page.counter("process_cpu_seconds_total", help, seconds);
        }
        if let Some(bytes) =
            fs::read_to_string("/proc/self/status").ok().and_then(|s| resident_bytes(&s))
        {
            page.gauge("process_resident_memory_bytes", "Memory it holds now", bytes);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the folder that is read.
            let open = open.count().saturating_sub(1);
            page.gauge("process_open_fds", "Files and sockets it has open now", open as f64);
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            page.gauge("process_max_fds", "Files and sockets it may have open", most as f64);
        }
    }

    fn cpu_seconds(stat: &str) -> Option<f64> {
        // The second field is a name in parentheses that may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
        Some((user + system) as f64 / TICKS_PER_SECOND)
    }

    fn resident_bytes(status: &str) -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some((kib * 1_024) as f64)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn times_and_memory_are_read_as_proc_writes_them() {
            let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 250 150 0 0 20 0 4 0 77 1 2";
            assert_eq!(cpu_seconds(stat), Some(4.0));
            assert_eq!(resident_bytes("VmPeak:\t  9 kB\nVmRSS:\t    12 kB\n"), Some(12_288.0));
            assert_eq!(cpu_seconds("7 (a"), None);
        }
    }
}
