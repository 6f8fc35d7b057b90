//! Custom headers under a hundred thousand inputs: what is accepted reads back as it was given,
//! header by header, and nothing that belongs to the protocol, to us or to a metadata service is
//! among it.

#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests may unwrap")]

use domain::custom_headers::{CustomHeaderRefusal, CustomHeaders};

const INPUTS: usize = 100_000;

/// Names no customer may set, as people write them.
const FORBIDDEN: [&str; 37] = [
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Keep-Alive",
    "Upgrade",
    "TE",
    "Trailer",
    "Expect",
    "HTTP2-Settings",
    "Proxy-Authorization",
    "Proxy-Authenticate",
    "Proxy-Connection",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "Via",
    "Content-Type",
    "Content-Encoding",
    "Accept-Encoding",
    "Date",
    "User-Agent",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "X-Webhook-Event",
    "X-Webhook-Signature",
    "Signature",
    "Metadata",
    "Metadata-Flavor",
    "X-Google-Metadata-Request",
    "X-aws-ec2-metadata-token",
    "X-aws-ec2-metadata-token-ttl-seconds",
    "Sec-Fetch-Site",
    "Sec-WebSocket-Key",
    "Sec-",
];

const ORDINARY: [&str; 8] =
    ["X-Tenant", "Authorization", "Accept", "x_y", "X-Hosted", "Dated", "Viability", "A"];

/// Pieces of values and of names that are none: white space, line ends, what ends a name.
const PIECES: [&str; 16] = [
    "a",
    "Z9",
    " ",
    "~",
    "!",
    "\r\n",
    "\n",
    "\r",
    ":",
    "\0",
    "\t",
    "\u{7f}",
    "é",
    "\u{2028}",
    "\"",
    "\r\nHost: b.com",
];

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % bound as u64) as usize
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// Some pieces, of which only the first five are harmless in a value.
    fn pieces(&mut self) -> String {
        let harmless = self.below(8) > 0;
        let pieces = if harmless { &PIECES[..5] } else { &PIECES };
        (0..self.below(4)).map(|_| self.of(pieces)).collect()
    }

    /// The text with some of its letters in the other case.
    fn recased(&mut self, text: &str) -> String {
        let mut other = |letter: char| match self.below(2) {
            0 => letter.to_ascii_lowercase(),
            _ => letter.to_ascii_uppercase(),
        };
        text.chars().map(&mut other).collect()
    }

    fn name(&mut self) -> String {
        match self.below(16) {
            0 => self.of(&FORBIDDEN).to_owned(),
            1 => self.pieces(),
            2 => format!(":{}", self.of(&ORDINARY)),
            3 => "n".repeat(120 + self.below(20)),
            4 => format!("{}{}", self.of(&ORDINARY), self.of(&PIECES)),
            _ => format!("{}-{}", self.of(&ORDINARY), self.below(40)),
        }
    }

    fn value(&mut self) -> String {
        match self.below(32) {
            0 => "v".repeat(1_000 + self.below(50)),
            _ => self.pieces(),
        }
    }

    fn headers(&mut self) -> Vec<(String, String)> {
        let count = if self.below(32) == 0 { 18 + self.below(6) } else { self.below(4) };
        (0..count)
            .map(|_| {
                let name = self.name();
                (self.recased(&name), self.value())
            })
            .collect()
    }
}

/// Splits a head into its lines as a careless receiver would, at every `\r` or `\n`, and each line
/// at its first colon.
fn read_head(head: &[u8]) -> Vec<(String, String)> {
    head.split(|byte| matches!(byte, b'\r' | b'\n'))
        .filter(|line| !line.is_empty())
        .map(|line| {
            let colon = line.iter().position(|&byte| byte == b':').unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (text(&line[..colon]), text(line[colon + 1..].strip_prefix(b" ").unwrap()))
        })
        .collect()
}

fn is_forbidden(name: &str) -> bool {
    let is = |forbidden: &str| forbidden.eq_ignore_ascii_case(name);
    let begins = |family: &str| {
        name.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family))
    };
    FORBIDDEN.into_iter().any(is)
        || ["proxy-", "x-forwarded-", "webhook-", "sec-"].into_iter().any(begins)
}

#[test]
fn whatever_is_accepted_reads_back_from_the_head_as_it_was_given() {
    let mut chance = Chance(1);
    let (mut accepted, mut headers_accepted) = (0, 0);
    for _ in 0..INPUTS {
        let given = chance.headers();
        let Ok(headers) = CustomHeaders::new(given.clone()) else { continue };
        accepted += 1;
        headers_accepted += given.len();
        let mut head = Vec::new();
        for (name, value) in headers.iter() {
            assert!(!name.is_empty() && !is_forbidden(name), "{name:?}");
            assert!(
                !name.bytes().any(|byte| b"()<>@,;:\\\"/[]?={} \t".contains(&byte)),
                "{name:?}"
            );
            assert!(name.bytes().chain(value.bytes()).all(|byte| (0x20..0x7f).contains(&byte)));
            assert!(name.len() <= 128 && value.len() <= 1_024);
            head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        assert_eq!(read_head(&head), given);
        assert!(given.len() <= 20 && head.len() - 4 * given.len() <= 8 * 1_024);
    }
    // Both answers are common, so that one who always says the same is found out.
    assert!((INPUTS / 4..INPUTS * 9 / 10).contains(&accepted), "{accepted} accepted");
    assert!(headers_accepted > INPUTS / 4, "{headers_accepted} headers");
}

#[test]
fn a_forbidden_name_is_refused_in_every_mixture_of_cases() {
    let mut chance = Chance(2);
    for round in 0..INPUTS {
        let name = chance.recased(FORBIDDEN[round % FORBIDDEN.len()]);
        let refused = CustomHeaders::new(vec![(name.clone(), "x".to_owned())]);
        assert_eq!(refused, Err(CustomHeaderRefusal::NameForbidden { name }));
    }
}

#[test]
fn a_name_of_a_forbidden_family_is_refused_whatever_follows() {
    let mut chance = Chance(3);
    for family in ["proxy-", "x-forwarded-", "webhook-", "sec-"] {
        for _ in 0..1_000 {
            let name = format!("{family}{}", chance.of(&ORDINARY));
            let name = chance.recased(&name);
            let refused = CustomHeaders::new(vec![(name.clone(), "x".to_owned())]);
            assert_eq!(refused, Err(CustomHeaderRefusal::NameForbidden { name }));
        }
    }
}
