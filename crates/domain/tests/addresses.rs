//! Which addresses may be called, against a stored copy of the IANA special-purpose registries.
//!
//! The oracle compares the first bits of an address with those of each line, written as text; it
//! shares neither table nor arithmetic with what it checks.

#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests may unwrap")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;

use domain::address::AddressPolicy;

const REGISTRY: &str = include_str!("fixtures/special-purpose-addresses.tsv");

/// Random addresses judged, in equal shares by each thread.
const ADDRESSES: usize = 1_000_000;
const THREADS: usize = 4;

/// One line of the registry.
struct Range {
    text: &'static str,
    /// `globally reachable` of the registry.
    reachable: &'static str,
    forbidden: bool,
    /// The whole address the range is written with, 4 or 16 bytes.
    network: Vec<u8>,
    /// How many of its first bits count.
    bits: usize,
}

impl Range {
    fn read(line: &'static str) -> Self {
        let [text, _, _, reachable, verdict] =
            line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let (network, bits) = text.split_once('/').unwrap();
        Self {
            text,
            reachable,
            forbidden: verdict == "forbidden",
            network: bytes(network.parse().unwrap()),
            bits: bits.parse().unwrap(),
        }
    }

    /// Whether the first bits agree: whole bytes first, then what is left of one.
    fn holds(&self, address: &[u8]) -> bool {
        let whole = self.bits / 8;
        if address.len() != self.network.len() || address[..whole] != self.network[..whole] {
            return false;
        }
        let differing = match (address.get(whole), self.network.get(whole)) {
            (Some(left), Some(right)) => left ^ right,
            _ => 0,
        };
        differing.leading_zeros() as usize >= self.bits % 8
    }

    /// An address of the range: its network, with `noise` in the bits that are free.
    fn address(&self, noise: &[u8]) -> Vec<u8> {
        let mut address = self.network.clone();
        for (at, byte) in address.iter_mut().enumerate() {
            *byte |= noise[at] & !fixed(self.bits, at);
        }
        address
    }

    /// The address before the first, the first, the last, the one after; those that exist.
    fn edges(&self) -> Vec<Vec<u8>> {
        let (first, last) = (self.address(&[0; 16]), self.address(&[0xff; 16]));
        let before = step(first.clone(), u8::checked_sub, 0xff);
        let after = step(last.clone(), u8::checked_add, 0);
        [before, Some(first), Some(last), after].into_iter().flatten().collect()
    }
}

/// Which bits of the byte at `at` belong to the first `bits` of an address.
fn fixed(bits: usize, at: usize) -> u8 {
    let left = bits.saturating_sub(at * 8).min(8);
    !(0xff_u8.checked_shr(left as u32).unwrap_or(0))
}

