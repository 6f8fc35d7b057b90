//! Deliveries over HTTPS.

use std::net::SocketAddr;
use std::sync::Arc;

use domain::contract::Contract;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use testkit::receiver::Receiver;
use testkit::verify::verify;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::customer::Customer;
use crate::program::Home;

/// A certificate authority of the test, and a server's certificate for 127.0.0.1.
fn certificates() -> (String, ServerConfig) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages.push(KeyUsagePurpose::KeyCertSign);
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (pem, config)
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

#[tokio::test]
async fn https_works_with_an_authority_the_operator_names_and_not_without() {
    let (pem, config) = certificates();
    let receiver = Receiver::start().await;
    let address = terminate_tls(config, receiver.address()).await;
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

    let home = Home::new();
    let authority = home.folder().join("authority.pem");
    std::fs::write(&authority, pem).unwrap();
    let home = home.with(&["--tls-ca", authority.to_str().unwrap()]);
    let service = home.serve().await;
    let customer = Customer::new(&service, Contract::JoggV2).await;
    let endpoint = customer.register(&url).await;
    customer.publish("{}").await;
    let requests = receiver.wait_for(1).await;
    assert_eq!(verify(Contract::JoggV2, &endpoint.secret, &requests[0]), Ok(()));
    service.settled().await;
}
