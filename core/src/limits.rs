//! Every limit that is not a setting: its unit, what it bounds, and what happens when it is reached.
//!
//! Reaching a limit is ordinary: something is evicted, refused or shed, alone, and counted.

pub use crate::{labels::LABELS_BYTES_MAX, store::codec::ROWS_MAX as RUN_ROWS_MAX};

/// Memory that the process may use when nothing is said: resident at its peak, plus what of the slab is not.
pub const MEMORY_LIMIT_BYTES_DEFAULT: u64 = 16 * MIB;
/// The daemon does not start below this: programs, SQLite and a slab that is worth having would not fit.
pub const MEMORY_LIMIT_BYTES_MIN: u64 = 10 * MIB;
/// The smallest slab a plan is made for; a firmware's static buffer.
pub const SLAB_BYTES_MIN: usize = 16 * 1024;

/// Code, its data, libraries' own and the stack, as measured in the running daemon.
pub const PROGRAM_BYTES: u64 = 5 * MIB + 512 * KIB;
/// Heap of targets, rules and alerts. A configuration that needs more is refused at start or reload.
pub const SETTINGS_BYTES: u64 = 768 * KIB;
/// SQLite's hard heap limit. It evicts its own pages first; then the statement fails and is tried again.
pub const SQLITE_HEAP_BYTES: u64 = MIB;
/// Connections served or made at once. The longest idle one is closed for a new one; without an idle one, the new one is.
pub const CONNECTIONS_COUNT_MAX: u64 = 32;
/// Buffers of one connection, both ways.
pub const CONNECTION_BYTES: u64 = 24 * KIB;
/// Heap of all queries together. The query that would pass it fails alone.
pub const QUERIES_BYTES_MIN: u64 = MIB;
/// Pages, batches and segments on their way: each at most this long.
pub const MESSAGE_BYTES_MAX: u64 = 128 * KIB;
/// Pages, batches and segments on their way at once.
pub const MESSAGES_COUNT_MAX: u64 = 4;
/// A request's body, where `--web.max-body-size` says nothing. A longer one is answered 413.
pub const BODY_BYTES_MAX: u64 = 128 * KIB;
/// The same where pushed requests are taken: as much as the common senders put into one.
pub const RECEIVE_BODY_BYTES_MAX: u64 = MIB;
/// Bodies of requests that are not yet answered, all together, or one if that is longer. A request beyond it is answered
/// 503.
pub const BODIES_BYTES_MAX: u64 = 2 * BODY_BYTES_MAX;
pub const RECEIVE_BODIES_BYTES_MAX: u64 = RECEIVE_BODY_BYTES_MAX;

/// Pushed requests that wait for their turn, compressed: a part of all bodies. A request beyond it is told to come back (503);
/// a single one may be as long as any body.
pub const RECEIVE_QUEUE_BYTES_MAX: usize = 256 * KIB as usize;
/// Of a pushed request, inflated bytes in memory at a time.
pub const RECEIVE_WINDOW_BYTES: usize = 512 * KIB as usize;
/// Inflated length of a pushed request. A longer one is answered 413 before it is inflated.
pub const RECEIVE_INFLATED_BYTES_MAX: u64 = 8 * MIB;
/// Samples of a pushed request that are sorted into rows at a time, and the labels of their series.
pub const RECEIVE_BATCH_SAMPLES_MAX: usize = 2048;
pub const RECEIVE_BATCH_LABELS_BYTES: usize = 64 * KIB as usize;
/// All of these together, in the budget of a daemon that takes pushed requests.
pub const RECEIVE_BYTES: u64 = 640 * KIB;
const _: () = assert!(
    RECEIVE_WINDOW_BYTES + RECEIVE_BATCH_LABELS_BYTES + 32 * RECEIVE_BATCH_SAMPLES_MAX <= RECEIVE_BYTES as usize
);
const _: () = assert!(RECEIVE_QUEUE_BYTES_MAX <= RECEIVE_BODIES_BYTES_MAX as usize);
/// Newest instant that is taken from a pusher, ahead of the own clock. Prometheus' figure (storage/remote/write_handler.go).
pub const RECEIVE_AHEAD_MS_MAX: i64 = 10 * 60 * 1000;
/// A pusher's timeline is closed after so long without a sample.
pub const RECEIVE_QUIET_MS: u64 = 15 * 60 * 1000;
/// A pushed request waits so long for room in the ring before it is told to come back.
pub const RECEIVE_WAIT_MS: u64 = 10_000;

/// A line of a target's last page, by which the same line of the next page is known without being parsed. A target whose page
/// finds no room in the region goes without: its lines are parsed.
pub const SEEN_LINE_BYTES: u64 = 12;

/// Newest rows of a timeline kept as plain cells. The row after them has the chunk packed first.
pub const CHUNK_ROWS_MAX: usize = 16;
/// Strikes of a slab: an attach is one, a panic of the process that attached nine more, and none are left once a process
/// has read all of the slab. With so many the next process starts from flash, for what ended the others may be in the
/// slab. So a slab that makes its readers panic is given up after three of them, and one whose processes are killed from
/// outside before their first flush, which is nothing against the slab, only after thirty in a row.
pub const STRIKES_COUNT_MAX: u32 = 30;
pub const PANIC_STRIKES_COUNT: u8 = 9;
/// Each of the tail log's two files, from the size of the ring. A checkpoint closes one before it is full.
pub const LOG_BYTES_MIN: u64 = 256 * KIB;
pub const LOG_BYTES_MAX: u64 = 16 * MIB;
/// Segments whose samples are older than this are written again behind the entropy coder. Beyond half of the disk quota age
/// does not matter: the oldest ones go first.
pub const AGED_AFTER_MS: i64 = 24 * 3_600_000;
/// A transaction ages at most so many segments, and at most twice as many as it seals where that is more than four.
pub const AGED_PER_COMMIT_MAX: u64 = 32;
/// Aging a segment takes at most so long on a slow board: it begins only when no scrape is due before.
pub const AGING_BITE_MS: u64 = 50;
/// Length of a small state's name. A longer one is refused.
pub const STATE_KEY_BYTES_MAX: usize = 40;
/// One page of the ledger of losses, as small state: the smallest slot. Older entries are summed up to fit.
pub const LEDGER_PAGE_BYTES_MAX: usize = 1024;
/// Length of the name of what lost something. A longer one is cut.
pub const LEDGER_SUBJECT_BYTES_MAX: usize = 64;

pub(crate) const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;

const _: () = assert!(CHUNK_ROWS_MAX <= RUN_ROWS_MAX);
const _: () = assert!(CHUNK_ROWS_MAX * 2 == u32::BITS as usize, "one word holds a column's presence");
