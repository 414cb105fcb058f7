//! Everything that can happen.

use super::settings::Settings;
use crate::ledger::Loss;
use alloc::{boxed::Box, vec::Vec};

/// A scrape in flight. Never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// A request to our own HTTP server. Never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A message on its way to an upstream or an Alertmanager. Never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PostId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Other,
}

/// Each variant says who sends it and when.
pub enum Input<'a> {
    /// The time given by `SleepUntil` has come, or the platform just wants the outputs drained.
    Tick,

    /// A fetch has its status line. Exactly one `FetchEnd` or `FetchFailed` follows in the end.
    FetchHead { fetch: FetchId, status: u16, content_type: &'a str },
    /// The next piece of a fetch's body, decoded (never compressed).
    FetchBody { fetch: FetchId, bytes: &'a [u8] },
    /// The body is complete.
    FetchEnd { fetch: FetchId },
    /// No connection, a time-out, a half-closed body: in words for `lastError`.
    FetchFailed { fetch: FetchId, error: &'a str },

    /// A whole request to our HTTP server; the body is complete and within the limit the platform was given.
    Request {
        request: RequestId,
        method: Method,
        /// Percent-encoded, without the query.
        path: &'a str,
        /// Without the question mark; empty when there is none.
        query: &'a str,
        content_type: &'a str,
        content_encoding: &'a str,
        /// As it came: nothing is decompressed. Given away, so that there is one copy of it however long it is kept.
        body: Vec<u8>,
    },
    /// The client has taken what `RespondBody` gave so far; there is room for the next piece.
    RequestReady { request: RequestId },
    /// The client went away; what is still asked for this request goes nowhere.
    RequestGone { request: RequestId },

    /// The peer answered a `Post`. `body` is the answer's beginning, at most 512 bytes, for the log.
    PostAnswered { post: PostId, status: u16, retry_after_ms: Option<u64>, body: &'a str },
    /// No connection or no answer in time.
    PostFailed { post: PostId, error: &'a str },

    /// Everything given by `LogAppend` up to the `LogSync` with this token is on the medium, or could not be brought there.
    LogSynced { token: u64, result: Result<(), &'a str> },
    /// Everything given between `LogSync`s for the database is committed, or nothing of it is.
    Committed { token: u64, result: Result<(), &'a str> },

    /// A configuration that the platform has read and checked takes the place of the running one.
    Settings(Box<Settings>),
    /// A re-read configuration was refused; the old one goes on. All errors, in lines.
    SettingsRefused { errors: &'a str },

    /// Memory and disk as the platform sees them, once in a few seconds.
    Usage(Usage),

    /// The platform had to drop something that was stored, or found it damaged, and has logged it.
    Lost(Loss<'a>),

    /// SIGTERM or SIGINT: flush and end. Answered by `Output::Stopped`.
    Stop,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident set now and at its peak.
    pub resident_bytes: u64,
    pub resident_bytes_peak: u64,
    /// User and system CPU time of this process.
    pub cpu_ms: u64,
    /// All files in the data directory.
    pub disk_bytes: u64,
    /// Bytes this process had written to the block layer (`write_bytes` of proc's io file).
    pub written_bytes: u64,
    /// What those files may take together; 0 without a disk.
    pub disk_quota_bytes: u64,
    /// Segments dropped since start for the quota or because the disk is full, and the newest instant among them.
    pub dropped_segment_count: u64,
    pub dropped_until_ms: Option<i64>,
    /// Syncs and commits that failed since start, and the longest of all.
    pub disk_failure_count: u64,
    pub disk_stall_ms_max: u64,
    pub connections: u32,
    pub open_files: u32,
}
