//! Everything we can ask for.

use super::input::{FetchId, PostId, RequestId};

/// The buffer that `poll_output` is given: the largest piece of body, message or segment is at most this long.
pub const OUTPUT_BYTES_MAX: usize = 128 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Where a scrape goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchWhat<'b> {
    /// GET this URL (`http://host:port/path?query`) with these headers, over a connection kept under `FetchId`'s target
    /// number.
    Http { url: &'b str, accept: &'static str, timeout_header: &'b str },
    /// The host's own metrics, in the text format.
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostKind {
    /// Remote write 1.0: the platform adds snappy (block format) and the protocol's headers.
    RemoteWrite1,
    Json,
}

/// Borrowed texts and bytes lie in the buffer given to `poll_output`.
pub enum Output<'b> {
    /// Nothing more to ask. Come back at this monotonic time, or with the next input.
    SleepUntil { mono_ms: u64 },
    /// Nothing more to ask, and work is waiting for its next bite: come back as soon as the sockets have been looked at.
    Again,

    /// Start a scrape. `target` numbers the target, so that its connection can be kept from scrape to scrape.
    Fetch { fetch: FetchId, target: u32, what: FetchWhat<'b>, timeout_ms: u64 },
    /// Stop a scrape; nothing more about it is wanted.
    FetchAbort { fetch: FetchId },
    /// A target is gone; its connection may be closed.
    TargetGone { target: u32 },

    /// The status line and headers of an answer; body pieces follow, each after `RequestReady`, except the first.
    Respond { request: RequestId, status: u16, headers: &'b [(&'static str, &'b str)] },
    /// A piece of body. `last` ends the answer. With `broken` the connection is cut instead, so that the client sees
    /// that the answer is not whole.
    RespondBody { request: RequestId, bytes: &'b [u8], last: bool, broken: bool },
    /// Serve the built-in page's file of this path, or 404: the core knows no files.
    RespondPage { request: RequestId, path: &'b str },

    /// POST to an upstream or an Alertmanager. `peer` numbers it, so that its connection can be kept.
    Post { post: PostId, peer: u32, url: &'b str, kind: PostKind, timeout_ms: u64, body: &'b [u8] },

    /// Append to the tail log of this generation (a generation above the current one starts the other file).
    LogAppend { generation: u64, bytes: &'b [u8] },
    /// Bring the tail log to the medium, then answer `LogSynced`.
    LogSync { token: u64 },
    /// Put into the database, in the transaction that ends with the next `Commit`.
    Put(Put<'b>),
    /// End the transaction; answered by `Committed`.
    Commit { token: u64 },

    /// Read the configuration again; answered by `Settings` or `SettingsRefused`.
    Reload,
    /// A state has changed; `cause` bounds repetition (the platform prints at most one line per cause per five minutes).
    Log { level: Level, cause: u64, message: &'b str },
    /// After `Stop`: all is flushed; the process may end.
    Stopped,
}

/// Rows of the database.
pub enum Put<'b> {
    Segment {
        meta: crate::store::stored::SegmentMeta,
        bytes: &'b [u8],
    },
    /// A stored segment's sequence, rows and times, and its new bytes. One that is not there any more stays away.
    Replace {
        meta: crate::store::stored::SegmentMeta,
        bytes: &'b [u8],
    },
    Layout(crate::store::stored::LayoutPart<'b>),
    /// Small state by name: replaces; empty bytes delete.
    State {
        key: &'b str,
        bytes: &'b [u8],
    },
    /// Segments (and the layouts that no segment names any more) that end before this instant are dropped.
    DropBefore {
        t_ms: i64,
    },
}
