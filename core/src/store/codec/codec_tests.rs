use super::*;
use alloc::{vec, vec::Vec};

fn encode_column(kind: ColumnKind, cells: &[u64], presence: &[Presence], out: &mut [u8]) -> Result<usize, CodecError> {
    StripeEncoder::<ROWS_MAX>::new().column(kind, cells, presence, out)
}

fn decode_column(bytes: &[u8], rows: usize, cells: &mut [u64], presence: &mut [Presence]) -> Result<usize, CodecError> {
    StripeDecoder::<ROWS_MAX>::new().column(bytes, rows, cells, presence)
}

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

/// A column that said it had no value and still went on with a packed run was stepped over by 2^64 - 1 residuals
/// (found by the test of patched segments).
#[test]
fn a_run_without_a_value_is_damage_when_it_is_stepped_over() {
    for head in 0..=u8::MAX {
        assert!(integers::skip(head, 0, &mut bits::Reader::new(&[0; 64])).is_err(), "head {head}");
        assert!(integers_v1::skip(head, 0, &mut bits::Reader::new(&[0; 64])).is_err(), "head {head}");
    }
}

#[test]
fn constants_of_zero_and_one_take_one_byte() {
    for value in [0.0_f64, 1.0] {
        assert_eq!(check(ColumnKind::Float, &[value.to_bits(); 240], &[Presence::Value; 240]), 1);
    }
}

#[test]
fn small_constants_take_few_bytes_and_large_ones_at_most_nine() {
    for (value, bytes) in [(2.0_f64, 2), (1e6, 4), (0.25, 3), (f64::NAN, 9), (-0.0, 9), (1.0 / 3.0, 9), (1e17, 9)] {
        assert_eq!(check(ColumnKind::Float, &[value.to_bits(); 100], &[Presence::Value; 100]), bytes, "{value}");
    }
    assert_eq!(check(ColumnKind::Age, &[1; 7], &[Presence::Value; 7]), 1);
    assert_eq!(check(ColumnKind::Age, &[-5_i64 as u64; 7], &[Presence::Value; 7]), 2);
    assert_eq!(check(ColumnKind::Age, &[i64::MIN as u64; 7], &[Presence::Value; 7]), 9);
}

#[test]
fn a_counter_and_a_page_counted_gauge_are_packed_by_the_bit() {
    let counter: Vec<u64> = (0..240).map(|row| ((1_000 + row * 7 + row % 3) as f64).to_bits()).collect();
    assert!(check(ColumnKind::Float, &counter, &[Presence::Value; 240]) < 90);
    let pages: Vec<u64> = (0..240_u64).map(|row| (((row * 37) % 8 * 4096) as f64).to_bits()).collect();
    assert!(check(ColumnKind::Float, &pages, &[Presence::Value; 240]) < 110);
    let cents: Vec<u64> = (0..240).map(|row| (f64::from(12_345 + row * 3) / 100.0).to_bits()).collect();
    assert!(check(ColumnKind::Float, &cents, &[Presence::Value; 240]) < 25);
}

#[test]
fn a_stale_marker_in_a_counter_costs_no_float() {
    let cells: Vec<u64> = (0..240).map(|row| f64::from(row).to_bits()).collect();
    let mut presence = vec![Presence::Value; 240];
    let plain = check(ColumnKind::Float, &cells, &presence);
    presence[100] = Presence::Stale;
    // Where it lies, and the step over it.
    assert!(check(ColumnKind::Float, &cells, &presence) <= plain + 6 + 10);
}

#[test]
fn every_count_of_rows_from_none_to_the_most_comes_back() {
    for rows in 0..=ROWS_MAX {
        let cells: Vec<u64> = (0..rows as u64).map(|row| crate::prng::mix(row) >> (row % 64)).collect();
        check(ColumnKind::Float, &cells, &vec![Presence::Value; rows]);
        check(ColumnKind::Age, &cells, &vec![Presence::Value; rows]);
        check(ColumnKind::Float, &cells, &vec![Presence::Absent; rows]);
    }
    let (cells, presence) = (vec![0; ROWS_MAX + 1], vec![Presence::Value; ROWS_MAX + 1]);
    let rows = ROWS_MAX + 1;
    let mut out = vec![0; column_bytes_max(rows)];
    assert_eq!(
        encode_column(ColumnKind::Float, &cells, &presence, &mut out),
        Err(CodecError::TooManyRows { rows, rows_max: ROWS_MAX })
    );
    let (mut cells, mut presence) = (cells, presence);
    assert_eq!(
        decode_column(&out, rows, &mut cells, &mut presence),
        Err(CodecError::TooManyRows { rows, rows_max: ROWS_MAX })
    );
}

