//! The program as a child process: started, listened to, stopped, killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::PATIENCE;
use testkit::journal::Journal;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::client::Caller;

/// The operator key of every service here.
pub(crate) const OPERATOR_KEY: &str = "operator-key-of-the-integration-tests";

/// How often a condition in another process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The binary under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_postrider"))
}

/// A command in a clean environment: nothing of the machine's configuration applies.
pub(crate) fn clean(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Waits until the condition holds in another process; panics with `awaited` if it does not.
pub(crate) async fn eventually<T>(awaited: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        let mut every = tokio::time::interval(LOOK_EVERY);
        loop {
            every.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    let Ok(seen) = tokio::time::timeout(PATIENCE, looking).await else {
        panic!("waited {PATIENCE:?} for {awaited}");
    };
    seen
}

/// A folder with a store, and how to serve it.
pub(crate) struct Home {
    folder: Arc<tempfile::TempDir>,
    arguments: Vec<String>,
}

impl Home {
    /// A folder of its own, whose service may call this machine.
    pub(crate) fn new() -> Self {
        Self { folder: Arc::new(tempfile::tempdir().unwrap()), arguments: Vec::new() }.with(&[
            "--allow-http",
            "--allow-target",
            "127.0.0.0/8",
        ])
    }

    /// With these arguments too.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("postrider.db")
    }

    /// The arguments of `serve`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let own = ["serve".into(), "--listen".into(), "127.0.0.1:0".into(), "--store".into()];
        let store = format!("sqlite:{}", self.store().display());
        own.into_iter().chain([store]).chain(self.arguments.iter().cloned()).collect()
    }

    /// Starts the service and waits until it is ready.
    pub(crate) async fn serve(&self) -> Service {
        let mut command = clean(binary(), &[]);
        command.args(self.arguments());
        self.serve_by(command).await
    }

    /// Starts the service by this command and waits until it is ready.
    pub(crate) async fn serve_by(&self, mut command: Command) -> Service {
        command.env("POSTRIDER_OPERATOR_KEY", OPERATOR_KEY);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = lines(child.stdout.take().unwrap());
        let logged = lines(child.stderr.take().unwrap());
        let ready = |lines: &[String]| lines.iter().any(|line| line.contains(" is ready at "));
        let said = said.wait_until("the ready line", PATIENCE, |lines| {
            assert!(
                !logged.entries().iter().any(|line| line.starts_with("postrider: ")),
                "{logged:?}"
            );
            ready(lines)
        });
        let said = said.await;
        let address =
            said.iter().find_map(|line| line.strip_prefix("postrider is ready at http://"));
        let address = address.unwrap().parse().unwrap();
        Service { child, address, logged, _folder: Arc::clone(&self.folder) }
    }
}

/// Collects lines until the stream ends.
fn lines(stream: impl AsyncRead + Unpin + Send + 'static) -> Arc<Journal<String>> {
    let journal = Arc::new(Journal::default());
    let collected = Arc::clone(&journal);
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            collected.push(line);
        }
    });
    journal
}

/// A running service; killed when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
    logged: Arc<Journal<String>>,
    _folder: Arc<tempfile::TempDir>,
}

impl Service {
    /// The operator.
    pub(crate) fn operator(&self) -> Caller {
        Caller::bearer(self.address, OPERATOR_KEY)
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap()
    }

    /// Kills it at once, as a crash does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until it has logged this.
    pub(crate) async fn logged(&self, text: &str) {
        let has = |lines: &[String]| lines.iter().any(|line| line.contains(text));
        self.logged.wait_until(text, PATIENCE, has).await;
    }

    /// The memory it holds now, in bytes (Linux, proc(5)).
    #[cfg(target_os = "linux")]
    pub(crate) fn resident_bytes(&self) -> u64 {
        let id = self.child.id().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.logged.entries()
    }

    /// One value of `/metrics`, a whole number.
    pub(crate) async fn metric(&self, name: &str) -> i64 {
        let answer = self.operator().call(Method::GET, "/metrics", "").await;
        assert_eq!(answer.status, 200);
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        let found = answer.text.lines().find_map(value);
        found.unwrap_or_else(|| panic!("no {name} in {}", answer.text))
    }

    /// Waits until nothing is pending, and checks the balance of all deliveries.
    pub(crate) async fn settled(&self) {
        eventually("no pending delivery", async || {
            let pending = self.metric(r#"postrider_deliveries{state="pending"}"#).await;
            (pending == 0).then_some(())
        })
        .await;
        assert_eq!(self.metric("postrider_balance").await, 0);
    }

    /// The delivery's state once it is this one.
    pub(crate) async fn delivery_until(
        &self,
        event: &str,
        awaited: &str,
        is_awaited: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(awaited, async || {
            let page = self.operator().get(&format!("/api/v1/deliveries?event={event}")).await;
            let delivery = page["data"][0].clone();
            is_awaited(&delivery).then_some(delivery)
        })
        .await
    }
}
