use super::super::scripted::{Peer, Wire, next, on_one_thread};
use super::*;

struct World {
    events: Events,
    fetcher: Fetcher,
}

impl World {
    fn new() -> Self {
        let events = Events::new();
        let fetcher = Fetcher::new(events.clone(), Rc::new(Resolver::system()), 2);
        Self { events, fetcher }
    }

    fn start(&self, number: u64, target: u32, url: &str, timeout_ms: u64) -> FetchId {
        let fetch = FetchId(number);
        let request =
            FetchRequest { target, url, accept: "text/plain;version=0.0.4", timeout_header: "9.5", timeout_ms };
        self.fetcher.start(fetch, request);
        fetch
    }

    /// Status, content type and body, or the error; with what had come before it.
    async fn outcome(&self, fetch: FetchId) -> (Option<(u16, String)>, Vec<u8>, Result<(), String>) {
        let (mut head, mut body) = (None, Vec::new());
        loop {
            match next(&self.events).await {
                Event::FetchHead { fetch: of, status, content_type } if of == fetch => {
                    head = Some((status, content_type));
                }
                Event::FetchBody { fetch: of, bytes } if of == fetch => body.extend_from_slice(&bytes),
                Event::FetchEnd { fetch: of } if of == fetch => return (head, body, Ok(())),
                Event::FetchFailed { fetch: of, error } if of == fetch => return (head, body, Err(error)),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

const LONG_MS: u64 = 10_000;

async fn answer(wire: &mut Wire, body: &str) -> String {
    let head = wire.read_head().await;
    let length = body.len();
    wire.send(&format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}")).await;
    head
}

#[test]
fn a_scrape_sends_what_prometheus_sends_and_gets_status_type_and_body() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        let fetch = world.start(1, 1, &peer.url("/metrics?x=1"), LONG_MS);
        let mut wire = peer.accept().await;
        let head = answer(&mut wire, "up 1\n").await.to_lowercase();
        let (found, body, result) = world.outcome(fetch).await;
        assert_eq!((found, body, result), (Some((200, "text/plain".to_owned())), b"up 1\n".to_vec(), Ok(())));
        assert!(head.starts_with("get /metrics?x=1 http/1.1\r\n"), "{head}");
        for expected in [
            format!("host: {}", peer.address),
            format!("user-agent: {}", USER_AGENT.to_lowercase()),
            "accept: text/plain;version=0.0.4".to_owned(),
            "accept-encoding: identity".to_owned(),
            "x-prometheus-scrape-timeout-seconds: 9.5".to_owned(),
        ] {
            assert!(head.contains(&format!("{expected}\r\n")), "{expected} in {head}");
        }
    });
}

#[test]
fn one_connection_serves_scrape_after_scrape_of_its_target() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        let first = world.start(1, 1, &peer.url("/"), LONG_MS);
        let mut wire = peer.accept().await;
        for number in 2..=4 {
            answer(&mut wire, "a 1\n").await;
            world.outcome(FetchId(number - 1)).await.2.expect("scraped");
            world.start(number, 1, &peer.url("/"), LONG_MS);
        }
        answer(&mut wire, "a 1\n").await;
        world.outcome(FetchId(4)).await.2.expect("scraped");
        assert_eq!((first, world.fetcher.kept_count()), (FetchId(1), 1));
        world.fetcher.target_gone(1);
        assert_eq!(wire.read_to_end().await, b"");
    });
}

#[test]
fn one_target_too_many_closes_the_connection_that_was_used_longest_ago() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        let mut wires = Vec::new();
        for target in 1..=3 {
            world.start(target, target as u32, &peer.url("/"), LONG_MS);
            let mut wire = peer.accept().await;
            answer(&mut wire, "a 1\n").await;
            world.outcome(FetchId(target)).await.2.expect("scraped");
            wires.push(wire);
        }
        assert_eq!(world.fetcher.kept_count(), 2);
        assert_eq!(wires[0].read_to_end().await, b"");
    });
}

