//! The URL of an endpoint: one parser, one spelling.
//!
//! Promise: a [`TargetUrl`] is written in exactly one way, the way every parser reads alike. Whatever
//! `url` would silently repair (short, octal, hexadecimal, padded and dotted addresses, tabs,
//! backslashes, dot segments) is refused, because two parsers that repair differently are how a
//! checked URL reaches an unchecked host. The raw input is never parsed again.
//!
//! [`UrlPolicy`] adds what this installation permits: schemes, hosts, ports. It judges at
//! registration and again at connect time. A name it accepts may still resolve to a forbidden
//! address: that is [`crate::address`]'s part, asked by the connector.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use url::Url;

use crate::address::AddressPolicy;

/// Longest URL, in bytes. What browsers, proxies and the other webhook senders agree to carry.
pub const MAX_URL_BYTES: usize = 2_048;

/// Longest host name, in bytes without the final dot (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// Longest label of a host name, in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// Ports a name may be called on besides the operator's: HTTPS and its two usual alternatives.
const ALLOWED_PORTS: [u16; 3] = [443, 8_443, 8_843];

/// The host a [`TargetUrl`] names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name in lower case, to be resolved.
    Name(String),
    /// An address literal.
    Ip(IpAddr),
}

/// A URL in its canonical spelling: `http` or `https`, a host, no userinfo, no fragment.
///
/// Cheap to clone. Says nothing about permission: see [`UrlPolicy::judge`].
#[derive(Clone)]
pub struct TargetUrl(Arc<Parts>);

struct Parts {
    text: String,
    https: bool,
    host: Host,
    port: u16,
    authority: Range<usize>,
}

/// Why a URL is refused. The sentence is meant for the customer who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UrlRefusal {
    /// Over [`MAX_URL_BYTES`].
    #[error("the URL is longer than {MAX_URL_BYTES} bytes; use a shorter one")]
    TooLong,
    /// A byte that no URL holds, or an encoded control character.
    #[error(
        "the URL contains a character that is not allowed (white space, a control character, a \
         non-ASCII letter or one of \\ < > \" ` {{ }} | ^, or an encoded line break); percent-encode \
         it in the path or query, and write an international host name in its xn-- form"
    )]
    BadCharacter,
    /// `#…`, which is never sent.
    #[error("the URL has a fragment (#…), which is never sent; remove it")]
    Fragment,
    /// Not a scheme that is permitted here, or none.
    #[error("the URL must start with https://")]
    Scheme,
    /// Nothing between `//` and the path.
    #[error("the URL has no host name; write it as https://host/path")]
    NoHost,
    /// `user@` or `user:password@`.
    #[error("the URL contains a user name or password before an @; remove it")]
    Userinfo,
    /// `%` in the host.
    #[error("the host name is percent-encoded or has a zone id; write it in plain letters")]
    HostEncoded,
    /// Not a URL.
    #[error("the URL is malformed: check its host name and port")]
    Syntax,
    /// A spelling that parsers repair in different ways.
    #[error(
        "the URL is not in its canonical form; write the host and port in their usual short \
         spelling, and the path without dot segments"
    )]
    NotCanonical,
    /// An address literal that may not be called.
    #[error("the URL points to an address that may not be called; use a public host name")]
    IpForbidden,
    /// An address literal where only names are permitted.
    #[error("the URL names an IP address; use a host name")]
    IpLiteral,
    /// Not a host name.
    #[error(
        "the host is not a valid public host name: labels of letters, digits and inner hyphens, at \
         most 63 characters each and 253 in all, no trailing dot"
    )]
    HostSyntax,
    /// A name that never leads to a public server.
    #[error("the host name is reserved for local, private or test use; use a public host name")]
    HostReserved,
    /// No dot in the name.
    #[error("the host name has only one part; use a full public host name")]
    HostSingleLabel,
    /// A port that is not permitted.
    #[error("port {0} is not allowed; use 443 or 8443")]
    PortForbidden(u16),
}

impl UrlRefusal {
    /// A stable name for tests, logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLong => "URL_TOO_LONG",
            Self::BadCharacter => "URL_BAD_CHAR",
            Self::Fragment => "URL_FRAGMENT",
            Self::Scheme => "URL_SCHEME",
            Self::NoHost => "URL_NO_HOST",
            Self::Userinfo => "URL_USERINFO",
            Self::HostEncoded => "URL_HOST_ENCODED",
            Self::Syntax => "URL_SYNTAX",
            Self::NotCanonical => "URL_NOT_CANONICAL",
            Self::IpForbidden => "IP_FORBIDDEN",
            Self::IpLiteral => "HOST_IP_LITERAL",
            Self::HostSyntax => "HOST_SYNTAX",
            Self::HostReserved => "HOST_RESERVED",
            Self::HostSingleLabel => "HOST_SINGLE_LABEL",
            Self::PortForbidden(_) => "PORT_FORBIDDEN",
        }
    }
}

