//! The one place that knows every adapter: from a [`Config`] to a running engine and its routes.

use std::path::Path;
use std::sync::Arc;

use api::ApiSettings;
use axum::Router;
use domain::sealing::{KeyRing, NONCE_BYTES};
use engine::clock::SystemClock;
use engine::entropy::{Entropy as _, PooledEntropy, SystemEntropy};
use engine::keys::ApiKey;
use engine::sender::SharedSender;
use engine::{Engine, Parts};
use http_sender::HttpSender;
use http_sender::dial::{Dial, TcpDial};
use http_sender::proxy::ProxyDial;
use http_sender::resolve::HickoryResolver;
use http_sender::tls::Roots;
use metrics::{counter, gauge};
use store::SharedStore;
use store::vault::{FillRandom, Vault};
use store_sqlite::{OpenError, SqliteStore, Statistics};

use crate::config::{Config, StoreLocation};
use crate::ending::Ending;
use crate::key_file::{Keeper, KeyFile};
use crate::listen::ConnectionGauge;
use crate::telemetry::Metrics;

/// An engine and what belongs to it.
pub struct Wired {
    /// The engine, started.
    pub engine: Engine,
    /// The first operator key, if there was none.
    pub first_key: Option<ApiKey>,
    /// Tells the store's statistics to the metrics.
    pub report_store: ReportStore,
}

/// Tells the store's statistics to the metrics.
pub type ReportStore = Arc<dyn Fn() + Send + Sync>;

/// Starts the engine the configuration describes.
pub async fn engine(config: &Config) -> Result<Wired, Ending> {
    let sender = sender(config)?;
    let StoreLocation::Sqlite(path) = &config.store;
    let (store, sealing) = sqlite(path, config.key_file()).await?;
    let store = Arc::new(store);
    let parts = Parts {
        sender,
        store: Arc::clone(&store) as SharedStore,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        sealing: Some(Arc::new(sealing)),
        settings: config.engine.clone(),
    };
    let (engine, first_key) = Engine::start(parts).await.map_err(|error| {
        Ending::failed(format!("cannot start on {}: {error}; the log says why", path.display()))
    })?;
    let report_store = Arc::new(move || report_sqlite(store.statistics()));
    Ok(Wired { engine, first_key, report_store })
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

fn report_sqlite(statistics: Statistics) {
    counter!("postrider_store_commits_total").absolute(statistics.commits);
    counter!("postrider_store_writes_total").absolute(statistics.requests);
    counter!("postrider_store_checkpoints_total").absolute(statistics.checkpoints);
    gauge!("postrider_store_commit_seconds_sum").set(statistics.commit_total.as_secs_f64());
    gauge!("postrider_store_last_commit_seconds").set(statistics.commit_last.as_secs_f64());
    gauge!("postrider_store_wal_bytes").set(statistics.wal_bytes as f64);
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
        | OpenError::Other { .. } => Ending::failed(error_text),
    }
}
