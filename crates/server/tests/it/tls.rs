//! Deliveries over HTTPS.

use std::net::SocketAddr;
use std::sync::Arc;

use domain::contract::Contract;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use testkit::receiver::{Answer, Receiver};
use testkit::verify::verify;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::customer::Customer;
use crate::program::Home;

/// A certificate authority of the test.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    roots: RootCertStore,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages.push(KeyUsagePurpose::KeyCertSign);
        let certificate = authority.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        Self { pem: certificate.pem(), issuer: Issuer::new(authority, key), roots }
    }

    /// A certificate for 127.0.0.1, and its key.
    fn certified(&self) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (certificate.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A server for 127.0.0.1, which demands certificates of this authority if it is to.
    fn server(&self, demands_certificates: bool) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if demands_certificates {
            let roots = Arc::new(self.roots.clone());
            let judge = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(judge.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.certified();
        builder
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap()
    }
}

/// Takes TLS connections and passes what is inside on to `inner`.
async fn terminate_tls(config: ServerConfig, inner: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut outer = acceptor.accept(stream).await?;
                let mut inner = TcpStream::connect(inner).await?;
                tokio::io::copy_bidirectional(&mut outer, &mut inner).await
            });
        }
    });
    address
}

/// A home in which servers of the authority are trusted.
fn trusting(authority: &Authority) -> Home {
    let home = Home::new();
    let file = home.folder().join("authority.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    home.with(&["--tls-ca", file.to_str().unwrap()])
}

#[tokio::test]
async fn https_works_with_an_authority_the_operator_names_and_not_without() {
    let authority = Authority::new();
    let receiver = Receiver::start().await;
    let address = terminate_tls(authority.server(false), receiver.address()).await;
    let url = format!("https://{address}/hook");

    let stranger = Home::new().serve().await;
    let customer = Customer::new(&stranger, Contract::JoggV2).await;
    customer.register(&url).await;
    let event = customer.publish("{}").await;
    let once = |delivery: &Value| delivery["attempts"] == 1;
    let delivery = stranger.delivery_until(&event, "an attempt", once).await;
    let path = format!("/api/v1/deliveries/{}/attempts", delivery["id"].as_str().unwrap());
    let attempts = stranger.operator().get(&path).await;
    assert_eq!(attempts["data"][0]["outcome"], "tls", "{attempts}");
    assert_eq!(receiver.requests().len(), 0);

    let service = trusting(&authority).serve().await;
    let customer = Customer::new(&service, Contract::JoggV2).await;
    let endpoint = customer.register(&url).await;
    customer.publish("{}").await;
    let requests = receiver.wait_for(1).await;
    assert_eq!(verify(Contract::JoggV2, &endpoint.secret, &requests[0]), Ok(()));
    service.settled().await;
}

#[tokio::test]
async fn an_endpoint_that_demands_a_certificate_and_a_token_gets_both() {
    let authority = Authority::new();
    let receiver = Receiver::start().await;
    let address = terminate_tls(authority.server(true), receiver.address()).await;
    let token = |token: &str| {
        let answer = json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600});
        Answer::status(200).with_body(answer.to_string())
    };
    receiver.script("/token", [token("first-token"), token("second-token")]);
    receiver.script("/hook", [Answer::status(401)]);

    let service = trusting(&authority).serve().await;
    let customer = Customer::new(&service, Contract::Standard).await;
    let (certificate, key) = authority.certified();
    let settings = json!({
        "url": format!("https://{address}/hook"),
        "retry_schedule": [0, 1],
        "timeout_seconds": 10,
        "client_certificate": certificate.pem(),
        "client_key": key.serialize_pem(),
        "oauth2": {"token_url": receiver.url("/token"), "client_id": "shop",
            "client_secret": "the-client-secret"},
    });
    let path = format!("/api/v1/accounts/{}/endpoints", customer.account);
    let endpoint = service.operator().post(&path, &settings).await.json(201);
    let event = customer.publish(r#"{"number":1}"#).await;
    let ended = |delivery: &Value| delivery["state"] == "delivered";
    let delivery = service.delivery_until(&event, "delivered at the second attempt", ended).await;
    assert_eq!(delivery["attempts"], 2);
    let shown = |path: &str| {
        let requests = receiver.requests_to(path).into_iter();
        requests.map(|it| it.header("authorization").unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown("/hook"), ["Bearer first-token", "Bearer second-token"]);
    assert_eq!(shown("/token"), ["Basic c2hvcDp0aGUtY2xpZW50LXNlY3JldA=="; 2]);

    let path = format!("/api/v1/deliveries/{}/attempts", delivery["id"].as_str().unwrap());
    let attempts = service.operator().get(&path).await;
    let sent = &attempts["data"][0]["request_headers"];
    assert_eq!(sent["authorization"], "Bearer [hidden]", "{attempts}");
    let path = format!("/api/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    let endpoint = service.operator().get(&path).await;
    for hidden in ["first-token", "second-token", "the-client-secret", "PRIVATE"] {
        assert!(!attempts.to_string().contains(hidden) && !endpoint.to_string().contains(hidden));
        assert!(!service.log().iter().any(|line| line.contains(hidden)), "{hidden}");
    }
    service.settled().await;
}
