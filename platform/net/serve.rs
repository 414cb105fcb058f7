//! Our HTTP server: requests go to the loop as events, answers come back piece by piece.
//!
//! Memory is bounded per connection (hyper's buffers, [`BUFFER_BYTES_MAX`]), in the number of connections (beyond it the
//! one that has been idle longest is closed; when all are busy, the new one is turned away), in the size of a request's
//! body and of all bodies together. An answer's next piece is asked for only when the client has taken the last one.

mod answer;
mod listen;
mod pages;
mod socket;
mod targets;

pub use listen::{ServeError, bind};
pub use pages::{PageFile, Pages};

use self::{
    answer::{Answer, AnswerBody, Whole},
    socket::RequestSocket,
};
use super::{
    Event, Events,
    connect::BUFFER_BYTES_MAX,
    io::{Activity, SocketIo, TokioTimer},
};
use bytes::Bytes;
use holdfast_core::{
    daemon::input::{Method, RequestId},
    limits::{BODIES_BYTES_MAX, BODY_BYTES_MAX},
};
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, spawn_local},
    time::timeout,
};

#[derive(Clone, Copy, Debug)]
pub struct ServeSettings {
    pub connection_count_max: usize,
    /// A larger request body is answered 413.
    pub body_bytes_max: usize,
    /// Bodies of all requests that are not yet answered. A request beyond it is answered 503.
    pub bodies_bytes_max: usize,
    /// To send a request's head, and again to send its body; also how long an idle connection is kept.
    pub read_timeout_ms: u64,
    /// A client that takes nothing of its answer for so long is cut off (see [`Server::sweep`]).
    pub write_timeout_ms: u64,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            connection_count_max: 64,
            body_bytes_max: BODY_BYTES_MAX as usize,
            bodies_bytes_max: BODIES_BYTES_MAX as usize,
            // Prometheus' --web.read-timeout.
            read_timeout_ms: 5 * 60 * 1000,
            write_timeout_ms: 60 * 1000,
        }
    }
}

/// Since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServeCounters {
    pub connection_count: u64,
    /// Idle connections closed to make room for new ones.
    pub evicted_count: u64,
    /// New connections turned away because all others were busy.
    pub turned_away_count: u64,
    /// Requests answered 400, 408, 413, 414, 431 or 503 without being handed to the core.
    pub refused_request_count: u64,
    /// Clients cut off because they took nothing of their answer.
    pub stalled_count: u64,
}

pub struct Server {
    shared: Rc<Shared>,
    addresses: Vec<SocketAddr>,
    accepting: Vec<AbortHandle>,
}

struct Shared {
    settings: ServeSettings,
    pages: Pages,
    events: Events,
    requests: RefCell<HashMap<RequestId, Rc<Answer>>>,
    request_next: Cell<u64>,
    connections: RefCell<HashMap<u64, Connection>>,
    connection_next: Cell<u64>,
    bodies_bytes: Cell<usize>,
    counters: Cell<ServeCounters>,
    /// Shared with every connection's [`RequestSocket`].
    refused_heads_count: Rc<Cell<u64>>,
}

/// What is known of an open connection.
struct Connection {
    /// Requests that are not yet answered: 0 or 1, as HTTP/1 answers in order.
    busy: Rc<Cell<u32>>,
    idle_since: Rc<Cell<Instant>>,
    activity: Rc<Activity>,
    task: AbortHandle,
}

impl Server {
    /// Serves what [`bind`] has bound. Within the runtime.
    pub fn start(
        listeners: Vec<std::net::TcpListener>,
        settings: ServeSettings,
        pages: Pages,
        events: Events,
    ) -> io::Result<Self> {
        let shared = Rc::new(Shared {
            settings,
            pages,
            events,
            requests: RefCell::default(),
            request_next: Cell::new(0),
            connections: RefCell::default(),
            connection_next: Cell::new(0),
            bodies_bytes: Cell::new(0),
            counters: Cell::default(),
            refused_heads_count: Rc::default(),
        });
        let (mut addresses, mut accepting) = (Vec::new(), Vec::new());
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            addresses.push(listener.local_addr()?);
            accepting.push(spawn_local(Rc::clone(&shared).accept(listener)).abort_handle());
        }
        Ok(Self { shared, addresses, accepting })
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn connection_count(&self) -> usize {
        self.shared.connections.borrow().len()
    }

