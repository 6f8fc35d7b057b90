//! The one place that knows every adapter: from a [`Config`] to a running engine and its routes.

use std::path::Path;
use std::sync::Arc;

use api::ApiSettings;
use axum::Router;
use domain::sealing::{KeyRing, NONCE_BYTES};
use engine::entropy::{Entropy as _, PooledEntropy, SystemEntropy};
use engine::keys::ApiKey;
use engine::sender::SharedSender;
use engine::trace::SharedSpans;
use engine::{Engine, Parts};
use http_sender::HttpSender;
use http_sender::dial::{Dial, TcpDial};
use http_sender::proxy::ProxyDial;
use http_sender::resolve::HickoryResolver;
use http_sender::tls::Roots;
use store::SharedStore;
use store::vault::{FillRandom, Vault};
use store_sqlite::{COMMIT_MICROS, GROUP_REQUESTS, OpenError, SqliteStore, Statistics};

use crate::clock::SteadyClock;
use crate::config::{Config, StoreLocation};
use crate::ending::Ending;
use crate::key_file::{Keeper, KeyFile};
use crate::listen::ConnectionGauge;
use crate::telemetry::exposition::{Exposition, Ranges};
use crate::telemetry::spans::Exporter;
use crate::telemetry::{Metrics, ReportStore};

/// An engine and what belongs to it.
pub struct Wired {
    /// The engine, started.
    pub engine: Engine,
    /// The first operator key, if there was none.
    pub first_key: Option<ApiKey>,
    /// Writes down what the store counts.
    pub report_store: ReportStore,
    /// Who sends spans, if anybody does.
    pub spans: Option<Arc<Exporter>>,
    /// What is measured.
    pub metrics: Metrics,
}

/// Starts the engine the configuration describes.
pub async fn engine(config: &Config) -> Result<Wired, Ending> {
    // Beside the rest, since its library compares two clocks for 10 ms and more; nothing else is,
    // since it takes longer the more it is disturbed.
    let measuring = tokio::task::spawn_blocking(Metrics::start);
    let sender = sender(config)?;
    let StoreLocation::Sqlite(path) = &config.store;
    let (store, sealing) = sqlite(path, config.key_file()).await?;
    let store = Arc::new(store);
    let metrics = measuring
        .await
        .map_err(|error| Ending::failed(format!("beginning to measure broke off: {error}")))??;
    let spans = config.collector.as_ref().map(Exporter::start).transpose()?.map(Arc::new);
    let parts = Parts {
        sender,
        store: Arc::clone(&store) as SharedStore,
        clock: Arc::new(SteadyClock::start()),
        entropy: Arc::new(SystemEntropy),
        sealing: Some(Arc::new(sealing)),
        spans: spans.clone().map(|spans| spans as SharedSpans),
        settings: config.engine.clone(),
    };
    let (engine, first_key) = Engine::start(parts).await.map_err(|error| {
        Ending::failed(format!("cannot start on {}: {error}; the log says why", path.display()))
    })?;
    let path = path.clone();
    let report_store: ReportStore =
        Arc::new(move |page| report_sqlite(page, &path, &store.statistics()));
    Ok(Wired { engine, first_key, report_store, spans, metrics })
}

/// Every route: the surfaces, and the metrics.
pub fn routes(
    config: &Config,
    engine: Engine,
    metrics: &Metrics,
    report_store: ReportStore,
    connections: ConnectionGauge,
) -> Router {
    let settings =
        ApiSettings { jogg_v2_http_status: config.jogg_v2_http_status, ..ApiSettings::default() };
    let metrics = metrics.route(engine.clone(), report_store, connections);
    api::router(engine, settings).merge(metrics)
}

/// Chance for nonces, which are needed often and are no secrets, and for keys, which are.
pub fn fill_random() -> FillRandom {
    let pooled = PooledEntropy::new(Arc::new(SystemEntropy));
    Arc::new(move |bytes: &mut [u8]| {
        if bytes.len() <= NONCE_BYTES { pooled.fill(bytes) } else { SystemEntropy.fill(bytes) }
    })
}

async fn sqlite(path: &Path, file: KeyFile) -> Result<(SqliteStore, Keeper), Ending> {
    let path = path.to_owned();
    let open = move || {
        let fill_random = fill_random();
        let ring = ring(&path, &file, &fill_random)?;
        let vault = Arc::new(Vault::new(ring, fill_random));
        let store =
            SqliteStore::open(&path, Arc::clone(&vault)).map_err(|error| refused(&error))?;
        Ok((store, Keeper::new(file, vault)))
    };
    tokio::task::spawn_blocking(open)
        .await
        .map_err(|error| Ending::failed(format!("opening the store broke off: {error}")))?
}

