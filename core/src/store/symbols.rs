//! Label texts, each kept once, and the pairs of a series, all in cells of 16 bytes.
//!
//! One size of cell means no fragmentation, however long labels churn. A symbol is a head cell (users, length, two bytes
//! of text) and cells of 12 bytes of text; a pair list is cells of two pairs of symbol numbers. Authoritative are texts,
//! lengths and links; users, the index and the free list are made anew at attach. Cell 0 is never used: 0 is "none".

use super::{Store, pools::Pool, slab::NONE};
use crate::prng::{mix, stable_hash};

/// Link to the next cell in the low 24 bits; the top bit is attach's mark.
pub(super) const NEXT: usize = 0;
const NEXT_MASK: u32 = 0x00ff_ffff;
const MARK: u32 = 1 << 31;

// A symbol's head.
const USERS: usize = 4;
const HASH_NEXT: usize = 8;
const LENGTH: usize = 12;
const HEAD_TEXT: usize = 14;
const HEAD_TEXT_BYTES: usize = 2;

// Any other cell.
const PAYLOAD: usize = 4;
const PAYLOAD_BYTES: usize = 12;
const PAIR_BYTES: usize = 6;

/// A pair list, walked pair by pair: symbol numbers of name and value.
pub(super) struct Pairs {
    cell: u32,
    index: usize,
    /// Ends a walk through links that damage has bent to a circle.
    cells_left: u32,
}

impl Pairs {
    pub(super) fn new(first_cell: u32, cells_left: u32) -> Self {
        Self { cell: first_cell, index: 0, cells_left }
    }
}

