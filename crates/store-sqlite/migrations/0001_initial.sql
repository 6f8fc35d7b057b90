-- Everything Postrider keeps, first version.
--
-- Ids are their 16 bytes, most significant first: they sort by time of birth. Instants are
-- milliseconds since the Unix epoch. What an event costs is the number of b-trees it touches and
-- of pages it dirties, so every index here is one that a question cannot do without.

PRAGMA application_id = 0x50535452; -- "PSTR": this file is ours

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Maintained by one UPDATE per transaction; nothing is ever counted by scanning.
CREATE TABLE counts (
    only_row      INTEGER PRIMARY KEY CHECK (only_row = 1),
    events        INTEGER NOT NULL,
    created       INTEGER NOT NULL,
    pending       INTEGER NOT NULL,
    delivered     INTEGER NOT NULL,
    exhausted     INTEGER NOT NULL,
    cancelled     INTEGER NOT NULL,
    filed_through INTEGER NOT NULL -- events.number: see events_by_account
) STRICT;
INSERT INTO counts VALUES (1, 0, 0, 0, 0, 0, 0, 0);

CREATE TABLE accounts (
    id             BLOB PRIMARY KEY,
    username       TEXT NOT NULL UNIQUE,
    contract       TEXT NOT NULL,
    plan           TEXT,
    credits        INTEGER,
    api_access     INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    roster_version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    id           BLOB PRIMARY KEY,
    account      BLOB, -- NULL: an operator key
    public_part  TEXT NOT NULL UNIQUE,
    hash         BLOB NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_by_account ON keys (account, id);

CREATE TABLE endpoints (
    id                BLOB NOT NULL UNIQUE,
    account           BLOB NOT NULL,
    contract          TEXT NOT NULL,
    url               TEXT NOT NULL,
    secret            TEXT NOT NULL,
    disabled_reason   TEXT, -- NULL: enabled
    event_types       TEXT, -- one a line; NULL: all
    entity_id         TEXT,
    description       TEXT,
    headers           TEXT NOT NULL, -- "name: value", one a line
    max_in_flight     INTEGER,
    retry_schedule_ms TEXT, -- waits, one a line; NULL: the default
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX endpoints_by_account ON endpoints (account, id);

-- Deleted endpoints of which there still are deliveries. While `settled` is 0, readers look at
-- their pending deliveries as cancelled at `departed_at` ('keep') or see none of them ('remove').
CREATE TABLE departed_endpoints (
    id          BLOB PRIMARY KEY,
    account     BLOB NOT NULL,
    history     TEXT NOT NULL CHECK (history IN ('keep', 'remove')),
    departed_at INTEGER NOT NULL,
    settled     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX departed_endpoints_by_account ON departed_endpoints (account, id);
CREATE INDEX departed_endpoints_unsettled ON departed_endpoints (id) WHERE settled = 0;

-- Deleted accounts of which there still are events.
CREATE TABLE departed_accounts (
    id BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- `body` stands last, so that reading the rest of a row never walks through its overflow pages.
CREATE TABLE events (
    number      INTEGER PRIMARY KEY, -- what deliveries refer to: one seek instead of two
    id          BLOB NOT NULL UNIQUE,
    account     BLOB NOT NULL,
    event_type  TEXT NOT NULL,
    timestamp   INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    entity_ids  TEXT NOT NULL, -- one a line
    -- The deliveries made with the event, 16 bytes of id and 16 of endpoint id each, one after the
    -- other: cheaper than an index of the deliveries by event. Replays are in a table of their
    -- own. Some may be gone.
    deliveries  BLOB NOT NULL,
    not_made    BLOB NOT NULL, -- 16 bytes of endpoint id and one of reason, one after the other
    data_start  INTEGER NOT NULL,
    data_length INTEGER NOT NULL,
    body        BLOB -- NULL: no longer kept
) STRICT;

-- Events by account and deliveries by endpoint, as far as they are filed: all of events up to
-- number `counts.filed_through`, and all replays. The writer files many at once, in order.
CREATE TABLE events_by_account (
    account BLOB NOT NULL,
    id      BLOB NOT NULL,
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE deliveries_by_endpoint (
    endpoint BLOB NOT NULL,
    id       BLOB NOT NULL,
    PRIMARY KEY (endpoint, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    id           BLOB PRIMARY KEY,
    event        INTEGER NOT NULL, -- events.number; its account and type are read there
    endpoint     BLOB NOT NULL,
    state        INTEGER NOT NULL, -- 0 pending, 1 pending and leased, 2 delivered, 3 exhausted, 4 cancelled
    session      INTEGER, -- who holds the lease
    fence        INTEGER NOT NULL, -- how many times it was leased
    attempts     INTEGER NOT NULL,
    last_attempt INTEGER, -- attempts.place
    due_at       INTEGER,
    created_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    reason       TEXT
) STRICT, WITHOUT ROWID;
-- What is not ended: leased ones are few (they are in an engine's memory too), waiting ones are
-- found by endpoint and due instant. Queries must name the state as a literal to be served by it.
CREATE INDEX deliveries_open ON deliveries (state, endpoint, due_at, id) WHERE state = 0 OR state = 1;

CREATE TABLE replays (
    event    INTEGER NOT NULL,
    delivery BLOB NOT NULL,
    PRIMARY KEY (event, delivery)
) STRICT, WITHOUT ROWID;

-- A chain per delivery, from its last attempt to its first: appending in order of time costs one
-- b-tree, which no key by delivery would.
CREATE TABLE attempts (
    place            INTEGER PRIMARY KEY,
    earlier          INTEGER, -- the place of the delivery's attempt before this one
    number           INTEGER NOT NULL,
    at               INTEGER NOT NULL,
    duration_ns      INTEGER NOT NULL,
    dns_ns           INTEGER NOT NULL,
    connect_ns       INTEGER NOT NULL,
    tls_ns           INTEGER NOT NULL,
    first_byte_ns    INTEGER NOT NULL,
    status           INTEGER, -- NULL: no answer
    retry_after_ns   INTEGER,
    failure          TEXT, -- why there was no answer
    next_at          INTEGER,
    request_head     TEXT NOT NULL,
    response_excerpt BLOB NOT NULL
) STRICT;

CREATE TABLE idempotency_keys (
    account      BLOB NOT NULL,
    key          TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    event        BLOB NOT NULL, -- events.id
    deliveries   INTEGER NOT NULL,
    kept_until   INTEGER NOT NULL,
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_end ON idempotency_keys (kept_until);

-- Running engines. AUTOINCREMENT: no number is given twice, whatever was deleted.
CREATE TABLE sessions (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    lives_until INTEGER NOT NULL
) STRICT;
