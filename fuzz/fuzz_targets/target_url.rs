//! The URL policy: one spelling, no address in it, and a host on which parsers agree.

#![no_main]

use std::net::IpAddr;

use domain::target_url::{Host, TargetUrl, UrlPolicy};
use http::Uri;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let policy = UrlPolicy::default();
    let Ok(url) = policy.parse(input) else { return };
    let text = url.as_str();

    let again = policy.parse(text).expect("what was accepted is accepted again");
    assert_eq!(again.as_str(), text, "the canonical spelling is its own");
    let stored = TargetUrl::from_stored(text).expect("what was accepted can be stored");
    assert_eq!(stored, url);

    assert!(url.is_https() && text.starts_with("https://"));
    assert!([443, 8_443, 8_843].contains(&url.port()), "port {}", url.port());
    let Host::Name(name) = url.host() else { panic!("an address literal") };
    assert!(name.parse::<IpAddr>().is_err(), "{name} is an address");
    let top = name.rsplit('.').next().unwrap_or(name);
    assert!(name.contains('.') && !top.starts_with(|first: char| first.is_ascii_digit()));

    let other: Uri = text.parse().expect("the other parser takes it too");
    assert_eq!(other.scheme_str(), Some("https"));
    assert_eq!(other.host(), Some(name.as_str()));
    assert_eq!(other.port_u16().unwrap_or(443), url.port());
    assert_eq!(other.authority().map(|authority| authority.as_str()), Some(url.authority()));
    assert_eq!(other.path_and_query().map(|path| path.as_str()), Some(url.path_and_query()));
});
