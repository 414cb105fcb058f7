//! What the spill is told at start, and the few numbers about itself that it keeps in the database.

use super::format::{FormatError, u64_at};

/// Under this name the database keeps [`SpillState`].
pub const SPILL_STATE_KEY: &str = "spill";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpillOptions {
    pub store_uuid: [u8; 16],
    /// A generation of the log that has grown beyond this is closed at the next checkpoint. Default 4 MiB.
    pub log_bytes_max: u64,
    /// Unspilled rows older than this are sealed, few as they may be. Default two hours.
    pub seal_age_ms: i64,
}

impl SpillOptions {
    pub const fn new(store_uuid: [u8; 16]) -> Self {
        Self { store_uuid, log_bytes_max: 4 * 1024 * 1024, seal_age_ms: 2 * 3_600_000 }
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
}

impl SpillState {
    pub(super) const BYTES: usize = 32;
    const VERSION: u64 = 1;

    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = [Self::VERSION, self.log_generation, self.segment_sequence_next, self.layout_next];
        for (field, out) in fields.into_iter().zip(bytes.chunks_exact_mut(8)) {
            out.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "spill state";
        if bytes.len() < Self::BYTES {
            return Err(FormatError::Truncated { what: WHAT });
        }
        let version = u64_at(bytes, 0);
        if version > Self::VERSION {
            let version = u16::try_from(version).unwrap_or(u16::MAX);
            return Err(FormatError::FromNewerVersion { what: WHAT, version });
        }
        Ok(Self {
            log_generation: u64_at(bytes, 8),
            segment_sequence_next: u64_at(bytes, 16),
            layout_next: u64_at(bytes, 24),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spills_own_state_comes_back_and_a_newer_one_is_refused() {
        let state = SpillState { log_generation: 3, segment_sequence_next: u64::MAX, layout_next: 9 };
        let mut bytes = state.encode();
        assert_eq!(SpillState::decode(&bytes), Ok(state));
        assert_eq!(SpillState::decode(&bytes[..31]), Err(FormatError::Truncated { what: "spill state" }));
        bytes[0] = 2;
        assert_eq!(SpillState::decode(&bytes), Err(FormatError::FromNewerVersion { what: "spill state", version: 2 }));
    }
}
