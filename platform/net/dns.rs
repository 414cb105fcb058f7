//! Names to addresses, without threads: literal addresses, the hosts file, and queries to the servers of resolv.conf.
//!
//! A and AAAA over UDP, over TCP when the answer is cut (RFC 1035; search lists as resolv.conf(5)). Nothing is cached:
//! kept connections make lookups rare, and a changed address must be seen. Measured against hickory-resolver with its
//! fewest features, which would add 757 kB to the binary.

use std::{
    collections::hash_map::RandomState,
    fmt,
    fs::File,
    hash::{BuildHasher, Hasher},
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// So much of a hosts file or resolv.conf is read.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// resolv.conf(5) knows three servers and, since glibc 2.26, any number of search domains; we stop at these.
const SERVER_COUNT_MAX: usize = 3;
const SEARCH_COUNT_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 253;
const ADDRESS_COUNT_MAX: usize = 16;

pub struct Resolver {
    hosts_path: PathBuf,
    resolv_conf_path: PathBuf,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// The servers say that there is no such name, or that it has no address.
    NoSuchHost {
        name: String,
        server: Option<SocketAddr>,
    },
    Timeout {
        name: String,
        server: SocketAddr,
    },
    /// SERVFAIL, REFUSED, or an answer that is none.
    Misbehaving {
        name: String,
        server: SocketAddr,
    },
    Unreachable {
        name: String,
        server: SocketAddr,
        words: String,
    },
    NotAName {
        name: String,
    },
}

impl std::error::Error for DnsError {}

/// Worded as Go's resolver does, because people search for these words.
impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchHost { name, server: Some(server) } => write!(f, "lookup {name} on {server}: no such host"),
            Self::NoSuchHost { name, server: None } => write!(f, "lookup {name}: no such host"),
            Self::Timeout { name, server } => write!(f, "lookup {name} on {server}: i/o timeout"),
            Self::Misbehaving { name, server } => write!(f, "lookup {name} on {server}: server misbehaving"),
            Self::Unreachable { name, server, words } => write!(f, "lookup {name} on {server}: {words}"),
            Self::NotAName { name } => write!(f, "lookup {name:?}: not a host name"),
        }
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::system()
    }
}

impl Resolver {
    pub fn system() -> Self {
        Self { hosts_path: "/etc/hosts".into(), resolv_conf_path: "/etc/resolv.conf".into(), port: 53 }
    }

    /// With other files and another port of the servers, for tests.
    pub fn with_files(hosts_path: PathBuf, resolv_conf_path: PathBuf, port: u16) -> Self {
        Self { hosts_path, resolv_conf_path, port }
    }

