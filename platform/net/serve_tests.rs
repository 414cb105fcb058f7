use super::super::scripted::{Wire, next, on_one_thread};
use super::*;

/// "plain page" in gzip, without name and time.
const PAGE: PageFile = PageFile {
    gzip: b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\x2b\xc8\x49\xcc\xcc\x53\x28\x48\x4c\x4f\x05\x00\x5f\x1e\x8a\x6b\x0a\x00\x00\x00",
    content_type: "text/html; charset=utf-8",
    etag: "\"v1\"",
    immutable: false,
};

fn pages(path: &str) -> Option<PageFile> {
    (path == "/").then_some(PAGE)
}

struct World {
    events: Events,
    server: Server,
}

impl World {
    fn new(change: impl FnOnce(&mut ServeSettings)) -> Self {
        let events = Events::new();
        let mut settings = ServeSettings { body_bytes_max: 1000, bodies_bytes_max: 1500, ..ServeSettings::default() };
        change(&mut settings);
        let listeners = bind(&["127.0.0.1:0".to_owned()]).expect("bound");
        let server = Server::start(listeners, settings, pages, events.clone()).expect("started");
        Self { events, server }
    }

    async fn connect(&self) -> Wire {
        Wire::connect(self.server.addresses()[0]).await
    }

    /// The next request's number, path and query.
    async fn request(&self) -> (RequestId, String) {
        match next(&self.events).await {
            Event::Request { request, path, query, .. } => (request, format!("{path}?{query}")),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn answer(&self, request: RequestId, body: &str) {
        self.server.respond(request, 200, &[("Content-Type", "text/plain")]);
        self.server.respond_body(request, body.as_bytes(), true, false);
    }

    fn has_request(&self, request: RequestId) -> bool {
        self.server.shared.requests.borrow().contains_key(&request)
    }
}

async fn read_answer(wire: &mut Wire) -> (String, String) {
    let head = wire.read_head().await.to_lowercase();
    let length = head
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.lines().next().expect("a line").parse().expect("a length"));
    (head, String::from_utf8(wire.read_exact(length).await).expect("text"))
}

#[test]
fn a_request_arrives_whole_and_its_answer_carries_its_length() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let mut wire = world.connect().await;
        wire.send(
            "POST /api/v1/query?x=1 HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Encoding: c\r\n\
             Content-Length: 7\r\n\r\nquery=u",
        )
        .await;
        let Event::Request { request, method, path, query, content_type, content_encoding, body } =
            next(&world.events).await
        else {
            panic!("a request")
        };
        assert_eq!((method, path.as_str(), query.as_str()), (Method::Post, "/api/v1/query", "x=1"));
        assert_eq!((content_type.as_str(), content_encoding.as_str()), ("a/b", "c"));
        assert_eq!(body, b"query=u");
        world.answer(request, "hello");
        let (head, body) = read_answer(&mut wire).await;
        assert!(head.starts_with("http/1.1 200 ok\r\n") && head.contains("content-length: 5\r\n"), "{head}");
        assert_eq!(body, "hello");
        assert!(!world.has_request(request) && world.events.pop().is_none());
    });
}

#[test]
fn requests_on_one_connection_are_answered_one_after_the_other() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let mut wire = world.connect().await;
        wire.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n").await;
        for number in 1..=2 {
            let (request, path) = world.request().await;
            assert_eq!(path, format!("/{number}?"));
            assert!(world.events.pop().is_none(), "the second waits for the first");
            world.answer(request, &number.to_string());
            assert_eq!(read_answer(&mut wire).await.1, number.to_string());
        }
        wire.send("GET /3 HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(world.request().await.1, "/3?");
        assert_eq!(world.server.connection_count(), 1);
    });
}

