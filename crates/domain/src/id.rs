//! Identifiers: one type per kind, one text form, sortable by time of birth.
//!
//! Promise: an id is a UUIDv7 (RFC 9562), printed as its kind's prefix and 32 lower-case hex
//! digits; parsing accepts exactly what printing gives. Ids are made by the engine, which owns
//! the clock and the entropy; here are only their form and order.

use std::fmt;

use thiserror::Error;

use crate::contract::Contract;

/// A text that is not an id of the asked kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not an id of this kind")]
pub struct IdError;

/// Builds the 128 bits of a UUIDv7 from an instant and 80 random bits (of which 74 are used).
pub fn uuid_v7(unix_milliseconds: u64, random: &[u8; 10]) -> u128 {
    uuid::Builder::from_unix_timestamp_millis(unix_milliseconds, random).into_uuid().as_u128()
}

fn parse_hex(text: &str) -> Result<u128, IdError> {
    if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(IdError);
    }
    u128::from_str_radix(text, 16).map_err(|_| IdError)
}

/// Longest prefix of an id.
const PREFIX_MAX: usize = 8;

/// Prints a prefix and 32 hex digits, in one piece: ids are printed several times for every event.
fn print_hex(f: &mut fmt::Formatter<'_>, prefix: &str, bits: u128) -> fmt::Result {
    let mut text = [0; PREFIX_MAX + 32];
    let text = &mut text[..prefix.len() + 32];
    let (start, digits) = text.split_at_mut(prefix.len());
    start.copy_from_slice(prefix.as_bytes());
    digits.copy_from_slice(&hex_digits(bits));
    f.write_str(std::str::from_utf8(text).expect("a prefix and hex digits are ASCII"))
}

/// 128 bits in 32 lower-case hex digits.
pub fn hex_digits(bits: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
        pair[0] = HEX_DIGITS[usize::from(byte >> 4)];
        pair[1] = HEX_DIGITS[usize::from(byte & 15)];
    }
    digits
}

/// The digits of everything printed in hex.
pub(crate) const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The text before the 32 hex digits.
            pub const PREFIX: &'static str = $prefix;

            /// The id with these 128 bits.
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// The 128 bits.
            pub const fn as_u128(self) -> u128 {
                self.0
            }

            /// The id stored in these bytes, most significant first.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }

            /// The bytes to store, most significant first, so that bytes sort as ids do.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// Reads the text form; [`IdError`] for anything that printing would not give.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                parse_hex(text.strip_prefix($prefix).ok_or(IdError)?).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print_hex(f, $prefix, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A customer of the platform.
    AccountId,
    "acct_"
);
id!(
    /// A key that opens the API.
    KeyId,
    "key_"
);
id!(
    /// Something that happened, accepted once.
    EventId,
    "evt_"
);
id!(
    /// One event owed to one endpoint.
    DeliveryId,
    "dlv_"
);
id!(
    /// Many events delivered again.
    ReplayId,
    "rpl_"
);

/// Where an account wants its events sent.
///
/// Endpoints of `konpro_v1` print as `webhook_…`, all others as `wh_…`, in every API alike. The
/// lowest bit of the id says which, so that an id prints the same without a look-up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u128);

impl EndpointId {
    /// The endpoint id for an account of `contract` with these bits, the lowest of which is
    /// replaced by the mark of the contract's prefix.
    pub const fn new(bits: u128, contract: Contract) -> Self {
        Self(match contract {
            Contract::KonproV1 => bits | 1,
            Contract::JoggV2 | Contract::Standard => bits & !1,
        })
    }

    /// The id with exactly these 128 bits.
    pub const fn from_u128(bits: u128) -> Self {
        Self(bits)
    }

    /// The 128 bits.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The id stored in these bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The bytes to store, most significant first, so that bytes sort as ids do.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The text before the 32 hex digits.
    pub const fn prefix(self) -> &'static str {
        if self.0 & 1 == 1 { "webhook_" } else { "wh_" }
    }

    /// Reads the text form; [`IdError`] for anything that printing would not give.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let (_, digits) = text.split_once('_').ok_or(IdError)?;
        let id = Self(parse_hex(digits)?);
        if text.len() == id.prefix().len() + 32 && text.starts_with(id.prefix()) {
            Ok(id)
        } else {
            Err(IdError)
        }
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_hex(f, self.prefix(), self.0)
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_reads_back_as_it_prints(bits: u128) {
            let event = EventId::from_u128(bits);
            prop_assert_eq!(EventId::parse(&event.to_string()), Ok(event));
            prop_assert_eq!(EventId::from_bytes(event.to_bytes()), event);
            for contract in Contract::ALL {
                let endpoint = EndpointId::new(bits, contract);
                prop_assert_eq!(EndpointId::parse(&endpoint.to_string()), Ok(endpoint));
            }
        }

        #[test]
        fn any_text_is_an_id_or_refused(text in ".*") {
            if let Ok(id) = EventId::parse(&text) {
                prop_assert_eq!(id.to_string(), text.clone());
            }
            if let Ok(id) = EndpointId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn an_endpoint_id_shows_the_prefix_of_its_contract() {
        assert!(EndpointId::new(7, Contract::KonproV1).to_string().starts_with("webhook_"));
        assert!(EndpointId::new(7, Contract::JoggV2).to_string().starts_with("wh_"));
        let swapped = EndpointId::new(7, Contract::JoggV2).to_string().replace("wh_", "webhook_");
        assert_eq!(EndpointId::parse(&swapped), Err(IdError));
    }

    #[test]
    fn ids_of_a_later_millisecond_sort_later() {
        assert!(uuid_v7(1, &[0xff; 10]) < uuid_v7(2, &[0; 10]));
    }
}