impl TargetUrl {
    /// Reads a URL that was canonical when it was stored. Checks syntax and spelling, no policy.
    pub fn from_stored(stored: &str) -> Result<Self, UrlRefusal> {
        Self::read(stored, true)
    }

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.0.https { "https" } else { "http" }
    }

    /// True for `https`.
    pub fn is_https(&self) -> bool {
        self.0.https
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// The port, also when it is the scheme's default.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Host and port as the `Host` header carries them: without the scheme's default port.
    pub fn authority(&self) -> &str {
        &self.0.text[self.0.authority.clone()]
    }

    /// Scheme, host and port as one text: what a connection belongs to.
    pub fn origin(&self) -> &str {
        &self.0.text[..self.0.authority.end]
    }

    /// Path and query as the request line carries them; starts with `/`.
    pub fn path_and_query(&self) -> &str {
        &self.0.text[self.0.authority.end..]
    }

    /// The order of these checks decides which rule a URL that breaks several is said to break:
    /// from the bytes, over the parts that could hide a host, to the spelling.
    fn read(input: &str, allow_http: bool) -> Result<Self, UrlRefusal> {
        if input.len() > MAX_URL_BYTES {
            return Err(UrlRefusal::TooLong);
        }
        if input.bytes().any(is_bad_byte) {
            return Err(UrlRefusal::BadCharacter);
        }
        if input.contains('#') {
            return Err(UrlRefusal::Fragment);
        }
        let (https, rest) = split_scheme(input, allow_http).ok_or(UrlRefusal::Scheme)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() {
            return Err(UrlRefusal::NoHost);
        }
        if authority.contains('@') {
            return Err(UrlRefusal::Userinfo);
        }
        if authority.contains('%') {
            return Err(UrlRefusal::HostEncoded);
        }
        if has_encoded_control(path) {
            return Err(UrlRefusal::BadCharacter);
        }
        let url = Url::parse(input).map_err(|_| UrlRefusal::Syntax)?;
        let text = expected_spelling(https, authority, path);
        if url.as_str() != text {
            return Err(UrlRefusal::NotCanonical);
        }
        let host = match url.host().ok_or(UrlRefusal::NoHost)? {
            url::Host::Domain(name) => Host::Name(name.to_owned()),
            url::Host::Ipv4(address) => Host::Ip(address.into()),
            url::Host::Ipv6(address) => Host::Ip(address.into()),
        };
        let port = url.port_or_known_default().ok_or(UrlRefusal::Scheme)?;
        let start = url.scheme().len() + "://".len();
        let end = text[start..].find('/').map_or(text.len(), |length| start + length);
        Ok(Self(Arc::new(Parts { text, https, host, port, authority: start..end })))
    }
}

/// True for bytes that are not part of a URL, or that parsers drop, repair or map.
fn is_bad_byte(byte: u8) -> bool {
    byte <= 0x20 || byte >= 0x7f || b"\\<>\"`{}|^".contains(&byte)
}

/// Splits at `://`. The schemes are compared without case, as parsers do.
fn split_scheme(input: &str, allow_http: bool) -> Option<(bool, &str)> {
    let (scheme, rest) = input.split_once("://")?;
    if scheme.eq_ignore_ascii_case("https") {
        Some((true, rest))
    } else if allow_http && scheme.eq_ignore_ascii_case("http") {
        Some((false, rest))
    } else {
        None
    }
}

/// `%00` to `%1f` and `%7f`: behind a careless receiver they become line breaks and string ends.
fn has_encoded_control(path: &str) -> bool {
    path.as_bytes().windows(3).any(|window| match *window {
        [b'%', b'0' | b'1', low] => low.is_ascii_hexdigit(),
        [b'%', b'7', b'f' | b'F'] => true,
        _ => false,
    })
}

/// The input with its permitted freedoms undone: case of scheme and host, the default port, an
/// empty path. Any other difference to what `url` writes is a second spelling.
fn expected_spelling(https: bool, authority: &str, path: &str) -> String {
    let (scheme, default_port) = if https { ("https", ":443") } else { ("http", ":80") };
    let authority = authority.strip_suffix(default_port).unwrap_or(authority);
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{}{slash}{path}", authority.to_ascii_lowercase())
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TargetUrl({})", self.as_str())
    }
}

