//! A stripe for good: neighbouring columns of the same rows behind an adaptive binary range coder, as few bytes as they
//! get, for segments that have aged.
//!
//! One model, `column` and its `parts`, says in which order a column's parts are coded and by which contexts; it drives the
//! encoder and the decoder alike (`range`). What only the encoder decides is in `plan`. Contexts know the columns before in the same
//! stripe, so that a column is read behind all columns before it: a stripe is the unit of reading.
//! docs/SPILL_FORMAT.md, "Aged stripes", has every step.
//!
//! Integer arithmetic only, but for the exact decimals' own division. No allocation: all state is in a [`Workspace`],
//! which the caller keeps. Whatever the bytes are, a decoder does a bounded amount of work for each row.

mod column;
mod model;
mod parts;
mod plan;
mod predict;
mod range;
mod start;
mod training;

use super::{CodecError, ColumnKind, Presence, ROWS_MAX};
use column::Stripe;
use range::{Decoder, Encoder};
pub use start::START;
pub use training::{CONTEXTS, Start, Training, measure};

/// Columns of a stripe: more of them share more, and take longer to read through for one of them.
pub const STRIPE_COLUMNS: u32 = 32;

/// What a reader takes at most, so that damage cannot send it far.
pub const STRIPE_COLUMNS_MAX: u32 = 64;

/// Most bytes of a stripe of so many columns and rows: random bits cost a little more than themselves.
pub const fn stripe_bytes_max(columns: usize, rows: usize) -> usize {
    16 + columns * (64 + 9 * rows)
}

/// What encoding and decoding stripes take: some 40 KiB, kept from stripe to stripe.
pub struct Workspace {
    stripe: Stripe,
}

impl Workspace {
    pub const fn new() -> Self {
        Self { stripe: Stripe::new() }
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes one stripe.
pub struct StripeEncoder<'a> {
    stripe: &'a mut Stripe,
    coder: Encoder<'a>,
    rows: usize,
}

impl<'a> StripeEncoder<'a> {
    /// A stripe of `rows` rows at the start of `out`. The end of `out` is written too.
    ///
    /// # Errors
    ///
    /// More than [`ROWS_MAX`] rows.
    pub fn new(workspace: &'a mut Workspace, rows: usize, out: &'a mut [u8]) -> Result<Self, CodecError> {
        check_rows(rows)?;
        workspace.stripe.begin(&START);
        Ok(Self { stripe: &mut workspace.stripe, coder: Encoder::new(out), rows })
    }

    /// Appends a column. `cells[i]` counts only where `presence[i]` is [`Presence::Value`].
    ///
    /// # Errors
    ///
    /// Slices that have not one cell and one state a row.
    pub fn column(&mut self, kind: ColumnKind, cells: &[u64], presence: &[Presence]) -> Result<(), CodecError> {
        check_slices(self.rows, cells.len(), presence.len())?;
        self.stripe.encode(&mut self.coder, kind, cells, presence);
        Ok(())
    }

    /// Appends a decision that stands between columns.
    pub fn flag(&mut self, flag: bool) {
        self.stripe.flag(&mut self.coder, flag);
    }

    /// Ends the stripe and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// It did not fit; [`stripe_bytes_max`] always suffices.
    pub fn finish(self) -> Result<usize, CodecError> {
        self.coder.finish()
    }
}

/// Reads one stripe.
pub struct StripeDecoder<'a> {
    stripe: &'a mut Stripe,
    coder: Decoder<'a>,
    rows: usize,
}

impl<'a> StripeDecoder<'a> {
    /// # Errors
    ///
    /// More than [`ROWS_MAX`] rows.
    pub fn new(workspace: &'a mut Workspace, rows: usize, bytes: &'a [u8]) -> Result<Self, CodecError> {
        check_rows(rows)?;
        workspace.stripe.begin(&START);
        Ok(Self { stripe: &mut workspace.stripe, coder: Decoder::new(bytes), rows })
    }

    /// Reads the next column into `cells` and `presence`. A cell whose row has no value is set to 0.
    ///
    /// # Errors
    ///
    /// Slices that have not one cell and one state a row, or bytes that no encoder writes: then what the slices hold means
    /// nothing, and nor does the rest of the stripe.
    pub fn column(&mut self, kind: ColumnKind, cells: &mut [u64], presence: &mut [Presence]) -> Result<(), CodecError> {
        check_slices(self.rows, cells.len(), presence.len())?;
        self.stripe.decode(&mut self.coder, kind, cells, presence)
    }

    /// Reads past a column that nobody wants: its values count for those behind it.
    ///
    /// # Errors
    ///
    /// Bytes that no encoder writes.
    pub fn skip(&mut self, kind: ColumnKind) -> Result<(), CodecError> {
        self.stripe.skip(&mut self.coder, kind, self.rows)
    }

    /// Reads a decision that stands between columns.
    pub fn flag(&mut self) -> bool {
        self.stripe.flag(&mut self.coder, false)
    }

    /// Bytes looked at so far, from both ends.
    pub fn used(&self) -> usize {
        self.coder.used()
    }
}

fn check_rows(rows: usize) -> Result<(), CodecError> {
    if rows > ROWS_MAX { Err(CodecError::TooManyRows { rows, rows_max: ROWS_MAX }) } else { Ok(()) }
}

fn check_slices(rows: usize, cells: usize, presence: usize) -> Result<(), CodecError> {
    if cells == rows && presence == rows { Ok(()) } else { Err(CodecError::LengthsDiffer { rows, cells, presence }) }
}

#[cfg(all(test, feature = "alloc"))]
#[path = "aged_tests.rs"]
mod tests;
