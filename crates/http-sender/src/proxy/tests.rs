use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;

fn read(text: &str) -> Result<EgressProxy, ProxyUrlError> {
    text.parse()
}

#[test]
fn a_proxy_is_named_by_scheme_host_and_port() {
    for (text, shown) in [
        ("http://10.0.0.9:3128", "http://10.0.0.9:3128"),
        ("http://10.0.0.9:3128/", "http://10.0.0.9:3128"),
        ("http://egress:80", "http://egress:80"),
        ("socks5://[fd00::9]:1080", "socks5://[fd00::9]:1080"),
        ("socks5://bastion_1.corp.internal:1080", "socks5://bastion_1.corp.internal:1080"),
    ] {
        assert_eq!(read(text).unwrap().to_string(), shown);
    }
}

#[test]
fn anything_else_is_refused_with_the_rule() {
    for (text, error) in [
        ("", ProxyUrlError::Scheme),
        ("10.0.0.9:3128", ProxyUrlError::Scheme),
        ("https://proxy:3128", ProxyUrlError::Scheme),
        ("HTTP://proxy:3128", ProxyUrlError::Scheme),
        ("socks4://proxy:1080", ProxyUrlError::Scheme),
        ("socks5h://proxy:1080", ProxyUrlError::Scheme),
        ("socks://proxy:1080", ProxyUrlError::Scheme),
        ("http://proxy:3128/path", ProxyUrlError::Path),
        ("http://proxy:3128?x", ProxyUrlError::Path),
        ("http://proxy:3128#x", ProxyUrlError::Path),
        ("http://proxy", ProxyUrlError::Port),
        ("http://proxy:", ProxyUrlError::Port),
        ("http://proxy:0", ProxyUrlError::Port),
        ("http://proxy:+80", ProxyUrlError::Port),
        ("http://proxy:65536", ProxyUrlError::Port),
        ("http://:3128", ProxyUrlError::Host),
        ("http://pro xy:3128", ProxyUrlError::Host),
        ("http://pro\nxy:3128", ProxyUrlError::Host),
        ("http://fd00::9:3128", ProxyUrlError::Host),
        ("http://[10.0.0.9]:3128", ProxyUrlError::Host),
        ("http://user@proxy:3128", ProxyUrlError::Credentials),
        ("http://:word@proxy:3128", ProxyUrlError::Credentials),
        ("http://user:@proxy:3128", ProxyUrlError::Credentials),
        ("http://user:a@b@proxy:3128", ProxyUrlError::Credentials),
        ("http://user:a:b@proxy:3128", ProxyUrlError::Credentials),
        ("http://us%3Aer:word@proxy:3128", ProxyUrlError::Credentials),
        ("http://user:a%0d%0aX:y@proxy:3128", ProxyUrlError::Credentials),
        ("http://user:a%0d%0aX@proxy:3128", ProxyUrlError::Credentials),
        ("http://user:%@proxy:3128", ProxyUrlError::Credentials),
        ("http://user:%zz@proxy:3128", ProxyUrlError::Credentials),
        ("http://user:%ff@proxy:3128", ProxyUrlError::Credentials),
        ("http://user:%+1@proxy:3128", ProxyUrlError::Credentials),
    ] {
        assert_eq!(read(text), Err(error), "{text:?}");
    }
    let long = format!("socks5://user:{}@proxy:1", "p".repeat(256));
    assert_eq!(read(&long), Err(ProxyUrlError::Credentials));
    assert_eq!(read(&format!("http://{}:1", "p".repeat(254))), Err(ProxyUrlError::Host));
}

#[test]
fn credentials_are_percent_decoded_and_never_shown() {
    let proxy = read("http://wal%3Dter:se%40cr%2Fet%25@proxy:3128").unwrap();
    let credentials = proxy.credentials.as_ref().unwrap();
    assert_eq!((&*credentials.user, &*credentials.password), ("wal=ter", "se@cr/et%"));
    for shown in [format!("{proxy}"), format!("{proxy:?}"), format!("{:?}", Some(&proxy))] {
        assert!(shown.contains("http://…@proxy:3128"), "{shown}");
        assert!(!shown.contains("wal") && !shown.contains("cr"), "{shown}");
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().flat_map(|byte| format!("%{byte:02x}").into_bytes()).map(char::from).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_credentials_survive_percent_encoding(
        user in "[^:\\p{Cc}]{1,60}",
        password in "[^\\p{Cc}]{1,60}",
    ) {
        let text = format!("http://{}:{}@p:1", percent_encoded(&user), percent_encoded(&password));
        let expected = Credentials { user, password };
        prop_assert!(read(&text).unwrap().credentials.as_ref() == Some(&expected));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(http|socks5)?(://)?[ -~é]{0,40}") {
        if let Ok(proxy) = read(&text) {
            let is_connect = proxy.protocol == Protocol::Connect;
            prop_assert_eq!(is_connect, text.starts_with("http://"));
        }
    }

    #[test]
    fn whatever_a_proxy_answers_only_a_right_answer_opens_the_way(
        right in 0..3_usize,
        answer in vec(any::<u8>(), 0..40),
    ) {
        let target = "93.184.215.14:443".parse().unwrap();
        let beginnings = [&b""[..], b"HTTP/1.1 2", &[5, 0, 5, 0, 0]];
        let answer = [beginnings[right], &answer].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let asked = |protocol| runtime.block_on(async {
            let (near, mut far) = tokio::io::duplex(1_024);
            far.write_all(&answer).await.unwrap();
            far.shutdown().await.unwrap();
            let mut near: Box<dyn Stream> = Box::new(near);
            match protocol {
                Protocol::Connect => connect::ask(&mut near, target, None).await,
                Protocol::Socks5 => socks5::ask(&mut near, target, None).await,
            }
        });
        if asked(Protocol::Connect).is_ok() {
            prop_assert!(answer.starts_with(b"HTTP/1.") && answer.ends_with(b"\r\n\r\n"));
        }
        if asked(Protocol::Socks5).is_ok() {
            prop_assert!(answer.starts_with(&[5, 0, 5, 0]));
        }
    }
}
