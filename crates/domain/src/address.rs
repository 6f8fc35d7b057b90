//! Which IP addresses Postrider may call. Pure: an address goes in, a verdict comes out.
//!
//! Promise: everything that is not plainly a public unicast address is refused, unless the operator
//! opened it, and the addresses of cloud metadata services stay closed even then, unless the
//! operator named them. The ranges are those of the IANA special-purpose registries for
//! [IPv4](https://www.iana.org/assignments/iana-ipv4-special-registry/) and
//! [IPv6](https://www.iana.org/assignments/iana-ipv6-special-registry/), and those the registries
//! leave out. IPv6 is an allow-list: only `2000::/3`, minus a table.
//!
//! Neighbours: [`crate::target_url`] asks at registration; the connector asks again for every
//! address before it dials, and once more for the peer it reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What the operator has opened. The default opens nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Networks that may be called on any port although they are not public.
    pub allowed: Vec<IpNet>,
    /// Metadata addresses that may be called. Only what is named here: `allowed` does not open them.
    pub allowed_metadata: Vec<IpNet>,
    /// The node lives behind NAT64: addresses in `64:ff9b::/96` are judged by the IPv4 address they
    /// carry. Without it they are refused.
    pub nat64: bool,
}

/// Why one address may not be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AddressRefusal {
    /// `0.0.0.0/8`.
    #[error("the address belongs to \"this network\"")]
    ThisNetwork,
    /// RFC 1918.
    #[error("the address is for private use")]
    PrivateUse,
    /// `100.64.0.0/10`, carrier-grade NAT and overlay networks.
    #[error("the address is shared address space of a carrier")]
    SharedSpace,
    /// `127.0.0.0/8`, `::1`.
    #[error("the address is a loopback address")]
    Loopback,
    /// Link-local, and metadata services elsewhere.
    #[error("the address is link-local or belongs to a cloud metadata service")]
    Metadata,
    /// `192.0.0.0/24`, `2001::/23`.
    #[error("the address is an IETF protocol assignment")]
    ProtocolAssignment,
    /// Reserved for examples.
    #[error("the address is for documentation")]
    Documentation,
    /// `198.18.0.0/15`.
    #[error("the address is for benchmarking")]
    Benchmarking,
    /// AS112 and AMT: reachable, never a web server.
    #[error("the address belongs to anycast infrastructure (AS112 or AMT)")]
    Infrastructure,
    /// `224.0.0.0/4`, `ff00::/8`.
    #[error("the address is multicast")]
    Multicast,
    /// Class E, broadcast, and everything outside `2000::/3` without a name of its own.
    #[error("the address is reserved, broadcast or not assigned")]
    Reserved,
    /// `::`, which reaches the machine itself on Linux.
    #[error("the address is the unspecified address")]
    Unspecified,
    /// `::ffff:0:0/96`, never a target.
    #[error("the address is an IPv4-mapped IPv6 address")]
    Ipv4Mapped,
    /// IPv4-compatible, SIIT, 6to4, Teredo.
    #[error("the address carries an IPv4 address (a transition mechanism)")]
    Ipv4Embedded,
    /// `64:ff9b::/96` and `64:ff9b:1::/48`.
    #[error("the address is a NAT64 address and NAT64 is not enabled")]
    Nat64,
    /// `100::/64`, `100:0:0:1::/64`.
    #[error("the address is discard-only or a dummy")]
    Discard,
    /// `5f00::/16`.
    #[error("the address is a segment routing identifier")]
    SegmentRouting,
    /// `fc00::/7`.
    #[error("the address is unique-local")]
    UniqueLocal,
    /// `fec0::/10`, deprecated.
    #[error("the address is site-local")]
    SiteLocal,
}

impl AddressRefusal {
    /// A stable name for logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::ThisNetwork => "this_network",
            Self::PrivateUse => "private_use",
            Self::SharedSpace => "shared_space",
            Self::Loopback => "loopback",
            Self::Metadata => "metadata",
            Self::ProtocolAssignment => "protocol_assignment",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Infrastructure => "infrastructure",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Unspecified => "unspecified",
            Self::Ipv4Mapped => "ipv4_mapped",
            Self::Ipv4Embedded => "ipv4_embedded",
            Self::Nat64 => "nat64",
            Self::Discard => "discard",
            Self::SegmentRouting => "segment_routing",
            Self::UniqueLocal => "unique_local",
            Self::SiteLocal => "site_local",
        }
    }
}

