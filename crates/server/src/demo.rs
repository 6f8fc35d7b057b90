//! The main job on one machine, with nothing set up: a temporary service, a receiver, and every
//! documented sample event through both.
//!
//! Promise: everything goes over real HTTP and the public APIs, as a customer's requests would; a
//! delivery counts only when its signatures and its payload were verified from the raw request by
//! code that shares nothing with what signed it. Reading order: `stage` (who takes part), `play`
//! (what is published and awaited), `receiver`, `verify`, `client`.

use std::fmt::Write as _;
use std::time::Duration;

use crate::config::{Config, Environment, Flags, LogConfig, LogFormat};
use crate::ending::Ending;
use crate::life::{Running, Signals, bind};
use crate::telemetry;
use play::Play;
use receiver::Receiver;
use stage::Stage;

mod client;
mod play;
mod receiver;
mod stage;
mod verify;

/// How long all samples together may take: thousands of times what they need, and less than
/// anybody waits.
const SAMPLES_WITHIN: Duration = Duration::from_secs(30);

/// Runs the demonstration; with `once`, ends after the samples. `print` writes to standard output.
pub async fn run(once: bool, print: impl Fn(&str) -> Result<(), Ending>) -> Result<(), Ending> {
    // Logs would bury what is shown.
    telemetry::start_logging(&LogConfig { filter: "warn".to_owned(), format: LogFormat::Auto })?;
    let mut signals = Signals::new()?;
    let folder = tempfile::tempdir()
        .map_err(|error| Ending::failed(format!("cannot make a temporary folder: {error}")))?;
    let config = config(&folder.path().join("demo.db").display().to_string())?;
    let listener = bind(config.listen).await?;
    let (running, operator_key) = Running::start(&config, listener).await?;
    let operator_key = operator_key
        .ok_or_else(|| Ending::failed("a new store came with an operator key of its own"))?;
    let shown = tokio::select! {
        shown = show(once, &running, operator_key.reveal(), &print) => shown,
        () = signals.next() => if once { Err(Ending::failed("interrupted")) } else { Ok(()) },
    };
    running.stop().await?;
    shown
}

fn config(store: &str) -> Result<Config, Ending> {
    let flags = Flags::default()
        .with("listen", "127.0.0.1:0")
        .with("store", format!("sqlite:{store}"))
        .with("allow_http", "true")
        .with("allow_targets", "127.0.0.0/8");
    Config::read(flags, Environment::default(), None)
}

async fn show(
    once: bool,
    running: &Running,
    operator_key: &str,
    print: &impl Fn(&str) -> Result<(), Ending>,
) -> Result<(), Ending> {
    let address = running.address();
    let (receiver, arrivals) = Receiver::start().await?;
    print(&format!(
        "postrider is ready at http://{address}, a receiver at http://{}\n\n",
        receiver.address()
    ))?;
    let stage = Stage::set(address, operator_key, &receiver).await?;
    let mut play = Play::new(stage, arrivals);
    play.samples(SAMPLES_WITHIN, print).await?;
    if once {
        return Ok(());
    }
    print(&invitation(address, operator_key, play.stage()))?;
    play.whatever_comes(print).await
}

/// What to try next.
fn invitation(address: std::net::SocketAddr, operator_key: &str, stage: &Stage) -> String {
    let mut text = format!(
        "\nStays up to be tried out; Ctrl-C ends it, and its store with it.\n\n\
         operator key   {operator_key}\n"
    );
    for actor in stage.actors() {
        let contract = actor.contract.name();
        writeln!(text, "{contract:<14} {}   account {}", actor.api_key, actor.username)
            .expect("a String takes everything");
    }
    let jogg = stage.actors().first().map(|actor| actor.username).unwrap_or_default();
    write!(
        text,
        "\nPublish an event of your own, and watch it arrive here:\n\n  \
         curl http://{address}/api/v1/events -H 'Authorization: Bearer {operator_key}' \\\n    \
         -H 'Content-Type: application/json' \\\n    \
         -d '{{\"account\":\"{jogg}\",\"type\":\"generated_video_success\",\"data\":{{\"hello\":\"world\"}}}}'\n\n"
    )
    .expect("a String takes everything");
    text
}
