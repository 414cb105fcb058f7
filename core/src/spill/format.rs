//! What the formats on flash share: numbers, errors, and reading little-endian fields. docs/SPILL_FORMAT.md in words.

use crate::store::{codec::CodecError, stored::StoredError};

pub const SEGMENT_MAGIC: u32 = u32::from_le_bytes(*b"HFSG");
pub const LAYOUT_MAGIC: u32 = u32::from_le_bytes(*b"HFLY");
pub const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"HFLG");

/// What is written, of all three. Version 1 had no references from column to column and whole segments in the log.
pub const VERSION: u16 = 2;

/// Samples as they were scraped, not downsampled.
pub const TIER_RAW: u8 = 0;

/// In a segment's directory, set in the first column of stripes that are not made of floats and ages.
pub const EXTRA_STRIPE: u32 = 1 << 31;

/// A segment or layout part is at most this long: it travels in one piece.
pub const SEGMENT_BYTES_MAX: usize = crate::daemon::output::OUTPUT_BYTES_MAX;

/// When, by which clock, rows were taken: enough to give them other times once the true time is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockEpoch {
    /// Stable hash of the kernel's boot id.
    pub boot_hash: u64,
    /// Wall clock minus monotonic clock, milliseconds, when this was written.
    pub wall_offset_ms: i64,
    /// Whether the wall clock was trusted then.
    pub trusted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("the {what} is cut off; it is torn or damaged")]
    Truncated { what: &'static str },
    #[error("these bytes are no {what}")]
    NotThis { what: &'static str },
    #[error("the {what} does not match its checksum; the medium damaged it")]
    Checksum { what: &'static str },
    #[error("the {what} has a field no version writes: {field}")]
    Damaged { what: &'static str, field: &'static str },
    #[error("the {what} has version {version}, this program reads up to {VERSION}; use the version that wrote it")]
    FromNewerVersion { what: &'static str, version: u16 },
    #[error("the {what} has a {field} of a newer version, which reads it; it is left out here")]
    Newer { what: &'static str, field: &'static str },
    #[error("a column cannot be read: {0}")]
    Codec(#[from] CodecError),
    #[error("{0}")]
    Stored(StoredError),
    #[error("{bytes} bytes do not fit the {capacity} given; pass a buffer of SEGMENT_BYTES_MAX")]
    OutputFull { bytes: usize, capacity: usize },
}

impl From<StoredError> for FormatError {
    fn from(error: StoredError) -> Self {
        Self::Stored(error)
    }
}

/// Fixed fields at fixed offsets. The caller has checked that the slice is long enough.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(array_at(bytes, at))
}

pub fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

pub fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Unsigned LEB128 of at most five bytes at the start of `rest`, which is moved behind it.
pub fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

/// The reverse of [`take_length`]; returns how many bytes it wrote, `None` when `out` is too short.
pub fn put_length(out: &mut [u8], value: usize) -> Option<usize> {
    put_unsigned(out, value as u64)
}

/// Unsigned LEB128 of at most ten bytes; returns how many, `None` when `out` is too short.
pub fn put_unsigned(out: &mut [u8], mut value: u64) -> Option<usize> {
    let mut at = 0;
    loop {
        let last = value < 0x80;
        *out.get_mut(at)? = if last { value as u8 } else { value as u8 | 0x80 };
        at += 1;
        if last {
            return Some(at);
        }
        value >>= 7;
    }
}

/// The reverse of [`put_unsigned`].
pub fn take_unsigned(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        if shift == 63 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
