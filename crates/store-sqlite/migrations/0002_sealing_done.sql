-- Second half, once every row is carried over. `events.body` is sealed where it was.
DROP TABLE endpoints;
ALTER TABLE sealed_endpoints RENAME TO endpoints;
CREATE UNIQUE INDEX endpoints_by_account ON endpoints (account, id);
DROP TABLE attempts;
ALTER TABLE sealed_attempts RENAME TO attempts;
