//! The scripted receiver does what its script says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use testkit::gate::Gate;
use testkit::receiver::{Answer, Receiver};
use tokio::net::TcpStream;

async fn connect(receiver: &Receiver) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(receiver.address()).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn post(path: &str) -> http::Request<Full<Bytes>> {
    http::Request::post(path)
        .header("host", "receiver")
        .header("b-second", "2")
        .header("a-third", "3")
        .body(Full::new(Bytes::from_static(b"hello")))
        .unwrap()
}

#[tokio::test]
async fn every_request_is_recorded_and_answered_by_its_path() {
    let receiver = Receiver::start().await;
    receiver.script("/a", [Answer::status(500).with_header("retry-after", "3").with_body("no")]);
    receiver.always("/a", Answer::status(204));
    receiver.otherwise(Answer::status(404));
    let mut sender = connect(&receiver).await;
    let first = sender.send_request(post("/a")).await.unwrap();
    assert_eq!(
        (first.status().as_u16(), &first.headers()["retry-after"]),
        (500, &"3".parse().unwrap())
    );
    assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "no");
    for (path, status) in [("/a", 204), ("/a", 204), ("/b?c=d", 404)] {
        sender.ready().await.unwrap();
        assert_eq!(sender.send_request(post(path)).await.unwrap().status().as_u16(), status);
    }
    let requests = receiver.wait_for(4).await;
    let answered: Vec<_> = requests.iter().map(|r| (r.path.as_str(), r.answered)).collect();
    let expected = [("/a", Some(500)), ("/a", Some(204)), ("/a", Some(204)), ("/b?c=d", Some(404))];
    assert_eq!(answered, expected);
    let names: Vec<_> = requests[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["host", "b-second", "a-third", "content-length"]);
    assert_eq!((&requests[0].body[..], requests[0].method.as_str()), (&b"hello"[..], "POST"));
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn an_answer_behind_a_gate_comes_when_the_gate_opens() {
    let receiver = Receiver::start().await;
    let gate = Gate::new();
    receiver.otherwise(Answer::status(200).after(&gate));
    let (mut one, mut two) = (connect(&receiver).await, connect(&receiver).await);
    let one = tokio::spawn(async move { one.send_request(post("/")).await.unwrap().status() });
    let two = tokio::spawn(async move { two.send_request(post("/")).await.unwrap().status() });
    receiver.wait_for(2).await;
    assert!(!one.is_finished() && !two.is_finished());
    gate.open();
    assert_eq!(
        (one.await.unwrap(), two.await.unwrap()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    assert_eq!(receiver.in_flight_peak(), 2);
}

#[tokio::test]
async fn a_connection_can_be_closed_before_and_within_the_answer() {
    let receiver = Receiver::start().await;
    receiver.script("/close", [Answer::close()]);
    receiver.script("/cut", [Answer::status(200).with_body("half").cut_in_its_body()]);
    let closed = connect(&receiver).await.send_request(post("/close")).await;
    assert!(closed.unwrap_err().is_incomplete_message());

    let cut = connect(&receiver).await.send_request(post("/cut")).await.unwrap();
    assert_eq!((cut.status().as_u16(), &cut.headers()["content-length"]), (200, &5.into()));
    let mut body = cut.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    assert!(body.frame().await.unwrap().is_err());
    assert!(receiver.requests().iter().all(|request| request.answered.is_none()));
}

#[tokio::test]
async fn a_hanging_answer_never_comes() {
    let receiver = Receiver::start().await;
    receiver.otherwise(Answer::hang());
    let mut sender = connect(&receiver).await;
    let request = tokio::spawn(async move { sender.send_request(post("/")).await });
    receiver.wait_for(1).await;
    assert!(!request.is_finished());
    drop(receiver);
    assert!(request.await.unwrap().is_err());
}