/// The keys in the file. They are made where nothing was ever sealed; anywhere else a missing file
/// is refused, since new keys would open nothing.
fn ring(store: &Path, file: &KeyFile, fill_random: &FillRandom) -> Result<KeyRing, Ending> {
    if file.exists() {
        return file.read();
    }
    let folder = store.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return Err(refused(&OpenError::NoDirectory(store.to_owned())));
    }
    // Looked for again: another that starts here may have made both since.
    if store_sqlite::holds_sealed(store).map_err(|error| refused(&error))? && !file.exists() {
        return Err(Ending::misconfigured(format!(
            "keys: {} is missing, and what is secret in {} is sealed with its keys; put it back, or \
             name it with --keys or POSTRIDER_KEYS",
            file.path().display(),
            store.display()
        )));
    }
    let key = Vault::make_key(fill_random);
    let ring = file.create(&key)?;
    if *ring.active() == key {
        tracing::info!(file = %file.path().display(), "made the keys that seal secrets; keep a copy apart");
    }
    Ok(ring)
}

fn sender(config: &Config) -> Result<SharedSender, Ending> {
    let resolver = if config.sender.name_servers.is_empty() {
        HickoryResolver::from_system()
    } else {
        HickoryResolver::from_servers(&config.sender.name_servers)
    };
    if let Some(fault) = resolver.fault() {
        tracing::warn!(fault, "no name can be looked up: every delivery to one will fail");
    }
    let mut roots = Roots::platform();
    for path in &config.sender.tls_ca {
        let shown = path.display();
        let refused = |why: String| {
            Ending::misconfigured(format!(
                "tls_ca: cannot use {shown}: {why}; give a PEM file of CA certificates, for \
                 example --tls-ca /etc/postrider/ca.pem"
            ))
        };
        let pem = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
        roots.add_pem(&pem).map_err(|error| refused(error.to_string()))?;
    }
    let policy = config.engine.urls.clone();
    let mut dialer: Arc<dyn Dial> = Arc::new(TcpDial);
    if let Some(proxy) = &config.sender.egress_proxy {
        tracing::info!(%proxy, "every request leaves through the egress proxy");
        dialer = Arc::new(ProxyDial::new(proxy.clone(), dialer));
    }
    Ok(Arc::new(HttpSender::new(policy, Arc::new(resolver), dialer, roots)))
}

fn report_sqlite(page: &mut Exposition, path: &Path, statistics: &Statistics) {
    let Statistics { commits, requests, checkpoints, .. } = *statistics;
    let commit_seconds = COMMIT_MICROS.map(|micros| micros as f64 / 1e6);
    let group_requests = GROUP_REQUESTS.map(|requests| requests as f64);
    let help = "Transactions, each with one sync";
    page.counter("postrider_store_commits_total", help, commits as f64);
    let help = "Writes that those transactions carried";
    page.counter("postrider_store_writes_total", help, requests as f64);
    let help = "Checkpoints of the write-ahead log";
    page.counter("postrider_store_checkpoints_total", help, checkpoints as f64);
    let help = "How long commits took, their syncs included";
    let ranges = Ranges {
        bounds: &commit_seconds,
        counts: &statistics.commits_by_duration,
        count: commits,
        sum: statistics.commit_total.as_secs_f64(),
    };
    page.histogram("postrider_store_commit_seconds", help, ranges);
    let help = "How many writes a commit carried";
    let ranges = Ranges {
        bounds: &group_requests,
        counts: &statistics.commits_by_requests,
        count: commits,
        sum: requests as f64,
    };
    page.histogram("postrider_store_commit_writes", help, ranges);
    let help = "How long the last commit took";
    let seconds = statistics.commit_last.as_secs_f64();
    page.gauge("postrider_store_last_commit_seconds", help, seconds);
    let help = "Size of the write-ahead log";
    page.gauge("postrider_store_wal_bytes", help, statistics.wal_bytes as f64);
    if let Ok(file) = path.metadata() {
        page.gauge("postrider_store_file_bytes", "Size of the database file", file.len() as f64);
    }
    #[cfg(unix)]
    if let Ok(disk) = rustix::fs::statvfs(path) {
        let help = "Space that the disk of the store has left for us";
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        page.gauge("postrider_store_disk_free_bytes", help, bytes as f64);
    }
}

/// Why a store was not opened, and with which option to do something about it.
pub fn refused(error: &OpenError) -> Ending {
    let error_text = format!("cannot open the store: {error}");
    match error {
        OpenError::NoDirectory(_) | OpenError::NotADatabase(_) => Ending::misconfigured(format!(
            "{error_text} (--store or POSTRIDER_STORE, for example --store sqlite:postrider.db)"
        )),
        OpenError::KeyMissing { .. } | OpenError::KeyWrong { .. } => {
            Ending::misconfigured(format!(
                "{error_text} (--keys or POSTRIDER_KEYS, for example --keys /etc/postrider/keys)"
            ))
        }
        OpenError::Locked(_) => Ending::failed(format!(
            "{error_text} (--store or POSTRIDER_STORE, for example --store sqlite:another.db)"
        )),
        OpenError::NotWritable { .. }
        | OpenError::TooNew { .. }
        | OpenError::TooOldSqlite { .. }
        | OpenError::Full(_)
        | OpenError::Damaged { .. }
        | OpenError::LogDamaged { .. }
        | OpenError::LogOfAnother(_)
        | OpenError::Gone(_)
        | OpenError::Other { .. } => Ending::failed(error_text),
    }
}
