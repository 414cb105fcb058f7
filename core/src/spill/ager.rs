//! Writes a packed segment again as an aged one: the same rows, columns and times in fewer bytes.
//!
//! Bounded memory, whatever the segment: one stripe of the packed segment's bytes (at most the segment's own, 128 KiB), one
//! column of 256 rows, and the aged codec's workspace, kept from segment to segment. Bounded work: each call goes once
//! through one segment, at some tens of millions of samples a second.

use super::{
    format::{FormatError, SEGMENT_BYTES_MAX},
    segment::{Assembly, SegmentForm, SegmentHead, SegmentReader},
};
use crate::store::{
    ColumnKind,
    codec::{CodecError, aged},
    stored::SegmentBytes,
};
use alloc::boxed::Box;

/// Ages segments one after the other.
#[derive(Default)]
pub struct Ager {
    reader: SegmentReader,
    workspace: Box<aged::Workspace>,
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aging {
    /// So many bytes at the start of the output are the same samples under the same [`SegmentMeta`](crate::store::stored::SegmentMeta).
    Aged { bytes: usize },
    /// It has been aged before.
    AgedBefore,
    /// It would not be smaller: it may stay as it is.
    NotSmaller,
}

impl Ager {
    /// Writes the segment again at the start of `out`, of which no more is used than the segment has.
    ///
    /// # Errors
    ///
    /// The segment cannot be read.
    pub fn age(&mut self, bytes: &mut dyn SegmentBytes, out: &mut [u8]) -> Result<Aging, FormatError> {
        let head = self.reader.open(bytes)?;
        if head.form == SegmentForm::Aged {
            return Ok(Aging::AgedBefore);
        }
        if head.extra_count > 0 {
            return Err(FormatError::Newer { what: "segment", field: "column kind" });
        }
        let room = bytes.len().min(out.len()).min(SEGMENT_BYTES_MAX);
        match self.stripes(&head, bytes, &mut out[..room])? {
            Some(used) if used < bytes.len() => Ok(Aging::Aged { bytes: used }),
            _ => Ok(Aging::NotSmaller),
        }
    }

    /// `None`: it does not fit.
    fn stripes(
        &mut self,
        head: &SegmentHead,
        bytes: &mut dyn SegmentBytes,
        out: &mut [u8],
    ) -> Result<Option<usize>, FormatError> {
        let Self { reader, workspace } = self;
        let columns = head.columns();
        let rows = head.row_count as usize;
        let stripes_max = (columns.end - columns.start).div_ceil(aged::STRIPE_COLUMNS) as usize;
        let Some(mut assembly) = Assembly::new(reader.instants_ms(), stripes_max, out) else { return Ok(None) };
        let mut packed = reader.packed_columns(head);
        let mut from = columns.start;
        while from < columns.end {
            let end = columns.end.min(from.saturating_add(aged::STRIPE_COLUMNS));
            let mut encoder = aged::StripeEncoder::new(workspace, rows, assembly.room())?;
            for _ in from..end {
                let unit = packed.next(bytes)?;
                encoder.column(ColumnKind::Float, &unit.cells, &unit.presence)?;
                let ages = unit.ages();
                encoder.flag(ages.is_some());
                if let Some((cells, presence)) = ages {
                    encoder.column(ColumnKind::Age, cells, presence)?;
                }
            }
            match encoder.finish() {
                Ok(used) => assembly.stripe(from, used),
                Err(CodecError::OutputFull { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            from = end;
        }
        let mut head = *head;
        head.form = SegmentForm::Aged;
        Ok(Some(assembly.finish(head)))
    }
}

#[cfg(test)]
#[path = "ager_tests.rs"]
mod tests;
