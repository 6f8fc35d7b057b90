//! What protection costs: the processor time of every act that keeps events and callers safe.
//!
//! Promise: an act is a function of the product's own crates, called over and over by one thread
//! and measured by what that thread had of a processor, for at least 0.3 s three times. Nonces come
//! from the pool of entropy that the product draws them from. Neighbour: `report` holds the acts
//! against what a whole event costs.

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use domain::account::{Account, Username};
use domain::address::AddressPolicy;
use domain::contract::Contract;
use domain::endpoint::Endpoint;
use domain::event::EventType;
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::rendering::{Content, render_headers};
use domain::sealing::{Binding, KeyRing};
use domain::secret::SigningSecret;
use domain::signature::hex_signature;
use domain::target_url::{TargetUrl, UrlPolicy};
use domain::time::Timestamp;
use engine::entropy::{Entropy as _, PooledEntropy, SystemEntropy};
use serde::Serialize;
use store::vault::{FillRandom, Vault};

use super::delivery_body;
use crate::process::thread_cpu_nanos;
use crate::publisher::EVENT_TYPE;

/// Shortest round of an act: a hundred times what the thread's clock may be behind.
const ROUND_NANOS: u64 = 300_000_000;

/// Calls of an act in the first try to fill a round.
const CALLS_AT_FIRST: u64 = 1_024;

/// Length of what an attempt keeps of its request and a short answer.
const EXCHANGE_BYTES: usize = 600;

/// Where deliveries go, as customers write it.
const URL: &str = "https://hooks.customer.com/webhooks/postrider";

/// A key as the product makes them: as many characters, from the same alphabet.
const API_KEY: &str = "pr_ak_0123456789abcdef_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG123456";

/// What names resolve to: public and forbidden addresses of both families.
const ADDRESSES: [&str; 8] = [
    "93.184.215.14",
    "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
    "10.0.0.7",
    "fd00::7",
    "104.18.26.120",
    "2a00:1450:4001:82a::200e",
    "169.254.169.254",
    "::ffff:127.0.0.1",
];

/// An act of protection.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Act {
    /// What is done.
    pub(crate) name: &'static str,
    /// Processor time of one call, the middle of three rounds.
    pub(crate) cpu_nanos: f64,
    /// How often an event with one delivery that succeeds needs it, over kept connections.
    pub(crate) times_per_event: u32,
    /// One call's share of all that such an event costs, if that was measured too.
    pub(crate) share_of_event: Option<f64>,
}

/// What protection costs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Protection {
    /// Every act.
    pub(crate) acts: Vec<Act>,
    /// Processor time of all that an event with one delivery that succeeds needs.
    pub(crate) cpu_nanos_per_event: f64,
    /// Its share of all that such an event costs, if that was measured too.
    pub(crate) share_of_event: Option<f64>,
}

impl Protection {
    /// Measures every act.
    pub(crate) fn measure() -> Result<Self> {
        let mut acts = Vec::new();
        measure_signing(&mut acts)?;
        measure_judging(&mut acts)?;
        measure_sealing(&mut acts)?;
        // A key is kept as HMAC-SHA256 under a pepper: what the contracts sign bodies with.
        let pepper = SigningSecret::from_random(&[7; 24]);
        acts.push(act("hash an API key", 1, || {
            black_box(hex_signature(&pepper, black_box(API_KEY.as_bytes())));
        })?);
        let of_event = |act: &Act| f64::from(act.times_per_event) * act.cpu_nanos;
        let cpu_nanos_per_event = acts.iter().map(of_event).sum();
        Ok(Self { acts, cpu_nanos_per_event, share_of_event: None })
    }

    /// Says what share of an event's processor time this is.
    pub(crate) fn hold_against(&mut self, event_micros: f64) {
        let share = |nanos: f64| Some(nanos / (1000.0 * event_micros));
        for act in &mut self.acts {
            act.share_of_event = share(act.cpu_nanos);
        }
        self.share_of_event = share(self.cpu_nanos_per_event);
    }

    /// Writes it as a table in Markdown.
    pub(crate) fn write(&self, text: &mut String) -> Result<()> {
        let shown = |share: Option<f64>| {
            share.map_or("–".to_owned(), |share| format!("{:.2} %", 100.0 * share))
        };
        writeln!(
            text,
            "\n| what protection costs | CPU ns | times per event | one call's share of an event's \
             CPU |\n| --- | --- | --- | --- |"
        )?;
        for act in &self.acts {
            let share = shown(act.share_of_event);
            let (name, nanos, times) = (act.name, act.cpu_nanos, act.times_per_event);
            writeln!(text, "| {name} | {nanos:.0} | {times} | {share} |")?;
        }
        let share = shown(self.share_of_event);
        writeln!(
            text,
            "| all that an event needs | {:.0} | | {share} |",
            self.cpu_nanos_per_event
        )?;
        Ok(())
    }
}