/// Why a whole set of DNS answers may not be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerRefusal {
    /// There is no address to call.
    #[error("the name has no address")]
    Empty,
    /// Every address is forbidden; the first one and its reason.
    #[error("the name leads to {address}: {refusal}")]
    Forbidden {
        /// The first forbidden address.
        address: IpAddr,
        /// Its reason.
        refusal: AddressRefusal,
    },
    /// Some addresses are forbidden, so the whole name is; the first of them and its reason.
    #[error("one of the name's addresses is {address}: {refusal}")]
    Mixed {
        /// The first forbidden address.
        address: IpAddr,
        /// Its reason.
        refusal: AddressRefusal,
    },
}

impl AnswerRefusal {
    /// A stable name for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "DNS_ERROR",
            Self::Forbidden { .. } => "DNS_FORBIDDEN",
            Self::Mixed { .. } => "DNS_MIXED",
        }
    }
}

impl AddressPolicy {
    /// Judges one address.
    pub fn judge(&self, address: IpAddr) -> Result<(), AddressRefusal> {
        match address {
            IpAddr::V4(address) => self.judge_v4(address),
            IpAddr::V6(address) => self.judge_v6(address),
        }
    }

    /// Judges every answer to one DNS question: one forbidden address spoils the name, because a
    /// name that mixes public and private addresses has no honest purpose.
    pub fn judge_all(&self, addresses: &[IpAddr]) -> Result<(), AnswerRefusal> {
        let mut first = None;
        let mut allowed = false;
        for &address in addresses {
            match self.judge(address) {
                Ok(()) => allowed = true,
                Err(refusal) => {
                    first.get_or_insert((address, refusal));
                }
            }
        }
        match (first, allowed) {
            (None, true) => Ok(()),
            (None, false) => Err(AnswerRefusal::Empty),
            (Some((address, refusal)), false) => Err(AnswerRefusal::Forbidden { address, refusal }),
            (Some((address, refusal)), true) => Err(AnswerRefusal::Mixed { address, refusal }),
        }
    }

    /// True when the operator opened exactly this address, which lifts the rules on ports and on
    /// address literals too.
    pub fn opens(&self, address: IpAddr) -> bool {
        self.judge(address).is_ok()
            && (covers(&self.allowed, address) || covers(&self.allowed_metadata, address))
    }

    /// The addresses that the name `localhost` stands for here: the loopback addresses the operator
    /// opened, none by default.
    pub fn open_loopback(&self) -> impl Iterator<Item = IpAddr> + '_ {
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
            .into_iter()
            .filter(|&address| self.opens(address))
    }

    fn judge_v4(&self, address: Ipv4Addr) -> Result<(), AddressRefusal> {
        if METADATA_V4.iter().any(|network| network.contains(&address)) {
            return self.judge_metadata(address.into());
        }
        if covers(&self.allowed, address.into()) {
            return Ok(());
        }
        match FORBIDDEN_V4.iter().find(|(network, _)| network.contains(&address)) {
            Some(&(_, refusal)) => Err(refusal),
            None => Ok(()),
        }
    }

    fn judge_v6(&self, address: Ipv6Addr) -> Result<(), AddressRefusal> {
        if NAT64.contains(&address) && self.nat64 {
            let [.., a, b, c, d] = address.octets();
            return self.judge_v4(Ipv4Addr::new(a, b, c, d));
        }
        if !address.is_unspecified() && !address.is_loopback() {
            let carrier = CARRIERS_V6.iter().find(|(network, _)| network.contains(&address));
            if let Some(&(_, refusal)) = carrier {
                return Err(refusal);
            }
        }
        if METADATA_V6.iter().any(|network| network.contains(&address)) {
            return self.judge_metadata(address.into());
        }
        if covers(&self.allowed, address.into()) {
            return Ok(());
        }
        match FORBIDDEN_V6.iter().find(|(network, _)| network.contains(&address)) {
            Some(&(_, refusal)) => Err(refusal),
            None if GLOBAL_UNICAST_V6.contains(&address) => Ok(()),
            None => Err(AddressRefusal::Reserved),
        }
    }

    fn judge_metadata(&self, address: IpAddr) -> Result<(), AddressRefusal> {
        if covers(&self.allowed_metadata, address) { Ok(()) } else { Err(AddressRefusal::Metadata) }
    }
}

