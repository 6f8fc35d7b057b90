//! The service under test: `postrider serve`, a process of its own on an empty store, and what the
//! benchmark creates in it over HTTP.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::process::{Usage, forget_memory_peak, usage_when_quiet};
use crate::publisher::EVENT_TYPE;
use crate::wire::{BlockingConnection, request};

/// The operator key of the service under test, which nobody else can reach.
pub(crate) const OPERATOR_KEY: &str = "pr_op_benchmark_0123456789abcdef0123456789abcdef";

/// Connections that create accounts and endpoints at once.
const CREATORS: usize = 32;

/// The metric that counts transactions made durable.
const COMMITS_METRIC: &str = "postrider_store_commits_total";

/// A running `postrider serve`, killed when dropped. It makes its key file beside its store.
pub(crate) struct Service {
    process: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// The service's program: the one beside this one, unless said otherwise.
pub(crate) fn program(said: Option<PathBuf>) -> Result<PathBuf> {
    let program = match said {
        Some(program) => program,
        None => {
            std::env::current_exe().context("finding this program")?.with_file_name("postrider")
        }
    };
    ensure!(
        program.exists(),
        "{} is not there; build it with: cargo build --release",
        program.display()
    );
    Ok(program)
}

impl Service {
    /// Starts it on a store in `folder`.
    pub(crate) fn start(program: &Path, folder: &Path) -> Result<Self> {
        let log = folder.join("postrider.log");
        let store = format!("sqlite:{}", folder.join("postrider.db").display());
        let mut process = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--store", &store])
            .args(["--allow-http", "--allow-target", "127.0.0.0/8"])
            .env("POSTRIDER_OPERATOR_KEY", OPERATOR_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).context("making the service's log")?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut output = BufReader::new(process.stdout.take().context("its output is a pipe")?);
        let mut line = String::new();
        let address = loop {
            line.clear();
            if output.read_line(&mut line)? == 0 {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                bail!("the service ended before it was ready: {said}");
            }
            if let Some(address) = address_in(&line) {
                break address;
            }
        };
        // Whatever else it says is read, so that it never waits for a reader.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Ok(Self { process, address })
    }

    /// What it has used.
    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.id())
    }

    /// What it has used, once it works no more.
    pub(crate) fn usage_when_quiet(&self) -> Result<Usage> {
        usage_when_quiet(self.process.id())
    }

    /// Lets the most memory it had resident begin anew.
    pub(crate) fn forget_memory_peak(&self) -> Result<()> {
        forget_memory_peak(self.process.id())
    }

    /// Transactions made durable so far, if it counts them.
    pub(crate) fn commits(&self) -> Result<Option<u64>> {
        let mut connection = BlockingConnection::open(self.address)?;
        let request = request("GET", "/metrics", self.address, OPERATOR_KEY, "");
        let answer = connection.exchange(&request)?;
        let text = String::from_utf8_lossy(answer.body);
        let values = text
            .lines()
            .filter(|line| line.starts_with(COMMITS_METRIC))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.reduce(|sum, value| sum + value).map(|sum| sum as u64))
    }

    /// Creates accounts `bench0` and so on, each with this many endpoints at the receiver, numbered
    /// through.
    pub(crate) fn furnish(
        &self,
        accounts: usize,
        endpoints_each: usize,
        receiver: SocketAddr,
    ) -> Result<()> {
        let endpoint = |number| (endpoint_url(receiver, number), EVENT_TYPE.to_owned());
        self.furnish_of("jogg_v2", accounts, endpoints_each, &endpoint)
    }

    /// The same of the native contract, with the URL and event type that `endpoint` gives to each
    /// number.
    pub(crate) fn furnish_standard(
        &self,
        accounts: usize,
        endpoints_each: usize,
        endpoint: &(impl Fn(usize) -> (String, String) + Sync),
    ) -> Result<()> {
        self.furnish_of("standard", accounts, endpoints_each, endpoint)
    }

    fn furnish_of(
        &self,
        contract: &str,
        accounts: usize,
        endpoints_each: usize,
        endpoint: &(impl Fn(usize) -> (String, String) + Sync),
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let creators: Vec<_> = (0..CREATORS.min(accounts))
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        let mut connection = BlockingConnection::open(self.address)?;
                        loop {
                            let account = next.fetch_add(1, Ordering::Relaxed);
                            if account >= accounts {
                                return Ok(());
                            }
                            let first = account * endpoints_each;
                            let endpoints = (first..first + endpoints_each).map(endpoint);
                            let name = account_name(account);
                            self.create(&mut connection, contract, &name, endpoints)?;
                        }
                    })
                })
                .collect();
            for creator in creators {
                creator.join().map_err(|_| anyhow::anyhow!("a creator panicked"))??;
            }
            Ok(())
        })
    }

    /// Creates an account with an endpoint at each of these URLs.
    pub(crate) fn create_account(&self, username: &str, urls: &[String]) -> Result<()> {
        let endpoints = urls.iter().map(|url| (url.clone(), EVENT_TYPE.to_owned()));
        let mut connection = BlockingConnection::open(self.address)?;
        self.create(&mut connection, "jogg_v2", username, endpoints)
    }

    fn create(
        &self,
        connection: &mut BlockingConnection,
        contract: &str,
        username: &str,
        endpoints: impl Iterator<Item = (String, String)>,
    ) -> Result<()> {
        let mut post = |path: &str, body: &str| -> Result<Value> {
            let request = request("POST", path, self.address, OPERATOR_KEY, body);
            let answer = connection.exchange(&request)?;
            let text = String::from_utf8_lossy(answer.body);
            ensure!(answer.status == 201, "POST {path} was answered {}: {text}", answer.status);
            serde_json::from_slice(answer.body).context("reading what was created")
        };
        let created = post(
            "/api/v1/accounts",
            &format!(r#"{{"username":"{username}","contract":"{contract}"}}"#),
        )?;
        let id = created["id"].as_str().context("an account has an id")?;
        for (url, event_type) in endpoints {
            post(
                &format!("/api/v1/accounts/{id}/endpoints"),
                &format!(r#"{{"url":"{url}","events":["{event_type}"]}}"#),
            )?;
        }
        Ok(())
    }

    /// Asks it to stop and answers whether it did so in good order.
    pub(crate) fn stop(mut self) -> Result<bool> {
        let asked = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        ensure!(asked.context("asking the service to stop")?.success(), "the service was gone");
        Ok(self.process.wait()?.success())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The URL of an endpoint of that number at a receiver.
pub(crate) fn endpoint_url(receiver: SocketAddr, number: usize) -> String {
    format!("http://{receiver}/hook/{number}")
}

/// The username of an account.
pub(crate) fn account_name(number: usize) -> String {
    format!("bench{number}")
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let start = line.find("127.0.0.1:")?;
    let rest = &line[start..];
    let end =
        rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
    rest[..end].trim_end_matches(['.', ':']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_any_wording_of_the_ready_line() {
        let expected = Some("127.0.0.1:8080".parse().unwrap());
        for line in [
            "postrider is ready on http://127.0.0.1:8080\n",
            "ready: http://127.0.0.1:8080/ (sqlite)",
            "listening on 127.0.0.1:8080.",
        ] {
            assert_eq!(address_in(line), expected, "{line}");
        }
        assert_eq!(address_in("starting"), None);
    }
}
