use super::*;
use std::{fs, net::UdpSocket as BlockingUdp};
use tokio::net::TcpListener;

fn on_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn answer(query: &[u8], flags: [u8; 2], records: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2..4].copy_from_slice(&flags);
    message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
    for (kind, data) in records {
        // A pointer to the question's name.
        message.extend_from_slice(&[0xc0, 12]);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
        message.extend_from_slice(&(data.len() as u16).to_be_bytes());
        message.extend_from_slice(data);
    }
    message
}

#[test]
fn literal_addresses_and_localhost_need_nobody() {
    let resolver = Resolver::with_files("/nonexistent".into(), "/nonexistent".into(), 53);
    assert_eq!(resolver.resolve_locally("192.0.2.7"), ["192.0.2.7".parse::<IpAddr>().expect("valid")]);
    assert_eq!(resolver.resolve_locally("2001:db8::7").len(), 1);
    assert_eq!(resolver.resolve_locally("LocalHost.")[0], IpAddr::from(Ipv4Addr::LOCALHOST));
    assert_eq!(resolver.resolve_locally("db.localhost").len(), 2);
    assert!(resolver.resolve_locally("mylocalhost").is_empty());
}

#[test]
fn the_hosts_file_is_read_with_comments_and_without_case() {
    let text = "# head\n10.0.0.1 Gate gate.lan # not this\n::7 gate\n10.0.0.1 gate\nbroken gate\n10.0.0.2\n";
    let found = in_hosts(text, "gATE");
    assert_eq!(found, ["10.0.0.1".parse::<IpAddr>().expect("valid"), "::7".parse().expect("valid")]);
    assert!(in_hosts(text, "not").is_empty() && in_hosts(text, "10.0.0.2").is_empty());
}

#[test]
fn resolv_conf_is_read_within_its_bounds() {
    let text = "domain old\nsearch a.example b.example.\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n\
                nameserver nonsense\nnameserver 192.0.2.3\nnameserver 192.0.2.4\noptions ndots:2 timeout:0 attempts:99 x:y\n";
    let config = Config::parse(text, 53);
    let servers: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.1:53", "[fe80::1]:53", "192.0.2.3:53"]);
    assert_eq!((config.dots_min, config.timeout.as_secs(), config.attempt_count), (2, 1, 5));
    assert_eq!(config.names("h"), ["h.a.example", "h.b.example", "h"]);
    assert_eq!(config.names("h.x.y"), ["h.x.y", "h.x.y.a.example", "h.x.y.b.example"]);
    assert_eq!(config.names("h."), ["h"]);
    assert_eq!(Config::parse("", 53).servers, ["127.0.0.1:53".parse().expect("valid")]);
}

#[test]
fn names_are_encoded_up_to_their_limits() {
    assert_eq!(encode_name("a.bc").as_deref(), Some(&b"\x01a\x02bc\0"[..]));
    assert!(encode_name(&"x".repeat(63)).is_some() && encode_name(&"x".repeat(64)).is_none());
    let long = format!("{0}.{0}.{0}.{1}", "x".repeat(63), "y".repeat(61));
    assert!(encode_name(&long).is_some() && encode_name(&format!("{long}z")).is_none());
    for name in ["", ".", "a..b", ".a", "a b", "é"] {
        assert!(encode_name(name).is_none(), "{name:?}");
    }
}

#[test]
fn an_answer_must_repeat_identifier_and_question() {
    let question = Question::new(&encode_name("host.example").expect("a name"), RecordType::A);
    let good = answer(&question.message, [0x81, 0x80], &[(1, &[192, 0, 2, 1])]);
    assert!(question.is_answered_by(&good));
    for (at, what) in [(0, "identifier"), (2, "a query"), (5, "no question"), (13, "name"), (26, "type")] {
        let mut bad = good.clone();
        bad[at] ^= if at == 2 { 0x80 } else { 1 };
        assert!(!question.is_answered_by(&bad), "{what}");
    }
    let mut upper = good.clone();
    upper[13] = upper[13].to_ascii_uppercase();
    assert!(question.is_answered_by(&upper));
    assert!(!question.is_answered_by(&[]));
}