#[test]
fn an_answer_comes_piece_by_piece_as_the_client_takes_it() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let mut wire = world.connect().await;
        wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let (request, _) = world.request().await;
        world.server.respond(request, 200, &[]);
        world.server.respond_body(request, b"one", false, false);
        assert!(matches!(next(&world.events).await, Event::RequestReady { request: of } if of == request));
        world.server.respond_body(request, b"", false, false);
        assert!(matches!(next(&world.events).await, Event::RequestReady { .. }), "an empty piece asks for the next");
        world.server.respond_body(request, b"two", true, false);
        let body = wire.read_until(b"\r\n0\r\n\r\n").await;
        let text = String::from_utf8(body).expect("text").to_lowercase();
        assert!(
            text.contains("transfer-encoding: chunked") && text.ends_with("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"),
            "{text}"
        );
    });
}

/// A client that reads slowly once made its whole answer pile up in memory.
#[test]
fn a_client_that_does_not_read_is_not_written_for() {
    on_one_thread(async {
        let world = World::new(|settings| settings.write_timeout_ms = 1);
        let mut wire = world.connect().await;
        wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let (request, _) = world.request().await;
        world.server.respond(request, 200, &[]);
        let piece = vec![b'x'; 128 * 1024];
        let mut piece_count = 0;
        world.server.respond_body(request, &piece, false, false);
        // The kernel's buffers take some; then nothing more is asked for.
        while timeout(Duration::from_millis(300), world.events.arrived()).await.is_ok() {
            assert!(matches!(world.events.pop(), Some(Event::RequestReady { .. })));
            world.server.respond_body(request, &piece, false, false);
            piece_count += 1;
            assert!(piece_count < 1000, "{piece_count} pieces were asked for");
        }
        world.server.sweep();
        assert!(matches!(next(&world.events).await, Event::RequestGone { request: of } if of == request));
        assert_eq!((world.server.counters().stalled_count, world.server.connection_count()), (1, 0));
    });
}

#[test]
fn a_client_that_goes_is_told_of_before_and_in_the_middle_of_its_answer() {
    on_one_thread(async {
        let world = World::new(|_| ());
        for has_begun in [false, true] {
            let mut wire = world.connect().await;
            wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
            let (request, _) = world.request().await;
            if has_begun {
                world.server.respond(request, 200, &[]);
                world.server.respond_body(request, b"one", false, false);
                assert!(matches!(next(&world.events).await, Event::RequestReady { .. }));
            }
            drop(wire);
            assert!(matches!(next(&world.events).await, Event::RequestGone { request: of } if of == request));
            // What still comes goes nowhere.
            world.server.respond(request, 200, &[]);
            world.server.respond_body(request, b"two", true, false);
            world.server.respond_page(request, "/");
            assert!(world.events.pop().is_none());
        }
        assert_eq!(world.server.connection_count(), 0);
    });
}

#[test]
fn a_broken_answer_does_not_look_whole() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let mut wire = world.connect().await;
        wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let (request, _) = world.request().await;
        world.server.respond(request, 200, &[]);
        world.server.respond_body(request, b"half", false, false);
        assert!(matches!(next(&world.events).await, Event::RequestReady { .. }));
        world.server.respond_body(request, b"", true, true);
        let text = String::from_utf8(wire.read_to_end().await).expect("text");
        assert!(text.contains("half") && !text.contains("0\r\n\r\n"), "{text}");
        assert!(world.events.pop().is_none(), "the core ended it itself");
    });
}

