//! The service under test: `postrider serve`, a process of its own, and all that can be done to it.
//!
//! Promise: nothing of this machine's configuration applies to it, and it is gone with its wrapper
//! when it is dropped, however the scenario ends.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http::Method;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::Instant;

use crate::client::{self, OPERATOR_KEY};

/// How long a start may take, recovery included, unless a scenario says otherwise.
pub(crate) const READY_MAX: Duration = Duration::from_mins(1);

/// How long a killed process may take to be gone, with all the memory it had.
const KILLED_MAX: Duration = Duration::from_secs(30);

/// How often something that cannot be waited for is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How to start the service.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    program: PathBuf,
    folder: PathBuf,
    store: PathBuf,
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    ready_max: Duration,
}

impl Launch {
    /// On a store in this folder, where its log is written too. It may call this machine.
    pub(crate) fn new(program: &Path, folder: &Path) -> Self {
        let arguments =
            ["--allow-http", "--allow-target", "127.0.0.0/8"].map(str::to_owned).to_vec();
        Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            store: folder.join("postrider.db"),
            wrapper: Vec::new(),
            environment: Vec::new(),
            arguments,
            ready_max: READY_MAX,
        }
    }

    /// With these arguments too.
    #[must_use]
    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// With this variable in its environment, which has no other.
    #[must_use]
    pub(crate) fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Started by this command, whose last argument is the program: strace, prlimit, faketime.
    #[must_use]
    pub(crate) fn wrapped_by(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// With this store instead.
    #[must_use]
    pub(crate) fn on_store(mut self, store: &Path) -> Self {
        store.clone_into(&mut self.store);
        self
    }

    /// The program.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// The database file.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// The file with what every start on this folder logged.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.folder.join("postrider.log")
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read(self.log_file())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Starts it and waits until it is ready. The error says what it logged, and how it ended if it
    /// did.
    pub(crate) async fn start(&self) -> Result<Service> {
        match self.begin().await? {
            Begun::Ready(service) => Ok(service),
            Begun::Ended(status) => {
                bail!("it ended by {status} before it was ready: {}", self.end_of_log())
            }
        }
    }

    /// Starts it and waits until it is ready or has ended.
    pub(crate) async fn begin(&self) -> Result<Begun> {
        let mut child = self.spawn()?;
        let output = child.stdout.take().context("its output is a pipe")?;
        let mut starting =
            Service { child, address: SocketAddr::from(([0; 4], 0)), launch: self.clone() };
        match tokio::time::timeout(self.ready_max, ready_address(output)).await {
            Ok(Some(address)) => {
                starting.address = address;
                Ok(Begun::Ready(starting))
            }
            Ok(None) => Ok(Begun::Ended(starting.ended(self.ready_max).await?)),
            Err(_) => bail!("it is not ready after {:?}: {}", self.ready_max, self.end_of_log()),
        }
    }

    fn spawn(&self) -> Result<Child> {
        let mut words = self.wrapper.iter().map(AsRef::as_ref).chain([self.program.as_os_str()]);
        let mut command = Command::new(words.next().context("there is a program")?);
        command
            .args(words)
            .args(["serve", "--listen", "127.0.0.1:0", "--store"])
            .arg(format!("sqlite:{}", self.store.display()))
            .args(&self.arguments)
            .env_clear()
            .env("POSTRIDER_OPERATOR_KEY", OPERATOR_KEY)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.open_log()?)
            .process_group(0);
        command.spawn().with_context(|| format!("cannot start {}", self.program.display()))
    }

    fn open_log(&self) -> Result<File> {
        let file = self.log_file();
        let opened = OpenOptions::new().create(true).append(true).open(&file);
        opened.with_context(|| format!("cannot write {}", file.display()))
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// What became of a start.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is taken apart at once"
)]
pub(crate) enum Begun {
    /// It is ready.
    Ready(Service),
    /// It ended before.
    Ended(ExitStatus),
}

/// The address in the line that says that it is ready; `None` if it ends without one.
async fn ready_address(output: ChildStdout) -> Option<SocketAddr> {
    let mut lines = BufReader::new(output).lines();
    loop {
        let line = lines.next_line().await.ok()??;
        if let Some(address) = line.strip_prefix("postrider is ready at http://") {
            // Whatever else it says is read, so that it never waits for a reader.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return address.parse().ok();
        }
    }
}

/// A running service.
pub(crate) struct Service {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// How it was started.
    pub(crate) launch: Launch,
}

impl Service {
    /// The process of the service itself, below its wrapper if there is one.
    pub(crate) fn id(&self) -> Result<Pid> {
        let mut id = self.child.id().context("it has ended")?;
        while let Some(child) = first_child(id) {
            id = child;
        }
        Pid::from_raw(i32::try_from(id)?).context("a process has a number")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.id()?, signal).with_context(|| format!("cannot send {signal:?}"))
    }

    /// Kills it at once, as a crash does.
    pub(crate) async fn kill(mut self) -> Result<()> {
        // It may have ended already, by a fault.
        let _ = self.signal(Signal::KILL);
        self.ended(KILLED_MAX).await?;
        Ok(())
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Stops its clock, so to say: it does nothing until [`Self::thaw`].
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Whether it has ended, and how.
    pub(crate) fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("it has not ended after {limit:?}"),
        }
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.terminate()?;
        let status = self.ended(READY_MAX).await?;
        anyhow::ensure!(status.success(), "it stopped with {status}: {}", self.launch.end_of_log());
        Ok(())
    }

    /// One value of `/metrics`, summed over the labels that are not given.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let answer = client::call(self.address, Method::GET, "/metrics", "").await?;
        metric_in(&answer.text, name).with_context(|| format!("no {name} in /metrics"))
    }

    /// How many deliveries are pending.
    pub(crate) async fn pending(&self) -> Result<u64> {
        Ok(self.metric(r#"postrider_deliveries{state="pending"}"#).await? as u64)
    }

    /// Waits until nothing is pending. The error says how much still is.
    pub(crate) async fn drained(&self, limit: Duration) -> Result<()> {
        let begun_at = Instant::now();
        loop {
            let pending = self.pending().await?;
            if pending == 0 {
                return Ok(());
            }
            if begun_at.elapsed() > limit {
                bail!("after {limit:?} {pending} deliveries are still pending");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The memory it holds now, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let file = format!("/proc/{}/status", self.id()?.as_raw_nonzero());
        let status =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.context("there is a VmRSS in kB (proc(5))")? * 1024)
    }

    /// How many descriptors it has open.
    pub(crate) fn open_files(&self) -> Result<usize> {
        let folder = format!("/proc/{}/fd", self.id()?.as_raw_nonzero());
        Ok(std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?.count())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The child is the group's leader; without an id it has ended and was waited for.
        let group = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::CONT);
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The first child of a process, of any of its threads (proc(5)).
fn first_child(id: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// The sum of a metric's values: of the series that begin so.
fn metric_in(text: &str, name: &str) -> Option<f64> {
    let is_of = |rest: &str| rest.starts_with([' ', '{']);
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name).filter(|rest| is_of(rest))?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    values.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_over_the_labels_that_are_not_given() {
        let text = "# TYPE a gauge\na{x=\"1\"} 2\na{x=\"2\"} 3\nab 7\nb 1.5\n";
        assert_eq!(metric_in(text, "a"), Some(5.0));
        assert_eq!(metric_in(text, "a{x=\"2\"}"), Some(3.0));
        assert_eq!(metric_in(text, "b"), Some(1.5));
        assert_eq!(metric_in(text, "c"), None);
    }
}