    pub fn counters(&self) -> ServeCounters {
        let counters = self.shared.counters.get();
        let refused_request_count = counters.refused_request_count + self.shared.refused_heads_count.get();
        ServeCounters { refused_request_count, ..counters }
    }

    /// The head of an answer. Headers that HTTP does not allow are left out, with a log line. An answer to a request
    /// that is gone goes nowhere, here and below.
    pub fn respond(&self, request: RequestId, status: u16, headers: &[(&'static str, &str)]) {
        let Some(answer) = self.shared.answer(request) else { return };
        let mut map = HeaderMap::with_capacity(headers.len());
        for &(name, value) in headers {
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                (Ok(name), Ok(value)) => drop(map.append(name, value)),
                _ => log::warn!("the header {name}: {value:?} of an answer is not valid and was left out"),
            }
        }
        answer.set_head(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), map);
    }

    /// A piece of an answer. `last` ends it; `broken` cuts the connection, so that the client sees that it is not whole.
    pub fn respond_body(&self, request: RequestId, bytes: &[u8], last: bool, broken: bool) {
        let Some(answer) = self.shared.answer(request) else { return };
        answer.push(bytes);
        if last || broken {
            self.shared.requests.borrow_mut().remove(&request);
            answer.end(broken);
        }
    }

    /// The built-in page's file of this path, or 404.
    pub fn respond_page(&self, request: RequestId, path: &str) {
        let Some(answer) = self.shared.requests.borrow_mut().remove(&request) else { return };
        let (status, headers, bytes) = pages::answer((self.shared.pages)(path), answer.request_headers());
        answer.set_head(status, headers);
        answer.push_bytes(bytes);
        answer.end(false);
    }