#[test]
fn answers_of_every_kind_are_told_apart() {
    let question = Question::new(&encode_name("h").expect("a name"), RecordType::A);
    let read = |flags, records: &[(u16, &[u8])]| question.read(&answer(&question.message, flags, records)).ok();
    let alias = (5_u16, &b"\x01x\0"[..]);
    let address = Answer::Addresses(vec!["192.0.2.1".parse().expect("valid")]);
    assert_eq!(read([0x81, 0x80], &[alias, (1, &[192, 0, 2, 1])]), Some(address));
    assert_eq!(read([0x81, 0x80], &[alias]), Some(Answer::NoSuchHost));
    assert_eq!(read([0x81, 0x83], &[]), Some(Answer::NoSuchHost));
    assert_eq!(read([0x81, 0x82], &[]), Some(Answer::Refused));
    assert_eq!(read([0x81, 0x80], &[(1, &[192, 0, 2])]), None);
}

/// Whatever a server sends, cut anywhere and with any byte changed, is read or refused.
#[test]
fn damaged_answers_never_panic() {
    let question = Question::new(&encode_name("host.example").expect("a name"), RecordType::Aaaa);
    let good = answer(&question.message, [0x81, 0x80], &[(5, b"\x01x\xc0\x0c"), (28, &[7; 16]), (28, &[8; 16])]);
    for length in 0..good.len() {
        if question.is_answered_by(&good[..length]) {
            assert!(question.read(&good[..length]).is_err());
        }
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            if question.is_answered_by(&bad) {
                let _ = question.read(&bad);
            }
        }
    }
}

struct World {
    directory: tempfile::TempDir,
    socket: BlockingUdp,
    port: u16,
}

impl World {
    fn new(resolv_conf: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("hosts"), "192.0.2.9 listed\n").expect("written");
        fs::write(directory.path().join("resolv.conf"), resolv_conf).expect("written");
        let socket = BlockingUdp::bind("127.0.0.1:0").expect("bound");
        let port = socket.local_addr().expect("bound").port();
        Self { directory, socket, port }
    }

    fn resolver(&self) -> Resolver {
        let path = self.directory.path();
        Resolver::with_files(path.join("hosts"), path.join("resolv.conf"), self.port)
    }

    fn resolve(&self, host: &str, script: impl Fn(&str, u16, &[u8]) -> Vec<u8>) -> Result<Vec<SocketAddr>, DnsError> {
        self.resolve_among(host, |name, kind, query| vec![script(name, kind, query)])
    }

    /// Resolves while a server answers each query with what `script` makes of its name and type.
    fn resolve_among(
        &self,
        host: &str,
        script: impl Fn(&str, u16, &[u8]) -> Vec<Vec<u8>>,
    ) -> Result<Vec<SocketAddr>, DnsError> {
        let socket = self.socket.try_clone().expect("cloned");
        socket.set_nonblocking(true).expect("set");
        on_runtime(async {
            let socket = UdpSocket::from_std(socket).expect("registered");
            let serve = async {
                let mut buffer = [0; 512];
                loop {
                    let (length, from) = socket.recv_from(&mut buffer).await.expect("received");
                    let query = &buffer[..length];
                    let mut rest = &query[HEADER_BYTES..];
                    let mut name = String::new();
                    while let Some(&label) = rest.split_off_first()
                        && label > 0
                    {
                        let label = rest.split_off(..usize::from(label)).expect("a label");
                        name = format!("{name}.{}", String::from_utf8_lossy(label));
                    }
                    let kind = u16::from_be_bytes([rest[0], rest[1]]);
                    for reply in script(name.trim_start_matches('.'), kind, query) {
                        socket.send_to(&reply, from).await.expect("sent");
                    }
                }
            };
            let resolver = self.resolver();
            tokio::select! {
                () = serve => unreachable!("the server goes on for ever"),
                result = resolver.resolve(host, 9100) => result,
            }
        })
    }
}

const RESOLV_CONF: &str = "nameserver 127.0.0.1\nsearch site.example\noptions timeout:1 attempts:1\n";

#[test]
fn a_listed_host_is_not_asked_for() {
    let world = World::new(RESOLV_CONF);
    let found = world.resolve("Listed", |name, _, _| panic!("asked for {name}")).expect("listed");
    assert_eq!(found, ["192.0.2.9:9100".parse().expect("valid")]);
}

