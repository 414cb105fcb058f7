//! What the spill's tests share: columns that lie in vectors.

use super::{ClockEpoch, ColumnVisit, Columns, Encoded, SegmentSpec, encode_segment};
use crate::{
    prng::Prng,
    store::{ColumnKind, Presence, STALE_NAN_BITS, TimelineKey},
};
use alloc::{vec, vec::Vec};
use core::ops::Range;

pub const EPOCH: ClockEpoch =
    ClockEpoch { boot_hash: 0x1122_3344_5566_7788, wall_offset_ms: 1_759_999_000_000, trusted: true };

pub struct Column {
    pub age: Option<u32>,
    pub kind: ColumnKind,
    pub cells: Vec<u64>,
    pub presence: Vec<Presence>,
}

pub struct Grid {
    pub instants_ms: Vec<i64>,
    pub columns: Vec<Column>,
}

impl Columns for Grid {
    fn age(&self, column: u32) -> Option<u32> {
        self.columns[column as usize].age
    }

    fn read(&self, columns: Range<u32>, visit: &mut ColumnVisit<'_>) {
        for column in &self.columns[columns.start as usize..columns.end as usize] {
            if !visit(column.kind, &column.cells, &column.presence) {
                return;
            }
        }
    }
}

/// Some rows of a grid.
pub struct GridRows<'g> {
    pub grid: &'g Grid,
    pub rows: Range<usize>,
}

impl Columns for GridRows<'_> {
    fn age(&self, column: u32) -> Option<u32> {
        self.grid.age(column)
    }

    fn read(&self, columns: Range<u32>, visit: &mut ColumnVisit<'_>) {
        self.grid.read(columns, &mut |kind, cells, presence| {
            visit(kind, &cells[self.rows.clone()], &presence[self.rows.clone()])
        });
    }
}

impl Grid {
    /// Counters, gauges, noise, gaps and ages as the seed has it.
    pub fn random(seed: u64, rows: usize, column_count: usize) -> Self {
        let mut prng = Prng::new(seed);
        let instants_ms = (0..rows as i64).map(|row| 1_760_000_000_000 + row * 5_000 + prng.below(20) as i64).collect();
        let mut columns: Vec<Column> = Vec::new();
        // Value columns that have no ages yet; a column of ages stands somewhere behind its values.
        let mut without_ages: Vec<u32> = Vec::new();
        while columns.len() < column_count {
            let here = columns.len() as u32;
            let kind = match without_ages.len() {
                0 => ColumnKind::Float,
                _ if prng.chance(7, 8) => ColumnKind::Float,
                waiting => {
                    let value = without_ages.swap_remove(prng.below(waiting as u64) as usize);
                    columns[value as usize].age = Some(here);
                    ColumnKind::Age
                }
            };
            if kind == ColumnKind::Float {
                without_ages.push(here);
            }
            let style = prng.below(5);
            let before = columns.iter().rev().find(|column| column.kind == kind).map(|column| &column.cells);
            let cells = (0..rows as u64).map(|row| match (kind, style) {
                (ColumnKind::Age, 0..2) => before.map_or(5, |before| before[row as usize] + prng.below(2)),
                (ColumnKind::Age, _) => prng.below(30_000),
                // As a histogram's buckets.
                (_, 4) => {
                    before.map_or(0, |before| (f64::from_bits(before[row as usize]) + prng.below(3) as f64).to_bits())
                }
                (_, 0) => ((row * 3 + prng.below(3)) as f64).to_bits(),
                (_, 1) => (prng.below(1_000) as f64 / 100.0).to_bits(),
                (_, 2) => 7.0_f64.to_bits(),
                _ => prng.next_u64(),
            });
            let cells: Vec<u64> = cells.collect();
            let presence = (0..rows).map(|_| match prng.below(12) {
                0 => Presence::Absent,
                1 if kind == ColumnKind::Float => Presence::Stale,
                _ => Presence::Value,
            });
            let presence: Vec<Presence> =
                if style == 0 || style == 4 { vec![Presence::Value; rows] } else { presence.collect() };
            columns.push(Column { age: None, kind, cells, presence });
        }
        Self { instants_ms, columns }
    }

    pub fn spec(&self, row_from: u64, columns: Range<u32>, stripe_columns: u32) -> SegmentSpec<'_> {
        SegmentSpec {
            timeline: TimelineKey(0x0a0b_0c0d_0e0f_1011),
            layout: 5,
            row_from,
            instants_ms: &self.instants_ms,
            columns,
            epoch: EPOCH,
            stripe_columns,
        }
    }

    pub fn encode(&self, row_from: u64, columns: Range<u32>, out: &mut [u8]) -> Option<Encoded> {
        encode_segment(&self.spec(row_from, columns, 32), self, out)
    }

    /// `(row, t_ms, bits)` of what a value column holds.
    pub fn samples(&self, column: usize, row_from: u64) -> Vec<(u64, i64, u64)> {
        let age = self.columns[column].age.map(|age| &self.columns[age as usize]);
        let (mut samples, values) = (Vec::new(), &self.columns[column]);
        for row in 0..self.instants_ms.len() {
            let bits = match values.presence[row] {
                Presence::Absent => continue,
                Presence::Value => values.cells[row],
                Presence::Stale => STALE_NAN_BITS,
            };
            let age_ms = age.filter(|age| age.presence[row] == Presence::Value).map_or(0, |age| age.cells[row] as i64);
            samples.push((row_from + row as u64, self.instants_ms[row] - age_ms, bits));
        }
        samples
    }
}
