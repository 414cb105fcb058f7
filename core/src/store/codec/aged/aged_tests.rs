use super::*;
use alloc::{boxed::Box, vec, vec::Vec};

type Column = (ColumnKind, Vec<u64>, Vec<Presence>);

fn encode(columns: &[Column]) -> Vec<u8> {
    let rows = columns.first().map_or(0, |(_, cells, _)| cells.len());
    let mut out = vec![0xaa; stripe_bytes_max(columns.len(), rows)];
    let mut workspace = Box::new(Workspace::new());
    let mut encoder = StripeEncoder::new(&mut workspace, rows, &mut out).unwrap();
    for (kind, cells, presence) in columns {
        encoder.column(*kind, cells, presence).unwrap();
    }
    let used = encoder.finish().unwrap();
    out.truncate(used);
    out
}

/// Every column comes back, whatever stripe was read before; returns the stripe's bytes.
#[track_caller]
fn check(columns: &[Column]) -> usize {
    let bytes = encode(columns);
    let rows = columns.first().map_or(0, |(_, cells, _)| cells.len());
    let mut workspace = Box::new(Workspace::new());
    for _ in 0..2 {
        let mut decoder = StripeDecoder::new(&mut workspace, rows, &bytes).unwrap();
        for (at, (kind, cells, presence)) in columns.iter().enumerate() {
            let (mut found, mut found_presence) = (vec![9; rows], vec![Presence::Stale; rows]);
            decoder.column(*kind, &mut found, &mut found_presence).unwrap();
            assert_eq!(&found_presence, presence, "column {at}");
            assert_eq!(found, expected(cells, presence), "column {at}");
        }
    }
    // Any column is found with those before it skipped.
    for wanted in 0..columns.len() {
        let mut decoder = StripeDecoder::new(&mut workspace, rows, &bytes).unwrap();
        columns[..wanted].iter().for_each(|(kind, _, _)| decoder.skip(*kind).unwrap());
        let (kind, cells, presence) = &columns[wanted];
        let (mut found, mut found_presence) = (vec![9; rows], vec![Presence::Stale; rows]);
        decoder.column(*kind, &mut found, &mut found_presence).unwrap();
        assert_eq!((&found_presence, found), (presence, expected(cells, presence)), "column {wanted}");
    }
    bytes.len()
}

fn expected(cells: &[u64], presence: &[Presence]) -> Vec<u64> {
    let cells = cells.iter().zip(presence);
    cells.map(|(cell, state)| if *state == Presence::Value { *cell } else { 0 }).collect()
}

fn floats(values: impl IntoIterator<Item = f64>) -> Column {
    let cells: Vec<u64> = values.into_iter().map(f64::to_bits).collect();
    let presence = vec![Presence::Value; cells.len()];
    (ColumnKind::Float, cells, presence)
}

fn of_bits(kind: ColumnKind, cells: Vec<u64>) -> Column {
    let presence = vec![Presence::Value; cells.len()];
    (kind, cells, presence)
}

#[test]
fn sixteen_columns_that_never_move_take_some_bytes() {
    let constants: Vec<Column> = (0..16).map(|_| floats([0.0; 240])).collect();
    assert!(check(&constants) <= 4, "{}", check(&constants));
    let constants: Vec<Column> = (0..16).map(|column| floats([f64::from(column) * 1.25; 240])).collect();
    assert!(check(&constants) <= 48, "{}", check(&constants));
}

#[test]
fn buckets_cost_what_they_have_more_than_the_one_before() {
    let counts = |noise: u64| {
        (0..240_u64).scan(0, move |count, row| {
            *count += crate::prng::mix(row) % 50 + if noise > 0 { crate::prng::mix(row + noise) % 2 } else { 0 };
            Some(*count as f64)
        })
    };
    let one = check(&[floats(counts(0))]);
    let same = check(&[floats(counts(0)), floats(counts(0)), floats(counts(0))]);
    assert!(same < one + 16, "{one} and {same}");
    let near = check(&[floats(counts(0)), floats(counts(1_000))]);
    assert!(near < one + 60, "{one} and {near}");
}

#[test]
fn sums_that_drift_cost_their_digits() {
    let mut sum = 0.0;
    let sums: Vec<f64> = (0..240)
        .map(|row| {
            sum += (crate::prng::mix(row) % 4_000_000) as f64 * 1e-9;
            sum
        })
        .collect();
    assert!(check(&[floats(sums.iter().copied())]) < 240 * 22 / 8 + 240 / 2);
}

