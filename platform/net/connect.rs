//! Connections to those we ask: made, used for one exchange after the other, kept in between.

use super::{dns::Resolver, io::Activity, io::SocketIo, io::words, url::HttpUrl};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{Builder, SendRequest},
};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};
use tokio::{net::TcpStream, task::spawn_local, time::timeout};

/// Hyper's buffers per connection; a peer whose headers are larger is refused.
pub const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// When a host has several addresses, none but the last may take longer to connect.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(2);

/// One open connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Where it leads: host and port.
    place: (String, u16),
    addresses: (SocketAddr, SocketAddr),
    activity: Rc<Activity>,
}

/// Why an exchange came to nothing, in Go's words.
#[derive(Debug)]
pub struct ExchangeError {
    pub words: String,
    /// The connection was gone before it had given a byte of an answer: on a kept one, this is most likely the peer's
    /// idle time-out, and the request may be sent again.
    may_be_stale: bool,
}

impl Connection {
    pub async fn open(resolver: &Resolver, url: &HttpUrl) -> Result<Self, String> {
        let addresses = resolver.resolve(&url.host, url.port).await.map_err(|error| format!("dial tcp: {error}"))?;
        let mut failure = String::new();
        for (index, &address) in addresses.iter().enumerate() {
            let connecting = TcpStream::connect(address);
            let result = if index + 1 < addresses.len() {
                timeout(ADDRESS_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            } else {
                connecting.await
            };
            match result {
                Ok(stream) => return Self::over(stream, url).await,
                Err(error) => failure = format!("dial tcp {address}: connect: {}", words(&error)),
            }
        }
        Err(failure)
    }

    async fn over(stream: TcpStream, url: &HttpUrl) -> Result<Self, String> {
        let addresses = stream
            .set_nodelay(true)
            .and_then(|()| Ok((stream.local_addr()?, stream.peer_addr()?)))
            .map_err(|error| format!("dial tcp: {}", words(&error)))?;
        let (socket, activity) = SocketIo::new(stream);
        let (sender, connection) = Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(socket)
            .await
            .map_err(|error| format!("dial tcp: {error}"))?;
        // Ends by itself when the sender is dropped or the peer closes; its errors reach us through the exchange.
        spawn_local(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, place: (url.host.clone(), url.port), addresses, activity })
    }

    fn leads_to(&self, url: &HttpUrl) -> bool {
        self.place.0 == url.host && self.place.1 == url.port
    }

    pub async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ExchangeError> {
        let before = self.activity.received_bytes.get();
        let result = match self.sender.ready().await {
            Ok(()) => self.sender.send_request(request).await,
            Err(error) => Err(error),
        };
        result.map_err(|error| {
            let is_silent = self.activity.received_bytes.get() == before;
            ExchangeError { words: self.words(&error, is_silent), may_be_stale: is_silent }
        })
    }

    /// An error of this connection, as Go's HTTP client would put it. `is_silent`: nothing of the answer has come.
    pub fn words(&self, error: &hyper::Error, is_silent: bool) -> String {
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return if is_silent { "EOF".to_owned() } else { "unexpected EOF".to_owned() };
        }
        if error.is_parse_too_large() {
            return format!("net/http: server response headers exceeded {BUFFER_BYTES_MAX} bytes; aborted");
        }
        let source = std::error::Error::source(error);
        if let Some(error) = source.and_then(|source| source.downcast_ref::<io::Error>()) {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => format!("malformed HTTP response: {error}"),
                _ => format!("read tcp {}->{}: {}", self.addresses.0, self.addresses.1, words(error)),
            };
        }
        if error.is_parse() {
            return format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response: {error}");
        }
        error.to_string()
    }
}

/// Connections kept between exchanges, by the number of the target or peer they belong to.
pub struct Kept {
    inner: RefCell<Inner>,
    count_max: usize,
}

#[derive(Default)]
struct Inner {
    by_number: HashMap<u32, (u64, Connection)>,
    /// Numbers that still exist; a connection that comes back to another one is closed.
    known: HashSet<u32>,
    clock: u64,
}

impl Kept {
    /// At most `count_max` connections; beyond it the one that was used longest ago is closed.
    pub fn new(count_max: usize) -> Self {
        Self { inner: RefCell::default(), count_max }
    }

    /// The number is gone: its connection is closed now, or when its exchange ends.
    pub fn forget(&self, number: u32) {
        let mut inner = self.inner.borrow_mut();
        inner.known.remove(&number);
        inner.by_number.remove(&number);
    }

    pub fn count(&self) -> usize {
        self.inner.borrow().by_number.len()
    }

    /// Gives a connection back whose last answer was read to its end.
    pub fn put(&self, number: u32, connection: Connection) {
        let inner = &mut *self.inner.borrow_mut();
        if self.count_max == 0 || !inner.known.contains(&number) {
            return;
        }
        inner.clock += 1;
        inner.by_number.insert(number, (inner.clock, connection));
        if inner.by_number.len() > self.count_max
            && let Some(&oldest) = inner.by_number.iter().min_by_key(|(_, (used, _))| *used).map(|(number, _)| number)
        {
            inner.by_number.remove(&oldest);
        }
    }

    /// One exchange over the kept connection, or a new one. A kept one that turns out to be gone is replaced once.
    /// The answer's body is still to be read; then the connection should be [`Kept::put`] back.
    pub async fn exchange(
        &self,
        resolver: &Resolver,
        number: u32,
        url: &HttpUrl,
        request: impl Fn() -> Result<Request<Full<Bytes>>, String>,
    ) -> Result<(Response<Incoming>, Connection), String> {
        if let Some(mut connection) = self.take(number, url) {
            match connection.exchange(request()?).await {
                Ok(response) => return Ok((response, connection)),
                Err(error) if error.may_be_stale => {}
                Err(error) => return Err(error.words),
            }
        }
        let mut connection = Connection::open(resolver, url).await?;
        match connection.exchange(request()?).await {
            Ok(response) => Ok((response, connection)),
            Err(error) => Err(error.words),
        }
    }

    fn take(&self, number: u32, url: &HttpUrl) -> Option<Connection> {
        let inner = &mut *self.inner.borrow_mut();
        inner.known.insert(number);
        let (_, connection) = inner.by_number.remove(&number)?;
        (connection.leads_to(url) && !connection.sender.is_closed()).then_some(connection)
    }
}