fn measure_signing(acts: &mut Vec<Act>) -> Result<()> {
    let endpoint = an_endpoint()?;
    let event_type = EventType::parse(EVENT_TYPE)?;
    let body = delivery_body()?;
    let (event, now) = (EventId::from_u128(3), Timestamp::from_seconds(1_732_806_631));
    acts.push(act("sign a 1 KiB body in both ways, headers included", 1, || {
        let body = black_box(&body);
        let content = Content { event, event_type: &event_type, body, trace: None };
        black_box(render_headers(&endpoint, &content, now, true));
    })?);
    Ok(())
}

fn measure_judging(acts: &mut Vec<Act>) -> Result<()> {
    let addresses = AddressPolicy::default();
    let resolved: Vec<IpAddr> =
        ADDRESSES.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let mut next = resolved.iter().cycle();
    acts.push(act("judge a resolved address", 0, || {
        let address = next.next().copied();
        black_box(black_box(address).map(|address| addresses.judge(address).is_ok()));
    })?);
    let urls = UrlPolicy::default();
    let url = TargetUrl::from_stored(URL).context("the URL is one")?;
    acts.push(act("judge a URL again", 0, || {
        black_box(urls.judge(black_box(&url)).is_ok());
    })?);
    Ok(())
}

fn measure_sealing(acts: &mut Vec<Act>) -> Result<()> {
    let pool = PooledEntropy::new(Arc::new(SystemEntropy));
    let fill_random: FillRandom = Arc::new(move |bytes: &mut [u8]| pool.fill(bytes));
    let vault = Vault::new(KeyRing::of(Vault::make_key(&fill_random)), fill_random);
    vault.set_data(KeyRing::of(vault.make_data_key()));
    let payload = (
        ["seal a 1 KiB payload", "open a 1 KiB payload"],
        Binding::Body(AccountId::from_u128(1), EventId::from_u128(3)),
        delivery_body()?,
    );
    let exchange = (
        ["seal a 600-byte exchange", "open a 600-byte exchange"],
        Binding::Exchange(DeliveryId::from_u128(4), 1),
        vec![b'x'; EXCHANGE_BYTES],
    );
    for ([seal, open], binding, plain) in [payload, exchange] {
        acts.push(act(seal, 1, || {
            black_box(vault.seal_data(&binding, black_box(&plain)));
        })?);
        let sealed = vault.seal_data(&binding, &plain);
        anyhow::ensure!(vault.open_data(&binding, &sealed)? == plain, "what was sealed opens");
        acts.push(act(open, 0, || {
            black_box(vault.open_data(&binding, black_box(&sealed)).is_ok());
        })?);
    }
    Ok(())
}

/// Measures an act: as many calls as fill a round, three times.
fn act(name: &'static str, times_per_event: u32, mut call: impl FnMut()) -> Result<Act> {
    let mut round = |calls: u64| -> Result<u64> {
        let before = thread_cpu_nanos()?;
        for _ in 0..calls {
            call();
        }
        Ok(thread_cpu_nanos()? - before)
    };
    let mut calls = CALLS_AT_FIRST;
    let mut used = round(calls)?;
    while used < ROUND_NANOS {
        calls *= 2;
        used = round(calls)?;
    }
    let mut rounds = [used, round(calls)?, round(calls)?];
    rounds.sort_unstable();
    let cpu_nanos = rounds[1] as f64 / calls as f64;
    Ok(Act { name, cpu_nanos, times_per_event, share_of_event: None })
}

fn an_endpoint() -> Result<Endpoint> {
    let created_at = Timestamp::from_seconds(1_732_806_000);
    let account = Account {
        id: AccountId::from_u128(1),
        username: Username::parse("bench").context("the username is one")?,
        contract: Contract::JoggV2,
        plan: None,
        credits: None,
        api_access: true,
        created_at,
    };
    Ok(Endpoint::new(
        EndpointId::new(2, Contract::JoggV2),
        &account,
        TargetUrl::from_stored(URL).context("the URL is one")?,
        SigningSecret::from_random(&[0x5a; 24]),
        created_at,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_pays_for_each_act_as_often_as_it_needs_it() {
        let act = |cpu_nanos, times_per_event| Act {
            name: "act",
            cpu_nanos,
            times_per_event,
            share_of_event: None,
        };
        let acts = vec![act(1_000.0, 2), act(500.0, 0)];
        let mut protection =
            Protection { acts, cpu_nanos_per_event: 2_000.0, share_of_event: None };
        protection.hold_against(100.0);
        let mut text = String::new();
        protection.write(&mut text).unwrap();
        let rows: Vec<_> = text.lines().skip(3).collect();
        let expected = [
            "| act | 1000 | 2 | 1.00 % |",
            "| act | 500 | 0 | 0.50 % |",
            "| all that an event needs | 2000 | | 2.00 % |",
        ];
        assert_eq!(rows, expected);
    }
}