#[test]
fn both_kinds_of_address_are_found_along_the_search_list() {
    let world = World::new(RESOLV_CONF);
    let found = world.resolve("gate", |name, kind, query| match (name, kind) {
        ("gate.site.example", 1) => answer(query, [0x81, 0x80], &[(1, &[192, 0, 2, 1])]),
        ("gate.site.example", 28) => answer(query, [0x81, 0x80], &[(28, &[1; 16])]),
        _ => panic!("asked for {name}"),
    });
    let found: Vec<String> = found.expect("found").iter().map(ToString::to_string).collect();
    assert_eq!(found, ["192.0.2.1:9100", "[101:101:101:101:101:101:101:101]:9100"]);
}

#[test]
fn one_kind_of_address_is_enough_and_none_is_no_such_host() {
    let world = World::new(RESOLV_CONF);
    let found = world.resolve("gate", |name, kind, query| match (name, kind) {
        ("gate", 1) => answer(query, [0x81, 0x80], &[(1, &[192, 0, 2, 1])]),
        _ => answer(query, [0x81, 0x83], &[]),
    });
    assert_eq!(found.expect("found").len(), 1);
    let error = world.resolve("nobody", |_, _, query| answer(query, [0x81, 0x83], &[])).expect_err("unknown");
    assert_eq!(error.to_string(), format!("lookup nobody on 127.0.0.1:{}: no such host", world.port));
}

#[test]
fn a_failing_server_is_called_misbehaving_and_a_missing_one_is_unreachable() {
    let world = World::new("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let error = world.resolve("gate", |_, _, query| answer(query, [0x81, 0x82], &[])).expect_err("failing");
    assert_eq!(error.to_string(), format!("lookup gate on 127.0.0.1:{}: server misbehaving", world.port));
    let resolver = world.resolver();
    drop(world.socket);
    let error = on_runtime(resolver.resolve("gate", 1)).expect_err("nobody listens");
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[test]
fn a_forged_answer_is_passed_over() {
    let world = World::new("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let found = world.resolve_among("gate", |_, _, query| {
        let mut forged = answer(query, [0x81, 0x80], &[(1, &[6, 6, 6, 6])]);
        forged[0] ^= 1;
        vec![forged, b"noise".to_vec(), answer(query, [0x81, 0x80], &[(1, &[192, 0, 2, 1])])]
    });
    assert_eq!(found, Ok(vec!["192.0.2.1:9100".parse().expect("valid")]));
}

#[test]
fn an_answer_that_was_cut_is_asked_for_again_over_tcp() {
    on_runtime(async {
        let world = World::new("nameserver 127.0.0.1\noptions attempts:1\n");
        let listener = TcpListener::bind(("127.0.0.1", world.port)).await.expect("bound");
        world.socket.set_nonblocking(true).expect("set");
        let udp = UdpSocket::from_std(world.socket.try_clone().expect("cloned")).expect("registered");
        let over_udp = async {
            let mut buffer = [0; 512];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.expect("received");
                udp.send_to(&answer(&buffer[..length], [0x83, 0x80], &[]), from).await.expect("sent");
            }
        };
        let over_tcp = async {
            loop {
                let (mut stream, _) = listener.accept().await.expect("accepted");
                let length = stream.read_u16().await.expect("a length");
                let mut query = vec![0; usize::from(length)];
                stream.read_exact(&mut query).await.expect("a query");
                let records: Vec<(u16, &[u8])> = match query[query.len() - 3] {
                    1 => vec![(1, &[192, 0, 2, 1]); 100],
                    _ => vec![],
                };
                let reply = answer(&query, [0x81, 0x80], &records);
                stream.write_u16(reply.len() as u16).await.expect("sent");
                stream.write_all(&reply).await.expect("sent");
            }
        };
        let resolver = world.resolver();
        let found = tokio::select! {
            () = over_udp => unreachable!("the server goes on for ever"),
            () = over_tcp => unreachable!("the server goes on for ever"),
            found = resolver.resolve("big", 9100) => found,
        };
        assert_eq!(found.expect("found").len(), ADDRESS_COUNT_MAX);
    });
}
