//! Events accepted, with their deliveries. Bodies come here sealed.
//!
//! What is done for every event stands in [`Ledger::accept`]: a row for the event and one for each
//! delivery. The rest is `filing`'s, many at a time.

use std::sync::Arc;

use bytes::Bytes;
use domain::event::{EntityId, Event};
use domain::id::{AccountId, EventId};
use domain::limits::IDEMPOTENCY_KEPT_FOR;
use domain::ordering::OrderingKey;
use domain::sealing::Binding;
use domain::time::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use store::queue::{Accepted, Added, Claimed, Lease, NewDelivery, NewEvent, SessionId};
use store::vault::Vault;

use crate::catalogue::find;
use crate::claim::open_payload;
use crate::failure::Result;
use crate::ledger::Ledger;
use crate::row::{self, Fields};
use crate::state;
use crate::statistics::PAGE_BYTES;

/// When a delivery is made, and why.
#[derive(Clone, Copy)]
pub(crate) struct Birth {
    at: Timestamp,
    /// Unless it waits behind another.
    due_at: Timestamp,
    is_replay: bool,
}

/// About what a replay's rows and index entries take.
const REPLAY_BYTES: u64 = 512;

impl Ledger<'_> {
    pub(crate) fn accept(
        &mut self,
        session: SessionId,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Accepted>> {
        let bytes: usize = events.iter().map(|new| new.body.len()).sum();
        self.room.take(bytes as u64)?;
        let holder = self.session_lives(session)?.then_some(session);
        events.into_iter().map(|new| self.accept_one(holder, &new)).collect()
    }

    fn accept_one(&mut self, holder: Option<SessionId>, new: &NewEvent) -> Result<Accepted> {
        let Some(version) = self.roster_version(new.event.account)? else {
            return Ok(Accepted::NoAccount);
        };
        if let Some(answer) = self.answer_before(new)? {
            return Ok(answer);
        }
        if version != new.roster_version {
            return Ok(Accepted::RosterChanged);
        }
        let number = self.insert_event(new)?;
        let birth =
            Birth { at: new.event.accepted_at, due_at: new.event.owed_since(), is_replay: false };
        for delivery in &new.deliveries {
            self.insert_delivery(number, delivery, holder, birth)?;
        }
        self.remember_key(new)?;
        self.counted.events += 1;
        self.counted.created += new.deliveries.len() as i64;
        self.counted.pending += new.deliveries.len() as i64;
        Ok(Accepted::New)
    }

    /// What a repeated or reused key is answered; `None` if there is no key or it is new.
    fn answer_before(&self, new: &NewEvent) -> Result<Option<Accepted>> {
        let Some(idempotency) = &new.idempotency else { return Ok(None) };
        find(
            self.connection,
            "SELECT account, request_hash, event, deliveries FROM idempotency_keys \
             WHERE account = ?1 AND key = ?2 AND kept_until > ?3",
            params![
                new.event.account.to_bytes(),
                idempotency.key.as_str(),
                new.event.accepted_at.as_millis()
            ],
            |row| {
                let fields = Fields::new("idempotency_keys", row);
                let request_hash: [u8; 32] = fields.get("request_hash")?;
                if request_hash != idempotency.request_hash {
                    return Ok(Accepted::KeyReused);
                }
                let event = fields.id("event", EventId::from_bytes)?;
                Ok(Accepted::Repeated { event, deliveries: fields.get("deliveries")? })
            },
        )
    }

    fn remember_key(&self, new: &NewEvent) -> Result<()> {
        let Some(idempotency) = &new.idempotency else { return Ok(()) };
        self.execute(
            "INSERT OR REPLACE INTO idempotency_keys VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                new.event.account.to_bytes(),
                idempotency.key.as_str(),
                idempotency.request_hash,
                new.event.id.to_bytes(),
                new.deliveries.len() as i64,
                new.event.accepted_at.plus(IDEMPOTENCY_KEPT_FOR).as_millis(),
            ],
        )?;
        Ok(())
    }

    fn insert_event(&mut self, new: &NewEvent) -> Result<i64> {
        let number = self.note_unfiled(new)?;
        let mut blobs = std::mem::take(&mut self.scratch);
        blobs.clear();
        for delivery in &new.deliveries {
            blobs.extend_from_slice(&delivery.id.to_bytes());
            blobs.extend_from_slice(&delivery.endpoint.to_bytes());
        }
        let not_made_start = blobs.len();
        for (endpoint, reason) in &new.not_made {
            row::push_not_made(&mut blobs, *endpoint, *reason);
        }
        let event = &new.event;
        self.hot.insert_event.execute(params![
            number,
            event.id.to_bytes(),
            event.account.to_bytes(),
            event.event_type.as_str(),
            event.timestamp.as_millis(),
            event.accepted_at.as_millis(),
            row::lines(event.entity_ids.iter().map(EntityId::as_str)),
            &blobs[..not_made_start],
            &blobs[not_made_start..],
            new.data.start as i64,
            new.data.len() as i64,
            &*new.body,
        ])?;
        self.scratch = blobs;
        self.insert_extras(number, event)?;
        Ok(number)
    }

    /// Inserts what few events have, if this one has any of it.
    fn insert_extras(&self, number: i64, event: &Event) -> Result<()> {
        let Event { deliver_at, ordering_key, trace, .. } = event;
        if deliver_at.is_none() && ordering_key.is_none() && trace.is_none() {
            return Ok(());
        }
        self.execute(
            "INSERT INTO event_extras VALUES (?1, ?2, ?3, ?4)",
            params![
                number,
                deliver_at.map(Timestamp::as_millis),
                ordering_key.as_ref().map(OrderingKey::as_str),
                trace.map(|trace| trace.to_string()),
            ],
        )?;
        Ok(())
    }

    /// Inserts a delivery, leased if it is to be and somebody can hold it; answers its fence.
    pub(crate) fn insert_delivery(
        &mut self,
        event_number: i64,
        delivery: &NewDelivery,
        holder: Option<SessionId>,
        birth: Birth,
    ) -> Result<u32> {
        // A replay waits for nothing.
        let key = delivery.ordering_key.as_ref().filter(|_| !birth.is_replay);
        let is_behind = match key {
            Some(key) => self.line_up(event_number, delivery, key)?,
            None => false,
        };
        let holder = holder.filter(|_| delivery.leased && !is_behind);
        let fence = u32::from(holder.is_some());
        let state = match holder {
            Some(_) if birth.is_replay => state::LEASED,
            Some(_) => state::FRESH,
            None if is_behind => state::BEHIND,
            None => state::WAITING,
        };
        self.hot.insert_delivery.execute(params![
            delivery.id.to_bytes(),
            event_number,
            delivery.endpoint.to_bytes(),
            state,
            holder.map(|session| session.0 as i64),
            fence,
            (!is_behind).then_some(birth.due_at.as_millis()),
            birth.at.as_millis(),
            key.is_some(),
            birth.is_replay,
        ])?;
        Ok(fence)
    }

    /// Inserts a delivery of an event that was accepted before. It gets nothing of the space that is
    /// kept for what is owed already.
    pub(crate) fn insert_replay(
        &mut self,
        event_number: i64,
        delivery: &NewDelivery,
        holder: Option<SessionId>,
        now: Timestamp,
    ) -> Result<u32> {
        self.room.take(REPLAY_BYTES)?;
        let birth = Birth { at: now, due_at: now, is_replay: true };
        let fence = self.insert_delivery(event_number, delivery, holder, birth)?;
        self.execute(
            "INSERT INTO replayed VALUES (?1, ?2)",
            params![event_number, delivery.id.to_bytes()],
        )?;
        self.file_delivery(delivery.endpoint, delivery.id.to_bytes())?;
        self.counted.created += 1;
        self.counted.pending += 1;
        Ok(fence)
    }

    pub(crate) fn add_delivery(
        &mut self,
        session: SessionId,
        account: AccountId,
        event: EventId,
        delivery: &NewDelivery,
        now: Timestamp,
    ) -> Result<Added> {
        let number: Option<i64> = self
            .prepare(
                "SELECT number FROM events WHERE id = ?1 AND account = ?2 AND body IS NOT NULL",
            )?
            .query_row([event.to_bytes(), account.to_bytes()], |row| row.get(0))
            .optional()?;
        let Some(number) = number else { return Ok(Added::NoEvent) };
        if self.roster_version(account)?.is_none() {
            return Ok(Added::NoEvent);
        }
        let belongs = "SELECT 1 FROM endpoints WHERE id = ?1 AND account = ?2";
        let parameters = [delivery.endpoint.to_bytes(), account.to_bytes()];
        if !self.prepare(belongs)?.exists(parameters)? {
            return Ok(Added::NoEndpoint);
        }
        let holder = self.session_lives(session)?.then_some(session);
        // Before anything is written: a replay of what does not open is none.
        let owned = self.payload(number)?;
        let payload = open_payload(self.vault, account, &owned.payload)?;
        let fence = self.insert_replay(number, delivery, holder, now)?;
        Ok(Added::Created(Claimed {
            lease: Lease { session, delivery: delivery.id, fence },
            account,
            endpoint: delivery.endpoint,
            attempts: 0,
            lost_claims: 0,
            owed_since: owned.owed_since(now),
            is_ordered: false,
            is_replay: true,
            payload: Arc::new(payload),
        }))
    }
}

/// Seals the bodies. `data` goes on to say where the producer's data stands in the opened one.
pub(crate) fn seal_bodies(vault: &Vault, events: &mut [NewEvent]) {
    for new in events {
        let place = Binding::Body(new.event.account, new.event.id);
        new.body = Bytes::from(vault.seal_data(&place, &new.body));
    }
}

/// About what accepting these writes: rows and pages.
pub(crate) fn weight(events: &[NewEvent]) -> usize {
    events.iter().map(|new| 1 + new.deliveries.len() + new.body.len() / PAGE_BYTES as usize).sum()
}
