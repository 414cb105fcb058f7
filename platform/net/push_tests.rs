use super::super::scripted::{Peer, Wire, next, on_one_thread};
use super::*;
use holdfast_core::prng::Prng;

const LONG_MS: u64 = 10_000;

fn world() -> (Events, Pusher) {
    let events = Events::new();
    let pusher = Pusher::new(events.clone(), Rc::new(Resolver::system()), 4);
    (events, pusher)
}

fn start(pusher: &Pusher, number: u64, url: &str, kind: PostKind, body: &[u8]) {
    pusher.start(PostId(number), PostRequest { peer: 1, url, kind, timeout_ms: LONG_MS, body });
}

async fn read_request(wire: &mut Wire) -> (String, Vec<u8>) {
    let head = wire.read_head().await.to_lowercase();
    let length = head.split("content-length: ").nth(1).expect("a length").lines().next().expect("a line");
    let body = wire.read_exact(length.parse().expect("a number")).await;
    (head, body)
}

#[test]
fn remote_write_carries_its_headers_and_one_snappy_block() {
    on_one_thread(async {
        let ((events, pusher), peer) = (world(), Peer::listen().await);
        let plain: Vec<u8> = (0..130_000_u32).map(|at| (at % 1000 / 7) as u8).collect();
        start(&pusher, 1, &peer.url("/api/v1/write"), PostKind::RemoteWrite1, &plain);
        let mut wire = peer.accept().await;
        let (head, body) = read_request(&mut wire).await;
        for expected in [
            "post /api/v1/write http/1.1",
            "content-encoding: snappy",
            "content-type: application/x-protobuf",
            "x-prometheus-remote-write-version: 0.1.0",
            "user-agent: holdfast/",
        ] {
            assert!(head.contains(expected), "{expected} in {head}");
        }
        assert!(body.len() < plain.len() / 4);
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&body).expect("a block"), plain);
        wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        let event = next(&events).await;
        assert!(matches!(event, Event::PostAnswered { status: 204, retry_after_ms: None, .. }), "{event:?}");
    });
}

#[test]
fn pieces_put_together_are_what_one_compression_gives() {
    let mut prng = Prng::new(5);
    for length in [0, 1, 127, 128, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let plain: Vec<u8> = (0..length).map(|at| (prng.below(3) + at / 100 % 5) as u8).collect();
        let whole = snap::raw::Encoder::new().compress_vec(&plain).expect("compressed");
        assert_eq!(snappy_block(&plain).expect("compressed"), whole, "{length} bytes");
    }
}

#[test]
fn a_refusal_comes_with_its_beginning_and_the_time_to_wait() {
    on_one_thread(async {
        let ((events, pusher), peer) = (world(), Peer::listen().await);
        start(&pusher, 1, &peer.url("/"), PostKind::Json, b"[]");
        let mut wire = peer.accept().await;
        let (head, body) = read_request(&mut wire).await;
        assert!(head.contains("content-type: application/json") && body == b"[]");
        let words = format!("{}é{}", "x".repeat(ANSWER_BYTES_MAX - 1), "y".repeat(1000));
        let length = words.len();
        wire.send(&format!("HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: {length}\r\n\r\n{words}")).await;
        let Event::PostAnswered { post, status, retry_after_ms, body } = next(&events).await else {
            panic!("answered")
        };
        assert_eq!((post, status, retry_after_ms), (PostId(1), 429, Some(7_000)));
        assert_eq!(body, "x".repeat(ANSWER_BYTES_MAX - 1));
        // The long answer was read to its end, so the connection serves the next message.
        start(&pusher, 2, &peer.url("/"), PostKind::Json, b"{}");
        read_request(&mut wire).await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert!(matches!(next(&events).await, Event::PostAnswered { post: PostId(2), status: 200, .. }));
    });
}

#[test]
fn an_answer_without_end_is_given_up_with_its_beginning_known() {
    on_one_thread(async {
        let ((events, pusher), peer) = (world(), Peer::listen().await);
        start(&pusher, 1, &peer.url("/"), PostKind::Json, b"[]");
        let mut wire = peer.accept().await;
        read_request(&mut wire).await;
        wire.send("HTTP/1.1 500 Oh\r\n\r\n").await;
        wire.send(&"z".repeat(ANSWER_DRAIN_BYTES_MAX + 1)).await;
        let Event::PostAnswered { status, body, .. } = next(&events).await else { panic!("answered") };
        assert_eq!((status, body.len()), (500, ANSWER_BYTES_MAX));
    });
}

#[test]
fn a_kept_connection_that_has_gone_is_replaced_once() {
    on_one_thread(async {
        let ((events, pusher), peer) = (world(), Peer::listen().await);
        start(&pusher, 1, &peer.url("/"), PostKind::Json, b"[1]");
        let mut wire = peer.accept().await;
        read_request(&mut wire).await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert!(matches!(next(&events).await, Event::PostAnswered { status: 200, .. }));
        start(&pusher, 2, &peer.url("/"), PostKind::Json, b"[2]");
        read_request(&mut wire).await;
        drop(wire);
        let mut fresh = peer.accept().await;
        assert_eq!(read_request(&mut fresh).await.1, b"[2]");
        drop(fresh);
        let Event::PostFailed { post, error } = next(&events).await else { panic!("failed") };
        assert_eq!((post, error), (PostId(2), format!("Post \"{}\": EOF", peer.url("/"))));
    });
}

#[test]
fn no_answer_in_time_and_no_peer_at_all_are_failures_in_words() {
    on_one_thread(async {
        let ((events, pusher), peer) = (world(), Peer::listen().await);
        let url = peer.url("/");
        let request = PostRequest { peer: 1, url: &url, kind: PostKind::Json, timeout_ms: 50, body: b"[]" };
        pusher.start(PostId(1), request);
        let _silent = peer.accept().await;
        let Event::PostFailed { error, .. } = next(&events).await else { panic!("failed") };
        assert_eq!(error, format!("Post \"{url}\": context deadline exceeded"));
        let address = peer.address;
        drop(peer);
        start(&pusher, 2, &url, PostKind::Json, b"[]");
        let Event::PostFailed { error, .. } = next(&events).await else { panic!("failed") };
        assert_eq!(error, format!("Post \"{url}\": dial tcp {address}: connect: connection refused"));
    });
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = httpdate::parse_http_date("Tue, 24 Nov 2026 12:00:00 GMT").expect("a date");
    for (value, expected) in [
        ("120", Some(120_000)),
        ("0", Some(0)),
        ("Tue, 24 Nov 2026 12:00:30 GMT", Some(30_000)),
        ("Tue, 24 Nov 2026 11:00:00 GMT", Some(0)),
        ("99999999999999999999", None),
        ("soon", None),
        ("-1", None),
    ] {
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().expect("a value"))]);
        assert_eq!(retry_after_ms(&headers, now), expected, "{value}");
    }
    assert_eq!(retry_after_ms(&HeaderMap::new(), now), None);
}