fn covers(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_segments(segments), prefix)
}

/// Addresses at which a cloud hands out credentials or controls the machine; all of link-local,
/// because most clouds put theirs somewhere in it.
const METADATA_V4: [Ipv4Net; 4] = [
    v4(169, 254, 0, 0, 16),     // AWS, Google, Azure, Tencent and others
    v4(168, 63, 129, 16, 32),   // Azure WireServer, a public address
    v4(100, 100, 100, 200, 32), // Alibaba
    v4(192, 0, 0, 192, 32),     // Oracle
];

const METADATA_V6: [Ipv6Net; 6] = [
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    v6([0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0], 32), // AWS: instance metadata ::254, pod identity ::23
    v6([0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254], 128), // Google
    v6([0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), // Oracle
    v6([0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x42], 128), // Scaleway
    v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], 128), // Linode
];

/// What is forbidden beside [`METADATA_V4`].
const FORBIDDEN_V4: [(Ipv4Net, AddressRefusal); 17] = [
    (v4(0, 0, 0, 0, 8), AddressRefusal::ThisNetwork),
    (v4(10, 0, 0, 0, 8), AddressRefusal::PrivateUse),
    (v4(100, 64, 0, 0, 10), AddressRefusal::SharedSpace),
    (v4(127, 0, 0, 0, 8), AddressRefusal::Loopback),
    (v4(172, 16, 0, 0, 12), AddressRefusal::PrivateUse),
    (v4(192, 0, 0, 0, 24), AddressRefusal::ProtocolAssignment),
    (v4(192, 0, 2, 0, 24), AddressRefusal::Documentation),
    (v4(192, 31, 196, 0, 24), AddressRefusal::Infrastructure), // AS112
    (v4(192, 52, 193, 0, 24), AddressRefusal::Infrastructure), // AMT
    (v4(192, 88, 99, 0, 24), AddressRefusal::Ipv4Embedded),    // 6to4 relay
    (v4(192, 168, 0, 0, 16), AddressRefusal::PrivateUse),
    (v4(192, 175, 48, 0, 24), AddressRefusal::Infrastructure), // AS112
    (v4(198, 18, 0, 0, 15), AddressRefusal::Benchmarking),
    (v4(198, 51, 100, 0, 24), AddressRefusal::Documentation),
    (v4(203, 0, 113, 0, 24), AddressRefusal::Documentation),
    (v4(224, 0, 0, 0, 4), AddressRefusal::Multicast),
    (v4(240, 0, 0, 0, 4), AddressRefusal::Reserved), // 255.255.255.255 too
];

/// The only IPv6 space that is assigned as global unicast.
const GLOBAL_UNICAST_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// The well-known prefix of RFC 6052.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// IPv6 spellings of IPv4 addresses. No operator setting opens these: the IPv4 address inside would
/// pass the IPv4 rules by.
const CARRIERS_V6: [(Ipv6Net, AddressRefusal); 7] = [
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), AddressRefusal::Ipv4Mapped),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), AddressRefusal::Ipv4Embedded), // IPv4-compatible
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), AddressRefusal::Ipv4Embedded), // SIIT
    (NAT64, AddressRefusal::Nat64),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), AddressRefusal::Nat64), // RFC 8215
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), AddressRefusal::Ipv4Embedded), // Teredo
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), AddressRefusal::Ipv4Embedded), // 6to4
];

/// What is forbidden inside `2000::/3`, and the parts of the rest that have a name of their own.
const FORBIDDEN_V6: [(Ipv6Net, AddressRefusal); 12] = [
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), AddressRefusal::ProtocolAssignment),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), AddressRefusal::Documentation),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), AddressRefusal::Infrastructure), // AS112
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), AddressRefusal::Documentation),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), AddressRefusal::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), AddressRefusal::Loopback),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), AddressRefusal::Discard),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), AddressRefusal::Discard),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), AddressRefusal::SegmentRouting),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), AddressRefusal::UniqueLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), AddressRefusal::SiteLocal),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), AddressRefusal::Multicast),
];
