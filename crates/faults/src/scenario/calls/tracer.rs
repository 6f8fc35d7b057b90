//! strace: counts system calls, and kills at one of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long it may take to attach.
const ATTACH_MAX: Duration = Duration::from_secs(20);

/// What it writes when a process it traces is killed.
const KILLED: &str = "+++ killed by SIGKILL";

/// How to trace.
pub(super) struct Tracer {
    expressions: Vec<String>,
    trace: PathBuf,
}

impl Tracer {
    /// Writes all these calls to a file.
    pub(super) fn counting(calls: &str, trace: &Path) -> Self {
        Self { expressions: vec![format!("trace={calls}")], trace: trace.to_owned() }
    }

    /// Kills the process when one of its threads makes its n-th call of this kind, before the call
    /// does anything.
    pub(super) fn killing(call: &str, n: u64, trace: &Path) -> Self {
        let expressions =
            vec![format!("trace={call}"), format!("inject={call}:signal=KILL:when={n}")];
        Self { expressions, trace: trace.to_owned() }
    }

    /// The command to put before the program.
    pub(super) fn wrapper(&self) -> Vec<String> {
        let mut words = vec!["strace".to_owned(), "-f".to_owned()];
        words.extend(self.arguments());
        words
    }

    /// Traces these threads, and them alone, from now on; until dropped.
    pub(super) async fn attach(&self, threads: impl Iterator<Item = u32>) -> Result<Child> {
        let threads: Vec<_> = threads.map(|thread| thread.to_string()).collect();
        let mut command = Command::new("strace");
        for thread in &threads {
            command.args(["-p", thread]);
        }
        command.args(self.arguments()).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut strace = command.kill_on_drop(true).spawn().context("cannot start strace")?;
        let mut said = BufReader::new(strace.stderr.take().context("a pipe")?).lines();
        let attached = async {
            let mut left = threads.len();
            while left > 0 {
                match said.next_line().await? {
                    Some(line) if line.ends_with(" attached") => left -= 1,
                    Some(line) => bail!("strace says: {line}"),
                    None => bail!("strace has ended"),
                }
            }
            Ok(())
        };
        tokio::time::timeout(ATTACH_MAX, attached).await.context("strace does not attach")??;
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        Ok(strace)
    }

    fn arguments(&self) -> Vec<String> {
        let expressions =
            self.expressions.iter().flat_map(|expression| ["-e".to_owned(), expression.clone()]);
        let output = ["-o".to_owned(), self.trace.display().to_string()];
        // Strings are of no use here and may be payloads.
        expressions.chain(["-s".to_owned(), "0".to_owned()]).chain(output).collect()
    }
}

/// The threads of a process with their names (proc(5)).
pub(super) fn threads(process: Pid) -> Result<Vec<(u32, String)>> {
    let folder = format!("/proc/{}/task", process.as_raw_nonzero());
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        let entry = entry?;
        // A thread may end while we look.
        let Ok(name) = std::fs::read_to_string(entry.path().join("comm")) else { continue };
        let id = entry.file_name().to_string_lossy().parse()?;
        threads.push((id, name.trim().to_owned()));
    }
    Ok(threads)
}

/// How often each call stands in a trace: of the thread that made most of them.
pub(super) fn counts(trace: &Path) -> Result<BTreeMap<String, u64>> {
    let text = match std::fs::read_to_string(trace) {
        // The thread had ended before it could be traced.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.context("reading a trace")?,
    };
    let mut by_thread: BTreeMap<(String, String), u64> = BTreeMap::new();
    for line in text.lines() {
        // `fsync(3) = 0`, after the number of the thread if there are several.
        let (before, _) = line.split_once('(').unwrap_or_default();
        let (thread, call) = before.rsplit_once(' ').unwrap_or(("", before));
        let is_call =
            !call.is_empty() && call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if is_call {
            *by_thread.entry((call.to_owned(), thread.trim().to_owned())).or_default() += 1;
        }
    }
    let mut counts = BTreeMap::new();
    for ((call, _), times) in by_thread {
        let most: &mut u64 = counts.entry(call).or_default();
        *most = times.max(*most);
    }
    Ok(counts)
}

/// Whether the traced process was killed.
pub(super) fn was_killed(trace: &Path) -> bool {
    std::fs::read_to_string(trace).is_ok_and(|text| text.contains(KILLED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_for_the_thread_that_made_most() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        let text = "7  fsync(3)  = 0\n8 fsync(3 <unfinished ...>\n8 <... fsync resumed>) = 0\n\
                    8 fsync(4) = 0\n8 +++ exited with 0 +++\n7 pwrite64(3, \"\"..., 8, 0) = 8\n";
        std::fs::write(&trace, text).unwrap();
        let expected = [("fsync".to_owned(), 2), ("pwrite64".to_owned(), 1)];
        assert_eq!(counts(&trace).unwrap(), BTreeMap::from(expected));
        std::fs::write(&trace, "fsync(3) = 0\n+++ killed by SIGKILL +++\n").unwrap();
        assert_eq!(counts(&trace).unwrap(), BTreeMap::from([("fsync".to_owned(), 1)]));
        assert!(was_killed(&trace));
    }
}