#[test]
fn nan_between_numbers_costs_no_number_its_form() {
    let numbers =
        |odd: f64| (0..240).map(move |row| if row < 60 || row % 50 == 0 { odd } else { f64::from(row) / 100.0 });
    for odd in [f64::NAN, f64::from_bits(0x7ff8_0000_0000_0001), f64::INFINITY, -0.0] {
        let bytes = check(&[floats(numbers(odd))]);
        assert!(bytes < 60, "{bytes}");
    }
    check(&[floats([f64::NAN, 1.0, f64::NAN, 2.5, f64::INFINITY, 3.0])]);
    check(&[floats([f64::NAN, 1.0, f64::NAN, 1.0])]);
}

#[test]
fn every_count_of_rows_from_none_to_the_most_comes_back() {
    for rows in 0..=ROWS_MAX {
        let noise: Vec<u64> = (0..rows as u64).map(|row| crate::prng::mix(row) >> (row % 64)).collect();
        let absent = (ColumnKind::Float, noise.clone(), vec![Presence::Absent; rows]);
        check(&[of_bits(ColumnKind::Float, noise.clone()), of_bits(ColumnKind::Age, noise.clone()), absent]);
    }
    check(&[]);
    let (mut workspace, rows) = (Box::new(Workspace::new()), ROWS_MAX + 1);
    assert_eq!(
        StripeDecoder::new(&mut workspace, rows, &[]).err(),
        Some(CodecError::TooManyRows { rows, rows_max: ROWS_MAX })
    );
    assert_eq!(
        StripeEncoder::new(&mut workspace, rows, &mut []).err(),
        Some(CodecError::TooManyRows { rows, rows_max: ROWS_MAX })
    );
}

#[test]
fn slices_of_other_lengths_are_refused() {
    let mut workspace = Box::new(Workspace::new());
    let refused = Err(CodecError::LengthsDiffer { rows: 2, cells: 2, presence: 1 });
    let mut out = [0; 64];
    let mut encoder = StripeEncoder::new(&mut workspace, 2, &mut out).unwrap();
    assert_eq!(encoder.column(ColumnKind::Float, &[0; 2], &[Presence::Value]), refused);
    let mut decoder = StripeDecoder::new(&mut workspace, 2, &[]).unwrap();
    assert_eq!(decoder.column(ColumnKind::Float, &mut [0; 2], &mut [Presence::Value]), refused);
}

#[test]
fn an_output_one_byte_too_short_is_refused() {
    let columns = [
        floats((0..99).map(|row| f64::from(row * row) / 8.0)),
        of_bits(ColumnKind::Float, (0..99).map(crate::prng::mix).collect()),
    ];
    let bytes = encode(&columns);
    for (capacity, expected) in [
        (bytes.len(), Ok(bytes.len())),
        (bytes.len() - 1, Err(CodecError::OutputFull { capacity: bytes.len() - 1 })),
        (0, Err(CodecError::OutputFull { capacity: 0 })),
    ] {
        let (mut workspace, mut out) = (Box::new(Workspace::new()), vec![0; capacity]);
        let mut encoder = StripeEncoder::new(&mut workspace, 99, &mut out).unwrap();
        for (kind, cells, presence) in &columns {
            encoder.column(*kind, cells, presence).unwrap();
        }
        assert_eq!(encoder.finish(), expected);
    }
}

#[test]
fn random_bits_cost_little_more_than_themselves() {
    let columns: Vec<Column> = (0..16)
        .map(|column| of_bits(ColumnKind::Float, (0..256).map(|row| crate::prng::mix(column << 32 | row)).collect()))
        .collect();
    let bytes = check(&columns);
    assert!(bytes < 16 * 256 * 8 * 102 / 100, "{bytes}");
}

