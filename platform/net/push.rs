//! Messages to upstreams and Alertmanagers: a POST, and the beginning of what the peer says to it.

use super::{Event, Events, USER_AGENT, connect::Kept, dns::Resolver, url::HttpUrl};
use bytes::Bytes;
use holdfast_core::daemon::{input::PostId, output::PostKind};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, body::Incoming, header};
use std::{
    rc::Rc,
    time::{Duration, SystemTime},
};
use tokio::{task::spawn_local, time::timeout};

/// So much of an answer is handed on, for the log.
pub const ANSWER_BYTES_MAX: usize = 512;
/// An answer longer than this is not read to its end; the connection is closed instead.
const ANSWER_DRAIN_BYTES_MAX: usize = 64 * 1024;
/// Snappy's own block size: pieces of it, put together, are what one compression of the whole would give.
const SNAPPY_PIECE_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug)]
pub struct PostRequest<'a> {
    /// Numbers the peer, so that its connection can be kept.
    pub peer: u32,
    pub url: &'a str,
    pub kind: PostKind,
    pub timeout_ms: u64,
    pub body: &'a [u8],
}

pub struct Pusher {
    shared: Rc<Shared>,
}

struct Shared {
    events: Events,
    resolver: Rc<Resolver>,
    kept: Kept,
}

impl Pusher {
    pub fn new(events: Events, resolver: Rc<Resolver>, kept_count_max: usize) -> Self {
        Self { shared: Rc::new(Shared { events, resolver, kept: Kept::new(kept_count_max) }) }
    }

    /// Sends. `PostAnswered` or `PostFailed` follows.
    pub fn start(&self, post: PostId, request: PostRequest<'_>) {
        let PostRequest { peer, kind, .. } = request;
        let body = match kind {
            PostKind::RemoteWrite1 => snappy_block(request.body).map(Bytes::from),
            PostKind::Json => Ok(Bytes::copy_from_slice(request.body)),
        };
        let (url, time) = (request.url.to_owned(), Duration::from_millis(request.timeout_ms));
        let shared = Rc::clone(&self.shared);
        spawn_local(async move {
            let sending = async { shared.send(peer, kind, &url, body?).await };
            let result = timeout(time, sending).await.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
            shared.events.push(match result {
                Ok(answer) => Event::PostAnswered {
                    post,
                    status: answer.status,
                    retry_after_ms: answer.retry_after_ms,
                    body: answer.beginning,
                },
                Err(words) => Event::PostFailed { post, error: format!("Post {url:?}: {words}") },
            });
        });
    }
}

struct Answer {
    status: u16,
    retry_after_ms: Option<u64>,
    beginning: String,
}

impl Shared {
    async fn send(&self, peer: u32, kind: PostKind, url: &str, body: Bytes) -> Result<Answer, String> {
        let url = HttpUrl::parse(url).map_err(|error| error.to_string())?;
        let make = || request(kind, &url, body.clone());
        let (response, connection) = self.kept.exchange(&self.resolver, peer, &url, make).await?;
        let status = response.status().as_u16();
        let retry_after_ms = retry_after_ms(response.headers(), SystemTime::now());
        let (beginning, is_whole) =
            read_beginning(response.into_body()).await.map_err(|error| connection.words(&error, false))?;
        if is_whole {
            self.kept.put(peer, connection);
        }
        Ok(Answer { status, retry_after_ms, beginning })
    }
}

fn request(kind: PostKind, url: &HttpUrl, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
    let builder =
        Request::post(&url.path_and_query).header(header::HOST, &url.authority).header(header::USER_AGENT, USER_AGENT);
    let builder = match kind {
        PostKind::RemoteWrite1 => builder
            .header(header::CONTENT_ENCODING, "snappy")
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0"),
        PostKind::Json => builder.header(header::CONTENT_TYPE, "application/json"),
    };
    builder.body(Full::new(body)).map_err(|error| format!("the request cannot be written: {error}"))
}

/// The first bytes of an answer as text, and whether it was read to its end.
async fn read_beginning(mut body: Incoming) -> Result<(String, bool), hyper::Error> {
    let (mut beginning, mut total_bytes) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame?.into_data() {
            let wanted = (ANSWER_BYTES_MAX - beginning.len()).min(bytes.len());
            beginning.extend_from_slice(&bytes[..wanted]);
            total_bytes += bytes.len();
            if total_bytes > ANSWER_DRAIN_BYTES_MAX {
                return Ok((text(beginning), false));
            }
        }
    }
    Ok((text(beginning), true))
}

/// At most [`ANSWER_BYTES_MAX`] bytes of text, even where replacing broken characters makes it longer.
fn text(bytes: Vec<u8>) -> String {
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    let end = (0..=ANSWER_BYTES_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text.truncate(end);
    text
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3). One in the past is 0.
fn retry_after_ms(headers: &HeaderMap, now: SystemTime) -> Option<u64> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let wait = at.duration_since(now).unwrap_or_default();
    Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

/// One snappy block (google/snappy, format_description.txt): the length once, then the pieces without theirs. Memory
/// beside the result is bounded by one piece.
fn snappy_block(plain: &[u8]) -> Result<Vec<u8>, String> {
    let too_long = |_| format!("{} bytes are too many for a snappy block", plain.len());
    let mut block = Vec::with_capacity(plain.len() / 4);
    push_varint(&mut block, u32::try_from(plain.len()).map_err(too_long)?);
    let mut encoder = snap::raw::Encoder::new();
    let mut scratch = vec![0; snap::raw::max_compress_len(plain.len().min(SNAPPY_PIECE_BYTES))];
    for piece in plain.chunks(SNAPPY_PIECE_BYTES) {
        let length = encoder.compress(piece, &mut scratch).map_err(|error| error.to_string())?;
        let preamble = scratch.iter().take_while(|&&byte| byte & 0x80 != 0).count() + 1;
        block.extend_from_slice(&scratch[preamble..length]);
    }
    Ok(block)
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
