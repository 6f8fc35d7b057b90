//! Request headers a customer adds to the deliveries of a native endpoint.
//!
//! Promise: a custom header can neither change how the request is framed, routed or read, nor pose
//! as one of ours, nor open a cloud metadata service, nor smuggle a second header. Neighbours: the
//! endpoint holds them, the sender writes them after its own.

use std::fmt;

/// Most custom headers of one endpoint; receivers refuse requests with too many.
pub const CUSTOM_HEADERS_MAX: usize = 20;

/// Longest value, in bytes: room for a bearer token.
pub const CUSTOM_HEADER_VALUE_BYTES_MAX: usize = 1_024;

/// Most bytes of all names and values together: the default head limit of common servers is 8 KiB.
pub const CUSTOM_HEADERS_BYTES_MAX: usize = 8 * 1_024;

/// Longest name, in bytes; no name in use comes near.
pub const CUSTOM_HEADER_NAME_BYTES_MAX: usize = 128;

/// Names that are ours or the protocol's, in lower case.
const FORBIDDEN_NAMES: [&str; 31] = [
    // Framing and connection (RFC 9110, RFC 9112).
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // How the body is read, and what we ask for.
    "accept-encoding",
    "content-encoding",
    "content-type",
    "date",
    "user-agent",
    // Who is asking: receivers behind proxies trust these.
    "forwarded",
    "via",
    "x-real-ip",
    // Signatures and what belongs to them, of every contract.
    "signature",
    "signature-input",
    "signature-next",
    "x-webhook-event",
    "x-webhook-signature",
    "x-webhook-signature-next",
    // Keys to metadata services.
    "metadata",
    "metadata-flavor",
    "x-aliyun-ecs-metadata-token",
    "x-aliyun-ecs-metadata-token-ttl-seconds",
    "x-aws-ec2-metadata-token",
    "x-aws-ec2-metadata-token-ttl-seconds",
    "x-google-metadata-request",
];

/// Families of such names, in lower case.
const FORBIDDEN_PREFIXES: [&str; 4] = ["proxy-", "sec-", "webhook-", "x-forwarded-"];

/// Checked custom headers, in the customer's order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(Vec<(String, String)>);

impl fmt::Debug for CustomHeaders {
    /// Names only: values hold the customer's keys to its receiver.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// Why a set of custom headers is refused, and which header is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CustomHeaderRefusal {
    /// Over [`CUSTOM_HEADERS_MAX`].
    #[error("more than {CUSTOM_HEADERS_MAX} headers")]
    TooMany,
    /// Over [`CUSTOM_HEADERS_BYTES_MAX`].
    #[error("names and values together are longer than {CUSTOM_HEADERS_BYTES_MAX} bytes")]
    TooLarge,
    /// Not a token (RFC 9110, section 5.6.2), or too long.
    #[error(
        "{name:?} is not a header name: use letters, digits and hyphens, at most \
         {CUSTOM_HEADER_NAME_BYTES_MAX}"
    )]
    NameSyntax {
        /// The name as given, cut to its permitted length.
        name: String,
    },
    /// Set by Postrider or by the protocol.
    #[error("the header {name} may not be set: it belongs to the protocol or to Postrider")]
    NameForbidden {
        /// The name as given.
        name: String,
    },
    /// Names are compared without case.
    #[error("the header {name} is given twice")]
    NameRepeated {
        /// The name as given the second time.
        name: String,
    },
    /// Over [`CUSTOM_HEADER_VALUE_BYTES_MAX`].
    #[error("the value of {name} is longer than {CUSTOM_HEADER_VALUE_BYTES_MAX} bytes")]
    ValueTooLong {
        /// The name of the header.
        name: String,
    },
    /// Something else than visible ASCII and spaces, or a space at an end.
    #[error("the value of {name} may hold only visible ASCII characters, and spaces between them")]
    ValueSyntax {
        /// The name of the header.
        name: String,
    },
}

impl CustomHeaderRefusal {
    /// The header at fault, when it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::TooMany | Self::TooLarge => None,
            Self::NameSyntax { name }
            | Self::NameForbidden { name }
            | Self::NameRepeated { name }
            | Self::ValueTooLong { name }
            | Self::ValueSyntax { name } => Some(name),
        }
    }
}

impl CustomHeaders {
    /// Checks names and values; keeps the order.
    pub fn new(headers: Vec<(String, String)>) -> Result<Self, CustomHeaderRefusal> {
        if headers.len() > CUSTOM_HEADERS_MAX {
            return Err(CustomHeaderRefusal::TooMany);
        }
        for (index, (name, value)) in headers.iter().enumerate() {
            check_name(name)?;
            check_value(name, value)?;
            if headers[..index].iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
                return Err(CustomHeaderRefusal::NameRepeated { name: name.clone() });
            }
        }
        let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > CUSTOM_HEADERS_BYTES_MAX {
            return Err(CustomHeaderRefusal::TooLarge);
        }
        Ok(Self(headers))
    }

    /// Name and value, in the customer's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn check_name(name: &str) -> Result<(), CustomHeaderRefusal> {
    if name.is_empty()
        || name.len() > CUSTOM_HEADER_NAME_BYTES_MAX
        || !name.bytes().all(is_token_byte)
    {
        let name = name.chars().take(CUSTOM_HEADER_NAME_BYTES_MAX).collect();
        return Err(CustomHeaderRefusal::NameSyntax { name });
    }
    let lower = name.to_ascii_lowercase();
    if FORBIDDEN_NAMES.contains(&lower.as_str())
        || FORBIDDEN_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
    {
        return Err(CustomHeaderRefusal::NameForbidden { name: name.to_owned() });
    }
    Ok(())
}

