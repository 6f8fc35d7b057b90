//! `postrider keys`: the keys that seal what is secret in storage.
//!
//! Promise: a new key is on stable storage before anything is sealed under it, and works whether
//! the service runs (it is asked over its API to take the key file in again) or not (the store is
//! opened here).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::audit::{Actor, AuditAction, AuditNote};
use engine::clock::{Clock as _, SystemClock};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use store::vault::Vault;
use store::{Audit as _, Catalogue as _, Queue as _};
use store_sqlite::{OpenError, SqliteStore};
use tokio::net::TcpStream;

use crate::config::{Config, Environment, Flags, StoreLocation};
use crate::ending::Ending;
use crate::wire;

/// How long the service may take to seal everything again: a hundred thousand secrets, on a busy
/// disk.
const RELOADED_WITHIN: Duration = Duration::from_mins(2);

/// Largest answer taken from the service: a ring of the most keys.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Rows sealed again in one step.
const RESEALED_ROWS_MAX: usize = 500;

/// Manages the keys that seal secrets in storage
#[derive(Debug, clap::Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeysCommand {
    Rotate(Rotate),
}

/// Makes a new key and seals every secret again under it
///
/// The new key becomes the first in the key file; the others stay there, so that backups can be
/// opened. If the service runs, it is asked at its `--listen` address, with POSTRIDER_OPERATOR_KEY,
/// to take the new key into use; deliveries go on meanwhile.
#[derive(Debug, clap::Args)]
struct Rotate {
    /// The TOML file to read options from [env: POSTRIDER_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    flags: Flags,
}

impl Keys {
    pub(super) fn run(self) -> Result<(), Ending> {
        match self.command {
            KeysCommand::Rotate(rotate) => {
                let environment = Environment::of_process();
                let config = Config::read(rotate.flags, environment, rotate.config.as_deref())?;
                super::block_on(Some(1), rotate_keys(&config))
            }
        }
    }
}

async fn rotate_keys(config: &Config) -> Result<(), Ending> {
    let StoreLocation::Sqlite(path) = &config.store;
    if !store_sqlite::holds_sealed(path).map_err(|error| wire::refused(&error))? {
        return Err(Ending::misconfigured(format!(
            "keys: nothing is sealed at {} yet; name the service's store with --store or \
             POSTRIDER_STORE, for example --store sqlite:postrider.db",
            path.display()
        )));
    }
    let file = config.key_file();
    let fill_random = wire::fill_random();
    let vault = Arc::new(Vault::new(file.read()?, Arc::clone(&fill_random)));
    let opened = SqliteStore::open(path, Arc::clone(&vault));
    let is_running = matches!(opened, Err(OpenError::Locked(_)));
    if is_running && config.engine.bootstrap_operator_key.is_none() {
        return Err(Ending::misconfigured(
            "keys: the service runs and must be told; set POSTRIDER_OPERATOR_KEY to its operator key",
        ));
    }
    let store = match opened {
        Ok(store) => Some(store),
        Err(OpenError::Locked(_)) => None,
        Err(error) => return Err(wire::refused(&error)),
    };
    let key = Vault::make_key(&fill_random);
    let ring = file.add(&key)?;
    let secrets = match store {
        Some(store) => {
            let previous = vault.master().active().id().to_string();
            vault.replace_master(ring);
            reseal(&store, &key.id().to_string(), &previous).await
        }
        None => reload(config, &key.id().to_string()).await,
    };
    let secrets = secrets.map_err(|why| {
        Ending::failed(format!(
            "keys: {} has the new key {}, but it is not in use: {why}; if that is the service's \
             key file, its next start takes it into use",
            file.path().display(),
            key.id()
        ))
    })?;
    super::print(&format!("{secrets} secrets are sealed under the new key {}\n", key.id()))
}

/// Seals everything again in a store that nobody else has open. Noted first, so that no key is ever
/// in use that the audit log does not know.
async fn reseal(store: &SqliteStore, key: &str, previous: &str) -> Result<u64, String> {
    let note = AuditNote {
        at: SystemClock.now(),
        actor: Actor::Operator,
        action: AuditAction::SealingKeyActivated,
        account: None,
        subject: key.to_owned(),
        details: serde_json::json!({"previous": previous}).to_string(),
    };
    store.note(vec![note]).await.map_err(|error| error.to_string())?;
    let mut resealed = 0;
    loop {
        match store.reseal(RESEALED_ROWS_MAX).await.map_err(|error| error.to_string())? {
            0 => break,
            rows => resealed += rows as u64,
        }
    }
    store.close().await.map_err(|error| error.to_string())?;
    Ok(resealed)
}

/// Asks the running service to take the key file in again, which must make `key` the active one.
async fn reload(config: &Config, key: &str) -> Result<u64, String> {
    let asked = tokio::time::timeout(RELOADED_WITHIN, ask(config)).await;
    let answer = asked.map_err(|_| "the service did not answer in time".to_owned())??;
    let active = answer.get("active").and_then(serde_json::Value::as_str);
    let resealed = answer.get("resealed").and_then(serde_json::Value::as_u64);
    let (Some(active), Some(resealed)) = (active, resealed) else {
        return Err("the service's answer was not understood".to_owned());
    };
    if active != key {
        return Err(format!(
            "the service at {} seals under {active} and not under {key}: it reads another key file \
             (--keys), is another one (--listen), or was given a newer key meanwhile",
            config.listen
        ));
    }
    Ok(resealed)
}

async fn ask(config: &Config) -> Result<serde_json::Value, String> {
    let address = config.listen;
    let unreachable = |error: &dyn std::fmt::Display| format!("cannot ask {address}: {error}");
    let stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(&error))?;
    let operator_key = config.engine.bootstrap_operator_key.as_deref().unwrap_or_default();
    let request = http::Request::post("/api/v1/sealing-keys/reload")
        .header(http::header::HOST, address.to_string())
        .header(http::header::AUTHORIZATION, format!("Bearer {operator_key}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| unreachable(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| unreachable(&error))?.to_bytes();
        let answer: serde_json::Value =
            serde_json::from_slice(&body).map_err(|error| unreachable(&error))?;
        if status.is_success() {
            return Ok(answer);
        }
        let detail = answer.get("detail").and_then(serde_json::Value::as_str).unwrap_or_default();
        Err(format!("the service at {address} answered {status}: {detail}"))
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => match ended {
            Ok(()) => Err(unreachable(&"it closed the connection")),
            Err(error) => Err(unreachable(&error)),
        },
    }
}