#[test]
fn head_gets_the_length_and_no_body() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let mut wire = world.connect().await;
        wire.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let (request, _) = world.request().await;
        world.answer(request, "hello");
        let head = wire.read_head().await.to_lowercase();
        assert!(head.contains("content-length: 5\r\n"), "{head}");
        let (request, path) = world.request().await;
        assert_eq!(path, "/next?");
        world.answer(request, "");
        assert!(wire.read_head().await.starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn a_body_at_the_limit_passes_and_one_byte_more_is_413() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let request_of = |length: usize, body: usize| {
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(body))
        };
        let mut wire = world.connect().await;
        wire.send(&request_of(1000, 1000)).await;
        let (request, _) = world.request().await;
        world.answer(request, "ok");
        assert!(read_answer(&mut wire).await.0.starts_with("http/1.1 200"));
        // Refused by its length alone: a 1 GiB body is never read.
        wire.send(&request_of(1 << 30, 0)).await;
        let (head, words) = read_answer(&mut wire).await;
        assert!(head.starts_with("http/1.1 413") && head.contains("connection: close"), "{head}");
        assert!(words.contains("1000 bytes"), "{words}");
        let mut chunked = world.connect().await;
        let chunk = format!("258\r\n{}\r\n", "x".repeat(600));
        chunked.send(&format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}")).await;
        assert!(read_answer(&mut chunked).await.0.starts_with("http/1.1 413"));
        assert!(world.events.pop().is_none());
        assert_eq!((world.server.counters().refused_request_count, world.server.shared.bodies_bytes.get()), (2, 0));
    });
}

#[test]
fn all_bodies_together_are_bounded_until_they_are_answered() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let post = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 800\r\n\r\n{}", "x".repeat(800));
        let (mut first, mut second) = (world.connect().await, world.connect().await);
        first.send(&post).await;
        let (request, _) = world.request().await;
        second.send(&post).await;
        let (head, _) = read_answer(&mut second).await;
        assert!(head.starts_with("http/1.1 503") && head.contains("retry-after: 1"), "{head}");
        world.answer(request, "ok");
        read_answer(&mut first).await;
        let mut third = world.connect().await;
        third.send(&post).await;
        world.request().await;
    });
}

/// Bodies were read into lists that grew: for a moment there were an old one and one of twice the length.
#[test]
fn a_body_counts_with_all_of_its_room_before_it_comes() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let counted = || world.server.shared.bodies_bytes.get();
        let mut wire = world.connect().await;
        wire.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n258\r\n").await;
        // Nobody knows how long it is.
        while counted() != 1000 {
            tokio::task::yield_now().await;
        }
        let mut second = world.connect().await;
        second.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 501\r\n\r\n").await;
        assert!(read_answer(&mut second).await.0.starts_with("http/1.1 503"));
        let mut third = world.connect().await;
        third.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\n").await;
        while counted() != 1500 {
            tokio::task::yield_now().await;
        }
        drop(third);
        wire.send(&format!("{}\r\n0\r\n\r\n", "x".repeat(600))).await;
        let (request, _) = world.request().await;
        while counted() != 600 {
            tokio::task::yield_now().await;
        }
        world.answer(request, "ok");
        read_answer(&mut wire).await;
        assert_eq!(counted(), 0);
    });
}

#[test]
fn a_body_that_does_not_come_is_408() {
    on_one_thread(async {
        let world = World::new(|settings| settings.read_timeout_ms = 50);
        let mut wire = world.connect().await;
        wire.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf").await;
        assert!(read_answer(&mut wire).await.0.starts_with("http/1.1 408"));
    });
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    on_one_thread(async {
        let world = World::new(|settings| settings.read_timeout_ms = 50);
        let mut wire = world.connect().await;
        wire.send("GET / HTTP/1.1\r\nHo").await;
        wire.read_to_end().await;
        assert!(world.events.pop().is_none());
    });
}

