//! Frames of the tail log: a header of 32 bytes with checksums of its own and of what follows.
//!
//! A frame says which generation of the log it belongs to, because a log's file is used again: what a longer
//! predecessor left behind the end is told from what was written now.

use super::{
    crc::crc32,
    format::{ClockEpoch, FRAME_MAGIC, FormatError, VERSION, array_at, i64_at, put, u16_at, u32_at, u64_at},
};

pub const FRAME_HEAD_BYTES: usize = 32;
/// Header and payload together.
pub const FRAME_BYTES_MAX: usize = super::format::SEGMENT_BYTES_MAX;
const WHAT: &str = "log frame";
const START_BYTES: usize = 40;
/// In front of the segment in a [`FrameKind::RowsPlain`].
const ROWS_PREFIX_BYTES: usize = 4;
/// What a sync brought to the medium is not written again: the next frame begins on a page of its own.
pub const LOG_PAGE_BYTES: u64 = 4096;
/// Most columns of a frame of version 1; bounds what recovery needs to turn columns into rows.
pub const FRAME_COLUMNS_MAX: u32 = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    GenerationStart = 1,
    Layout = 2,
    /// Rows as version 1 wrote them.
    RowsPlain = 3,
    State = 4,
    Rows = 5,
    /// Only a newer version reads it.
    Newer = 255,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::GenerationStart,
            2 => Self::Layout,
            3 => Self::RowsPlain,
            4 => Self::State,
            5 => Self::Rows,
            _ => Self::Newer,
        }
    }
}

/// What opens a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationStart {
    pub store_uuid: [u8; 16],
    pub epoch: ClockEpoch,
}

/// A frame that was read and matches its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    GenerationStart(GenerationStart),
    /// A layout part (`layout_part_read`).
    Layout {
        bytes: &'a [u8],
    },
    /// A segment's bytes (`SegmentReader`), and how many columns its rows have in all: a row too wide for one frame comes
    /// in several, by column. What version 1 wrote.
    RowsPlain {
        column_count_total: u32,
        bytes: &'a [u8],
    },
    /// Blocks of rows (`RowsReader`).
    Rows {
        bytes: &'a [u8],
    },
    State {
        key: &'a str,
        bytes: &'a [u8],
    },
    /// A frame of a kind that only a newer version knows.
    Newer,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    pub kind: FrameKind,
    pub generation: u64,
    /// Counts the frames of a generation from 0.
    pub sequence: u32,
    pub payload_bytes: u32,
    payload_crc: u32,
}

/// Completes a frame whose payload lies at `out[FRAME_HEAD_BYTES..]`; returns the frame's length.
pub fn finish_frame(kind: FrameKind, generation: u64, sequence: u32, payload_bytes: usize, out: &mut [u8]) -> usize {
    let end = FRAME_HEAD_BYTES + payload_bytes;
    assert!(end <= FRAME_BYTES_MAX, "a frame of {end} bytes");
    put(out, 0, &FRAME_MAGIC.to_le_bytes());
    put(out, 4, &VERSION.to_le_bytes());
    out[6] = kind as u8;
    out[7] = 0;
    put(out, 8, &generation.to_le_bytes());
    put(out, 16, &sequence.to_le_bytes());
    put(out, 20, &(payload_bytes as u32).to_le_bytes());
    let payload_crc = crc32(&out[FRAME_HEAD_BYTES..end]);
    put(out, 24, &payload_crc.to_le_bytes());
    let head_crc = crc32(&out[..28]);
    put(out, 28, &head_crc.to_le_bytes());
    end
}

/// Payload of a [`FrameKind::GenerationStart`]; returns its length.
pub fn put_start(start: &GenerationStart, out: &mut [u8]) -> usize {
    put(out, 0, &start.store_uuid);
    put(out, 16, &start.epoch.boot_hash.to_le_bytes());
    put(out, 24, &start.epoch.wall_offset_ms.to_le_bytes());
    put(out, 32, &[u8::from(start.epoch.trusted), 0, 0, 0, 0, 0, 0, 0]);
    START_BYTES
}

/// Payload of a [`FrameKind::State`]; returns its length, `None` when it does not fit.
pub fn put_state(key: &str, bytes: &[u8], out: &mut [u8]) -> Option<usize> {
    let key_bytes = u16::try_from(key.len()).ok()?;
    let used = 2 + key.len() + bytes.len();
    let out = out.get_mut(..used)?;
    put(out, 0, &key_bytes.to_le_bytes());
    put(out, 2, key.as_bytes());
    put(out, 2 + key.len(), bytes);
    Some(used)
}