/// Exporters close idle connections. The next scrape would have failed for no fault of the target.
#[test]
fn a_kept_connection_that_the_peer_has_closed_is_replaced_without_a_word() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        world.start(1, 1, &peer.url("/"), LONG_MS);
        let mut wire = peer.accept().await;
        answer(&mut wire, "a 1\n").await;
        world.outcome(FetchId(1)).await.2.expect("scraped");
        world.start(2, 1, &peer.url("/"), LONG_MS);
        wire.read_head().await;
        drop(wire);
        let mut fresh = peer.accept().await;
        answer(&mut fresh, "a 2\n").await;
        let (_, body, result) = world.outcome(FetchId(2)).await;
        assert_eq!((body, result), (b"a 2\n".to_vec(), Ok(())));
    });
}

#[test]
fn a_new_connection_that_gives_no_answer_is_not_tried_again() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        let url = peer.url("/");
        let fetch = world.start(1, 1, &url, LONG_MS);
        let mut wire = peer.accept().await;
        wire.read_head().await;
        drop(wire);
        assert_eq!(world.outcome(fetch).await, (None, vec![], Err(format!("Get \"{url}\": EOF"))));
    });
}

#[test]
fn nobody_listening_reads_as_in_prometheus() {
    on_one_thread(async {
        let world = World::new();
        let peer = Peer::listen().await;
        let (url, address) = (peer.url("/metrics"), peer.address);
        drop(peer);
        let fetch = world.start(1, 1, &url, LONG_MS);
        let expected = format!("Get \"{url}\": dial tcp {address}: connect: connection refused");
        assert_eq!(world.outcome(fetch).await, (None, vec![], Err(expected)));
        let fetch = world.start(2, 1, "https://h/", LONG_MS);
        assert!(world.outcome(fetch).await.2.expect_err("no TLS").contains("http only"));
    });
}

#[test]
fn a_body_cut_short_is_an_unexpected_end_after_the_pieces_that_came() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        for (number, head) in
            [(1, "Content-Length: 100\r\n\r\nhalf"), (2, "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")]
        {
            let fetch = world.start(number, number as u32, &peer.url("/"), LONG_MS);
            let mut wire = peer.accept().await;
            wire.read_head().await;
            wire.send(&format!("HTTP/1.1 200 OK\r\n{head}")).await;
            drop(wire);
            let (found, body, result) = world.outcome(fetch).await;
            assert_eq!((found.map(|head| head.0), body), (Some(200), b"half".to_vec()));
            assert_eq!(result, Err("unexpected EOF".to_owned()));
        }
        assert_eq!(world.fetcher.kept_count(), 0);
    });
}

#[test]
fn a_body_without_length_ends_with_the_connection() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        let fetch = world.start(1, 1, &peer.url("/"), LONG_MS);
        let mut wire = peer.accept().await;
        wire.read_head().await;
        wire.send("HTTP/1.0 503 Busy\r\n\r\nwhole").await;
        drop(wire);
        let (found, body, result) = world.outcome(fetch).await;
        assert_eq!((found, body, result), (Some((503, String::new())), b"whole".to_vec(), Ok(())));
    });
}

#[test]
fn what_is_no_http_is_called_malformed() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        let fetch = world.start(1, 1, &peer.url("/"), LONG_MS);
        let mut wire = peer.accept().await;
        wire.read_head().await;
        wire.send("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
        let (_, _, result) = world.outcome(fetch).await;
        assert!(result.as_ref().is_err_and(|words| words.contains("malformed HTTP response")), "{result:?}");
    });
}

#[test]
fn headers_without_end_are_refused_at_the_buffers_size() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        let fetch = world.start(1, 1, &peer.url("/"), LONG_MS);
        let mut wire = peer.accept().await;
        wire.read_head().await;
        wire.send(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(64 * 1024))).await;
        let (_, _, result) = world.outcome(fetch).await;
        assert!(result.as_ref().is_err_and(|words| words.contains("headers exceeded")), "{result:?}");
    });
}