#[test]
fn slices_of_different_lengths_are_refused() {
    let mut out = [0; 64];
    let refused = CodecError::LengthsDiffer { rows: 2, cells: 2, presence: 1 };
    assert_eq!(encode_column(ColumnKind::Float, &[0; 2], &[Presence::Value], &mut out), Err(refused));
    assert_eq!(decode_column(&out, 2, &mut [0; 2], &mut [Presence::Value]), Err(refused));
}

#[test]
fn an_output_one_byte_too_short_is_refused_and_a_column_one_byte_too_short_is_truncated() {
    for cells in [vec![0.1_f64.to_bits(); 9], (0..99).map(crate::prng::mix).collect(), (0..99).collect()] {
        let mut presence = vec![Presence::Value; cells.len()];
        presence[3] = Presence::Stale;
        let used = check(ColumnKind::Float, &cells, &presence);
        let mut out = vec![0; used];
        assert_eq!(encode_column(ColumnKind::Float, &cells, &presence, &mut out), Ok(used));
        let refused = CodecError::OutputFull { capacity: used - 1 };
        assert_eq!(encode_column(ColumnKind::Float, &cells, &presence, &mut out[..used - 1]), Err(refused));
        assert_eq!(encode_column(ColumnKind::Float, &cells, &presence, &mut out), Ok(used));
        let mut found = vec![0; cells.len()];
        let cut = decode_column(&out[..used - 1], cells.len(), &mut found, &mut presence);
        assert_eq!(cut, Err(CodecError::Truncated));
    }
}

#[test]
fn fields_of_a_newer_version_are_refused_as_such() {
    let (mut cells, mut presence) = ([0; 2], [Presence::Absent; 2]);
    for bytes in [[6, 19, 0, 0, 0, 0], [6, 0, 5, 0, 0, 0], [6, 0, 0x10, 0, 0, 0], [6, 6 << 5, 6 << 5, 0, 0, 0]] {
        assert_eq!(decode_column(&bytes, 2, &mut cells, &mut presence), Err(CodecError::FromNewerVersion), "{bytes:?}");
    }
    // All rows have values, yet the form says there are none; and the other way round.
    // And a difference to the column before the first one.
    for bytes in
        [&[0][..], &[1 << 3 | 1], &[2 << 3 | 1, 3 << 2 | 1], &[2 << 3 | 1, 1], &[3 << 3 | 1, 0xff], &[1 << 6 | 1]]
    {
        assert_eq!(decode_column(bytes, 2, &mut cells, &mut presence), Err(CodecError::Damaged), "{bytes:?}");
    }
}

#[test]
fn the_corner_series_come_back_bit_for_bit() {
    let mut columns = 0;
    for line in include_str!("../../../../tests/fixtures/spill/corner.txt").lines() {
        let mut words = line.split(' ');
        match words.next() {
            Some("value") => {
                let cells: Vec<u64> = words.skip(1).map(|word| u64::from_str_radix(word, 16).unwrap()).collect();
                check(ColumnKind::Float, &cells, &vec![Presence::Value; cells.len()]);
                check(ColumnKind::Age, &cells, &vec![Presence::Value; cells.len()]);
            }
            Some("instant") => {
                let instants: Vec<i64> = words.skip(1).map(|word| word.parse().unwrap()).collect();
                check_instants(&instants);
            }
            _ => continue,
        }
        columns += 1;
    }
    assert_eq!(columns, 41);
}

fn check_instants(instants: &[i64]) -> usize {
    let mut out = vec![0xaa; instants_bytes_max(instants.len())];
    let used = encode_instants(instants, &mut out).unwrap();
    let mut found = vec![0; instants.len()];
    assert_eq!(decode_instants(&out, instants.len(), &mut found), Ok(used));
    assert_eq!(found, instants);
    if let Some(short) = used.checked_sub(1) {
        assert_eq!(decode_instants(&out[..short], instants.len(), &mut found), Err(CodecError::Truncated));
        assert!(matches!(encode_instants(instants, &mut out[..short]), Err(CodecError::OutputFull { .. })));
    }
    used
}

#[test]
fn instants_on_a_grid_cost_next_to_nothing_and_jittered_ones_under_a_byte() {
    let grid: Vec<i64> = (0..240).map(|row| 1_760_000_000_000 + row * 5_000).collect();
    assert!(check_instants(&grid) <= 30, "{}", check_instants(&grid));
    let jittered: Vec<i64> =
        grid.iter().map(|instant| instant + (crate::prng::mix(*instant as u64) % 30) as i64).collect();
    assert!(check_instants(&jittered) < 240, "{}", check_instants(&jittered));
    assert_eq!(check_instants(&[]), 0);
    check_instants(&[i64::MIN, i64::MAX, 0, -1, i64::MIN]);
    let rows = ROWS_MAX + 1;
    assert_eq!(
        encode_instants(&vec![0; rows], &mut [0; 9000]),
        Err(CodecError::TooManyRows { rows, rows_max: ROWS_MAX })
    );
}

