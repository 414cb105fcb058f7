//! A segment: some rows and columns of one timeline under one layout, with a directory so that one series is one read.
//!
//! Header (96 bytes), instants, directory (16 bytes a stripe), stripes. A stripe is some neighbouring columns, each
//! behind its length. Ages are written right behind the values whose timestamps they correct, whatever column of the
//! layout they are; that column's own place stays empty. So a series is one piece of bytes.

mod decoding;
mod head;
mod read;
mod write;

pub use decoding::ColumnUnit;
pub use head::{SegmentForm, SegmentHead};
pub use read::{SegmentReader, SliceBytes};
pub use write::{Assembly, ColumnVisit, Columns, Encoded, SegmentSpec, encode_segment};

pub const HEADER_BYTES: usize = 96;
const ENTRY_BYTES: usize = 16;
/// Columns per stripe of a packed segment: what reading one series has to fetch and step over.
pub const STRIPE_COLUMNS: u32 = 32;
const WHAT: &str = "segment";

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
