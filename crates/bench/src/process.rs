//! Child processes: started, spoken to line by line, measured through `/proc`, ended.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::clock::{now_nanos, pause};

/// Length of a tick of `utime` and `stime` in `/proc/PID/stat` (proc(5)); 100 a second on every
/// common Linux build.
const TICK_MICROS: u64 = 10_000;

/// What a process has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Time on a processor, user and system, of all threads.
    pub(crate) cpu_micros: u64,
    /// Bytes it caused to be sent to the storage layer.
    pub(crate) written_bytes: u64,
    /// The most memory it had resident.
    pub(crate) memory_peak_bytes: u64,
    /// The memory it has resident now.
    pub(crate) memory_bytes: u64,
}

impl Usage {
    /// Reads the usage of a process.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{process}/{file}"))
                .with_context(|| format!("reading /proc/{process}/{file}"))
        };
        let stat = read("stat")?;
        // The second field is a name in parentheses that may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has a name")?;
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().unwrap_or(0))
            .sum();
        let status = read("status")?;
        Ok(Self {
            cpu_micros: ticks * TICK_MICROS,
            written_bytes: named(&read("io")?, "write_bytes:"),
            memory_peak_bytes: named(&status, "VmHWM:") * 1024,
            memory_bytes: named(&status, "VmRSS:") * 1024,
        })
    }
}

/// Lets a process's [`Usage::memory_peak_bytes`] begin anew at what it has resident now.
pub(crate) fn forget_memory_peak(process: u32) -> Result<()> {
    let file = format!("/proc/{process}/clear_refs");
    // 5: the peak only (proc(5)).
    std::fs::write(&file, "5").with_context(|| format!("writing {file}"))
}

/// Nanoseconds that this thread has had on a processor, as of the scheduler's last look: a tick of
/// a few milliseconds ago at most.
pub(crate) fn thread_cpu_nanos() -> Result<u64> {
    const FILE: &str = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(FILE).with_context(|| format!("reading {FILE}"))?;
    let first = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    first.with_context(|| format!("{FILE} begins with a number"))
}

/// The number after a name at the beginning of a line.
fn named(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// A child that takes commands on its input and answers on its output, killed when dropped.
pub(crate) struct Spoken {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Spoken {
    /// Starts this same program with other arguments.
    pub(crate) fn this_program(arguments: &[&str]) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a process of the benchmark")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("its output is a pipe")?);
        Ok(Self { child, input, output })
    }

    /// The next line it says.
    pub(crate) fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("a process of the benchmark ended early: {:?}", self.child.wait());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Says a line and answers the next one it says.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String> {
        let input = self.input.as_mut().context("its input is open")?;
        writeln!(input, "{line}").context("speaking to a process of the benchmark")?;
        self.hear()
    }

    /// What it has used.
    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
    }
}

impl Drop for Spoken {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says a line to whoever started this process.
pub(crate) fn say(line: impl std::fmt::Display) {
    let mut output = std::io::stdout().lock();
    // Nobody listens any more: the next reading of the input ends this process.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// The usage of a process once it has used no processor for a fifth of a second, or after 30 s.
pub(crate) fn usage_when_quiet(process: u32) -> Result<Usage> {
    const QUIET: Duration = Duration::from_millis(200);
    let give_up_at = now_nanos() + 30_000_000_000;
    let mut before = Usage::of(process)?;
    loop {
        pause(QUIET);
        let now = Usage::of(process)?;
        if now.cpu_micros == before.cpu_micros || now_nanos() > give_up_at {
            return Ok(now);
        }
        before = now;
    }
}