#[test]
fn rare_changes_cost_little_more_than_their_place() {
    let level = |row: u64| f64::from(u8::from(row >= 37) + u8::from(row >= 200) * 100) + 1e6;
    let steps: Vec<u64> = (0..240).map(|row| level(row).to_bits()).collect();
    assert!(check(ColumnKind::Float, &steps, &[Presence::Value; 240]) < 24);
    let odd: Vec<u64> =
        (0..240).map(|row| if row / 30 % 2 == 0 { 0.1_f64 + 0.2 } else { 1.0 / 3.0 }.to_bits()).collect();
    assert!(check(ColumnKind::Float, &odd, &[Presence::Value; 240]) < 100);
}

#[test]
fn residuals_of_every_width_come_back_dense_and_sparse() {
    for width in 0..64 {
        for every in [1, 5, 17] {
            let cell = |row: u64| if row.is_multiple_of(every) { crate::prng::mix(row) >> (63 - width) } else { 0 };
            let cells: Vec<u64> = (0..240).map(cell).collect();
            let used = check(ColumnKind::Age, &cells, &[Presence::Value; 240]);
            let residuals =
                240_usize.div_ceil(every as usize) + usize::from(every > 1) * 240_usize.div_ceil(every as usize);
            let most = 40 + 30 * usize::from(every > 1) + residuals * (width as usize + 3).min(64) / 8;
            assert!(used <= most, "{used} bytes for {width} bits every {every} rows, at most {most}");
        }
    }
}

#[test]
fn a_sum_that_was_rounded_is_a_decimal_with_a_drift() {
    let mut sum = 1_234.5;
    let sums: Vec<u64> = (0..240_u64)
        .map(|row| {
            sum += (crate::prng::mix(row) % 50_000) as f64 / 1e6;
            f64::to_bits(sum)
        })
        .collect();
    // Fifteen or sixteen bits of microseconds, and a few of rounding; as bits in numeric order a step takes 37.
    let used = check(ColumnKind::Float, &sums, &[Presence::Value; 240]);
    assert!(used < 240 * 20 / 8, "{used}");
}

#[test]
fn values_that_are_no_decimals_are_told_apart_from_the_others() {
    let cents = |row: u64| (f64::from(12_345 + row as u32 * 3) / 100.0).to_bits();
    let plain = check(ColumnKind::Float, &(0..240).map(cents).collect::<Vec<_>>(), &[Presence::Value; 240]);
    let with = |odd: &dyn Fn(u64) -> Option<u64>| {
        let cells: Vec<u64> = (0..240).map(|row| odd(row).unwrap_or(cents(row))).collect();
        check(ColumnKind::Float, &cells, &[Presence::Value; 240])
    };
    const NAN: u64 = 0x7ff8_0000_0000_0001;
    let other_nan = |row| if row < 9 { Some(NAN + 1) } else { None };
    let minus_zero = |row| if row == 77 { Some((-0.0_f64).to_bits()) } else { None };
    let infinities = |row| if row >= 200 { Some(f64::NEG_INFINITY.to_bits()) } else { None };
    // One that is told by 2 bytes, and others by 10; besides, their places are guessed wrong.
    assert!(with(&|row| if row > 9 && row < 15 { Some(NAN) } else { None }) <= plain + 3 + 30);
    assert!(with(&other_nan) <= plain + 11 + 30);
    assert!(with(&minus_zero) <= plain + 11 + 30);
    assert!(with(&infinities) <= plain + 11 + 30);
    assert!(with(&|row| infinities(row).or(minus_zero(row)).or(other_nan(row))) <= plain + 33 + 40);
    // 31 runs can be told, more can not; either way all comes back.
    for runs in [31, 32, 120] {
        with(&|row| if row % 2 == 1 && row / 2 < runs { Some(NAN) } else { None });
    }
    with(&|row| Some(NAN + row));
    with(&|row| if row == 100 { None } else { Some(NAN) });
}

