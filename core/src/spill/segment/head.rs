//! A segment's fixed fields.

use super::{
    super::{
        crc::crc32,
        format::{
            ClockEpoch, FormatError, SEGMENT_BYTES_MAX, SEGMENT_MAGIC, TIER_RAW, VERSION, i64_at, put, u16_at, u32_at,
            u64_at,
        },
    },
    ENTRY_BYTES, HEADER_BYTES, WHAT,
};
use crate::store::{TimelineKey, codec::ROWS_MAX};
use core::ops::Range;

/// How a segment's columns are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SegmentForm {
    /// By the bit, each column by itself or as a difference to one before: what is queried now and then is read fast.
    Packed = 0,
    /// Behind a range coder, a stripe at a time: what has aged is small.
    Aged = 1,
}

/// Bits 1 to 3 of the flags; bit 0 is the clock's trust.
pub const FORM_SHIFT: u8 = 1;

impl SegmentForm {
    fn from_flags(flags: u8) -> Option<Self> {
        match flags >> FORM_SHIFT & 7 {
            0 => Some(Self::Packed),
            1 => Some(Self::Aged),
            _ => None,
        }
    }
}

/// A segment's fixed fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    pub timeline: TimelineKey,
    pub layout: u64,
    pub row_from: u64,
    pub row_count: u32,
    pub column_from: u32,
    pub column_count: u32,
    pub epoch: ClockEpoch,
    pub form: SegmentForm,
    /// Hull of the instants and of the samples' own timestamps.
    pub t_min_ms: i64,
    pub t_max_ms: i64,
    /// Of the whole segment.
    pub bytes: u32,
    pub instants_bytes: u32,
    pub stripe_count: u32,
    /// Stripes of columns whose kind only a newer version knows; told by [`SegmentReader::open`](super::SegmentReader::open).
    pub extra_count: u32,
    pub index_crc: u32,
}

impl SegmentHead {
    pub fn put(&self, out: &mut [u8]) {
        put(out, 0, &SEGMENT_MAGIC.to_le_bytes());
        put(out, 4, &VERSION.to_le_bytes());
        out[6] = TIER_RAW;
        out[7] = u8::from(self.epoch.trusted) | (self.form as u8) << FORM_SHIFT;
        put(out, 8, &self.timeline.0.to_le_bytes());
        put(out, 16, &self.layout.to_le_bytes());
        put(out, 24, &self.row_from.to_le_bytes());
        put(out, 32, &self.row_count.to_le_bytes());
        put(out, 36, &self.column_from.to_le_bytes());
        put(out, 40, &self.column_count.to_le_bytes());
        put(out, 44, &self.bytes.to_le_bytes());
        put(out, 48, &self.epoch.boot_hash.to_le_bytes());
        put(out, 56, &self.epoch.wall_offset_ms.to_le_bytes());
        put(out, 64, &self.t_min_ms.to_le_bytes());
        put(out, 72, &self.t_max_ms.to_le_bytes());
        put(out, 80, &self.instants_bytes.to_le_bytes());
        put(out, 84, &self.stripe_count.to_le_bytes());
        put(out, 88, &self.index_crc.to_le_bytes());
        let crc = crc32(&out[..92]);
        put(out, 92, &crc.to_le_bytes());
    }

    /// Reads and checks the header; `length` is what the whole segment has.
    pub fn read(header: &[u8; HEADER_BYTES], length: usize) -> Result<Self, FormatError> {
        if u32_at(header, 0) != SEGMENT_MAGIC {
            return Err(FormatError::NotThis { what: WHAT });
        }
        if u32_at(header, 92) != crc32(&header[..92]) {
            return Err(FormatError::Checksum { what: "segment header" });
        }
        let version = u16_at(header, 4);
        if version > VERSION {
            return Err(FormatError::FromNewerVersion { what: WHAT, version });
        }
        let damaged = |field| Err(FormatError::Damaged { what: WHAT, field });
        if header[6] != TIER_RAW {
            return Err(FormatError::Newer { what: WHAT, field: "tier" });
        }
        let Some(form) = SegmentForm::from_flags(header[7]) else {
            return Err(FormatError::Newer { what: WHAT, field: "form" });
        };
        let head = Self {
            timeline: TimelineKey(u64_at(header, 8)),
            layout: u64_at(header, 16),
            row_from: u64_at(header, 24),
            row_count: u32_at(header, 32),
            column_from: u32_at(header, 36),
            column_count: u32_at(header, 40),
            bytes: u32_at(header, 44),
            epoch: ClockEpoch {
                boot_hash: u64_at(header, 48),
                wall_offset_ms: i64_at(header, 56),
                trusted: header[7] & 1 == 1,
            },
            form,
            t_min_ms: i64_at(header, 64),
            t_max_ms: i64_at(header, 72),
            instants_bytes: u32_at(header, 80),
            stripe_count: u32_at(header, 84),
            extra_count: 0,
            index_crc: u32_at(header, 88),
        };
        if head.bytes as usize != length {
            return Err(FormatError::Truncated { what: WHAT });
        }
        if head.row_count == 0 || head.row_count as usize > ROWS_MAX || head.row_end().is_none() {
            return damaged("row count");
        }
        if head.column_count == 0 || head.column_from.checked_add(head.column_count).is_none() {
            return damaged("column count");
        }
        if head.index_bytes() > (length - HEADER_BYTES) as u64 || length > SEGMENT_BYTES_MAX {
            return damaged("length");
        }
        Ok(head)
    }

    fn row_end(&self) -> Option<u64> {
        self.row_from.checked_add(u64::from(self.row_count))
    }

    pub fn rows(&self) -> Range<u64> {
        self.row_from..self.row_from + u64::from(self.row_count)
    }

    pub fn columns(&self) -> Range<u32> {
        self.column_from..self.column_from + self.column_count
    }

    pub fn index_bytes(&self) -> u64 {
        u64::from(self.instants_bytes) + ENTRY_BYTES as u64 * u64::from(self.stripe_count)
    }
}
