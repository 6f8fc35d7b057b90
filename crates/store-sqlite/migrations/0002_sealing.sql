-- What is secret is sealed, lost claims are counted, and there is an audit log. First half: what
-- is new. Then the rows are carried over, each text sealed for its own place; the second half
-- removes what they were carried from.

-- The keys that seal what is much, themselves sealed under a master key. The newest one seals.
CREATE TABLE data_keys (
    number INTEGER PRIMARY KEY,
    id     BLOB NOT NULL UNIQUE,
    sealed BLOB NOT NULL
) STRICT;

-- Entries are numbered 1, 2, 3, … and never changed. Whoever can alter the schema can get around
-- the triggers; what they did is seen in the chain of hashes.
CREATE TABLE audit (
    number  INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    account BLOB,
    subject TEXT NOT NULL,
    details TEXT NOT NULL,
    hash    BLOB NOT NULL
) STRICT;
CREATE INDEX audit_by_account ON audit (account) WHERE account IS NOT NULL;
CREATE TRIGGER audit_grows_by_one BEFORE INSERT ON audit
WHEN NEW.number IS NOT (SELECT coalesce(max(number), 0) + 1 FROM audit)
BEGIN SELECT RAISE(ABORT, 'the audit log only grows at its end'); END;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is not changed'); END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is not shortened'); END;

CREATE TABLE sealed_endpoints (
    id                   BLOB NOT NULL UNIQUE,
    account              BLOB NOT NULL,
    contract             TEXT NOT NULL,
    url                  TEXT NOT NULL,
    secret               BLOB NOT NULL, -- sealed under a master key
    previous_secret      BLOB, -- sealed likewise
    previous_signs_until INTEGER,
    disabled_reason      TEXT, -- NULL: enabled
    event_types          TEXT, -- one a line; NULL: all
    entity_id            TEXT,
    description          TEXT,
    headers              BLOB NOT NULL, -- "name: value", one a line; sealed likewise
    max_in_flight        INTEGER,
    retry_schedule_ms    TEXT, -- waits, one a line; NULL: the default
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL
) STRICT;

-- A chain per delivery, as before. What was sent and answered stands last and is sealed as one.
CREATE TABLE sealed_attempts (
    place         INTEGER PRIMARY KEY,
    earlier       INTEGER,
    number        INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    duration_ns   INTEGER NOT NULL,
    dns_ns        INTEGER NOT NULL,
    connect_ns    INTEGER NOT NULL,
    tls_ns        INTEGER NOT NULL,
    first_byte_ns INTEGER NOT NULL,
    status        INTEGER, -- NULL: no answer
    retry_after_ns INTEGER,
    failure       TEXT, -- why there was no answer
    next_at       INTEGER,
    exchange      BLOB NOT NULL -- length of the request head in 4 bytes, the head, the excerpt
) STRICT;

-- Claims since the last attempt that ended without an outcome, as far as they count, and whether
-- the present one is a trial. A row pays a byte for each.
ALTER TABLE deliveries ADD COLUMN lost_claims INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN on_trial INTEGER NOT NULL DEFAULT 0;
