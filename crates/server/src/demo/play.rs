//! What is published and awaited: every documented sample, then whatever comes.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::catalogue::{CatalogueEntry, event_types};
use domain::contract::Contract;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::receiver::Arrival;
use super::stage::Stage;
use super::verify::Verified;
use crate::ending::Ending;

/// The sample of `standard`, which has no catalogue: any name and any object will do.
const STANDARD_SAMPLE: CatalogueEntry = CatalogueEntry {
    name: "order.shipped",
    description: "An order was shipped",
    sample: r#"{"order_id":"order_123456","parcels":2}"#,
};

/// The demonstration under way.
pub(super) struct Play {
    stage: Stage,
    arrivals: mpsc::Receiver<Arrival>,
}

/// A sample that was published.
struct Published {
    entry: &'static CatalogueEntry,
    at: Instant,
}

impl Play {
    pub(super) fn new(stage: Stage, arrivals: mpsc::Receiver<Arrival>) -> Self {
        Self { stage, arrivals }
    }

    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Publishes every documented sample and shows each as it is verified.
    ///
    /// Errors when one does not arrive in time, or is not genuine or not exact; names it.
    pub(super) async fn samples(
        &mut self,
        within: Duration,
        print: &impl Fn(&str) -> Result<(), Ending>,
    ) -> Result<(), Ending> {
        let began = Instant::now();
        let mut tally = Tally::default();
        for contract in Contract::ALL {
            let entries = match contract {
                Contract::Standard => std::slice::from_ref(&STANDARD_SAMPLE),
                Contract::JoggV2 | Contract::KonproV1 => event_types(contract),
            };
            for entry in entries {
                let at = Instant::now();
                let id = self.stage.publish(contract, entry.name, entry.sample).await?;
                tally.owed.insert(id, Published { entry, at });
                while let Ok(arrival) = self.arrivals.try_recv() {
                    tally.early.push(arrival);
                }
                tally.settle(print)?;
            }
        }
        while !tally.owed.is_empty() {
            let Ok(Some(arrival)) = timeout_at(began + within, self.arrivals.recv()).await else {
                break;
            };
            tally.early.push(arrival);
            tally.settle(print)?;
        }
        tally.summary(began.elapsed(), print)
    }

    /// Shows whatever arrives, until the demonstration ends.
    pub(super) async fn whatever_comes(
        &mut self,
        print: &impl Fn(&str) -> Result<(), Ending>,
    ) -> Result<(), Ending> {
        while let Some(Arrival { contract, verified, .. }) = self.arrivals.recv().await {
            match verified {
                Ok(Verified { event, event_type, .. }) => {
                    print(&line(contract, &event_type, &event, "signature ok"))?;
                }
                Err(why) => print(&refused(contract, &why))?,
            }
        }
        Ok(())
    }
}

/// What is owed and what came.
#[derive(Default)]
struct Tally {
    /// Published and not yet verified, by event.
    owed: BTreeMap<String, Published>,
    /// Arrived, perhaps before the answer that says what it is.
    early: Vec<Arrival>,
    verified: usize,
    refused: usize,
}

impl Tally {
    /// Compares what came with what is owed.
    fn settle(&mut self, print: &impl Fn(&str) -> Result<(), Ending>) -> Result<(), Ending> {
        for arrival in std::mem::take(&mut self.early) {
            match &arrival.verified {
                Err(why) => {
                    self.refused += 1;
                    print(&refused(arrival.contract, why))?;
                }
                Ok(verified) => match self.owed.remove(&verified.event) {
                    None => self.early.push(arrival),
                    Some(published) if is_exact(verified, published.entry) => {
                        self.verified += 1;
                        let took = arrival.at.duration_since(published.at).as_millis();
                        let (event_type, event) = (&verified.event_type, &verified.event);
                        let said = format!("signature ok  {took} ms");
                        print(&line(arrival.contract, event_type, event, &said))?;
                    }
                    Some(_) => {
                        self.refused += 1;
                        print(&refused(arrival.contract, "the payload is not what was published"))?;
                    }
                },
            }
        }
        Ok(())
    }

    fn summary(
        self,
        took: Duration,
        print: &impl Fn(&str) -> Result<(), Ending>,
    ) -> Result<(), Ending> {
        let Self { owed, verified, refused, .. } = self;
        let all = verified + refused.max(owed.len());
        print(&format!(
            "\n{verified} of {all} sample events delivered and verified in {} ms\n",
            took.as_millis()
        ))?;
        let missing: Vec<_> = owed.values().map(|published| published.entry.name).collect();
        if !missing.is_empty() {
            return Err(Ending::failed(format!("did not arrive: {}", missing.join(", "))));
        }
        if refused > 0 {
            return Err(Ending::failed(format!("{refused} deliveries were not genuine or exact")));
        }
        Ok(())
    }
}

/// Whether it is this event, with its data byte for byte.
fn is_exact(verified: &Verified, entry: &CatalogueEntry) -> bool {
    let data = entry.sample.as_bytes();
    verified.event_type == entry.name
        && verified.body.windows(data.len()).any(|window| window == data)
}

fn line(contract: Contract, event_type: &str, event: &str, said: &str) -> String {
    format!("✓ {:<9}  {event_type:<33}  {event}  {said}\n", contract.name())
}

fn refused(contract: Contract, why: &str) -> String {
    format!("✗ {:<9}  {why}\n", contract.name())
}