#[test]
fn the_corner_series_come_back_bit_for_bit_alone_and_side_by_side() {
    let mut columns = Vec::new();
    for line in include_str!("../../../../../tests/fixtures/spill/corner.txt").lines() {
        let mut words = line.split(' ');
        if words.next() == Some("value") {
            let cells: Vec<u64> = words.skip(1).map(|word| u64::from_str_radix(word, 16).unwrap()).collect();
            check(&[of_bits(ColumnKind::Float, cells.clone()), of_bits(ColumnKind::Age, cells.clone())]);
            columns.push(cells);
        }
    }
    assert!(columns.len() > 20);
    let rows = columns.iter().map(Vec::len).max().unwrap_or(0).min(ROWS_MAX);
    let side_by_side: Vec<Column> = { columns.into_iter() }
        .map(|mut cells| {
            let mut presence = vec![Presence::Value; rows];
            presence[cells.len().min(rows)..].fill(Presence::Absent);
            cells.resize(rows, 0);
            (ColumnKind::Float, cells, presence)
        })
        .collect();
    side_by_side.chunks(STRIPE_COLUMNS as usize).for_each(|stripe| {
        check(stripe);
    });
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// Bits as they come, and the kinds of value exporters have.
    fn cells() -> impl Strategy<Value = Vec<u64>> {
        let cell = prop_oneof![
            any::<u64>(),
            any::<f64>().prop_map(f64::to_bits),
            any::<i32>().prop_map(|value| f64::from(value).to_bits()),
            (any::<i32>(), 0..9_i32).prop_map(|(m, e)| (f64::from(m) / 10_f64.powi(e)).to_bits()),
            Just(f64::NAN.to_bits()),
        ];
        let rows = ROWS_MAX;
        prop_oneof![
            proptest::collection::vec(cell, rows),
            proptest::collection::vec(any::<u64>(), rows),
            proptest::collection::vec(any::<u8>().prop_map(|value| f64::from(value).to_bits()), rows),
            // Steps that share a divisor, from anywhere, wrapping.
            (any::<i64>(), any::<i64>(), proptest::collection::vec(any::<u16>(), rows)).prop_map(
                |(from, divisor, steps)| {
                    steps
                        .iter()
                        .scan(from, |value, step| {
                            *value = value.wrapping_add(divisor.wrapping_mul(i64::from(*step)));
                            Some(*value as u64)
                        })
                        .collect()
                }
            ),
            // Sums of floats.
            (any::<f32>(), proptest::collection::vec(0..1_000_000_u32, rows)).prop_map(|(from, steps)| {
                let from = f64::from(from);
                steps
                    .iter()
                    .scan(from, |sum, step| {
                        *sum += f64::from(*step) * 1e-6;
                        Some(sum.to_bits())
                    })
                    .collect()
            }),
            // A random walk, and one like it by a constant factor.
            proptest::collection::vec(-3..4_i32, rows).prop_map(|steps| {
                steps
                    .iter()
                    .scan(1_000, |value, step| {
                        *value += step;
                        Some(f64::from(*value).to_bits())
                    })
                    .collect()
            }),
        ]
    }

    fn presence() -> impl Strategy<Value = Vec<Presence>> {
        let state = prop_oneof![1 => Just(Presence::Absent), 6 => Just(Presence::Value), 1 => Just(Presence::Stale)];
        prop_oneof![
            Just(vec![Presence::Value; ROWS_MAX]),
            Just(vec![Presence::Absent; ROWS_MAX]),
            proptest::collection::vec(state, ROWS_MAX),
            (0..ROWS_MAX, 0..ROWS_MAX).prop_map(|(from, until)| {
                let mut presence = vec![Presence::Absent; ROWS_MAX];
                presence[from.min(until)..until].fill(Presence::Value);
                presence
            }),
        ]
    }

    fn stripe() -> impl Strategy<Value = Vec<Column>> {
        let kind = prop_oneof![4 => Just(ColumnKind::Float), 1 => Just(ColumnKind::Age)];
        (0..=ROWS_MAX, proptest::collection::vec((kind, cells(), presence(), any::<bool>()), 1..7)).prop_map(
            |(rows, columns)| {
                let mut stripe: Vec<Column> = Vec::new();
                for (kind, mut cells, mut presence, is_like_the_one_before) in columns {
                    cells.truncate(rows);
                    presence.truncate(rows);
                    if let Some((_, before, states)) = stripe.last().filter(|_| is_like_the_one_before) {
                        cells.iter_mut().zip(before).for_each(|(cell, before)| *cell = before.wrapping_add(*cell & 3));
                        presence.clone_from(states);
                    }
                    stripe.push((kind, cells, presence));
                }
                stripe
            },
        )
    }

    proptest! {
        #[test]
        fn every_stripe_comes_back(stripe in stripe()) {
            check(&stripe);
        }

        #[test]
        fn damaged_and_foreign_bytes_never_panic_and_end(
            stripe in stripe(),
            patches in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
            rows in 0..=ROWS_MAX,
        ) {
            let mut bytes = encode(&stripe);
            for (at, value) in patches {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            read_all(&bytes, rows, stripe.iter().map(|(kind, _, _)| *kind));
        }

        #[test]
        fn random_bytes_never_panic_and_end(bytes in proptest::collection::vec(any::<u8>(), 0..600), rows in 0..=ROWS_MAX) {
            read_all(&bytes, rows, [ColumnKind::Float; 16]);
        }
    }

    fn read_all(bytes: &[u8], rows: usize, kinds: impl IntoIterator<Item = ColumnKind>) {
        let mut workspace = Box::new(Workspace::new());
        let mut decoder = StripeDecoder::new(&mut workspace, rows, bytes).unwrap();
        let (mut cells, mut presence) = (vec![0; rows], vec![Presence::Absent; rows]);
        for kind in kinds {
            if decoder.column(kind, &mut cells, &mut presence).is_err() {
                break;
            }
            decoder.flag();
        }
        assert!(decoder.used() <= bytes.len());
    }
}
