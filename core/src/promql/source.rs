//! What the engine reads from: series by matchers, then samples series by series.

use crate::{
    labels::{LabelSet, Matcher},
    store::Sample,
};
use alloc::{boxed::Box, vec::Vec};
use core::fmt;

/// Where a part of a series lies. The source makes and reads these; the engine only carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// In the slab.
    Hot { series: u32, labels_hash: u64 },
    /// In stored segments.
    Stored { layout: u64, column: u32 },
    /// In a test's memory.
    Index(usize),
}

#[derive(Clone, Debug)]
pub struct Selected {
    pub labels: LabelSet,
    pub parts: Box<[Part]>,
}

/// Why reading failed; becomes the API's `execution` error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError(pub Box<str>);

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub trait Source {
    /// Appends every series that matches all of `matchers` and may have samples in `start_ms ..= end_ms`, each label
    /// set once, in no particular order. Fails, leaving what it likes in `selection`, when that would take more than
    /// `bytes_max` of heap.
    fn select(
        &mut self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        bytes_max: usize,
        selection: &mut Vec<Selected>,
    ) -> Result<(), SourceError>;

    /// Appends the samples of one series in `start_ms ..= end_ms`, ascending, one per timestamp, stale markers
    /// included.
    fn read(
        &mut self,
        selected: &Selected,
        start_ms: i64,
        end_ms: i64,
        samples: &mut Vec<Sample>,
    ) -> Result<(), SourceError>;
}
