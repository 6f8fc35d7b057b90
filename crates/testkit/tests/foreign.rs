//! Receivers in other languages agree with us on what is genuine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use domain::contract::Contract;
use domain::event::EventType;
use domain::id::EventId;
use domain::rendering::render_body;
use domain::secret::SigningSecret;
use domain::signature::standard_signature;
use engine::clock::{Clock as _, SystemClock};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use testkit::foreign::{ForeignReceiver, Language, Verdict};
use testkit::verify::sign_hex;
use tokio::net::TcpStream;

/// Posts and answers the status.
async fn post(receiver: &ForeignReceiver, headers: &[(&str, String)], body: &[u8]) -> u16 {
    let stream = TcpStream::connect(receiver.address()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::post("/webhook")
        .header("host", receiver.address())
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    sender.send_request(request).await.unwrap().status().as_u16()
}

fn with_one_bit_changed(body: &[u8]) -> Vec<u8> {
    let mut changed = body.to_vec();
    let last = changed.len() - 2;
    changed[last] ^= 1;
    changed
}

fn secret() -> SigningSecret {
    SigningSecret::from_random(&[0xa5; 24])
}

fn accepted(event: &str) -> Verdict {
    Verdict { event: Some(event.to_owned()), verified: true }
}

const REFUSED: Verdict = Verdict { event: None, verified: false };

#[tokio::test]
async fn every_language_accepts_a_contract_signature_and_refuses_a_changed_byte() {
    for language in Language::CONTRACT {
        if !language.is_here() {
            println!("{language:?} is absent from this machine: not asked");
            continue;
        }
        for (contract, name, event) in [
            (Contract::JoggV2, "X-Webhook-Signature", "generated_video_success"),
            (Contract::KonproV1, "Signature", "avatar_video.success"),
        ] {
            let receiver = ForeignReceiver::start(language, secret().reveal());
            let body = render_body(
                contract,
                EventId::from_u128(1),
                &EventType::parse(event).unwrap(),
                SystemClock.now(),
                "{\"title\":\"Grüße \\u00e4 😀\",\"n\":1.0}".as_bytes(),
            )
            .bytes;
            let signature = sign_hex(secret().reveal(), &body);
            let post = async |signature: &str, body: &[u8]| {
                post(&receiver, &[(name, signature.to_owned())], body).await
            };
            assert_eq!(post(&signature, &body).await, 200, "{language:?} {contract:?}");
            assert_eq!(post(&signature, &with_one_bit_changed(&body)).await, 401);
            assert_eq!(post(&signature[..63], &body).await, 401);
            assert_eq!(post(&"é".repeat(32), &body).await, 401);
            assert_eq!(post("", &body).await, 401);
            assert_eq!(
                receiver.wait_for(5).await,
                [accepted(event), REFUSED, REFUSED, REFUSED, REFUSED],
                "{language:?} {contract:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_standard_webhooks_libraries_accept_our_signature_and_refuse_a_changed_byte() {
    for language in Language::STANDARD {
        let receiver = ForeignReceiver::start(language, secret().reveal());
        let id = EventId::from_u128(2);
        let event = EventType::parse("video.ready").unwrap();
        let now = SystemClock.now();
        let body =
            render_body(Contract::Standard, id, &event, now, "{\"a\":\"ä\"}".as_bytes()).bytes;
        let other = SigningSecret::from_random(&[0x11; 24]);
        let headers = |signature: String, attempted_at: domain::time::Timestamp| {
            [
                ("webhook-id", id.to_string()),
                ("webhook-timestamp", attempted_at.as_seconds().to_string()),
                ("webhook-signature", signature),
            ]
        };
        let sign = |secrets: &[SigningSecret], at| standard_signature(secrets, id, at, &body);
        let good = headers(sign(&[secret()], now), now);
        assert_eq!(post(&receiver, &good, &body).await, 200, "{language:?}");
        let rotated = headers(sign(&[other.clone(), secret()], now), now);
        assert_eq!(post(&receiver, &rotated, &body).await, 200, "{language:?}");

        assert_eq!(post(&receiver, &good, &with_one_bit_changed(&body)).await, 401);
        let foreign = headers(sign(&[other], now), now);
        assert_eq!(post(&receiver, &foreign, &body).await, 401);
        let hour_ago = now.minus(std::time::Duration::from_hours(1));
        let stale = headers(sign(&[secret()], hour_ago), hour_ago);
        assert_eq!(post(&receiver, &stale, &body).await, 401);
        assert_eq!(post(&receiver, &[], &body).await, 401);

        let ready = || accepted("video.ready");
        assert_eq!(
            receiver.wait_for(6).await,
            [ready(), ready(), REFUSED, REFUSED, REFUSED, REFUSED],
            "{language:?}"
        );
    }
}