impl Store<'_> {
    pub(super) fn pairs_next(&self, pairs: &mut Pairs) -> Option<(u32, u32)> {
        if pairs.index == PAYLOAD_BYTES {
            pairs.cell = self.cell_next(pairs.cell);
            pairs.index = 0;
            pairs.cells_left = pairs.cells_left.saturating_sub(1);
        }
        if pairs.cell == 0 || pairs.cells_left == 0 {
            return None;
        }
        let at = self.map.cell(pairs.cell) + PAYLOAD + pairs.index;
        pairs.index += PAIR_BYTES;
        let number = |at| u32::from(self.slab.u16(at)) | u32::from(self.slab.bytes(at + 2, 1)[0]) << 16;
        let (name, value) = (number(at), number(at + 3));
        (name != 0).then_some((name, value))
    }

    /// Keeps the pairs; `None` when the cells do not suffice, with nothing kept.
    pub(super) fn pairs_make(&mut self, labels: crate::labels::LabelsRef<'_>) -> Option<u32> {
        let (mut first, mut cell, mut index) = (0, 0, PAYLOAD_BYTES);
        for (name, value) in labels.iter() {
            if index == PAYLOAD_BYTES {
                let Some(next) = self.cell_take() else {
                    self.pairs_free(first);
                    return None;
                };
                let at = self.map.cell(next);
                self.slab.fill(at..at + super::sizes::CELL_BYTES, 0);
                match cell {
                    0 => first = next,
                    _ => self.slab.put_u32(self.map.cell(cell) + NEXT, next),
                }
                (cell, index) = (next, 0);
            }
            let Some(name) = self.symbol_take(name.as_bytes()) else {
                self.pairs_free(first);
                return None;
            };
            let Some(value) = self.symbol_take(value.as_bytes()) else {
                self.symbol_drop(name);
                self.pairs_free(first);
                return None;
            };
            let (n, v) = (name.to_le_bytes(), value.to_le_bytes());
            let at = self.map.cell(cell) + PAYLOAD + index;
            self.slab.put_bytes(at, &[n[0], n[1], n[2], v[0], v[1], v[2]]);
            index += PAIR_BYTES;
        }
        Some(first)
    }

    pub(super) fn pairs_free(&mut self, first: u32) {
        let mut pairs = Pairs::new(first, u32::MAX);
        while let Some((name, value)) = self.pairs_next(&mut pairs) {
            self.symbol_drop(name);
            self.symbol_drop(value);
        }
        self.cells_free(first);
    }

    /// The symbol's text at the start of `buf`; `None` when it does not fit.
    pub(super) fn symbol_text(&self, symbol: u32, buf: &mut [u8]) -> Option<usize> {
        let length = usize::from(self.slab.u16(self.map.cell(symbol) + LENGTH));
        let mut rest = buf.get_mut(..length)?;
        let (mut cell, mut at, mut room) = (symbol, HEAD_TEXT, HEAD_TEXT_BYTES);
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at_mut(room.min(rest.len()));
            piece.copy_from_slice(self.slab.bytes(self.map.cell(cell) + at, piece.len()));
            rest = tail;
            (cell, at, room) = (self.cell_next(cell), PAYLOAD, PAYLOAD_BYTES);
            if cell == 0 && !rest.is_empty() {
                return None;
            }
        }
        Some(length)
    }

    pub(super) fn symbol_length(&self, symbol: u32) -> usize {
        usize::from(self.slab.u16(self.map.cell(symbol) + LENGTH))
    }

    pub(super) fn symbol_is(&self, symbol: u32, text: &[u8]) -> bool {
        if self.symbol_length(symbol) != text.len() {
            return false;
        }
        let (mut rest, mut cell, mut at, mut room) = (text, symbol, HEAD_TEXT, HEAD_TEXT_BYTES);
        loop {
            let (piece, tail) = rest.split_at(room.min(rest.len()));
            if self.slab.bytes(self.map.cell(cell) + at, piece.len()) != piece {
                return false;
            }
            if tail.is_empty() {
                return true;
            }
            rest = tail;
            (cell, at, room) = (self.cell_next(cell), PAYLOAD, PAYLOAD_BYTES);
        }
    }

    pub(super) fn symbol_find(&self, text: &[u8]) -> Option<u32> {
        let mut symbol = self.slab.u32(self.map.symbol_bucket(self.symbol_hash(text)));
        while symbol != NONE {
            if self.symbol_is(symbol, text) {
                return Some(symbol);
            }
            symbol = self.slab.u32(self.map.cell(symbol) + HASH_NEXT);
        }
        None
    }

    /// Finds or makes the symbol and counts one more user.
    fn symbol_take(&mut self, text: &[u8]) -> Option<u32> {
        if let Some(symbol) = self.symbol_find(text) {
            let at = self.map.cell(symbol) + USERS;
            self.slab.put_u32(at, self.slab.u32(at) + 1);
            return Some(symbol);
        }
        let symbol = self.cell_take()?;
        let at = self.map.cell(symbol);
        let (piece, mut rest) = text.split_at(HEAD_TEXT_BYTES.min(text.len()));
        self.slab.put_u32(at + NEXT, 0);
        self.slab.put_u32(at + USERS, 1);
        self.slab.put_bytes(at + LENGTH, &(text.len() as u16).to_le_bytes());
        self.slab.put_bytes(at + HEAD_TEXT, piece);
        let mut last = symbol;
        while !rest.is_empty() {
            let Some(cell) = self.cell_take() else {
                self.cells_free(symbol);
                return None;
            };
            let (piece, tail) = rest.split_at(PAYLOAD_BYTES.min(rest.len()));
            self.slab.put_u32(self.map.cell(cell) + NEXT, 0);
            self.slab.put_bytes(self.map.cell(cell) + PAYLOAD, piece);
            self.slab.put_u32(self.map.cell(last) + NEXT, cell);
            (last, rest) = (cell, tail);
        }
        self.symbol_index(symbol, text);
        Some(symbol)
    }

    fn symbol_index(&mut self, symbol: u32, text: &[u8]) {
        let bucket = self.map.symbol_bucket(self.symbol_hash(text));
        self.slab.put_u32(self.map.cell(symbol) + HASH_NEXT, self.slab.u32(bucket));
        self.slab.put_u32(bucket, symbol);
    }

    fn symbol_drop(&mut self, symbol: u32) {
        let users_at = self.map.cell(symbol) + USERS;
        let users = self.slab.u32(users_at);
        assert!(users > 0, "symbol {symbol} has no users");
        self.slab.put_u32(users_at, users - 1);
        if users > 1 {
            return;
        }
        let mut text = [0; crate::labels::LABELS_BYTES_MAX];
        let length = self.symbol_text(symbol, &mut text).unwrap_or(0);
        let mut link = self.map.symbol_bucket(self.symbol_hash(&text[..length]));
        while self.slab.u32(link) != symbol {
            let next = self.slab.u32(link);
            assert!(next != NONE, "symbol {symbol} is not in its bucket");
            link = self.map.cell(next) + HASH_NEXT;
        }
        self.slab.put_u32(link, self.slab.u32(self.map.cell(symbol) + HASH_NEXT));
        self.cells_free(symbol);
    }

    fn symbol_hash(&self, text: &[u8]) -> u64 {
        mix(stable_hash(text) ^ self.hash_seed)
    }

    fn cell_next(&self, cell: u32) -> u32 {
        self.slab.u32(self.map.cell(cell) + NEXT) & NEXT_MASK
    }

    fn cell_take(&mut self) -> Option<u32> {
        self.pool_take(Pool::Cells)
    }

    fn cells_free(&mut self, first: u32) {
        let mut cell = first;
        while cell != 0 {
            let next = self.cell_next(cell);
            self.pool_free(Pool::Cells, cell);
            cell = next;
        }
    }

    // Attach: mark what is reached, count users anew, free the rest.

    pub(super) fn cells_unmark(&mut self) {
        for cell in 0..self.pool_fresh(Pool::Cells) {
            let at = self.map.cell(cell) + NEXT;
            let next = self.slab.u32(at);
            if next & !NEXT_MASK != 0 {
                self.slab.put_u32(at, next & NEXT_MASK);
            }
        }
    }

    /// Marks a series' pair list and its symbols; `None` when a link leads outside, into a circle or into a cell of
    /// something else.
    pub(super) fn pairs_mark(&mut self, first: u32) -> Option<()> {
        self.cells_mark(first, self.map.plan.label_cells_count)?;
        let mut pairs = Pairs::new(first, u32::MAX);
        while let Some((name, value)) = self.pairs_next(&mut pairs) {
            self.symbol_mark(name)?;
            self.symbol_mark(value)?;
        }
        Some(())
    }

    fn symbol_mark(&mut self, symbol: u32) -> Option<()> {
        if symbol == 0 || symbol >= self.pool_fresh(Pool::Cells) {
            return None;
        }
        let at = self.map.cell(symbol);
        if self.slab.u32(at + NEXT) & MARK != 0 {
            let users = self.slab.u32(at + USERS).checked_add(1)?;
            self.slab.put_u32(at + USERS, users);
            return Some(());
        }
        let length = self.symbol_length(symbol);
        let cells = 1 + length.saturating_sub(HEAD_TEXT_BYTES).div_ceil(PAYLOAD_BYTES);
        self.cells_mark(symbol, cells as u32)?;
        self.slab.put_u32(at + USERS, 1);
        let mut text = [0; crate::labels::LABELS_BYTES_MAX];
        let length = self.symbol_text(symbol, &mut text)?;
        self.symbol_index(symbol, &text[..length]);
        Some(())
    }

    fn cells_mark(&mut self, first: u32, cells_max: u32) -> Option<()> {
        let mut cell = first;
        for _ in 0..cells_max {
            if cell == 0 || cell >= self.pool_fresh(Pool::Cells) {
                return None;
            }
            let at = self.map.cell(cell) + NEXT;
            let next = self.slab.u32(at);
            if next & MARK != 0 {
                return None;
            }
            self.slab.put_u32(at, next & NEXT_MASK | MARK);
            self.pool_found(Pool::Cells);
            cell = next & NEXT_MASK;
            if cell == 0 {
                return Some(());
            }
        }
        None
    }

    /// Every cell without a mark becomes free.
    pub(super) fn cells_sweep(&mut self) {
        for cell in (1..self.pool_fresh(Pool::Cells)).rev() {
            let at = self.map.cell(cell) + NEXT;
            let next = self.slab.u32(at);
            if next & MARK == 0 {
                self.pool_sweep(Pool::Cells, cell);
            } else {
                self.slab.put_u32(at, next & NEXT_MASK);
            }
        }
    }
}
