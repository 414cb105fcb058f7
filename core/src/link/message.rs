//! What leaf and node say to each other.

use serde::{Deserialize, Serialize};

/// Longest message. A row of 110 columns fits; a leaf with more uses several layouts.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// One message; encoded by postcard. New variants go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message<'a> {
    /// Leaf to node: one column of a layout. Sent when asked for; repeating it changes nothing.
    Layout {
        leaf: u64,
        layout: u32,
        column: u16,
        column_count: u16,
        /// Encoded as in `labels/set.rs`.
        labels: &'a [u8],
    },
    /// Leaf to node: one row.
    Row {
        leaf: u64,
        /// Differs from boot to boot.
        session: u32,
        /// Ascending by one within the session.
        sequence: u32,
        /// The oldest row the leaf still has: what is missing before it will not come.
        oldest: u32,
        layout: u32,
        /// How long ago the row was taken, when this frame was made: a leaf needs no wall clock.
        age_ms: u64,
        /// See [`Cells`].
        cells: &'a [u8],
    },
    /// Node to leaf: every row before `next` is kept here.
    Acknowledge { leaf: u64, session: u32, next: u32 },
    /// Node to leaf: a row came whose layout is not known here.
    LayoutWanted { leaf: u64, layout: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CellsError {
    #[error("the row's cells do not fit into {MESSAGE_BYTES_MAX} bytes; use fewer columns")]
    TooLong,
    #[error("the row's cells are damaged or belong to another layout")]
    Broken,
}

/// The values of one row: one bit per column (lowest first, set: there is a value), then the values' bits, 8 bytes each,
/// little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cells<'a> {
    presence: &'a [u8],
    values: &'a [u8],
    column_count: u16,
}

impl<'a> Cells<'a> {
    /// Checks the lengths against the layout's column count.
    pub fn read(bytes: &'a [u8], column_count: u16) -> Result<Self, CellsError> {
        let presence_bytes = usize::from(column_count).div_ceil(8);
        let (presence, values) = bytes.split_at_checked(presence_bytes).ok_or(CellsError::Broken)?;
        let value_count: usize = presence.iter().map(|byte| byte.count_ones() as usize).sum();
        let spare_bits = presence_bytes * 8 - usize::from(column_count);
        let spare_set = presence.last().is_some_and(|byte| u32::from(*byte) >> (8 - spare_bits) != 0);
        if values.len() != value_count * 8 || (spare_bits > 0 && spare_set) {
            return Err(CellsError::Broken);
        }
        Ok(Self { presence, values, column_count })
    }

    /// Columns that have a value, with its bits, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = (u16, u64)> + 'a {
        let present = move |column: &u16| self.presence[usize::from(*column / 8)] >> (column % 8) & 1 == 1;
        let values = self
            .values
            .chunks_exact(8)
            .map(|value| value.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte)));
        (0..self.column_count).filter(present).zip(values)
    }
}

/// Encodes a row's values in the order of the layout's columns; gives the bytes used.
pub fn write_cells(values: &[Option<u64>], out: &mut [u8]) -> Result<usize, CellsError> {
    let presence_bytes = values.len().div_ceil(8);
    let used = presence_bytes + 8 * values.iter().flatten().count();
    if used > out.len() {
        return Err(CellsError::TooLong);
    }
    let (presence, cells) = out[..used].split_at_mut(presence_bytes);
    presence.fill(0);
    let mut cells = cells.chunks_exact_mut(8);
    for (column, value) in values.iter().enumerate() {
        if let (Some(bits), true) = (value, presence_bytes > 0) {
            presence[column / 8] |= 1 << (column % 8);
            if let Some(cell) = cells.next() {
                cell.copy_from_slice(&bits.to_le_bytes());
            }
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_back_at_every_width_and_damage_is_seen() {
        for width in 0..40_u16 {
            let values: std::vec::Vec<Option<u64>> =
                (0..width).map(|column| (column % 3 != 1).then_some(u64::from(column) << 40 | 5)).collect();
            let mut buf = [0xff; 400];
            let used = write_cells(&values, &mut buf).unwrap();
            let cells = Cells::read(&buf[..used], width).unwrap();
            let expected: std::vec::Vec<_> =
                values.iter().enumerate().filter_map(|(c, v)| Some((c as u16, (*v)?))).collect();
            assert_eq!(cells.iter().collect::<std::vec::Vec<_>>(), expected);
            assert_eq!(Cells::read(&buf[..used + 1], width), Err(CellsError::Broken));
            if used > 0 {
                assert_eq!(Cells::read(&buf[..used - 1], width), Err(CellsError::Broken));
                assert_eq!(write_cells(&values, &mut [0; 400][..used - 1]), Err(CellsError::TooLong));
            }
        }
        assert_eq!(Cells::read(&[0b1000], 3), Err(CellsError::Broken), "a bit without a column");
    }
}
