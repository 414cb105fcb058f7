use super::*;
use alloc::{vec, vec::Vec};

fn check(kind: ColumnKind, cells: &[u64], presence: &[Presence]) -> usize {
    let mut out = vec![0xaa; column_bytes_max(cells.len())];
    let used = encode_column(kind, cells, presence, &mut out).unwrap();
    let (mut found, mut found_presence) = (vec![9; cells.len()], vec![Presence::Stale; cells.len()]);
    // Bytes behind the column belong to the next one and must not matter.
    assert_eq!(decode_column(&out, cells.len(), &mut found, &mut found_presence), Ok(used));
    assert_eq!(found_presence, presence);
    let expected: Vec<u64> =
        cells.iter().zip(presence).map(|(cell, state)| if *state == Presence::Value { *cell } else { 0 }).collect();
    assert_eq!(found, expected);
    used
}

#[test]
fn constants_of_zero_and_one_take_one_byte() {
    for value in [0.0_f64, 1.0] {
        assert_eq!(check(ColumnKind::Float, &[value.to_bits(); 240], &[Presence::Value; 240]), 1);
    }
}
