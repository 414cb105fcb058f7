use super::*;
use alloc::{vec, vec::Vec};

type Column = (ColumnKind, Vec<u64>, Vec<Presence>);

fn floats(values: impl IntoIterator<Item = f64>) -> Column {
    let cells: Vec<u64> = values.into_iter().map(f64::to_bits).collect();
    let presence = vec![Presence::Value; cells.len()];
    (ColumnKind::Float, cells, presence)
}

/// Writes a stripe and reads it whole, then each column by itself; returns each column's length.
fn check<const ROWS: usize>(columns: &[Column]) -> Vec<usize> {
    let rows = columns[0].1.len();
    let mut encoder = StripeEncoder::<ROWS>::new();
    let (mut bytes, mut lengths) = (Vec::new(), Vec::new());
    for (kind, cells, presence) in columns {
        let mut out = vec![0xaa; column_bytes_max(rows)];
        let used = encoder.column(*kind, cells, presence, &mut out).unwrap();
        // The buffer's length has no say in what is written: it is refused or filled.
        bytes.extend_from_slice(&out[..used]);
        lengths.push(used);
    }
    let mut decoder = StripeDecoder::<ROWS>::new();
    let mut walk = StripeWalk::new(rows).unwrap();
    let mut at = 0;
    for (index, column) in columns.iter().enumerate() {
        assert_eq!(decode(&mut decoder, &bytes[at..], column), lengths[index], "column {index}");
        let stepped = walk.column(&bytes[at..], at).unwrap();
        assert_eq!((stepped.kind, stepped.bytes), (column.0, lengths[index]));
        let mut alone = StripeDecoder::<ROWS>::new();
        let first = (0..=index).rev().find(|first| lengths[..*first].iter().sum::<usize>() == stepped.begin).unwrap();
        let mut from = stepped.begin;
        for column in &columns[first..=index] {
            from += decode(&mut alone, &bytes[from..], column);
        }
        at += lengths[index];
    }
    assert_eq!(at, bytes.len());
    lengths
}

#[track_caller]
fn decode<const ROWS: usize>(decoder: &mut StripeDecoder<ROWS>, bytes: &[u8], column: &Column) -> usize {
    let (_, cells, presence) = column;
    let (mut found, mut found_presence) = (vec![9; cells.len()], vec![Presence::Stale; cells.len()]);
    let used = decoder.column(bytes, cells.len(), &mut found, &mut found_presence).unwrap();
    assert_eq!(found_presence, *presence);
    let value = |(cell, state): (&u64, &Presence)| if *state == Presence::Value { *cell } else { 0 };
    assert_eq!(found, cells.iter().zip(presence).map(value).collect::<Vec<_>>());
    used
}

/// Events so far at each of 240 rows, of which `share` in 16 are in the bucket.
fn bucket(share: u64) -> impl Iterator<Item = f64> {
    (0..240).scan(1_000_000.0, move |sum, row| {
        *sum += (0..crate::prng::mix(row) % 900).filter(|event| crate::prng::mix(*event) % 16 < share).count() as f64;
        Some(*sum)
    })
}

#[test]
fn a_bucket_is_told_by_the_bucket_before_and_the_count_by_the_last_one() {
    let sum = (0..240_u64).map(|row| crate::prng::mix(row) as f64 / 3e9);
    let lengths = check::<ROWS_MAX>(&[
        floats(bucket(14)),
        floats(bucket(15)),
        floats(bucket(16)),
        floats(bucket(16)),
        floats(sum),
        floats(bucket(16)),
    ]);
    let alone = check::<ROWS_MAX>(&[floats(bucket(16))])[0];
    assert!(lengths[1] < alone * 3 / 4 && lengths[2] < alone * 3 / 4, "{lengths:?}, alone {alone}");
    assert_eq!((lengths[3], lengths[5]), (1, 1), "the same as a column just before: {lengths:?}");
}

#[test]
fn ages_refer_to_ages_and_values_to_values() {
    let age = |seed: u64| {
        let ages: Vec<u64> = (0..240).map(|row| crate::prng::mix(row ^ seed) % 30_000).collect();
        (ColumnKind::Age, ages, vec![Presence::Value; 240])
    };
    let lengths = check::<ROWS_MAX>(&[
        floats(bucket(16)),
        age(1),
        floats((0..240).map(f64::from)),
        age(1),
        floats(bucket(16)),
        age(1),
        age(2),
    ]);
    assert_eq!((lengths[3], lengths[4], lengths[5]), (1, 1, 1), "{lengths:?}");
    assert!(lengths[6] > 300, "{lengths:?}");
}

