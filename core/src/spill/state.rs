//! What the spill is told at start, and the few numbers about itself that it keeps in the database.

use super::{
    crc::crc32,
    format::{FormatError, put, u32_at, u64_at},
    frame::LOG_PAGE_BYTES,
};
use crate::{
    limits::{LOG_BYTES_MAX, LOG_BYTES_MIN},
    memory::Plan,
};

/// Under this name the database keeps [`SpillState`].
pub const SPILL_STATE_KEY: &str = "spill";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpillOptions {
    pub store_uuid: [u8; 16],
    /// A generation of the log is closed by a checkpoint before it would grow beyond this.
    pub log_bytes_max: u64,
    /// Rows that have waited so long are sealed, few as they may be. Default two hours.
    pub seal_age_ms: u64,
    /// So many cells of full segments are worth a transaction: beside a megabyte or so of segments, the three or four
    /// dozen pages of indexes and journal that each transaction writes are little. Default 2^21.
    pub seal_cells: u64,
}

impl SpillOptions {
    pub const fn new(store_uuid: [u8; 16], plan: &Plan) -> Self {
        Self { store_uuid, log_bytes_max: Self::log_bytes(plan), seal_age_ms: 2 * 3_600_000, seal_cells: 1 << 21 }
    }

    /// Greatest length of each of the log's two files: what the ring holds unspilled when it is sealed at the latest, three
    /// quarters of it, takes at most as many bytes in the log. Longer ones would be of no use; in shorter ones checkpoints
    /// would cut segments short.
    pub const fn log_bytes(plan: &Plan) -> u64 {
        let wanted = (plan.ring_bytes as u64 / 4 * 3).next_multiple_of(LOG_PAGE_BYTES);
        if wanted < LOG_BYTES_MIN {
            LOG_BYTES_MIN
        } else if wanted > LOG_BYTES_MAX {
            LOG_BYTES_MAX
        } else {
            wanted
        }
    }
}

/// What the database knows about the spill; put with every transaction that holds segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpillState {
    /// The log generation that holds what is not in segments; 0: none yet.
    pub log_generation: u64,
    pub segment_sequence_next: u64,
    /// Above every layout number stored.
    pub layout_next: u64,
    /// Segments before this sequence have been looked at for aging.
    pub aged_next: u64,
}

impl SpillState {
    pub(super) const BYTES: usize = 48;
    const BYTES_V1: usize = 32;
    const VERSION: u64 = 2;
    /// Of what stands before it, and behind it that of what comes behind both.
    const CRC: usize = 32;
    const CRC_AGED: usize = 36;
    const AGED: usize = 40;

    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = [Self::VERSION, self.log_generation, self.segment_sequence_next, self.layout_next];
        for (field, out) in fields.into_iter().zip(bytes.chunks_exact_mut(8)) {
            out.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32(&bytes[..Self::CRC]);
        put(&mut bytes, Self::CRC, &crc.to_le_bytes());
        put(&mut bytes, Self::AGED, &self.aged_next.to_le_bytes());
        let crc = crc32(&bytes[Self::AGED..]);
        put(&mut bytes, Self::CRC_AGED, &crc.to_le_bytes());
        bytes
    }

    /// # Errors
    ///
    /// Damage, or a newer version. Whatever has more than version 1 has the checksum where version 2 has it: it is looked at
    /// first, so that damage is not taken for a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "spill state";
        if bytes.len() < Self::BYTES_V1 {
            return Err(FormatError::Truncated { what: WHAT });
        }
        let version = u64_at(bytes, 0);
        if bytes.len() == Self::BYTES_V1 {
            if version != 1 {
                return Err(FormatError::Damaged { what: WHAT, field: "version" });
            }
        } else if bytes.len() < Self::BYTES {
            return Err(FormatError::Truncated { what: WHAT });
        } else if u32_at(bytes, Self::CRC) != crc32(&bytes[..Self::CRC])
            || u32_at(bytes, Self::CRC_AGED) != crc32(&bytes[Self::AGED..Self::BYTES])
        {
            return Err(FormatError::Checksum { what: WHAT });
        }
        if version > Self::VERSION {
            let version = u16::try_from(version).unwrap_or(u16::MAX);
            return Err(FormatError::FromNewerVersion { what: WHAT, version });
        }
        Ok(Self {
            log_generation: u64_at(bytes, 8),
            segment_sequence_next: u64_at(bytes, 16),
            layout_next: u64_at(bytes, 24),
            aged_next: if version > 1 { u64_at(bytes, Self::AGED) } else { 0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: SpillState =
        SpillState { log_generation: 3, segment_sequence_next: u64::MAX, layout_next: 9, aged_next: 4 };

    #[test]
    fn the_spills_own_state_comes_back_and_a_newer_one_is_refused() {
        let mut bytes = STATE.encode();
        assert_eq!(SpillState::decode(&bytes), Ok(STATE));
        bytes[0] = 3;
        let crc = crc32(&bytes[..32]);
        put(&mut bytes, 32, &crc.to_le_bytes());
        assert_eq!(SpillState::decode(&bytes), Err(FormatError::FromNewerVersion { what: "spill state", version: 3 }));
    }

    #[test]
    fn one_of_version_1_is_read() {
        let mut bytes = STATE.encode();
        bytes[0] = 1;
        assert_eq!(SpillState::decode(&bytes[..32]), Ok(SpillState { aged_next: 0, ..STATE }));
        bytes[0] = 2;
        assert!(matches!(SpillState::decode(&bytes[..32]), Err(FormatError::Damaged { .. })), "a flipped bit");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_damage() {
        let bytes = STATE.encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes;
                damaged[at] ^= 1 << bit;
                assert_eq!(SpillState::decode(&damaged), Err(FormatError::Checksum { what: "spill state" }));
            }
        }
        for length in 0..bytes.len() {
            let found = SpillState::decode(&bytes[..length]);
            assert!(matches!(found, Err(FormatError::Truncated { .. } | FormatError::Damaged { .. })), "{length}");
        }
    }
}