impl PartialEq for TargetUrl {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for TargetUrl {}

impl Hash for TargetUrl {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// Which URLs this installation permits. The default permits public HTTPS by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UrlPolicy {
    /// Plain `http` too.
    pub allow_http: bool,
    /// Literals of public addresses too.
    pub allow_ip_literals: bool,
    /// Ports beside 443, 8443 and 8843 (and 80 for `http`).
    pub extra_ports: Vec<u16>,
    /// Which addresses may be called. What the operator opened there is also free of the rules on
    /// literals and ports.
    pub addresses: AddressPolicy,
}

impl UrlPolicy {
    /// Reads a URL as a customer wrote it and judges it.
    pub fn parse(&self, input: &str) -> Result<TargetUrl, UrlRefusal> {
        let target = TargetUrl::read(input, self.allow_http)?;
        self.judge(&target)?;
        Ok(target)
    }

    /// Judges a URL that was read before, perhaps under other rules.
    pub fn judge(&self, target: &TargetUrl) -> Result<(), UrlRefusal> {
        if !target.is_https() && !self.allow_http {
            return Err(UrlRefusal::Scheme);
        }
        match target.host() {
            &Host::Ip(address) if self.addresses.opens(address) => return Ok(()),
            &Host::Ip(address) => {
                self.addresses.judge(address).map_err(|_| UrlRefusal::IpForbidden)?;
                if !self.allow_ip_literals {
                    return Err(UrlRefusal::IpLiteral);
                }
            }
            Host::Name(name) if is_local_name(name) && self.opens_loopback() => return Ok(()),
            Host::Name(name) => judge_name(name)?,
        }
        if self.allows_port(target) {
            Ok(())
        } else {
            Err(UrlRefusal::PortForbidden(target.port()))
        }
    }

    fn opens_loopback(&self) -> bool {
        self.addresses.open_loopback().next().is_some()
    }

    fn allows_port(&self, target: &TargetUrl) -> bool {
        let port = target.port();
        ALLOWED_PORTS.contains(&port)
            || self.extra_ports.contains(&port)
            || (!target.is_https() && port == 80)
    }
}

/// True for the one name that stands for this machine, and only when the operator opened it.
pub fn is_local_name(name: &str) -> bool {
    name == "localhost"
}

/// Whether the name, in lower case without a final dot, is reserved for local, private or test use,
/// so that no public server has it.
pub fn is_reserved_name(name: &str) -> bool {
    RESERVED_SUFFIXES.iter().any(|suffix| is_under(name, suffix))
}

fn judge_name(name: &str) -> Result<(), UrlRefusal> {
    if name.len() > MAX_NAME_BYTES || !name.split('.').all(is_label) {
        return Err(UrlRefusal::HostSyntax);
    }
    if is_reserved_name(name) {
        return Err(UrlRefusal::HostReserved);
    }
    let Some((_, top)) = name.rsplit_once('.') else {
        return Err(UrlRefusal::HostSingleLabel);
    };
    if top.starts_with("xn--") || top.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        Ok(())
    } else {
        Err(UrlRefusal::HostSyntax)
    }
}

/// Letters, digits and inner hyphens (RFC 1123, section 2.1).
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= MAX_LABEL_BYTES
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_under(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Names that lead to no public server, or to whatever address is written in them. A courtesy that
/// gives an early and clear answer: the connector judges every address anyway.
const RESERVED_SUFFIXES: [&str; 52] = [
    // RFC 2606, 6761, 6762, 7686, 8375, 9476 and ICANN's reservation of "internal".
    "alt",
    "arpa",
    "example",
    "internal",
    "invalid",
    "local",
    "localhost",
    "onion",
    "test",
    // Never delegated, in wide private use (ICANN's name collision reports, RFC 6762 appendix G).
    "cluster",
    "consul",
    "corp",
    "docker",
    "home",
    "i2p",
    "intra",
    "intranet",
    "kubernetes",
    "lan",
    "localdomain",
    "localdomain6",
    "localhost6",
    "mail",
    "private",
    "router",
    "svc",
    "workgroup",
    // Public names that resolve to loopback, or to the address written in them.
    "127-0-0-1.org.uk",
    "1u.ms",
    "backname.io",
    "ddev.site",
    "fuf.me",
    "ip6.name",
    "lacolhost.com",
    "lndo.site",
    "local-ip.co",
    "local.gd",
    "localh.st",
    "localho.st",
    "localtest.me",
    "lvh.me",
    "nip.io",
    "nip.name",
    "rbndr.us",
    "rebind.network",
    "smackaho.st",
    "spoofed.burpcollaborator.net",
    "sslip.io",
    "traefik.me",
    "ulh.us",
    "vcap.me",
    "xip.io",
];