#[test]
fn a_silent_peer_and_a_dripping_one_both_run_into_the_time_out() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        let url = peer.url("/");
        let fetch = world.start(1, 1, &url, 50);
        let _silent = peer.accept().await;
        assert_eq!(world.outcome(fetch).await.2, Err(format!("Get \"{url}\": context deadline exceeded")));
        let fetch = world.start(2, 2, &url, 100);
        let mut dripping = peer.accept().await;
        dripping.read_head().await;
        dripping.send("HTTP/1.1 200 OK\r\n\r\na 1\n").await;
        let (found, body, result) = world.outcome(fetch).await;
        assert_eq!((found.map(|head| head.0), body), (Some(200), b"a 1\n".to_vec()));
        assert_eq!(result, Err("context deadline exceeded".to_owned()));
        assert_eq!(dripping.read_to_end().await, b"", "the connection is closed");
    });
}

#[test]
fn an_endless_body_is_taken_no_faster_than_it_is_used_and_stops_at_the_abort() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        let fetch = world.start(1, 1, &peer.url("/"), LONG_MS);
        let mut wire = peer.accept().await;
        wire.read_head().await;
        wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
        // Nobody takes the pieces, so the kernel's buffers fill and the peer has to wait.
        let mut sent = 0_usize;
        let piece = [b'x'; 64 * 1024];
        let writable = Duration::from_millis(300);
        while let Ok(ready) = timeout(writable, wire.stream.writable()).await {
            ready.expect("open");
            match wire.stream.try_write(&piece) {
                Ok(length) => sent += length,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            assert!(sent < 64 << 20, "{sent} bytes were swallowed");
        }
        let mut queued = 0;
        let mut others = Vec::new();
        while let Some(event) = world.events.pop() {
            match event {
                Event::FetchBody { bytes, .. } => queued += bytes.len(),
                other => others.push(other),
            }
        }
        assert!(queued > 0 && queued <= super::super::FETCHED_BYTES_MAX, "{queued} bytes were queued");
        assert!(matches!(others[..], [Event::FetchHead { .. }]));
        world.fetcher.abort(fetch);
        assert!(world.fetcher.shared.running.borrow().is_empty());
        wire.read_to_end().await;
        assert!(world.events.pop().is_none(), "nothing more is heard of it");
    });
}

#[test]
fn redirections_are_followed_to_their_end_and_not_for_ever() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        let fetch = world.start(1, 1, &peer.url("/a/old"), LONG_MS);
        let mut wire = peer.accept().await;
        wire.read_head().await;
        wire.send("HTTP/1.1 302 Found\r\nLocation: new\r\nContent-Length: 0\r\n\r\n").await;
        let mut wire = peer.accept().await;
        assert!(answer(&mut wire, "a 1\n").await.starts_with("GET /a/new "));
        assert_eq!(world.outcome(fetch).await.1, b"a 1\n");
        let fetch = world.start(2, 2, &peer.url("/loop"), LONG_MS);
        for _ in 0..=REDIRECT_COUNT_MAX {
            let mut wire = peer.accept().await;
            wire.read_head().await;
            wire.send("HTTP/1.1 308 On\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n").await;
        }
        let error = world.outcome(fetch).await.2.expect_err("endless");
        assert!(error.ends_with("stopped after 10 redirects"), "{error}");
    });
}

#[test]
fn a_compressed_answer_that_was_not_asked_for_is_refused() {
    on_one_thread(async {
        let (world, peer) = (World::new(), Peer::listen().await);
        let fetch = world.start(1, 1, &peer.url("/"), LONG_MS);
        let mut wire = peer.accept().await;
        wire.read_head().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\n\x1f").await;
        let error = world.outcome(fetch).await.2.expect_err("compressed");
        assert!(error.contains("gzip"), "{error}");
    });
}
