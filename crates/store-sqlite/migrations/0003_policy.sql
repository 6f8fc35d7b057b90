-- The whole delivery policy: orders, schedules, replays of many events, retention. Whatever few
-- events or deliveries have stands in tables of their own, so that the others pay nothing for it.

ALTER TABLE endpoints ADD COLUMN filter TEXT;
ALTER TABLE endpoints ADD COLUMN delivery_order TEXT NOT NULL DEFAULT 'any';
ALTER TABLE endpoints ADD COLUMN rate INTEGER; -- attempts a second
ALTER TABLE endpoints ADD COLUMN timeout_s INTEGER;
ALTER TABLE endpoints ADD COLUMN metadata BLOB; -- names and texts in turn; NULL: none
ALTER TABLE endpoints ADD COLUMN client_identity BLOB; -- sealed under a master key
ALTER TABLE endpoints ADD COLUMN client_credentials BLOB; -- sealed likewise

-- What an event has beside the usual: a row if it has any of it.
CREATE TABLE event_extras (
    number       INTEGER PRIMARY KEY, -- events.number
    deliver_at   INTEGER,
    ordering_key TEXT,
    trace        TEXT
) STRICT;

-- `state` may also be 5: pending, behind another. It is not in `deliveries_open`, so claims never
-- meet it, and has no `due_at`.
ALTER TABLE deliveries ADD COLUMN is_ordered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN is_replay INTEGER NOT NULL DEFAULT 0;
UPDATE deliveries SET is_replay = 1 WHERE id IN (SELECT delivery FROM replays);

-- Every pending delivery that has an ordering key. The head of each key is the one that is worked
-- on; the others wait in the order of their events.
CREATE TABLE ordered (
    endpoint BLOB NOT NULL,
    key      TEXT NOT NULL, -- '' for an order over the whole endpoint
    event    INTEGER NOT NULL,
    delivery BLOB NOT NULL UNIQUE,
    is_head  INTEGER NOT NULL,
    PRIMARY KEY (endpoint, key, event, delivery)
) STRICT, WITHOUT ROWID;

-- The deliveries made after their event was accepted.
ALTER TABLE replays RENAME TO replayed;

CREATE TABLE replays (
    id         BLOB PRIMARY KEY,
    account    BLOB NOT NULL,
    endpoint   BLOB NOT NULL,
    fate       TEXT NOT NULL,
    since      INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    per_second INTEGER NOT NULL,
    state      TEXT NOT NULL,
    looked_at  INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    through    BLOB, -- events.id; that event may be gone
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX replays_by_account ON replays (account, id);
CREATE INDEX replays_by_endpoint ON replays (endpoint, id);
CREATE INDEX replays_ended ON replays (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX replays_running ON replays (id) WHERE state = 'running';
CREATE INDEX replays_running_by_endpoint ON replays (endpoint) WHERE state = 'running';

CREATE TABLE event_types (
    contract    TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT,
    schema      TEXT,
    sample      TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (contract, name)
) STRICT, WITHOUT ROWID;

-- Failures of endpoints since their last success.
CREATE TABLE streaks (
    endpoint BLOB PRIMARY KEY,
    since    INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    warnings INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How far cleaning came: events up to these numbers were looked at, for their payloads and for
-- all of them; and which of `pending_payloads` was looked at last.
CREATE TABLE cleaning (
    only_row         INTEGER PRIMARY KEY CHECK (only_row = 1),
    payloads_through INTEGER NOT NULL,
    events_through   INTEGER NOT NULL,
    pending_through  INTEGER NOT NULL
) STRICT;
INSERT INTO cleaning VALUES (1, 0, 0, 0);

-- Events whose payload would have gone, were they not still pending somewhere or missed by an
-- endpoint; and events that were erased, but for some exchanges.
CREATE TABLE pending_payloads (
    number INTEGER PRIMARY KEY -- events.number; that event may be gone
) STRICT;

-- Events that cleaning passed although they are kept longer than those around them, since they
-- were scheduled, or accepted while the clock was ahead.
CREATE TABLE kept_longer (
    pass       TEXT NOT NULL CHECK (pass IN ('payloads', 'events')),
    owed_since INTEGER NOT NULL,
    number     INTEGER NOT NULL, -- events.number; that event may be gone
    PRIMARY KEY (pass, owed_since, number)
) STRICT, WITHOUT ROWID;

-- Events that are removed, of which there still may be deliveries. Nobody sees those any more.
CREATE TABLE departed_events (
    number     INTEGER PRIMARY KEY,
    deliveries BLOB NOT NULL -- as in `events`
) STRICT;
