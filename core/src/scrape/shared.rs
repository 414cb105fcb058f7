//! What all targets share: metadata, the room for lines seen, and what a scrape needs while its body is read.

use super::{meta::Metadata, seen::SeenRoom, target::Reading};
use alloc::{boxed::Box, vec::Vec};

/// Readings that wait for the next scrape, so that a steady one allocates nothing.
const IDLE_COUNT_MAX: usize = 4;
/// One that a long line has made longer than this is given back.
const IDLE_BYTES_MAX: usize = 8 * 1024;

pub struct Shared {
    pub metadata: Metadata,
    pub seen: SeenRoom,
    #[expect(clippy::vec_box, reason = "a target takes the box as it is, without an allocation")]
    idle: Vec<Box<Reading>>,
}

impl Shared {
    /// `seen_bytes_max`: heap of all lists of lines seen. `seed` is the process' own; who exposes a page must not know it.
    pub fn new(metadata_bytes_max: usize, seen_bytes_max: usize, seed: u64) -> Self {
        Self {
            metadata: Metadata::new(metadata_bytes_max),
            seen: SeenRoom::new(seen_bytes_max, seed),
            idle: Vec::with_capacity(IDLE_COUNT_MAX),
        }
    }

    pub(super) fn take_reading(&mut self) -> Box<Reading> {
        self.idle.pop().unwrap_or_default()
    }

    pub(super) fn give_back(&mut self, mut reading: Box<Reading>) {
        if self.idle.len() < IDLE_COUNT_MAX && reading.heap_bytes() <= IDLE_BYTES_MAX {
            reading.start_again();
            self.idle.push(reading);
        }
    }
}