#[test]
fn ages_that_refer_to_ages_are_reached_through_the_values_that_lie_with_those() {
    // The second piece's values need the first one; the third piece's ages need the second one, so the first one too.
    let age = |add: u64| {
        let ages: Vec<u64> = (0..240).map(|row| crate::prng::mix(row) % 30_000 + add).collect();
        (ColumnKind::Age, ages, vec![Presence::Value; 240])
    };
    let alone = floats((0..240_u64).map(|row| crate::prng::mix(row) as f64));
    let pieces = [vec![floats(bucket(15))], vec![floats(bucket(16)), age(0)], vec![alone, age(1)]];
    let mut encoder = StripeEncoder::<ROWS_MAX>::new();
    let mut walk = StripeWalk::new(240).unwrap();
    let mut begins = Vec::new();
    for (name, piece) in pieces.iter().enumerate() {
        for (kind, cells, presence) in piece {
            let mut out = vec![0; column_bytes_max(240)];
            let bytes = encoder.column(*kind, cells, presence, &mut out).unwrap();
            let stepped = walk.column(&out, name).unwrap();
            assert_eq!((stepped.kind, stepped.bytes), (*kind, bytes));
            begins.push(stepped.begin);
        }
    }
    assert_eq!(begins, [0, 0, 0, 2, 0]);
}

#[test]
fn columns_that_hold_nothing_are_no_reference_and_stand_in_nobodys_way() {
    let nothing = |state| (ColumnKind::Float, vec![0; 240], vec![state; 240]);
    let lengths = check::<ROWS_MAX>(&[
        nothing(Presence::Absent),
        floats(bucket(16)),
        nothing(Presence::Absent),
        nothing(Presence::Stale),
        floats(bucket(16)),
    ]);
    assert_eq!(lengths[4], 1, "{lengths:?}");
}

#[test]
fn presence_is_told_once_for_columns_that_come_and_go_together() {
    let mut presence = vec![Presence::Value; 240];
    (0..240).filter(|row| row % 3 == 0).for_each(|row| presence[row] = Presence::Absent);
    let gaps = |seed: u64| {
        let cells = (0..240).map(|row| ((crate::prng::mix(row ^ seed) % 1_000_000) as f64 / 8.0).to_bits()).collect();
        (ColumnKind::Float, cells, presence.clone())
    };
    let lengths = check::<ROWS_MAX>(&[gaps(1_000), gaps(2_000)]);
    assert!(lengths[1] + 35 < lengths[0], "60 bytes of presence: {lengths:?}");
    // Of another kind, or other in one row: told anew.
    let mut other = gaps(3_000);
    other.2[239] = Presence::Stale;
    let lengths = check::<ROWS_MAX>(&[gaps(1_000), other]);
    assert!(lengths[0].abs_diff(lengths[1]) < 20, "{lengths:?}");
}

#[test]
fn raw_columns_and_constants_of_any_bits_may_be_referred_to() {
    let nan = f64::from_bits(0x7ff8_0000_0000_0123);
    let lengths = check::<ROWS_MAX>(&[
        floats([nan; 240]),
        floats([nan; 240]),
        floats([-0.0; 240]),
        floats([0.123_456_789_012_345_6; 240]),
        floats([0.123_456_789_012_345_6; 240]),
        floats([9e15; 240]),
        floats([9e15; 240]),
    ]);
    assert_eq!((lengths[0], lengths[1], lengths[4], lengths[6]), (9, 1, 1, 1), "{lengths:?}");
}

#[test]
fn another_stripe_begins_without_references() {
    let column = floats(bucket(16));
    let mut encoder = StripeEncoder::<240>::new();
    let mut first = vec![0; column_bytes_max(240)];
    let used = encoder.column(column.0, &column.1, &column.2, &mut first).unwrap();
    encoder.begin();
    let mut second = vec![0; column_bytes_max(240)];
    assert_eq!(encoder.column(column.0, &column.1, &column.2, &mut second), Ok(used));
    assert_eq!(first, second);
    let mut decoder = StripeDecoder::<240>::new();
    decode(&mut decoder, &first, &column);
    decoder.begin();
    let refused = decoder.column(&[1 << 6 | 1], 240, &mut [0; 240], &mut [Presence::Absent; 240]);
    assert_eq!(refused, Err(CodecError::Damaged));
}

