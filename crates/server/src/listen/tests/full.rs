//! More connections than there are places for, and callers who keep theirs.

use super::*;

/// Places of the listeners here.
const PLACES: usize = 8;

/// Far less than the time after which a slow connection is closed anyway.
const SOON: Duration = Duration::from_secs(5);

async fn small_intake(routes: Router) -> (Intake, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let intake = Intake::start_for(PLACES, listener, |_| routes).unwrap();
    let address = intake.address();
    (intake, address)
}

fn here() -> Router {
    Router::new().route("/", get(async || "here").post(async |body: String| body))
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Asks on this connection and reads the answer's head.
async fn ask(stream: &mut TcpStream) -> String {
    say(stream, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    head(stream).await
}

/// A connection that was answered and is idle.
async fn idle(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address).await;
    let answer = tokio::time::timeout(SOON, ask(&mut stream)).await.expect("room is made");
    assert!(answer.starts_with("HTTP/1.1 200"));
    stream
}

/// Whether the server has closed this connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn silent_connections_keep_no_client_out_however_many_they_are() {
    let (_intake, address) = small_intake(here()).await;
    let mut silent = Vec::new();
    for round in 0..20 {
        for _ in 0..PLACES {
            let mut stream = connect(address).await;
            say(&mut stream, "GET / HTTP/1.1\r\nX-Slow: ").await;
            silent.push(stream);
        }
        let began = tokio::time::Instant::now();
        idle(address).await;
        assert!(began.elapsed() < SOON, "round {round}: {:?}", began.elapsed());
    }
    assert!(is_closed(&mut silent[0]).await, "the first to come is the first to go");
}

#[tokio::test]
async fn a_flood_of_one_kind_costs_its_own_kind() {
    let (_intake, address) = small_intake(here()).await;
    let mut clients = Vec::new();
    for _ in 0..PLACES / 2 - 1 {
        clients.push(idle(address).await);
    }
    let mut flood = Vec::new();
    for _ in 0..PLACES * 4 {
        flood.push(connect(address).await);
    }
    // The last to come is served once room was made for it, and by then for all before it.
    flood.push(idle(address).await);
    for client in &mut clients {
        assert!(ask(client).await.starts_with("HTTP/1.1 200"), "an idle client is kept");
    }

    let mut others = Vec::new();
    for _ in 0..PLACES * 4 {
        others.push(idle(address).await);
    }
    assert!(is_closed(&mut clients[0]).await, "among the idle, it is the longest");
}

#[tokio::test]
async fn room_is_made_for_those_who_come_and_no_more() {
    let (intake, address) = small_intake(here()).await;
    let mut all = Vec::new();
    for _ in 0..PLACES * 16 {
        all.push(idle(address).await);
    }
    assert_eq!(ConnectionGauge(Arc::clone(&intake.shared)).read(), PLACES);
    let (gone, kept) = all.split_at_mut(PLACES * 15);
    for stream in kept {
        assert!(ask(stream).await.starts_with("HTTP/1.1 200"), "the last to come are kept");
    }
    assert!(is_closed(gone.last_mut().unwrap()).await);
}

