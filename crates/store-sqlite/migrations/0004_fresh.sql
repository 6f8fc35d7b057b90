-- `state` may also be 6: pending, and leased since it was accepted with its event, which is not filed
-- yet. It is not in `deliveries_open`, which nearly all of them would leave within milliseconds; those
-- that are left when their event is filed become 1.

-- SHA-256 over what of the row stands in the clear (`row::endpoint_digest`): an altered URL would have
-- what is right sent to where it does not belong.
ALTER TABLE endpoints ADD COLUMN digest BLOB;
