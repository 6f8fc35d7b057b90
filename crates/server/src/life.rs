//! The life of the service: start, ready, stop.
//!
//! Promise: ready means that everything works, and is said in one line; SIGTERM or SIGINT stops the
//! intake, lets what is on its way end, and loses nothing; a second signal ends at once, which
//! loses nothing either, since what was accepted is durable.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use engine::keys::ApiKey;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::ending::Ending;
use crate::listen::{self, Intake};
use crate::telemetry::spans::Exporter;
use crate::wire::{self, Wired};

/// How long attempts may take to end once the service stops: longer than the longest attempt, and
/// less than the 30 s after which container platforms kill.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// How long callers may take to fetch their last answers.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Open files to ask the system for: connections in and out at their most, and room.
#[cfg(unix)]
const OPEN_FILES: u64 = 16_384;

/// A running service.
pub struct Running {
    engine: Engine,
    intake: Intake,
    upkeep: JoinHandle<()>,
    spans: Option<Arc<Exporter>>,
}

impl Running {
    /// Starts the service on the listener. Answers it, and the first operator key if there was
    /// none.
    pub async fn start(
        config: &Config,
        listener: TcpListener,
    ) -> Result<(Self, Option<ApiKey>), Ending> {
        let Wired { engine, first_key, report_store, spans, metrics } =
            wire::engine(config).await?;
        let intake = Intake::start(listener, |connections| {
            wire::routes(config, engine.clone(), &metrics, report_store, connections)
        })
        .map_err(|error| Ending::failed(format!("cannot listen: {error}")))?;
        Ok((Self { engine, intake, upkeep: metrics.keep_sorted(), spans }, first_key))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.intake.address()
    }

    /// Stops the intake, then the engine. Answers how many attempts were cut off; they will be
    /// made again by the next start.
    pub async fn stop(self) -> Result<usize, Ending> {
        self.intake.leave().await;
        // In this order: it is said once it is so.
        let said =
            async { tracing::info!("stopping: no more events, finishing what is on its way") };
        let (stopped, ()) = tokio::join!(biased; self.engine.stop(STOP_GRACE), said);
        let flushed = async {
            if let Some(spans) = &self.spans {
                spans.finish().await;
            }
        };
        tokio::join!(self.intake.close(CLOSE_GRACE), flushed);
        self.upkeep.abort();
        stopped.map_err(|error| Ending::failed(format!("did not stop cleanly: {error}")))
    }
}

/// Runs the service until a signal stops it. `print` writes to standard output.
pub async fn serve(
    config: &Config,
    print: impl Fn(&str) -> Result<(), Ending>,
) -> Result<(), Ending> {
    raise_open_files();
    let mut signals = Signals::new()?;
    let listener = bind(config.listen).await?;
    let (running, first_key) = tokio::select! {
        started = Running::start(config, listener) => started?,
        () = signals.next() => return Ok(()),
    };
    if let Some(key) = first_key {
        print(&format!("operator key (shown this once): {}\n", key.reveal()))?;
    }
    print(&format!("postrider is ready at http://{}\n", running.address()))?;
    signals.next().await;
    tokio::select! {
        stopped = running.stop() => {
            match stopped? {
                0 => tracing::info!("stopped"),
                cut_off => tracing::warn!(cut_off, "stopped; these attempts will be made again"),
            }
            Ok(())
        }
        () = signals.next() => Err(Ending::failed(
            "ended at once, by a second signal; what was on its way will be delivered again",
        )),
    }
}

/// Takes the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Ending> {
    listen::take(address).map_err(|error| {
        let fix = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another process has it; stop that, or choose another with --listen or \
                 POSTRIDER_LISTEN, for example --listen 127.0.0.1:8081"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need a privilege; choose another, for example --listen \
                 127.0.0.1:8080"
            }
            _ => "choose an address of this machine, for example --listen 127.0.0.1:8080",
        };
        Ending::failed(format!("cannot listen on {address}: {error}: {fix}"))
    })
}

/// Signals that ask to stop.
pub struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Begins to catch them.
    pub fn new() -> Result<Self, Ending> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let catch = |kind| {
                signal(kind)
                    .map_err(|error| Ending::failed(format!("cannot catch signals: {error}")))
            };
            Ok(Self {
                terminate: catch(SignalKind::terminate())?,
                interrupt: catch(SignalKind::interrupt())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Asks for as many open files as the system grants: its default of 1,024 is for programs that
/// use `select`.
fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let wanted = maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
        if current.is_some_and(|current| current < wanted) {
            let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
            if let Err(error) = raised {
                tracing::warn!(%error, ?current, "could not raise the limit of open files");
            }
        }
    }
}