#[test]
fn a_row_more_than_a_coder_was_made_for_is_refused() {
    let presence = [Presence::Value; 17];
    let refused = Err(CodecError::TooManyRows { rows: 17, rows_max: 16 });
    let mut out = [0; column_bytes_max(17)];
    assert_eq!(StripeEncoder::<16>::new().column(ColumnKind::Float, &[0; 17], &presence, &mut out), refused);
    assert_eq!(StripeDecoder::<16>::new().column(&[1], 17, &mut [0; 17], &mut presence.clone()), refused);
    assert!(StripeWalk::new(ROWS_MAX).is_ok());
    assert!(StripeWalk::new(ROWS_MAX + 1).is_err());
}

#[test]
fn what_coders_hold_is_what_their_page_says() {
    assert!(size_of::<StripeEncoder<16>>() <= 16 * 36 + 128, "{}", size_of::<StripeEncoder<16>>());
    assert!(size_of::<StripeDecoder<ROWS_MAX>>() <= ROWS_MAX * 36 + 128);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn state() -> impl Strategy<Value = Presence> {
        prop_oneof![Just(Presence::Absent), Just(Presence::Value), Just(Presence::Value), Just(Presence::Stale)]
    }

    /// A kind of series, as bits by row, from the bits of the column before it.
    fn cells(style: u8, seed: u64, before: &[u64]) -> Vec<u64> {
        let noise = |row: usize| crate::prng::mix(seed ^ row as u64);
        let cell = |row: usize| match style {
            0 => ((noise(0) >> 40) as f64 + row as f64 * 3.0).to_bits(),
            1 => ((noise(row) % 10_000) as f64 / 100.0).to_bits(),
            2 => before[row],
            3 => (f64::from_bits(before[row]) + (noise(row) % 5) as f64).to_bits(),
            4 => noise(0),
            5 => noise(row),
            6 => before[row] ^ (noise(row) & 1),
            _ => f64::from_bits(before[row]).sqrt().to_bits(),
        };
        (0..before.len()).map(cell).collect()
    }

    type Told = (u8, u64, u8, bool, Vec<Presence>);

    /// Columns of which many depend on the one before, with presence of their own, the one before's, or all values.
    fn stripe(rows: usize, told: Vec<Told>) -> Vec<Column> {
        let mut columns: Vec<Column> = vec![];
        for (style, seed, present, age, states) in told {
            let before = columns.last().cloned().unwrap_or_else(|| floats((0..rows).map(|row| row as f64)));
            let presence = match present {
                0 => states[..rows].to_vec(),
                1 => before.2.clone(),
                _ => vec![Presence::Value; rows],
            };
            let kind = if age { ColumnKind::Age } else { ColumnKind::Float };
            columns.push((kind, cells(style, seed, &before.1), presence));
        }
        columns
    }

    fn told(rows: usize) -> impl Strategy<Value = Vec<Told>> {
        let column = (0..8_u8, any::<u64>(), 0..3_u8, any::<bool>(), proptest::collection::vec(state(), rows));
        proptest::collection::vec(column, 1..12)
    }

    proptest! {
        #[test]
        fn any_mix_of_columns_comes_back_whole_and_one_by_one(
            (rows, told) in (0..=40_usize).prop_flat_map(|rows| (Just(rows), told(rows))),
        ) {
            check::<40>(&stripe(rows, told));
        }

        #[test]
        fn any_mix_of_long_columns_comes_back(told in told(ROWS_MAX)) {
            check::<ROWS_MAX>(&stripe(ROWS_MAX, told));
        }

        #[test]
        fn foreign_stripes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), rows in 0..=16_usize) {
            let mut decoder = StripeDecoder::<16>::new();
            let mut walk = StripeWalk::new(rows).unwrap();
            let (mut cells, mut presence) = ([0; 16], [Presence::Absent; 16]);
            let mut at = 0;
            while let Ok(used) = decoder.column(&bytes[at..], rows, &mut cells, &mut presence) {
                // Whoever decodes a column may step over it.
                prop_assert_eq!(walk.column(&bytes[at..], at).map(|stepped| stepped.bytes), Ok(used));
                at += used;
                prop_assert!(at <= bytes.len());
            }
        }
    }
}