#[test]
fn one_connection_too_many_closes_the_one_idle_longest_and_never_a_busy_one() {
    on_one_thread(async {
        let world = World::new(|settings| settings.connection_count_max = 2);
        let mut busy = world.connect().await;
        busy.send("GET /busy HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let (request, _) = world.request().await;
        let mut idle = world.connect().await;
        idle.send("GET /idle HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let (other, _) = world.request().await;
        let mut turned_away = world.connect().await;
        let text = String::from_utf8(turned_away.read_to_end().await).expect("text");
        let (head, words) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 503") && words.contains("busy"), "{text}");
        assert!(head.ends_with(&format!("Content-Length: {}", words.len())), "{text}");
        world.answer(other, "ok");
        read_answer(&mut idle).await;
        let mut fresh = world.connect().await;
        fresh.send("GET /fresh HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(world.request().await.1, "/fresh?");
        assert_eq!(idle.read_to_end().await, b"");
        world.answer(request, "still here");
        assert_eq!(read_answer(&mut busy).await.1, "still here");
        let counters = world.server.counters();
        assert_eq!((counters.evicted_count, counters.turned_away_count, world.server.connection_count()), (1, 1, 2));
    });
}

#[test]
fn five_hundred_idle_connections_leave_room_for_one_more_request() {
    on_one_thread(async {
        let world = World::new(|settings| settings.connection_count_max = 16);
        let mut wires = Vec::new();
        for _ in 0..500 {
            wires.push(world.connect().await);
        }
        let mut wire = world.connect().await;
        wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let (request, _) = world.request().await;
        world.answer(request, "ok");
        assert_eq!(read_answer(&mut wire).await.1, "ok");
        assert!(world.server.connection_count() <= 16);
    });
}

/// `curl -g` and many scripts send `query=up{job="node"}` as it is, which hyper answered with an empty 400.
#[test]
fn a_target_with_raw_bytes_arrives_however_it_is_split_and_bodies_stay_as_they_are() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let get = "GET /a?query=up{job=\"é\"} HTTP/1.1\r\nHost: h\r\n\r\n";
        let post = "POST /b?<|> HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nGET /{\"}# ";
        let chunked = "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n {\"}\r\n0\r\n\r\n";
        let expected = [
            ("/a", "query=up%7Bjob=%22%C3%A9%22%7D", ""),
            ("/b", "%3C%7C%3E", "GET /{\"}# "),
            ("/c", "", " {\"}"),
            ("/a", "query=up%7Bjob=%22%C3%A9%22%7D", ""),
        ];
        let sent = [get, post, chunked, get].concat().into_bytes();
        let mut wire = world.connect().await;
        for split in 0..=sent.len() {
            let (first, rest) = sent.split_at(split);
            wire.send_bytes(first).await;
            // Both sides run on one thread: the server takes the first half while this waits its turn.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            wire.send_bytes(rest).await;
            for expected in expected {
                let Event::Request { request, path, query, body, .. } = next(&world.events).await else {
                    panic!("a request")
                };
                let body = String::from_utf8(body).expect("text");
                assert_eq!((path.as_str(), query.as_str(), body.as_str()), expected, "split at {split}");
                world.answer(request, "ok");
                assert_eq!(read_answer(&mut wire).await.1, "ok");
            }
        }
        assert_eq!(world.server.connection_count(), 1);
    });
}

#[test]
fn a_target_that_fills_the_buffer_passes_and_a_longer_one_is_431_with_advice() {
    on_one_thread(async {
        let world = World::new(|_| ());
        // What hyper sees is three times as long.
        let target = |bytes: usize| "\"".repeat(bytes);
        let fitting = BUFFER_BYTES_MAX / 3 - 100;
        let mut wire = world.connect().await;
        wire.send(&format!("GET /?{} HTTP/1.1\r\nHost: h\r\n\r\n", target(fitting))).await;
        let (request, path) = world.request().await;
        assert_eq!(path, format!("/?{}", "%22".repeat(fitting)));
        world.answer(request, "ok");
        read_answer(&mut wire).await;
        for too_long in [BUFFER_BYTES_MAX / 3, 300 * 1024] {
            let mut wire = world.connect().await;
            wire.send(&format!("GET /?{} HTTP/1.1\r\nHost: h\r\n\r\n", target(too_long))).await;
            let (head, words) = read_answer(&mut wire).await;
            assert!(head.starts_with("http/1.1 431") && head.contains("connection: close"), "{head}");
            assert!(words.contains("16384 bytes") && words.contains("POST"), "{words}");
            assert!(wire.is_closed_cleanly().await);
        }
        assert_eq!(world.server.counters().refused_request_count, 2);
    });
}