fn check_value(name: &str, value: &str) -> Result<(), CustomHeaderRefusal> {
    if value.len() > CUSTOM_HEADER_VALUE_BYTES_MAX {
        return Err(CustomHeaderRefusal::ValueTooLong { name: name.to_owned() });
    }
    // What stands at an end is no part of the value (RFC 9110, 5.5): a receiver would not see it.
    if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) || value.trim() != value {
        return Err(CustomHeaderRefusal::ValueSyntax { name: name.to_owned() });
    }
    Ok(())
}

/// RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<CustomHeaders, CustomHeaderRefusal> {
        CustomHeaders::new(vec![(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn ordinary_headers_are_kept_in_order() {
        let given = [("X-Tenant", "blue"), ("Authorization", "Bearer a b"), ("Empty", "")];
        let headers = CustomHeaders::new(
            given.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
        )
        .unwrap();
        assert_eq!(headers.iter().collect::<Vec<_>>(), given);
        assert_eq!(headers.len(), 3);
        assert!(!headers.is_empty());
    }

    #[test]
    fn names_of_the_protocol_and_ours_are_refused_in_any_case() {
        for name in [
            "Host",
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "Upgrade",
            "TE",
            "Trailer",
            "Expect",
            "Proxy-Authorization",
            "Proxy-Connection",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "Via",
            "Content-Encoding",
            "Accept-Encoding",
            "Date",
            "User-Agent",
            "Webhook-Id",
            "webhook-timestamp",
            "webhook-signature",
            "webhook-anything",
            "X-Webhook-Event",
            "X-Webhook-Signature",
            "Signature",
            "Content-Type",
            "Metadata",
            "Metadata-Flavor",
            "X-Google-Metadata-Request",
            "X-aws-ec2-metadata-token",
            "X-aws-ec2-metadata-token-ttl-seconds",
            "Sec-Fetch-Site",
            "Sec-WebSocket-Key",
        ] {
            for name in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                let refusal = one(&name, "x").unwrap_err();
                assert_eq!(refusal, CustomHeaderRefusal::NameForbidden { name: name.clone() });
                assert_eq!(refusal.name(), Some(name.as_str()));
            }
        }
    }

    #[test]
    fn names_that_are_no_tokens_are_refused() {
        for name in ["", " ", "a b", ":authority", "a:b", "a\r\nb", "é", "a\0", "(a)", "a,b"] {
            assert!(
                matches!(one(name, "x"), Err(CustomHeaderRefusal::NameSyntax { .. })),
                "{name:?}"
            );
        }
        assert!(one(&"a".repeat(128), "x").is_ok());
        assert!(one(&"a".repeat(129), "x").is_err());
    }

    #[test]
    fn values_hold_visible_ascii_and_spaces_between_only() {
        for value in [" ", " a", "a ", "a\r\nB: c", "a\nb", "\t", "\0", "é", "\u{7f}", "\u{2028}"]
        {
            let refusal = one("X-A", value).unwrap_err();
            assert_eq!(refusal, CustomHeaderRefusal::ValueSyntax { name: "X-A".into() });
        }
        assert!(one("X-A", &"v".repeat(1_024)).is_ok());
        let refusal = one("X-A", &"v".repeat(1_025)).unwrap_err();
        assert_eq!(refusal, CustomHeaderRefusal::ValueTooLong { name: "X-A".into() });
    }

    #[test]
    fn the_whole_set_is_bounded() {
        let set = |count: usize, bytes: usize| {
            CustomHeaders::new(
                (0..count).map(|index| (format!("x-{index:02}"), "v".repeat(bytes))).collect(),
            )
        };
        assert!(set(20, 10).is_ok());
        assert_eq!(set(21, 10), Err(CustomHeaderRefusal::TooMany));
        assert!(set(8, 1_020).is_ok());
        assert_eq!(set(9, 1_020), Err(CustomHeaderRefusal::TooLarge));
    }

    #[test]
    fn values_are_not_shown() {
        assert_eq!(format!("{:?}", one("X-Key", "exposed").unwrap()), r#"["X-Key"]"#);
    }

    #[test]
    fn a_name_is_given_once() {
        let headers = vec![("X-A".into(), "1".into()), ("x-a".into(), "2".into())];
        assert_eq!(
            CustomHeaders::new(headers),
            Err(CustomHeaderRefusal::NameRepeated { name: "x-a".into() })
        );
    }
}