/// Counts one up or down, by hand: from the last byte, with a carry.
fn step(
    mut address: Vec<u8>,
    change: impl Fn(u8, u8) -> Option<u8>,
    carried: u8,
) -> Option<Vec<u8>> {
    for byte in address.iter_mut().rev() {
        if let Some(changed) = change(*byte, 1) {
            *byte = changed;
            return Some(address);
        }
        *byte = carried;
    }
    None
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn registry() -> Vec<Range> {
    let lines = REGISTRY.lines().filter(|line| !line.starts_with('#'));
    lines.map(Range::read).collect()
}

/// The lines of IPv4 and those of IPv6, which follow them.
fn by_family(registry: &[Range]) -> (&[Range], &[Range]) {
    registry.split_at(registry.partition_point(|range| range.network.len() == 4))
}

/// What the registry says: IPv4 is open but for its lines, IPv6 closed but for its lines.
fn is_forbidden(registry: &[Range], address: &[u8]) -> bool {
    let mut open = address.len() == 4;
    let (ipv4, ipv6) = by_family(registry);
    for range in if open { ipv4 } else { ipv6 } {
        if range.holds(address) {
            if range.forbidden {
                return true;
            }
            open = true;
        }
    }
    !open
}

/// What the product says, and of which address.
fn judged(policy: &AddressPolicy, bytes: &[u8]) -> (IpAddr, bool) {
    let address = match *bytes {
        [a, b, c, d] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap())),
    };
    (address, policy.judge(address).is_err())
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self) -> [u8; 16] {
        let [left, right] = [self.next(), self.next()];
        (u128::from(left) << 64 | u128::from(right)).to_be_bytes()
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Where an IPv6 address carries an IPv4 address, and in which byte it begins.
const CARRIERS: [([u16; 6], usize); 8] = [
    ([0, 0, 0, 0, 0, 0], 12),           // IPv4-compatible
    ([0, 0, 0, 0, 0, 0xffff], 12),      // IPv4-mapped
    ([0, 0, 0, 0, 0xffff, 0], 12),      // IPv4-translated
    ([0x64, 0xff9b, 0, 0, 0, 0], 12),   // NAT64
    ([0x64, 0xff9b, 1, 0, 0, 0], 12),   // NAT64 of a site
    ([0x2002, 0, 0, 0, 0, 0], 2),       // 6to4
    ([0x2001, 0, 0, 0, 0, 0], 4),       // Teredo: the server
    ([0x2600, 0, 0, 0, 0, 0x5efe], 12), // ISATAP under a public prefix
];

/// An address: anywhere, in a range of the registry, an IPv4 address of the registry inside an IPv6
/// address, or one bit beside a range.
fn sample(chance: &mut Chance, registry: &[Range]) -> Vec<u8> {
    let noise = chance.bytes();
    match chance.below(8) {
        0 => noise[..4].to_vec(),
        1 => noise.to_vec(),
        // Of the public eighth of IPv6, which chance alone seldom hits.
        2 => [&[0x20 | noise[0] & 0x1f], &noise[1..]].concat(),
        3 | 4 => chance.of(registry).address(&noise),
        5 => {
            let mut address = chance.of(registry).address(&noise);
            let bit = chance.below(address.len() * 8);
            address[bit / 8] ^= 0x80 >> (bit % 8);
            address
        }
        6 => {
            let range = chance.of(registry);
            let noise = [[0; 16], [0xff; 16], noise][chance.below(3)];
            let mut address = range.address(&noise);
            // One of the free bits beside the last that counts.
            let bit = range.bits.saturating_sub(1 + chance.below(2));
            address[bit / 8] ^= 0x80 >> (bit % 8);
            address
        }
        _ => {
            let (segments, at) = *chance.of(&CARRIERS);
            let inner = chance.of(by_family(registry).0).address(&noise);
            let mut address: Vec<u8> =
                segments.iter().flat_map(|segment| segment.to_be_bytes()).collect();
            address.extend_from_slice(&noise[12..]);
            address[at..at + 4].copy_from_slice(&inner);
            address
        }
    }
}

#[test]
fn the_registry_is_whole_and_nothing_unreachable_is_allowed() {
    let registry = registry();
    assert!(registry.iter().all(|range| range.forbidden || range.reachable == "true"));
    let (ipv4, ipv6) = by_family(&registry);
    assert_eq!((ipv4.len(), ipv6.len()), (29, 38));
    assert!(ipv6.iter().all(|range| range.network.len() == 16));
    for range in &registry {
        let last = range.address(&[0xff; 16]);
        assert!(range.holds(&range.network) && range.holds(&last), "{}", range.text);
        assert!(range.address(&[0; 16]) == range.network, "{} has free bits", range.text);
    }
}

#[test]
fn the_first_the_last_and_the_neighbours_of_every_registered_range_are_judged_as_registered() {
    let (registry, policy) = (registry(), AddressPolicy::default());
    let edges: Vec<_> = registry.iter().flat_map(Range::edges).collect();
    assert!(edges.len() > registry.len() * 3);
    for edge in edges {
        let (address, forbidden) = judged(&policy, &edge);
        assert_eq!(forbidden, is_forbidden(&registry, &edge), "{address}");
    }
}

#[test]
fn a_million_random_addresses_are_judged_as_registered() {
    let (registry, policy) = (registry(), AddressPolicy::default());
    let judge = |seed: usize| {
        let mut chance = Chance(seed as u64);
        let (mut forbidden, mut wrong) = (0, Vec::new());
        for _ in 0..ADDRESSES / THREADS {
            let bytes = sample(&mut chance, &registry);
            let expected = is_forbidden(&registry, &bytes);
            forbidden += usize::from(expected);
            let (address, verdict) = judged(&policy, &bytes);
            if verdict != expected {
                wrong.push(address);
            }
        }
        (forbidden, wrong)
    };
    let judged: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|seed| scope.spawn(move || judge(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let forbidden: usize = judged.iter().map(|(forbidden, _)| forbidden).sum();
    let wrong: Vec<_> = judged.iter().flat_map(|(_, wrong)| wrong).collect();
    assert!(wrong.is_empty(), "{} misjudged, such as {:?}", wrong.len(), wrong[0]);
    // Neither verdict is rare, so that a judge who always says the same is found out.
    assert!((ADDRESSES / 4..ADDRESSES * 3 / 4).contains(&forbidden), "{forbidden} forbidden");
}