    /// Cuts off clients that take nothing of their answers. To be called every few seconds.
    pub fn sweep(&self) {
        let patience = Duration::from_millis(self.shared.settings.write_timeout_ms);
        for connection in self.shared.connections.borrow().values() {
            let blocked_since = connection.activity.write_blocked_since.get();
            if blocked_since.is_some_and(|since| since.elapsed() >= patience) {
                self.shared.count(|counters| counters.stalled_count += 1);
                connection.task.abort();
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.iter().for_each(AbortHandle::abort);
        self.shared.connections.borrow().values().for_each(|connection| connection.task.abort());
    }
}

impl Shared {
    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    self.admit(stream);
                    // An evicted connection's buffers go when its task has its turn. Without this a rush of clients is
                    // accepted before, and both take memory at once.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    // Out of descriptors, most likely: an idle connection gives one back.
                    log::warn!("a connection could not be accepted: {}", super::io::words(&error));
                    self.evict_idle();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit(self: &Rc<Self>, stream: TcpStream) {
        let is_full = self.connections.borrow().len() >= self.settings.connection_count_max;
        if is_full && !self.evict_idle() {
            self.count(|counters| counters.turned_away_count += 1);
            log::warn!("all {} connections are busy; a new one was turned away", self.settings.connection_count_max);
            // A new socket's buffer takes so few bytes at once, or the client is gone.
            let _ = stream.try_write(
                b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: text/plain\r\n\
                  Content-Length: 36\r\n\r\nall connections are busy; try again\n",
            );
            return;
        }
        // Without it small answers wait for the client's acknowledgements; nothing else depends on it.
        let _ = stream.set_nodelay(true);
        let number = self.connection_next.replace(self.connection_next.get() + 1);
        let (socket, activity) = SocketIo::new(stream);
        let busy = Rc::new(Cell::new(0));
        let idle_since = Rc::new(Cell::new(Instant::now()));
        let task = spawn_local(Rc::clone(self).converse(number, socket, Rc::clone(&busy), Rc::clone(&idle_since)));
        let connection = Connection { busy, idle_since, activity, task: task.abort_handle() };
        self.connections.borrow_mut().insert(number, connection);
        self.count(|counters| counters.connection_count += 1);
    }

    /// Closes the connection that has been idle longest, if one is idle.
    fn evict_idle(&self) -> bool {
        let mut connections = self.connections.borrow_mut();
        let idle = connections.iter().filter(|(_, connection)| connection.busy.get() == 0);
        let Some(number) = idle.min_by_key(|(_, connection)| connection.idle_since.get()).map(|(number, _)| *number)
        else {
            return false;
        };
        if let Some(connection) = connections.remove(&number) {
            connection.task.abort();
        }
        self.count(|counters| counters.evicted_count += 1);
        true
    }

    /// One connection, request after request.
    async fn converse(self: Rc<Self>, number: u64, socket: SocketIo, busy: Rc<Cell<u32>>, idle: Rc<Cell<Instant>>) {
        let shared = Rc::clone(&self);
        let service = service_fn(move |request| {
            let busy = Busy::new(&busy, &idle);
            let shared = Rc::clone(&shared);
            async move { Ok::<_, Infallible>(shared.answer_request(request, busy).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer)
            .header_read_timeout(Duration::from_millis(self.settings.read_timeout_ms))
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(RequestSocket::new(socket, Rc::clone(&self.refused_heads_count)), service);
        let _closed = Closed { shared: Rc::clone(&self), number };
        // What a client does wrong on its connection ends that connection, and is nobody else's concern.
        let _ = connection.await;
    }

    async fn answer_request(self: Rc<Self>, request: Request<Incoming>, busy: Busy) -> Response<AnswerBody> {
        let (parts, body) = request.into_parts();
        let read_timeout = Duration::from_millis(self.settings.read_timeout_ms);
        // `GET up` is read as a host without a path.
        if !parts.uri.path().starts_with('/') && parts.uri.path() != "*" {
            return self.refuse(Refusal::NoPath);
        }
        let mut charge = Charge { shared: Rc::clone(&self), bytes: 0 };
        let body = match timeout(read_timeout, self.read_body(body, &mut charge)).await {
            Ok(Ok(body)) => body,
            Ok(Err(refusal)) => return self.refuse(refusal),
            Err(_) => return self.refuse(Refusal::Slow),
        };
        let id = RequestId(self.request_next.replace(self.request_next.get() + 1));
        let answer = Rc::new(Answer::new(id, self.events.clone(), &parts.headers));
        self.requests.borrow_mut().insert(id, Rc::clone(&answer));
        let open = Open { shared: Rc::clone(&self), id, _charge: charge, _busy: busy };
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        self.events.push(Event::Request {
            request: id,
            method: method(&parts.method),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            content_type: text(header::CONTENT_TYPE),
            content_encoding: text(header::CONTENT_ENCODING),
            body,
        });
        let (status, headers, whole) = answer.begun().await;
        let body = match whole {
            Whole::Yes(bytes) => AnswerBody::whole(bytes, open),
            Whole::No => AnswerBody::streamed(answer, open),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    async fn read_body(&self, mut body: Incoming, charge: &mut Charge) -> Result<Vec<u8>, Refusal> {
        let limit = self.settings.body_bytes_max;
        let hint = body.size_hint();
        if hint.lower() > limit as u64 {
            return Err(Refusal::TooLarge { limit });
        }
        // All of its room at once: there is never a second copy, as there was where a list grows. One that does not say
        // how long it is counts as long as any may be until it is whole.
        let room = hint.exact().map_or(limit, |length| length as usize);
        charge.add(room)?;
        let mut bytes = Vec::with_capacity(room);
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|_| Refusal::Broken)?.into_data() else { continue };
            if bytes.len() + piece.len() > limit {
                return Err(Refusal::TooLarge { limit });
            }
            bytes.extend_from_slice(&piece);
        }
        bytes.shrink_to_fit();
        charge.shrink_to(bytes.capacity());
        Ok(bytes)
    }

    /// Answers without the core, and closes the connection, whose unread body would be in the way.
    fn refuse(&self, refusal: Refusal) -> Response<AnswerBody> {
        self.count(|counters| counters.refused_request_count += 1);
        let (status, words) = match refusal {
            Refusal::NoPath => (StatusCode::BAD_REQUEST, "the request's target must begin with a slash\n".to_owned()),
            Refusal::TooLarge { limit } => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("the request's body is larger than {limit} bytes\n"))
            }
            Refusal::Busy { limit } => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the bodies of requests under way would exceed {limit} bytes; try again\n"),
            ),
            Refusal::Slow => (StatusCode::REQUEST_TIMEOUT, "the request's body did not come in time\n".to_owned()),
            Refusal::Broken => (StatusCode::BAD_REQUEST, "the request's body is not whole\n".to_owned()),
        };
        let mut response = Response::new(AnswerBody::text(words));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn answer(&self, request: RequestId) -> Option<Rc<Answer>> {
        self.requests.borrow().get(&request).cloned()
    }

    fn count(&self, change: impl FnOnce(&mut ServeCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }
}

/// Why a request is answered without the core.
enum Refusal {
    NoPath,
    TooLarge { limit: usize },
    Busy { limit: usize },
    Slow,
    Broken,
}

/// A request that the core may still answer. When this goes first (the client has gone), the core is told.
struct Open {
    shared: Rc<Shared>,
    id: RequestId,
    _charge: Charge,
    _busy: Busy,
}

impl Drop for Open {
    fn drop(&mut self) {
        let unanswered = self.shared.requests.borrow_mut().remove(&self.id);
        if unanswered.is_some() {
            self.shared.events.push(Event::RequestGone { request: self.id });
        }
    }
}

/// Bytes of one body, counted until its request is answered.
struct Charge {
    shared: Rc<Shared>,
    bytes: usize,
}

impl Charge {
    fn add(&mut self, bytes: usize) -> Result<(), Refusal> {
        let limit = self.shared.settings.bodies_bytes_max;
        let total = self.shared.bodies_bytes.get() + bytes;
        if total > limit {
            return Err(Refusal::Busy { limit });
        }
        self.shared.bodies_bytes.set(total);
        self.bytes += bytes;
        Ok(())
    }

    fn shrink_to(&mut self, bytes: usize) {
        self.shared.bodies_bytes.set(self.shared.bodies_bytes.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// Marks a connection as busy from a request's head to its answer's end.
struct Busy {
    count: Rc<Cell<u32>>,
    idle_since: Rc<Cell<Instant>>,
}

impl Busy {
    fn new(count: &Rc<Cell<u32>>, idle_since: &Rc<Cell<Instant>>) -> Self {
        count.set(count.get() + 1);
        Self { count: Rc::clone(count), idle_since: Rc::clone(idle_since) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        self.idle_since.set(Instant::now());
    }
}

/// Takes a connection off the list when its task ends, however it ends.
struct Closed {
    shared: Rc<Shared>,
    number: u64,
}

impl Drop for Closed {
    fn drop(&mut self) {
        // An evicted one is off the list already; the list itself is borrowed while it is swept.
        if let Ok(mut connections) = self.shared.connections.try_borrow_mut() {
            connections.remove(&self.number);
        }
    }
}

fn method(method: &hyper::Method) -> Method {
    match *method {
        hyper::Method::GET => Method::Get,
        hyper::Method::HEAD => Method::Head,
        hyper::Method::POST => Method::Post,
        hyper::Method::PUT => Method::Put,
        hyper::Method::DELETE => Method::Delete,
        hyper::Method::OPTIONS => Method::Options,
        _ => Method::Other,
    }
}

/// An empty body, or bytes of a page.
fn static_bytes(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