#[test]
fn what_is_no_request_is_refused_with_a_reason() {
    on_one_thread(async {
        let world = World::new(|_| ());
        for target in ["/a b", "/a\tb", "/\x7f", "/\0", ""] {
            let mut wire = world.connect().await;
            wire.send(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
            let (head, words) = read_answer(&mut wire).await;
            assert!(head.starts_with("http/1.1 400") && head.contains("text/plain"), "{head}");
            assert!(words.starts_with("400 Bad Request: not a valid HTTP/1.1 request"), "{words}");
            assert!(wire.is_closed_cleanly().await);
        }
        assert!(world.events.pop().is_none());
        assert_eq!(world.server.counters().refused_request_count, 5);
    });
}

#[test]
fn a_target_without_a_path_is_refused() {
    on_one_thread(async {
        let world = World::new(|_| ());
        for target in ["up", "h:80"] {
            let mut wire = world.connect().await;
            wire.send(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
            let (head, words) = read_answer(&mut wire).await;
            assert!(head.starts_with("http/1.1 400") && words.contains("slash"), "{head}{words}");
        }
        let mut wire = world.connect().await;
        for (target, expected) in [("http://h/up?a", "/up?a"), ("*", "*?")] {
            wire.send(&format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
            let (request, path) = world.request().await;
            assert_eq!(path, expected);
            world.answer(request, "ok");
            read_answer(&mut wire).await;
        }
    });
}

/// Closed at once, its unread body made the kernel send a reset, and `curl` showed that instead of the answer.
#[test]
fn a_client_in_the_middle_of_its_body_still_reads_why_it_was_refused() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let mut wire = world.connect().await;
        wire.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n").await;
        wire.send(&"x".repeat(500_000)).await;
        let (head, words) = read_answer(&mut wire).await;
        assert!(head.starts_with("http/1.1 413") && words.contains("1000 bytes"), "{head}{words}");
        assert!(wire.is_closed_cleanly().await);
    });
}

#[test]
fn nonsense_and_huge_heads_end_their_connection_only() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
        for text in ["\x16\x03\x01 hello\r\n\r\n", &huge] {
            let mut wire = world.connect().await;
            // The server may close before it has all.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut wire.stream, text.as_bytes()).await;
            wire.read_to_end().await;
        }
        assert!(world.events.pop().is_none());
        let mut wire = world.connect().await;
        wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        world.request().await;
    });
}

#[test]
fn a_page_is_sent_as_it_can_be_read_and_not_again_when_it_is_known() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let mut wire = world.connect().await;
        for (header, path, status, body) in [
            ("Accept-Encoding: gzip\r\n", "/", 200, PAGE.gzip),
            ("", "/", 200, &b"plain page"[..]),
            ("If-None-Match: \"v1\"\r\n", "/", 304, b""),
            ("If-None-Match: \"v0\"\r\n", "/", 200, b"plain page"),
            ("", "/other", 404, b"404 page not found\n"),
        ] {
            wire.send(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n{header}\r\n")).await;
            let (request, _) = world.request().await;
            world.server.respond_page(request, path);
            let head = wire.read_head().await.to_lowercase();
            assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
            assert_eq!(head.contains("content-encoding: gzip"), header.starts_with("Accept"), "{head}");
            assert_eq!(wire.read_exact(body.len()).await, body);
        }
        assert!(world.server.shared.requests.borrow().is_empty());
    });
}

#[test]
fn a_header_that_http_does_not_allow_is_left_out() {
    on_one_thread(async {
        let world = World::new(|_| ());
        let mut wire = world.connect().await;
        wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let (request, _) = world.request().await;
        world.server.respond(request, 200, &[("X-Good", "1"), ("X-Bad", "1\r\nSet-Cookie: x")]);
        world.server.respond_body(request, b"ok", true, false);
        let (head, _) = read_answer(&mut wire).await;
        assert!(head.contains("x-good: 1") && !head.contains("x-bad") && !head.contains("set-cookie"), "{head}");
    });
}