impl FrameHead {
    /// Checks a header. The version is looked at last, so that only a whole header can be from the future.
    pub fn read(bytes: &[u8; FRAME_HEAD_BYTES]) -> Result<Self, FormatError> {
        if u32_at(bytes, 0) != FRAME_MAGIC {
            return Err(FormatError::NotThis { what: WHAT });
        }
        if u32_at(bytes, 28) != crc32(&bytes[..28]) {
            return Err(FormatError::Checksum { what: "frame header" });
        }
        let version = u16_at(bytes, 4);
        if version > VERSION {
            return Err(FormatError::FromNewerVersion { what: WHAT, version });
        }
        let kind = FrameKind::from_byte(bytes[6]);
        let payload_bytes = u32_at(bytes, 20);
        if payload_bytes as usize > FRAME_BYTES_MAX - FRAME_HEAD_BYTES {
            return Err(FormatError::Damaged { what: WHAT, field: "length" });
        }
        let payload_crc = u32_at(bytes, 24);
        Ok(Self { kind, generation: u64_at(bytes, 8), sequence: u32_at(bytes, 16), payload_bytes, payload_crc })
    }

    /// The header as it was before one of its bits flipped, if that is what is wrong with it: the only way back to a header
    /// that matches its checksum. The payload's checksum is to be looked at before it is believed.
    pub fn mended(bytes: &[u8; FRAME_HEAD_BYTES]) -> Option<Self> {
        let mut bytes = *bytes;
        for bit in 0..8 * FRAME_HEAD_BYTES {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(head) = Self::read(&bytes) {
                return Some(head);
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        None
    }

    /// Whether these bytes, which are no header, are nearer to the header of this frame than chance brings zeros, or what an
    /// older generation left: at most 8 of the magic's 32 bits differ (zeros: 12), and 32 of the 152 that are known.
    pub fn resembles(bytes: &[u8; FRAME_HEAD_BYTES], generation: u64, sequence: u32) -> bool {
        let magic = (u32_at(bytes, 0) ^ FRAME_MAGIC).count_ones();
        let others = (u16_at(bytes, 4) ^ VERSION).count_ones()
            + bytes[7].count_ones()
            + (u64_at(bytes, 8) ^ generation).count_ones()
            + (u32_at(bytes, 16) ^ sequence).count_ones();
        magic <= 8 && magic + others <= 32
    }

    /// Checks and opens the payload, which has `payload_bytes` bytes.
    pub fn payload<'a>(&self, payload: &'a [u8]) -> Result<Frame<'a>, FormatError> {
        if crc32(payload) != self.payload_crc {
            return Err(FormatError::Checksum { what: WHAT });
        }
        let damaged = |field| FormatError::Damaged { what: WHAT, field };
        match self.kind {
            FrameKind::GenerationStart => {
                if payload.len() < START_BYTES {
                    return Err(damaged("generation start"));
                }
                Ok(Frame::GenerationStart(GenerationStart {
                    store_uuid: array_at(payload, 0),
                    epoch: ClockEpoch {
                        boot_hash: u64_at(payload, 16),
                        wall_offset_ms: i64_at(payload, 24),
                        trusted: payload[32] & 1 == 1,
                    },
                }))
            }
            FrameKind::Newer => Ok(Frame::Newer),
            FrameKind::Layout => Ok(Frame::Layout { bytes: payload }),
            FrameKind::RowsPlain => {
                let (total, bytes) = payload.split_at_checked(ROWS_PREFIX_BYTES).ok_or(damaged("columns in all"))?;
                Ok(Frame::RowsPlain { column_count_total: u32_at(total, 0), bytes })
            }
            FrameKind::Rows => Ok(Frame::Rows { bytes: payload }),
            FrameKind::State => {
                let (length, rest) = payload.split_at_checked(2).ok_or(damaged("state key"))?;
                let (key, bytes) = rest.split_at_checked(usize::from(u16_at(length, 0))).ok_or(damaged("state key"))?;
                let key = core::str::from_utf8(key).map_err(|_| damaged("state key"))?;
                Ok(Frame::State { key, bytes })
            }
        }
    }
}
