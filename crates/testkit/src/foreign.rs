//! Receivers in other languages, as customers write them, run as processes of their own.
//!
//! They are the programs of the project's `receivers/` folder. What they need beside Rust is brought
//! by `scripts/test-tools.sh`; a test that misses it fails and says so. Only Go is optional:
//! [`Language::is_here`] tells.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::Value;

use crate::PATIENCE;
use crate::journal::Journal;

/// Who verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `receiver.py`: contract signatures, standard library only.
    Python,
    /// `receiver.mjs`: contract signatures, standard library only.
    Node,
    /// `receiver.go`: contract signatures, standard library only.
    Go,
    /// `standard_webhooks.py`: the Standard Webhooks library of PyPI.
    PythonStandardWebhooks,
    /// `standard_webhooks.mjs`: the Standard Webhooks library of npm.
    NodeStandardWebhooks,
}

impl Language {
    /// Those that verify the signatures of `jogg_v2` and `konpro_v1`.
    pub const CONTRACT: [Self; 3] = [Self::Python, Self::Node, Self::Go];

    /// Those that verify the three `webhook-*` headers.
    pub const STANDARD: [Self; 2] = [Self::PythonStandardWebhooks, Self::NodeStandardWebhooks];

    /// Whether the test can run it. `false` only for Go without a Go toolchain, which is no fault;
    /// everything else is here or [`ForeignReceiver::start`] panics.
    pub fn is_here(self) -> bool {
        self != Self::Go || Command::new("go").arg("version").output().is_ok()
    }

    fn command(self, workshop: &mut Option<Workshop>) -> Command {
        let receivers = project().join("receivers");
        let python = || tool("POSTRIDER_TEST_PYTHON", "target/test-tools/venv/bin/python");
        let node = || std::env::var_os("POSTRIDER_TEST_NODE").map_or("node".into(), PathBuf::from);
        match self {
            Self::Python => with_program(&python(), &receivers.join("receiver.py")),
            Self::PythonStandardWebhooks => {
                with_program(&python(), &receivers.join("standard_webhooks.py"))
            }
            Self::Node => with_program(&node(), &receivers.join("receiver.mjs")),
            Self::NodeStandardWebhooks => {
                let folder = tool("POSTRIDER_TEST_NODE_FOLDER", "target/test-tools/node");
                let mut command = Command::new(node());
                // The link lies beside the library; where it leads to, there is none.
                command.arg("--preserve-symlinks-main").arg(folder.join("standard_webhooks.mjs"));
                command
            }
            Self::Go => {
                // `go run` would leave its child behind when killed.
                let built = Workshop::build_go(&receivers.join("receiver.go"));
                let command = Command::new(built.0.join("receiver"));
                *workshop = Some(built);
                command
            }
        }
    }
}

/// What a receiver said of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The event's type, if it verified.
    pub event: Option<String>,
    /// Whether it verified.
    pub verified: bool,
}

/// A receiver in another language, killed when dropped.
pub struct ForeignReceiver {
    process: Child,
    address: String,
    verdicts: Arc<Journal<Verdict>>,
    _workshop: Option<Workshop>,
}

impl fmt::Debug for ForeignReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignReceiver").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ForeignReceiver {
    /// Starts it with an endpoint's secret and waits until it listens.
    ///
    /// # Panics
    ///
    /// When the tools it needs are not here, or it does not start.
    pub fn start(language: Language, secret: &str) -> Self {
        let mut workshop = None;
        let mut process = language
            .command(&mut workshop)
            .args(["--port", "0", "--secret", secret])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{language:?}: {error}; {REMEDY}"));
        let mut lines =
            BufReader::new(process.stdout.take().expect("its output is a pipe")).lines();
        let first = lines.next().and_then(Result::ok).unwrap_or_default();
        let Some(address) = first.strip_prefix("listening on ").map(str::to_owned) else {
            let _ = process.kill();
            let mut said = String::new();
            if let Some(mut errors) = process.stderr.take() {
                let _ = errors.read_to_string(&mut said);
            }
            panic!("{language:?} does not start: {first}{said}; {REMEDY}");
        };
        let verdicts = Arc::new(Journal::default());
        let journal = Arc::clone(&verdicts);
        // Ends with the process, whose output it reads.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let said: Value = serde_json::from_str(&line)
                    .unwrap_or_else(|_| panic!("{language:?} printed no JSON line: {line}"));
                journal.push(Verdict {
                    event: said["event"].as_str().map(str::to_owned),
                    verified: said["verified"] == Value::Bool(true),
                });
            }
        });
        Self { process, address, verdicts, _workshop: workshop }
    }

    /// Where it listens, `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The URL of a path, which starts with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it said so far.
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.verdicts.entries()
    }

    /// What it said so far, once there are `count` verdicts.
    ///
    /// # Panics
    ///
    /// When they do not come within [`PATIENCE`].
    pub async fn wait_for(&self, count: usize) -> Vec<Verdict> {
        let awaited = format!("{count} verdicts");
        self.verdicts.wait_until(&awaited, PATIENCE, |verdicts| verdicts.len() >= count).await
    }
}

impl Drop for ForeignReceiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder with a built program, removed when dropped.
struct Workshop(PathBuf);

impl Workshop {
    fn build_go(source: &Path) -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static BUILT: AtomicUsize = AtomicUsize::new(0);
        let number = BUILT.fetch_add(1, Ordering::SeqCst);
        let folder =
            project().join(format!("target/test-tools/go-{}-{number}", std::process::id()));
        let built = Command::new("go")
            .arg("build")
            .arg("-o")
            .arg(folder.join("receiver"))
            .arg(source)
            .output()
            .expect("the test asked whether Go is here");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Self(folder)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const REMEDY: &str = "run scripts/test.sh, which brings the tools the tests need";

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn with_program(interpreter: &Path, program: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(program);
    command
}

fn tool(variable: &str, otherwise: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| project().join(otherwise), PathBuf::from);
    assert!(path.exists(), "{} is not there; {REMEDY}", path.display());
    path
}
