//! HTTP/2 callers who cost more than they pay: each is stopped, and holds no more than its share.

use super::*;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Frame kinds, flags and error codes of RFC 9113.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_HEADER_LIST_SIZE: u16 = 6;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// `GET http://a/` in HPACK: static entries, and one literal.
const GET_HERE: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

/// What is written before it is seen whether the server has had enough.
const FLOOD_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// A frame as it was read.
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let mut payload = vec![0; word(&[0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok(Frame { kind: head[3], flags: head[4], stream: word(&head[5..]), payload })
}

/// The code of the `GOAWAY` with which the server ends the connection; `None` when it just ends.
async fn goaway(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<u32> {
    let mut code = None;
    while let Ok(frame) = read(stream).await {
        if frame.kind == GOAWAY {
            code = Some(word(&frame.payload[4..]));
        }
    }
    code
}

/// A connection with these settings of the caller.
async fn open(address: SocketAddr, settings: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // What is written is there at once; a paused clock would not wait for it.
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await.unwrap();
    stream
}

async fn here() -> (Intake, SocketAddr) {
    intake(Router::new().route("/", get(async || "here"))).await
}

/// Proves that the listener still answers others.
async fn answers(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    say(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(rest(&mut stream).await.ends_with("here"));
}

/// Sends the same again and again, reading the while, and answers with which code it ended.
async fn flood(stream: TcpStream, mut next: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
    let (mut from, mut to) = stream.into_split();
    let sending = async {
        let mut sent = 0;
        for number in 0.. {
            let bytes = next(number);
            sent += bytes.len();
            if sent > FLOOD_BYTES_MAX || to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        sent
    };
    let both = async { tokio::join!(sending, goaway(&mut from)) };
    let ended = tokio::time::timeout(Duration::from_secs(8), both).await;
    let (sent, code) = ended.expect("the connection is ended");
    assert!(sent <= FLOOD_BYTES_MAX, "nothing stopped the flood");
    code
}

/// A stream's number: the odd ones are the caller's.
fn stream(number: u32) -> u32 {
    number * 2 + 1
}

#[tokio::test]
async fn the_caller_is_told_the_limits() {
    let (_intake, address) = here().await;
    let mut stream = open(address, &[]).await;
    let settings = read(&mut stream).await.unwrap();
    assert_eq!((settings.kind, settings.flags), (SETTINGS, 0));
    let value = |name: u16| {
        let mut all = settings.payload.chunks(6);
        all.find(|one| one[..2] == name.to_be_bytes()).map(|one| word(&one[2..]))
    };
    assert_eq!(value(MAX_CONCURRENT_STREAMS), Some(HTTP2_STREAMS_MAX));
    assert_eq!(value(MAX_HEADER_LIST_SIZE), Some(HTTP2_HEAD_BYTES_MAX));
    assert_eq!(value(INITIAL_WINDOW_SIZE), Some(HTTP2_STREAM_WINDOW_BYTES));
}

#[tokio::test]
async fn a_flood_of_requests_taken_back_is_told_to_calm_down() {
    let (_intake, address) = here().await;
    let code = flood(open(address, &[]).await, |number| {
        let head = frame(HEADERS, END_STREAM | END_HEADERS, stream(number), GET_HERE);
        let cancel = frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes());
        [head, cancel].concat()
    });
    // A hundred thousand requests a second are one connection; the code is lost when it is reset.
    assert!(matches!(code.await, Some(ENHANCE_YOUR_CALM) | None));
    answers(address).await;
}

#[tokio::test]
async fn twenty_one_requests_taken_back_in_one_breath_end_the_connection() {
    let (_intake, address) = here().await;
    let mut stream_of_frames = open(address, &[]).await;
    let burst = |count: usize, from: u32| -> Vec<u8> {
        let pair = |number| {
            let head = frame(HEADERS, END_STREAM | END_HEADERS, stream(from + number), GET_HERE);
            let cancel = frame(RST_STREAM, 0, stream(from + number), &8_u32.to_be_bytes());
            [head, cancel].concat()
        };
        (0..u32::try_from(count).unwrap()).flat_map(pair).collect()
    };
    stream_of_frames.write_all(&burst(HTTP2_RESETS_MAX * 10, 0)).await.unwrap();
    let code = tokio::time::timeout(Duration::from_secs(8), goaway(&mut stream_of_frames)).await;
    assert_eq!(code, Ok(Some(ENHANCE_YOUR_CALM)));
    answers(address).await;
}

#[tokio::test]
async fn requests_that_make_us_reset_them_end_the_connection() {
    let (_intake, address) =
        intake(Router::new().route("/", get(async || std::future::pending::<()>().await))).await;
    let code = flood(open(address, &[]).await, |number| {
        let head = frame(HEADERS, END_HEADERS, stream(number), GET_HERE);
        // To widen a window beyond its bound is a fault of that stream (RFC 9113, 6.9.1).
        let fault = frame(WINDOW_UPDATE, 0, stream(number), &[0x7f, 0xff, 0xff, 0xff]);
        [head, fault].concat()
    });
    let code = code.await;
    assert!(matches!(code, Some(ENHANCE_YOUR_CALM) | None), "{code:?}");
}

#[tokio::test]
async fn a_head_that_goes_on_and_on_ends_the_connection() {
    let (_intake, address) = here().await;
    let code = flood(open(address, &[]).await, |number| {
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        // A literal field that is never indexed, 1,000 bytes long.
        let field = [&[0x10, 1, b'a', 0x7f, 0xe9, 0x06][..], &[b'b'; 1_000]].concat();
        frame(kind, 0, 1, &field)
    });
    code.await;
    answers(address).await;

    let empty = flood(open(address, &[]).await, |number| {
        frame(if number == 0 { HEADERS } else { CONTINUATION }, 0, 1, &[])
    });
    empty.await;
    answers(address).await;
}

#[tokio::test]
async fn a_head_over_its_limit_is_431_and_others_on_the_connection_go_on() {
    let (_intake, address) = here().await;
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut requests, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(1024 * 1024)
        .handshake(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut ask = async |bytes: usize| {
        let request = Request::get("http://a/").header("x-large", "x".repeat(bytes));
        let response = requests.send_request(request.body(String::new()).unwrap()).await;
        response.unwrap().status().as_u16()
    };
    let limit = HTTP2_HEAD_BYTES_MAX as usize;
    assert_eq!(ask(limit / 2).await, 200);
    assert_eq!(ask(limit).await, 431);
    assert_eq!(ask(1).await, 200);
}

#[tokio::test]
async fn more_requests_at_once_than_allowed_are_refused_one_by_one() {
    let endless = get(async || std::future::pending::<()>().await);
    let (_intake, address) = intake(Router::new().route("/", endless)).await;
    let mut connection = open(address, &[]).await;
    // The limit holds once the caller has said that he knows it.
    while read(&mut connection).await.unwrap().kind != SETTINGS {}
    let mut requests = frame(SETTINGS, ACK, 0, &[]);
    for number in 0..=HTTP2_STREAMS_MAX {
        requests.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream(number), GET_HERE));
    }
    connection.write_all(&requests).await.unwrap();
    let refusal = async {
        loop {
            let frame = read(&mut connection).await.unwrap();
            if frame.kind == RST_STREAM {
                break (frame.stream, word(&frame.payload));
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(5), refusal).await.expect("a refusal");
    assert_eq!(refused, (stream(HTTP2_STREAMS_MAX), REFUSED_STREAM));
}

#[tokio::test(start_paused = true)]
async fn frames_that_ask_for_nothing_keep_no_connection_and_are_held_back_unless_read() {
    let table = [("ping", frame(PING, 0, 0, &[0; 8])), ("settings", frame(SETTINGS, 0, 0, &[]))];
    for (what, one) in table {
        let (_intake, address) = here().await;
        let mut connection = open(address, &[]).await;
        let began = tokio::time::Instant::now();
        let many = one.repeat(1024);
        let mut sent = 0;
        // Nothing is read: what is answered fills the buffers, and then we read no more either.
        while connection.write_all(&many).await.is_ok() {
            sent += many.len();
            assert!(sent <= FLOOD_BYTES_MAX, "{what}: nothing holds it back");
        }
        let limit = TICK * pulse::HEAD_TICKS_MAX;
        assert!(began.elapsed() <= limit + TICK * 2, "{what}: {:?}", began.elapsed());
        answers(address).await;
    }
}

#[tokio::test(start_paused = true)]
async fn answers_behind_a_shut_window_are_given_up_in_time() {
    let (_intake, address) = here().await;
    let mut connection = open(address, &setting(INITIAL_WINDOW_SIZE, 0)).await;
    let began = tokio::time::Instant::now();
    let mut requests = Vec::new();
    for number in 0..HTTP2_STREAMS_MAX {
        requests.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream(number), GET_HERE));
    }
    connection.write_all(&requests).await.unwrap();
    goaway(&mut connection).await;
    let limit = TICK * pulse::IDLE_TICKS_MAX;
    assert!(began.elapsed() <= limit + TICK * 2, "{:?}", began.elapsed());
    assert!(began.elapsed() + TICK * 2 >= limit, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_shut_window_beside_a_busy_stream_ends_with_the_connections_life() {
    let (_intake, address) = here().await;
    let connection = open(address, &setting(INITIAL_WINDOW_SIZE, 0)).await;
    let (mut from, mut to) = connection.into_split();
    let began = tokio::time::Instant::now();
    let asking = async {
        // The first stays behind its window; each of the others is taken back in time.
        for number in 0.. {
            let head = frame(HEADERS, END_STREAM | END_HEADERS, stream(number), GET_HERE);
            let cancel = frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes());
            let ended = to.write_all(&head).await.is_err();
            tokio::time::sleep(TICK * 5).await;
            if ended || number > 0 && to.write_all(&cancel).await.is_err() {
                break;
            }
        }
    };
    let (code, ()) = tokio::join!(goaway(&mut from), asking);
    assert_eq!(code, Some(0), "it is asked to end before it is cut off");
    let limit = TICK * (pulse::HTTP2_TICKS_MAX + pulse::IDLE_TICKS_MAX);
    assert!(began.elapsed() <= limit + TICK * 7, "{:?}", began.elapsed());
    assert!(began.elapsed() >= TICK * pulse::HTTP2_TICKS_MAX, "{:?}", began.elapsed());
}