#[test]
fn exceptions_that_reach_too_far_are_damage() {
    // A packed column of two rows with one exception, which is one value or both; then 1 and 2.
    let column = |gap: u8, length: u8| [6, 6 << 5 | 1, gap << 1, length, 2 << 5, 0, 2];
    let (mut cells, mut presence) = ([0; 2], [Presence::Absent; 2]);
    let mut read = |bytes: &[u8]| decode_column(bytes, 2, &mut cells, &mut presence).map(|_| cells);
    const NAN: u64 = 0x7ff8_0000_0000_0001;
    assert_eq!(read(&column(0, 0)), Ok([NAN, 1.0_f64.to_bits()]));
    assert_eq!(read(&column(1, 0)), Ok([1.0_f64.to_bits(), NAN]));
    assert_eq!(read(&column(0, 1)), Ok([NAN, NAN]));
    assert_eq!(read(&column(1, 1)), Err(CodecError::Damaged));
    assert_eq!(read(&column(2, 0)), Err(CodecError::Damaged));
    assert_eq!(read(&column(0, 2)), Err(CodecError::Damaged));
    // Ages have no exceptions, and no drift.
    let mut ages = column(0, 0);
    ages[0] |= 1 << 5;
    assert_eq!(read(&ages), Err(CodecError::Damaged));
    assert_eq!(read(&[6 | 1 << 5, 6 << 5, 2 << 5, 0, 2, 2 << 5, 0, 2]), Err(CodecError::Damaged));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn state() -> impl Strategy<Value = Presence> {
        prop_oneof![1 => Just(Presence::Absent), 6 => Just(Presence::Value), 1 => Just(Presence::Stale)]
    }

    /// Bits as they come, and the kinds of value exporters have.
    fn cell() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            any::<f64>().prop_map(f64::to_bits),
            any::<i32>().prop_map(|value| f64::from(value).to_bits()),
            (any::<i32>(), 0..9_i32).prop_map(|(m, e)| (f64::from(m) / 10_f64.powi(e)).to_bits()),
            odd(),
        ]
    }

    /// What is no decimal.
    fn odd() -> impl Strategy<Value = u64> {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e300, 5e-324, 9_223_372_036_854_775_808.0];
        prop_oneof![proptest::sample::select(odd.to_vec()).prop_map(f64::to_bits), Just(0x7ff8_0000_0000_0001)]
    }

    fn column() -> impl Strategy<Value = Vec<u64>> {
        prop_oneof![
            proptest::collection::vec(cell(), 0..=ROWS_MAX),
            proptest::collection::vec(any::<u64>(), 0..=ROWS_MAX),
            proptest::collection::vec(any::<i32>().prop_map(|value| f64::from(value).to_bits()), 0..=ROWS_MAX),
            // Sums of decimals, now and then something else.
            (0..12_i32, proptest::collection::vec((any::<u16>(), 0..40_u8, odd()), 0..=ROWS_MAX)).prop_map(
                |(e, steps)| {
                    let mut sum = 0.0;
                    let value = |(step, is_odd, odd)| {
                        sum += f64::from(step) / 10_f64.powi(e);
                        if is_odd == 0 { odd } else { f64::to_bits(sum) }
                    };
                    steps.into_iter().map(value).collect()
                }
            ),
            // Steps that share a divisor, from anywhere, wrapping.
            (any::<i64>(), any::<i64>(), proptest::collection::vec(any::<u16>(), 0..=ROWS_MAX)).prop_map(
                |(from, divisor, steps)| {
                    let value = |step: u16| from.wrapping_add(divisor.wrapping_mul(i64::from(step)));
                    steps.into_iter().map(|step| value(step) as u64).collect()
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn any_column_comes_back(cells in column(), states in proptest::collection::vec(state(), ROWS_MAX), age: bool) {
            let kind = if age { ColumnKind::Age } else { ColumnKind::Float };
            check(kind, &cells, &states[..cells.len()]);
            check(kind, &cells, &vec![Presence::Value; cells.len()]);
        }

        #[test]
        fn any_instants_come_back(instants in proptest::collection::vec(any::<i64>(), 0..=ROWS_MAX)) {
            check_instants(&instants);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), rows in 0..=ROWS_MAX) {
            let (mut cells, mut presence) = (vec![0; rows], vec![Presence::Absent; rows]);
            if let Ok(used) = decode_column(&bytes, rows, &mut cells, &mut presence) {
                prop_assert!(used <= bytes.len());
            }
            let mut instants = vec![0; rows];
            if let Ok(used) = decode_instants(&bytes, rows, &mut instants) {
                prop_assert!(used <= bytes.len());
            }
        }

        #[test]
        fn a_flipped_bit_never_panics(cells in column(), at: prop::sample::Index, bit in 0..8_u32) {
            let presence = vec![Presence::Value; cells.len()];
            let mut out = vec![0; column_bytes_max(cells.len())];
            let used = encode_column(ColumnKind::Float, &cells, &presence, &mut out).unwrap();
            out[at.index(used)] ^= 1_u8 << bit;
            let (mut found, mut states) = (vec![0; cells.len()], presence);
            // Any answer will do: the segment's checksum tells damage, this only must not panic.
            if let Ok(used) = decode_column(&out[..used], cells.len(), &mut found, &mut states) {
                prop_assert!(used <= out.len());
            }
        }
    }
}
