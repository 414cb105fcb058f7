use super::{
    super::{SEGMENT_BYTES_MAX, SliceBytes, testing::Grid},
    *,
};
use crate::store::ColumnKind;
use alloc::{vec, vec::Vec};

/// Of the grid's segments.
const LAYOUT: u64 = 5;

fn segment(grid: &Grid) -> Vec<u8> {
    let mut out = vec![0; SEGMENT_BYTES_MAX];
    let encoded = grid.encode(0, 0..grid.columns.len() as u32, &mut out).unwrap();
    out.truncate(encoded.bytes);
    out
}

fn samples(cache: &StripeCache, sequence: u64, column: u32) -> Option<Vec<(i64, u64)>> {
    let kept = cache.column(sequence, column)?;
    let mut found = Vec::new();
    kept.samples(usize::MAX, &mut |t_ms, bits| found.push((t_ms, bits)));
    if let Some(instants_ms) = kept.plain_instants_ms() {
        let plain: Vec<(i64, u64)> = instants_ms.iter().copied().zip(kept.bits(0..instants_ms.len())).collect();
        assert_eq!(plain, found);
    }
    Some(found)
}

#[test]
fn a_kept_column_is_what_the_segment_says_bit_for_bit() {
    for (seed, rows, columns) in [(1, 1, 1), (2, 2, 33), (3, 17, 64), (4, 240, 65), (5, 256, 100)] {
        let grid = Grid::random(seed, rows, columns);
        let bytes = segment(&grid);
        let mut cache = StripeCache::new(1 << 20);
        for column in (0..columns).filter(|column| grid.columns[*column].kind == ColumnKind::Float) {
            if cache.column(7, column as u32).is_none() {
                assert_eq!(cache.keep(7, column as u32, &mut SliceBytes(&bytes)), Ok(true));
            }
            let expected: Vec<_> = grid.samples(column, 0).iter().map(|(_, t_ms, bits)| (*t_ms, *bits)).collect();
            assert_eq!(samples(&cache, 7, column as u32), Some(expected), "seed {seed}, column {column}");
        }
        assert!(cache.column(7, columns as u32).is_none() && cache.column(8, 0).is_none());
    }
}

#[test]
fn small_numbers_take_few_bytes_and_constants_none() {
    let column = |bits: fn(u64) -> u64| {
        let mut grid = Grid::random(1, 240, 1);
        grid.columns[0].cells = (0..240).map(bits).collect();
        grid.columns[0].presence = vec![Presence::Value; 240];
        let mut cache = StripeCache::new(1 << 20);
        cache.keep(1, 0, &mut SliceBytes(&segment(&grid))).unwrap();
        let expected: Vec<u64> = (0..240).map(bits).collect();
        assert_eq!(samples(&cache, 1, 0).unwrap().iter().map(|(_, bits)| *bits).collect::<Vec<_>>(), expected);
        let Stripe { places, bytes, .. } = &cache.stripes[0];
        (places[0].width, bytes.len())
    };
    assert_eq!(column(|_| 1.5_f64.to_bits()), (0, 8 + PADDING_BYTES));
    assert_eq!(column(|row| (row as f64).to_bits()), (3, 240 * 3 + PADDING_BYTES));
    assert_eq!(column(|row| (1_000_000.0 + row as f64).to_bits()), (4, 240 * 4 + PADDING_BYTES));
    assert_eq!(column(|row| (row as f64 / 10.0).to_bits()), (8, 240 * 8 + PADDING_BYTES));
    assert_eq!(column(|row| u64::MAX - row), (8, 240 * 8 + PADDING_BYTES));
}

#[test]
fn what_does_not_fit_beside_its_neighbours_is_refused_and_others_give_way() {
    let grid = Grid::random(9, 240, 64);
    let bytes = segment(&grid);
    let mut cache = StripeCache::new(1 << 20);
    cache.keep(1, 0, &mut SliceBytes(&bytes)).unwrap();
    let one = cache.bytes();
    let mut cache = StripeCache::new(2 * one + one / 2);
    for (sequence, fits) in [(1, true), (2, true), (3, false)] {
        assert!(cache.has_room(LAYOUT, 5));
        assert_eq!(cache.keep(sequence, 5, &mut SliceBytes(&bytes)), Ok(fits), "{sequence}");
        assert_eq!(cache.column(sequence, 31).is_some(), fits);
    }
    assert!(!cache.has_room(LAYOUT, 31) && cache.has_room(LAYOUT, 32));
    // Another stripe's turn: the first ones give way.
    for sequence in [1, 2] {
        assert_eq!(cache.keep(sequence, 40, &mut SliceBytes(&bytes)), Ok(true));
    }
    assert!(cache.column(1, 5).is_none() || cache.column(2, 5).is_none());
    assert!(cache.bytes() <= 2 * one + one / 2);
    cache.clear();
    assert!(cache.column(2, 40).is_none() && cache.bytes() == 0 && cache.has_room(LAYOUT, 31));
}

#[test]
fn a_damaged_stripe_is_told_and_not_kept() {
    let grid = Grid::random(3, 50, 40);
    let mut bytes = segment(&grid);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let mut cache = StripeCache::new(1 << 20);
    assert!(cache.keep(1, 35, &mut SliceBytes(&bytes)).is_err() && cache.column(1, 35).is_none());
    assert_eq!(cache.keep(1, 3, &mut SliceBytes(&bytes)), Ok(true));
}
