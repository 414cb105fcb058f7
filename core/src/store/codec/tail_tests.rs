use super::*;
use crate::prng::Prng;
use alloc::{vec, vec::Vec};
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
struct Column {
    kind: ColumnKind,
    history: usize,
    cells: Vec<u64>,
    presence: Vec<Presence>,
}

impl Column {
    fn floats(history: usize, values: &[f64]) -> Self {
        let cells = values.iter().map(|value| value.to_bits()).collect();
        Self { kind: ColumnKind::Float, history, cells, presence: vec![Presence::Value; values.len()] }
    }

    fn random(prng: &mut Prng) -> Self {
        let history = prng.below(3) as usize;
        let rows = history + 1 + prng.below(12) as usize;
        let kind = if prng.chance(1, 6) { ColumnKind::Age } else { ColumnKind::Float };
        let (style, start, step) = (prng.below(9), prng.below(1 << 40) as i64 - (1 << 39), prng.below(5_000) as i64);
        let cells = (0..rows as i64).map(|row| {
            let noise = prng.below(9) as i64;
            match style {
                0 => 7.5_f64.to_bits(),
                1 => ((start + row * step + noise) as f64).to_bits(),
                2 => ((row * step + noise) as f64 / 100.0).to_bits(),
                3 => ((start & !0xfff) + noise * 4096) as f64 as u64,
                4 => (f64::from_bits(prng.next_u64() >> 2)).to_bits(),
                5 => prng.next_u64(),
                6 => [f64::NAN, -0.0, f64::INFINITY, 5e-324, 9_007_199_254_740_993.0][noise as usize % 5].to_bits(),
                // What went before is no decimal, what comes is one.
                7 => if row < history as i64 { 0.1_f64.sqrt() } else { noise as f64 }.to_bits(),
                _ => [i64::MIN, i64::MAX, 0, -1][noise as usize % 4] as u64,
            }
        });
        let cells: Vec<u64> = cells.collect();
        let gaps = prng.chance(1, 3);
        let presence = (0..rows).map(|_| match prng.below(6) {
            0 if gaps => Presence::Absent,
            1 if gaps => Presence::Stale,
            _ => Presence::Value,
        });
        let presence: Vec<Presence> = presence.collect();
        let cells = cells.iter().zip(&presence).map(|(cell, state)| if *state == Presence::Value { *cell } else { 0 });
        Self { kind, history, cells: cells.collect(), presence }
    }
}

fn write(columns: &[Column]) -> Vec<u8> {
    let mut out = vec![0; 64 * 1024];
    let mut coder = Coder::Write { range: RangeWriter::behind(0), out: &mut out };
    let mut model = Model::new();
    for column in columns {
        let mut copy = column.clone();
        let Column { kind, history, cells, presence } = &mut copy;
        model.column(&mut coder, &mut Tail { kind: *kind, history: *history, cells, presence }).unwrap();
        assert_eq!(copy, *column, "writing changes nothing");
    }
    let Coder::Write { range, out: room } = coder else { unreachable!() };
    let end = range.finish(room);
    out.truncate(end);
    out
}

/// Reads columns of these shapes; what a column knows beforehand is its kind, its history and how many rows it has.
fn read(bytes: &[u8], shapes: &[Column]) -> Result<Vec<Column>, CodecError> {
    let (mut coder, mut model) = (Coder::Read(RangeReader::new(bytes)), Model::new());
    let mut found = Vec::new();
    for shape in shapes {
        let mut column = shape.clone();
        column.cells[shape.history..].fill(0xdead);
        column.presence[shape.history..].fill(Presence::Stale);
        let Column { kind, history, cells, presence } = &mut column;
        model.column(&mut coder, &mut Tail { kind: *kind, history: *history, cells, presence })?;
        found.push(column);
    }
    Ok(found)
}

#[test]
fn what_goes_on_as_it_was_takes_a_fraction_of_a_bit() {
    let constant: Vec<Column> = (0..1_000).map(|index| Column::floats(2, &[f64::from(index) + 0.3; 8])).collect();
    let bytes = write(&constant);
    assert!(bytes.len() < 20, "{} bytes for 6,000 samples", bytes.len());
    assert_eq!(read(&bytes, &constant).unwrap(), constant);
}

#[test]
fn steady_counters_take_less_than_their_steps() {
    let counter = |index: i32| {
        let values: Vec<f64> = (0..8).map(|row| f64::from(1_000_000 * index + 5_000 * row)).collect();
        Column::floats(2, &values)
    };
    let counters: Vec<Column> = (0..500).map(counter).collect();
    let bytes = write(&counters);
    assert!(bytes.len() < 400, "{} bytes for 3,000 samples", bytes.len());
    assert_eq!(read(&bytes, &counters).unwrap(), counters);
}

#[test]
fn a_series_that_ended_is_expected_to_stay_away() {
    let mut ended = Column::floats(1, &[0.0; 9]);
    ended.presence = vec![Presence::Absent; 9];
    ended.presence[0] = Presence::Stale;
    let all = vec![ended; 400];
    let bytes = write(&all);
    assert!(bytes.len() < 20, "{} bytes", bytes.len());
    assert_eq!(read(&bytes, &all).unwrap(), all);
}

#[test]
fn a_run_of_the_largest_size_comes_back() {
    let values: Vec<f64> = (0..ROWS_MAX).map(|row| (row * row) as f64 / 8.0).collect();
    let column = vec![Column::floats(HISTORY_ROWS_MAX, &values), Column::floats(0, &values)];
    assert_eq!(read(&write(&column), &column).unwrap(), column);
}

proptest! {
    #[test]
    fn every_column_comes_back_to_the_bit(seed: u64, count in 1..60_usize) {
        let mut prng = Prng::new(seed);
        let columns: Vec<Column> = (0..count).map(|_| Column::random(&mut prng)).collect();
        let bytes = write(&columns);
        prop_assert_eq!(read(&bytes, &columns).unwrap(), columns);
    }

    #[test]
    fn foreign_bytes_never_panic(seed: u64, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut prng = Prng::new(seed);
        let columns: Vec<Column> = (0..40).map(|_| Column::random(&mut prng)).collect();
        let _ = read(&bytes, &columns);
        // Bytes that begin well.
        let mut whole = write(&columns);
        let at = whole.len() / 2;
        whole.truncate(at);
        whole.extend_from_slice(&bytes);
        let _ = read(&whole, &columns);
    }
}