    /// The addresses of a host, IPv4 before IPv6. At least one. Both files are read anew each time.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DnsError> {
        let mut addresses = self.resolve_locally(host);
        if addresses.is_empty() {
            addresses = self.ask(host).await?;
        }
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses.truncate(ADDRESS_COUNT_MAX);
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    /// What can be told without the network: a literal address, a name in the hosts file, localhost (RFC 6761, 6.3).
    pub fn resolve_locally(&self, host: &str) -> Vec<IpAddr> {
        if let Ok(address) = host.parse() {
            return vec![address];
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        let listed = in_hosts(&read_bounded(&self.hosts_path), name);
        if listed.is_empty() && (name.eq_ignore_ascii_case("localhost") || ends_with_label(name, "localhost")) {
            return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        listed
    }

    async fn ask(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let config = Config::parse(&read_bounded(&self.resolv_conf_path), self.port);
        let mut outcome = Err(DnsError::NotAName { name: host.to_owned() });
        for name in config.names(host) {
            let Some(encoded) = encode_name(&name) else { continue };
            let (four, six) = tokio::join!(
                config.query(&name, &encoded, RecordType::A),
                config.query(&name, &encoded, RecordType::Aaaa)
            );
            match (four, six) {
                (Ok(mut four), Ok(six)) => {
                    four.extend(six);
                    return Ok(four);
                }
                (Ok(found), Err(_)) | (Err(_), Ok(found)) => return Ok(found),
                // A server that fails may not know the next name of the search list either, but may know this one soon:
                // its error says more than "no such host".
                (Err(four), Err(six)) => {
                    let error = if matches!(four, DnsError::NoSuchHost { .. }) { six } else { four };
                    if !matches!(outcome, Err(DnsError::Timeout { .. } | DnsError::Misbehaving { .. })) {
                        outcome = Err(error);
                    }
                }
            }
        }
        outcome
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecordType {
    A = 1,
    Aaaa = 28,
}

/// resolv.conf(5).
#[derive(Debug, PartialEq, Eq)]
struct Config {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    dots_min: usize,
    timeout: Duration,
    attempt_count: u32,
}

impl Config {
    fn parse(text: &str, port: u16) -> Self {
        let mut config = Self {
            servers: Vec::new(),
            search: Vec::new(),
            dots_min: 1,
            timeout: Duration::from_secs(5),
            attempt_count: 2,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // A zone index (`%eth0`) is of use only with the scope it names; the address alone is tried.
                    let address = words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                    if let Some(address) = address
                        && config.servers.len() < SERVER_COUNT_MAX
                    {
                        config.servers.push(SocketAddr::new(address, port));
                    }
                }
                // The last of these lines wins.
                Some("search" | "domain") => {
                    config.search = words.take(SEARCH_COUNT_MAX).map(str::to_owned).collect();
                }
                Some("options") => words.for_each(|option| config.set_option(option)),
                _ => {}
            }
        }
        if config.servers.is_empty() {
            config.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        }
        config
    }

    /// Bounds as resolv.conf(5) has them.
    fn set_option(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.dots_min = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            "attempts" => self.attempt_count = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The names to try, in order, each without the last dot.
    fn names(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().map(|domain| format!("{host}.{}", domain.trim_matches('.')));
        let mut names: Vec<String> = searched.collect();
        let is_tried_first = host.matches('.').count() >= self.dots_min;
        names.insert(if is_tried_first { 0 } else { names.len() }, host.to_owned());
        names
    }

    /// Asks server after server until one knows.
    async fn query(&self, name: &str, encoded: &[u8], kind: RecordType) -> Result<Vec<IpAddr>, DnsError> {
        let mut outcome = Err(DnsError::NotAName { name: name.to_owned() });
        for _ in 0..self.attempt_count {
            for &server in &self.servers {
                let question = Question::new(encoded, kind);
                let failure = match timeout(self.timeout, question.ask(server)).await {
                    Ok(Ok(Answer::Addresses(addresses))) => return Ok(addresses),
                    Ok(Ok(Answer::NoSuchHost)) => {
                        return Err(DnsError::NoSuchHost { name: name.to_owned(), server: Some(server) });
                    }
                    Ok(Ok(Answer::Refused)) => DnsError::Misbehaving { name: name.to_owned(), server },
                    Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                        DnsError::Misbehaving { name: name.to_owned(), server }
                    }
                    Ok(Err(error)) => {
                        DnsError::Unreachable { name: name.to_owned(), server, words: super::io::words(&error) }
                    }
                    Err(_) => DnsError::Timeout { name: name.to_owned(), server },
                };
                outcome = Err(failure);
            }
        }
        outcome
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Addresses(Vec<IpAddr>),
    NoSuchHost,
    Refused,
}

/// One query, with an identifier that cannot be guessed; the kernel adds a port that cannot be guessed either.
struct Question {
    id: u16,
    kind: RecordType,
    message: Vec<u8>,
}

const HEADER_BYTES: usize = 12;

impl Question {
    fn new(encoded_name: &[u8], kind: RecordType) -> Self {
        let id = RandomState::new().build_hasher().finish() as u16;
        let mut message = Vec::with_capacity(HEADER_BYTES + encoded_name.len() + 4);
        message.extend_from_slice(&id.to_be_bytes());
        // Recursion desired; one question.
        message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend_from_slice(encoded_name);
        message.extend_from_slice(&(kind as u16).to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        Self { id, kind, message }
    }

    async fn ask(&self, server: SocketAddr) -> io::Result<Answer> {
        let local: SocketAddr =
            if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = UdpSocket::bind(local).await?;
        socket.connect(server).await?;
        socket.send(&self.message).await?;
        let mut buffer = [0; 1500];
        loop {
            let length = socket.recv(&mut buffer).await?;
            let message = &buffer[..length];
            // A late answer to someone else, or a forged one: ours may still come.
            if !self.is_answered_by(message) {
                continue;
            }
            const TRUNCATED: u8 = 0b10;
            if message[2] & TRUNCATED != 0 {
                return self.ask_over_tcp(server).await;
            }
            return self.read(message);
        }
    }

    async fn ask_over_tcp(&self, server: SocketAddr) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(server).await?;
        let mut framed = (self.message.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&self.message);
        stream.write_all(&framed).await?;
        let mut message = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut message).await?;
        if self.is_answered_by(&message) { self.read(&message) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Our identifier, an answer, and our own question repeated (names compare without case).
    fn is_answered_by(&self, message: &[u8]) -> bool {
        const ANSWER: u8 = 0x80;
        let question = &self.message[HEADER_BYTES..];
        message.len() >= self.message.len()
            && message[..2] == self.id.to_be_bytes()
            && message[2] & ANSWER != 0
            && message[4..6] == [0, 1]
            && message[HEADER_BYTES..self.message.len()].eq_ignore_ascii_case(question)
    }

    /// The addresses among the answers (RFC 1035, 4.1). Aliases need no following: the server has put their addresses
    /// beside them.
    fn read(&self, message: &[u8]) -> io::Result<Answer> {
        const NO_ERROR: u8 = 0;
        const NAME_ERROR: u8 = 3;
        match message[3] & 0xf {
            NO_ERROR => {}
            NAME_ERROR => return Ok(Answer::NoSuchHost),
            _ => return Ok(Answer::Refused),
        }
        let answer_count = u16::from_be_bytes([message[6], message[7]]);
        let mut rest = &message[self.message.len()..];
        let mut addresses = Vec::new();
        for _ in 0..answer_count {
            let record = Record::take(&mut rest).ok_or(io::ErrorKind::InvalidData)?;
            if record.kind != self.kind as u16 || record.class != 1 {
                continue;
            }
            let address: IpAddr = match self.kind {
                RecordType::A => <[u8; 4]>::try_from(record.data).map(IpAddr::from),
                RecordType::Aaaa => <[u8; 16]>::try_from(record.data).map(IpAddr::from),
            }
            .map_err(|_| io::ErrorKind::InvalidData)?;
            if addresses.len() < ADDRESS_COUNT_MAX {
                addresses.push(address);
            }
        }
        Ok(if addresses.is_empty() { Answer::NoSuchHost } else { Answer::Addresses(addresses) })
    }
}

struct Record<'a> {
    kind: u16,
    class: u16,
    data: &'a [u8],
}

impl<'a> Record<'a> {
    /// The next record of a section; `None` when the message ends in its middle.
    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        skip_name(rest)?;
        let head: &[u8; 10] = rest.split_off(..10)?.try_into().ok()?;
        let data = rest.split_off(..usize::from(u16::from_be_bytes([head[8], head[9]])))?;
        Some(Self { kind: u16::from_be_bytes([head[0], head[1]]), class: u16::from_be_bytes([head[2], head[3]]), data })
    }
}

/// Labels up to the empty one, or up to a pointer, which ends a name.
fn skip_name(rest: &mut &[u8]) -> Option<()> {
    loop {
        match *rest.split_off_first()? {
            0 => return Some(()),
            length @ 1..=63 => rest.split_off(..usize::from(length)).map(drop)?,
            0xc0.. => return rest.split_off_first().map(drop),
            _ => return None,
        }
    }
}

/// Length-prefixed labels. `None` for what is no name: an empty or too long label, or bytes outside ASCII.
fn encode_name(name: &str) -> Option<Vec<u8>> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut encoded = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        encoded.push(label.len() as u8);
        encoded.extend_from_slice(label.as_bytes());
    }
    encoded.push(0);
    Some(encoded)
}

/// hosts(5): an address, then names. Case does not count.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn ends_with_label(name: &str, label: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, last)| last.eq_ignore_ascii_case(label))
}

/// A file that is missing has nothing to say; bytes that are no text are passed over.
fn read_bounded(path: &Path) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
