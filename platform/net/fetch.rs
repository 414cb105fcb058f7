//! Scrapes: a GET whose body comes to the loop piece by piece.

use super::{Event, Events, USER_AGENT, connect::Connection, connect::Kept, dns::Resolver, url::HttpUrl};
use bytes::Bytes;
use holdfast_core::daemon::input::FetchId;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};
use tokio::{
    task::{AbortHandle, spawn_local},
    time::timeout,
};

/// As Go's HTTP client.
const REDIRECT_COUNT_MAX: usize = 10;

/// What one scrape asks for.
#[derive(Clone, Copy, Debug)]
pub struct FetchRequest<'a> {
    /// Numbers the target, so that its connection can be kept.
    pub target: u32,
    pub url: &'a str,
    pub accept: &'a str,
    /// Value of `X-Prometheus-Scrape-Timeout-Seconds`.
    pub timeout_header: &'a str,
    /// For the whole exchange: name, connection, headers and body.
    pub timeout_ms: u64,
}

pub struct Fetcher {
    shared: Rc<Shared>,
}

struct Shared {
    events: Events,
    resolver: Rc<Resolver>,
    kept: Kept,
    running: RefCell<HashMap<FetchId, AbortHandle>>,
}

/// An own copy of what one scrape asks for.
struct Job {
    url: String,
    accept: String,
    timeout_header: String,
    timeout: Duration,
    target: u32,
    fetch: FetchId,
}

impl Fetcher {
    /// Keeps at most `kept_count_max` connections between scrapes.
    pub fn new(events: Events, resolver: Rc<Resolver>, kept_count_max: usize) -> Self {
        let shared = Shared { events, resolver, kept: Kept::new(kept_count_max), running: RefCell::default() };
        Self { shared: Rc::new(shared) }
    }

    /// Starts a scrape. `FetchHead`, `FetchBody`... and one of `FetchEnd` and `FetchFailed` follow, unless it is aborted.
    pub fn start(&self, fetch: FetchId, request: FetchRequest<'_>) {
        let job = Job {
            url: request.url.to_owned(),
            accept: request.accept.to_owned(),
            timeout_header: request.timeout_header.to_owned(),
            timeout: Duration::from_millis(request.timeout_ms),
            target: request.target,
            fetch,
        };
        let shared = Rc::clone(&self.shared);
        let task = spawn_local(async move {
            let event = shared.fetch(&job).await;
            shared.running.borrow_mut().remove(&job.fetch);
            shared.events.push(event);
        });
        self.shared.running.borrow_mut().insert(fetch, task.abort_handle());
    }

    /// Nothing more is heard of this scrape. Its connection is closed, unless it had ended already.
    pub fn abort(&self, fetch: FetchId) {
        if let Some(task) = self.shared.running.borrow_mut().remove(&fetch) {
            task.abort();
        }
        self.shared.events.forget_fetch(fetch);
    }

    pub fn target_gone(&self, target: u32) {
        self.shared.kept.forget(target);
    }

    pub fn kept_count(&self) -> usize {
        self.shared.kept.count()
    }
}

impl Shared {
    async fn fetch(&self, job: &Job) -> Event {
        let has_head = Cell::new(false);
        let result = timeout(job.timeout, self.try_fetch(job, &has_head)).await;
        let error = match result {
            Ok(Ok(())) => return Event::FetchEnd { fetch: job.fetch },
            Ok(Err(words)) => words,
            Err(_) => "context deadline exceeded".to_owned(),
        };
        // Go names the request only in errors from before the headers.
        let error = if has_head.get() { error } else { format!("Get {:?}: {error}", job.url) };
        Event::FetchFailed { fetch: job.fetch, error }
    }

    async fn try_fetch(&self, job: &Job, has_head: &Cell<bool>) -> Result<(), String> {
        let (response, connection) = self.follow(job).await?;
        let headers = response.headers();
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
            && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            return Err(format!(
                "the answer has Content-Encoding {:?}, though only identity was accepted",
                String::from_utf8_lossy(encoding.as_bytes())
            ));
        }
        let content_type = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let content_type = content_type.map_or_else(String::new, |value| value.into_owned());
        let status = response.status().as_u16();
        has_head.set(true);
        self.events.push(Event::FetchHead { fetch: job.fetch, status, content_type });
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            // Trailers are nothing to us.
            if let Ok(bytes) = frame.map_err(|error| connection.words(&error, false))?.into_data() {
                self.events.push_fetched(Event::FetchBody { fetch: job.fetch, bytes }).await;
            }
        }
        self.kept.put(job.target, connection);
        Ok(())
    }

    /// The first answer that is no redirection. Only the target's own connection is kept.
    async fn follow(&self, job: &Job) -> Result<(Response<Incoming>, Connection), String> {
        let mut url = HttpUrl::parse(&job.url).map_err(|error| error.to_string())?;
        let (mut response, mut connection) =
            self.kept.exchange(&self.resolver, job.target, &url, || request(job, &url)).await?;
        for _ in 0..REDIRECT_COUNT_MAX {
            let Some(location) = redirection(&response) else { return Ok((response, connection)) };
            url = url.join(&location).map_err(|error| error.to_string())?;
            connection = Connection::open(&self.resolver, &url).await?;
            response = connection.exchange(request(job, &url)?).await.map_err(|error| error.words)?;
        }
        Err(format!("stopped after {REDIRECT_COUNT_MAX} redirects"))
    }
}

fn request(job: &Job, url: &HttpUrl) -> Result<Request<Full<Bytes>>, String> {
    Request::get(&url.path_and_query)
        .header(header::HOST, &url.authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, &job.accept)
        .header(header::ACCEPT_ENCODING, "identity")
        .header("X-Prometheus-Scrape-Timeout-Seconds", &job.timeout_header)
        .body(Full::default())
        .map_err(|error| format!("the request cannot be written: {error}"))
}

/// Where to go on, for the statuses that Go's client follows.
fn redirection(response: &Response<Incoming>) -> Option<String> {
    let is_redirection = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.headers().get(header::LOCATION).filter(|_| is_redirection)?;
    location.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
