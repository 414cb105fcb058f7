//! From RAM to flash and back: segments, layout parts and the tail log (docs/SPILL_FORMAT.md).
//!
//! Rows go twice. Soon after they are committed they go into the tail log, so that a power cut costs at most one flush
//! interval; later they are sealed, many at a time, into segments in the database, and the log is forgotten. Only
//! what a segment holds counts as spilled. No allocation here grows with the number of samples.

mod ager;
mod aging;
mod analyze;
mod crc;
mod format;
mod frame;
mod layout;
mod recover;
mod recovery;
mod rows;
mod segment;
mod state;
mod stripes;
mod writer;

pub use ager::{Ager, Aging};
pub use analyze::{ClassReport, ColumnClass, LayoutLabels, TimelineReport, analyze, layout_labels};
pub use crc::crc32;
pub use format::{ClockEpoch, FormatError, SEGMENT_BYTES_MAX, TIER_RAW};
pub use frame::{FRAME_BYTES_MAX, FRAME_HEAD_BYTES, Frame, FrameKind, GenerationStart, LOG_PAGE_BYTES};
pub use layout::{LayoutCursor, LayoutHead, LayoutWriter, layout_pairs_read, layout_part_read, pair_hash};
pub(crate) use recover::seal_all;
pub use recover::{Flash, RecoverError, Recovered, recover, replay_order};
pub use recovery::{
    Recovery, RecoveryReport, Replay, ReplayReport, TimelineOpenError, log_owner, mark_stored, rows_stored,
    timeline_open,
};
pub use rows::{Block, BlockHead, History, RowsReader};
pub use segment::{
    ColumnUnit, ColumnVisit, Columns, Encoded, SegmentForm, SegmentHead, SegmentReader, SegmentSpec, SliceBytes,
    encode_segment,
};
pub use state::{SPILL_STATE_KEY, SpillOptions, SpillState};
pub use stripes::{KeptColumn, StripeCache};
pub use writer::{SealReason, Spill, ring_is_short};

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod world;