#[tokio::test]
async fn whoever_waits_for_us_is_never_closed_to_make_room() {
    let begun = Arc::new(tokio::sync::Semaphore::new(0));
    let go_on = Arc::new(tokio::sync::Semaphore::new(0));
    let (told, awaited) = (Arc::clone(&begun), Arc::clone(&go_on));
    let slow = get(async move || {
        told.add_permits(1);
        awaited.acquire().await.unwrap().forget();
        "late"
    });
    let (_intake, address) = small_intake(here().route("/slow", slow)).await;
    let mut waiting = Vec::new();
    // One more than there are places for: the last one finds no room to make.
    for _ in 0..=PLACES {
        let mut stream = connect(address).await;
        say(&mut stream, "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        begun.acquire().await.unwrap().forget();
        waiting.push(stream);
    }
    let mut late = connect(address).await;
    say(&mut late, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    go_on.add_permits(waiting.len());
    for mut stream in waiting {
        assert!(rest(&mut stream).await.ends_with("late"));
    }
    assert!(head(&mut late).await.starts_with("HTTP/1.1 200"), "served once there is room");
}

#[tokio::test(start_paused = true)]
async fn after_a_moment_in_which_all_were_busy_newcomers_are_served_again() {
    let begun = Arc::new(tokio::sync::Semaphore::new(0));
    let go_on = Arc::new(tokio::sync::Semaphore::new(0));
    let (told, awaited) = (Arc::clone(&begun), Arc::clone(&go_on));
    let slow = get(async move || {
        told.add_permits(1);
        awaited.acquire().await.unwrap().forget();
    });
    let (_intake, address) = small_intake(here().route("/slow", slow)).await;
    let mut clients = Vec::new();
    // One more than there are places for.
    for _ in 0..=PLACES {
        let mut stream = connect(address).await;
        say(&mut stream, "HEAD /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        begun.acquire().await.unwrap().forget();
        clients.push(stream);
    }
    go_on.add_permits(clients.len());
    for stream in &mut clients {
        assert!(head(stream).await.starts_with("HTTP/1.1 200"));
    }
    // All are idle and stay; that is no reason to keep others out.
    for _ in 0..PLACES * 2 {
        clients.push(idle(address).await);
    }
    assert!(is_closed(&mut clients[0]).await, "among the idle, it is the longest");
}

#[tokio::test]
async fn bodies_that_do_not_arrive_make_room_too() {
    let (_intake, address) = small_intake(here()).await;
    let mut slow = Vec::new();
    for _ in 0..PLACES * 4 {
        let mut stream = connect(address).await;
        let body =
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
        say(&mut stream, body).await;
        // Said once the body is asked for, which happens once there is room.
        let asked_for = tokio::time::timeout(SOON, head(&mut stream)).await;
        assert!(asked_for.expect("room is made").starts_with("HTTP/1.1 100"));
        slow.push(stream);
    }
    idle(address).await;
    assert!(is_closed(&mut slow[0]).await);
    let last = slow.last_mut().unwrap();
    say(last, "welcome!!").await;
    assert!(head(last).await.starts_with("HTTP/1.1 200"), "the last to come has its time");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_fetched_is_given_up_in_time() {
    const ANSWER_BYTES: usize = 64 * 1024 * 1024;
    let large = get(async || bytes::Bytes::from(vec![b'x'; ANSWER_BYTES]));
    let (_intake, address) = intake(Router::new().route("/", large)).await;
    let mut stream = connect(address).await;
    say(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    // One byte a second, for longer than an answer may take.
    for _ in 0..pulse::IDLE_TICKS_MAX + 2 {
        tokio::time::sleep(TICK).await;
        stream.read_u8().await.unwrap();
    }
    let mut fetched = Vec::new();
    // What lay in the system's buffers may still come, or is lost with a reset.
    let _ = stream.read_to_end(&mut fetched).await;
    assert!(fetched.len() < ANSWER_BYTES / 2, "{}", fetched.len());
}

#[tokio::test]
async fn an_answer_before_its_body_is_there_ends_the_connection() {
    let (_intake, address) = intake(Router::new()).await;
    let mut stream = connect(address).await;
    say(&mut stream, "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1").await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test(start_paused = true)]
async fn requests_whose_answers_are_not_read_are_held_back_and_given_up() {
    const SENT_BYTES_MAX: usize = 64 * 1024 * 1024;
    let (_intake, address) = intake(here()).await;
    let mut stream = connect(address).await;
    let began = tokio::time::Instant::now();
    let many = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);
    let mut sent = 0;
    while stream.write_all(many.as_bytes()).await.is_ok() {
        sent += many.len();
        assert!(sent <= SENT_BYTES_MAX, "nothing holds it back");
    }
    let limit = TICK * pulse::IDLE_TICKS_MAX;
    assert!(began.elapsed() <= limit + TICK * 2, "{:?}", began.elapsed());
}
