use super::{
    super::{
        Ager, Aging, FormatError, SEGMENT_BYTES_MAX,
        crc::crc32,
        format::{VERSION, put, u32_at},
        testing::Grid,
    },
    head::FORM_SHIFT,
    *,
};
use crate::store::{ColumnKind, Presence, codec::ROWS_MAX};
use alloc::{vec, vec::Vec};

fn check(grid: &Grid, row_from: u64) -> Vec<u8> {
    let mut out = vec![0xaa; SEGMENT_BYTES_MAX];
    let count = grid.columns.len() as u32;
    let encoded = grid.encode(row_from, 0..count, &mut out).unwrap();
    assert_eq!(encoded.column_end, count);
    out.truncate(encoded.bytes);
    let mut reader = SegmentReader::default();
    let head = reader.open(&mut SliceBytes(&out)).unwrap();
    assert_eq!((head.columns(), head.rows()), (0..count, row_from..row_from + grid.instants_ms.len() as u64));
    assert_eq!(reader.instants_ms(), grid.instants_ms);
    let (mut t_min, mut t_max) = (i64::MAX, i64::MIN);
    for (column, found) in grid.columns.iter().enumerate().filter(|(_, found)| found.kind == ColumnKind::Float) {
        let _ = found;
        let mut samples = Vec::new();
        reader
            .series(&mut SliceBytes(&out), column as u32, usize::MAX, &mut |t_ms, bits| samples.push((t_ms, bits)))
            .unwrap();
        let expected: Vec<(i64, u64)> = grid.samples(column, row_from).iter().map(|(_, t, bits)| (*t, *bits)).collect();
        assert_eq!(samples, expected, "column {column}");
        t_min = samples.iter().fold(t_min, |min, (t_ms, _)| min.min(*t_ms));
        t_max = samples.iter().fold(t_max, |max, (t_ms, _)| max.max(*t_ms));
    }
    assert!(encoded.t_min_ms <= t_min && encoded.t_max_ms >= t_max);
    out
}

#[test]
fn every_series_of_a_segment_comes_back_by_itself() {
    for (rows, columns) in [(1, 1), (1, 32), (2, 33), (17, 64), (240, 65), (256, 100)] {
        check(&Grid::random(rows * 1_000 + columns, rows as usize, columns as usize), 77);
    }
}

#[test]
fn rows_of_a_segment_come_back_column_by_column() {
    let grid = Grid::random(3, 50, 70);
    let bytes = check(&grid, 1_000);
    for wanted in [0..2_000, 1_000..1_050, 1_010..1_020, 1_049..1_051, 0..1_001, 1_050..1_060] {
        let mut found = Vec::new();
        SegmentReader::default()
            .columns(&mut SliceBytes(&bytes), wanted.clone(), &mut |samples| {
                for ((row, t_ms), bits) in samples.rows.iter().zip(samples.t_ms).zip(samples.bits) {
                    found.push((samples.column, *row, *t_ms, *bits));
                }
                true
            })
            .unwrap();
        let mut expected = Vec::new();
        for column in (0..grid.columns.len()).filter(|column| grid.columns[*column].kind == ColumnKind::Float) {
            let samples = grid.samples(column, 1_000).into_iter().filter(|(row, _, _)| wanted.contains(row));
            expected.extend(samples.map(|(row, t_ms, bits)| (column as u32, row, t_ms, bits)));
        }
        assert_eq!(found, expected, "{wanted:?}");
    }
}

#[test]
fn a_segment_that_is_full_ends_at_a_stripe_and_the_next_one_goes_on() {
    let grid = Grid::random(9, 256, 300);
    let mut out = vec![0; SEGMENT_BYTES_MAX];
    let (mut column, mut segments) = (0, 0);
    let mut seen = Vec::new();
    while column < 300 {
        let encoded = grid.encode(5, column..300, &mut out).unwrap();
        assert!(encoded.bytes <= SEGMENT_BYTES_MAX && encoded.column_end > column);
        let mut read = SegmentReader::default();
        let cells = &mut |column: u32, unit: &ColumnUnit| {
            let expected = &grid.columns[column as usize];
            seen.push(column);
            if expected.kind == ColumnKind::Age {
                assert!(unit.presence.iter().all(|state| *state == Presence::Absent));
                return;
            }
            let ages = expected.age.map(|age| &grid.columns[age as usize]);
            assert_eq!(unit.presence, expected.presence);
            for row in 0..256 {
                assert!(unit.presence[row] != Presence::Value || unit.cells[row] == expected.cells[row]);
                let age_ms =
                    ages.filter(|ages| ages.presence[row] == Presence::Value).map(|ages| ages.cells[row] as i64);
                assert_eq!(unit.age_ms(row), age_ms);
            }
        };
        read.cells(&mut SliceBytes(&out[..encoded.bytes]), cells).unwrap();
        column = encoded.column_end;
        segments += 1;
    }
    assert!(segments > 1);
    assert_eq!(seen, (0..300).collect::<Vec<u32>>());
}

#[test]
fn a_buffer_for_less_than_a_stripe_gives_nothing() {
    let grid = Grid::random(4, 10, 3);
    let whole = check(&grid, 0).len();
    let mut out = vec![0; whole];
    assert!(grid.encode(0, 0..3, &mut out).is_some());
    assert_eq!(grid.encode(0, 0..3, &mut out[..whole - 1]), None);
    assert_eq!(grid.encode(0, 0..3, &mut []), None);
}

#[test]
fn every_flipped_bit_and_every_cut_is_told() {
    let bytes = check(&Grid::random(5, 6, 40), 3);
    let mut reader = SegmentReader::default();
    let read = |reader: &mut SegmentReader, bytes: &[u8]| {
        reader.cells(&mut SliceBytes(bytes), &mut |_, _| ()).map(|()| bytes.len())
    };
    assert_eq!(read(&mut reader, &bytes), Ok(bytes.len()));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(read(&mut reader, &damaged).is_err(), "bit {bit} of byte {at}");
        }
    }
    for length in 0..bytes.len() {
        assert!(read(&mut reader, &bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn damage_in_one_stripe_leaves_the_other_series_readable() {
    let grid = Grid::random(6, 20, 96);
    let mut bytes = check(&grid, 0);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let mut reader = SegmentReader::default();
    assert!(reader.series(&mut SliceBytes(&bytes), 0, usize::MAX, &mut |_, _| ()).is_ok());
    let damaged = reader
        .series(&mut SliceBytes(&bytes), 95, usize::MAX, &mut |_, _| panic!("nothing is given of a damaged stripe"));
    assert_eq!(damaged, Err(FormatError::Checksum { what: "stripe" }));
}

#[test]
fn fields_that_pass_their_checksum_and_make_no_sense_are_refused() {
    let bytes = check(&Grid::random(7, 4, 4), 0);
    let patched = |at: usize, value: &[u8]| {
        let mut patched = bytes.clone();
        patched[at..at + value.len()].copy_from_slice(value);
        let crc = crc32(&patched[..92]);
        patched[92..96].copy_from_slice(&crc.to_le_bytes());
        SegmentReader::default().open(&mut SliceBytes(&patched)).map(|_| ()).unwrap_err()
    };
    let damaged = |field| FormatError::Damaged { what: WHAT, field };
    assert_eq!(patched(0, b"XXXX"), FormatError::NotThis { what: WHAT });
    let version = VERSION + 1;
    assert_eq!(patched(4, &version.to_le_bytes()), FormatError::FromNewerVersion { what: WHAT, version });
    assert_eq!(patched(6, &[1]), FormatError::Newer { what: WHAT, field: "tier" });
    assert_eq!(patched(7, &[2 << FORM_SHIFT]), FormatError::Newer { what: WHAT, field: "form" });
    assert_eq!(patched(32, &0_u32.to_le_bytes()), damaged("row count"));
    assert_eq!(patched(32, &257_u32.to_le_bytes()), damaged("row count"));
    assert_eq!(patched(24, &u64::MAX.to_le_bytes()), damaged("row count"));
    assert_eq!(patched(40, &0_u32.to_le_bytes()), damaged("column count"));
    assert_eq!(patched(36, &u32::MAX.to_le_bytes()), damaged("column count"));
    assert_eq!(patched(84, &u32::MAX.to_le_bytes()), damaged("length"));
    assert_eq!(patched(80, &u32::MAX.to_le_bytes()), damaged("length"));
    assert_eq!(patched(44, &1_u32.to_le_bytes()), FormatError::Truncated { what: WHAT });
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// Patches bytes anywhere and makes all checksums right again, so that the reader's own checks are what stands.
    fn resealed(mut bytes: Vec<u8>, patches: &[(prop::sample::Index, u8)]) -> Vec<u8> {
        for (at, value) in patches {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        let instants = u32_at(&bytes, 80) as usize;
        let stripes = u32_at(&bytes, 84) as usize;
        let directory = HEADER_BYTES.saturating_add(instants);
        for stripe in 0..stripes.min(64) {
            let entry = directory.saturating_add(stripe * ENTRY_BYTES);
            if entry + ENTRY_BYTES <= bytes.len() {
                let (from, length) = (u32_at(&bytes, entry + 4) as usize, u32_at(&bytes, entry + 8) as usize);
                if let Some(found) = from.checked_add(length).and_then(|end| bytes.get(from..end)) {
                    let crc = crc32(found);
                    put(&mut bytes, entry + 12, &crc.to_le_bytes());
                }
            }
        }
        let index_end = directory.saturating_add(stripes.saturating_mul(ENTRY_BYTES));
        if let Some(index) = bytes.get(HEADER_BYTES..index_end) {
            let crc = crc32(index);
            put(&mut bytes, 88, &crc.to_le_bytes());
        }
        let crc = crc32(&bytes[..92]);
        put(&mut bytes, 92, &crc.to_le_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn foreign_bytes_with_right_checksums_never_panic(
            seed: u64,
            patches in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            column in 0..50_u32,
            is_aged: bool,
        ) {
            let grid = Grid::random(seed, 5, 40);
            let mut out = vec![0; SEGMENT_BYTES_MAX];
            let used = grid.encode(seed % 10, 0..40, &mut out).unwrap().bytes;
            let mut bytes = out[..used].to_vec();
            if is_aged {
                let aged = Ager::default().age(&mut SliceBytes(&bytes), &mut out).unwrap();
                // Five rows may be as short packed.
                if let Aging::Aged { bytes: used } = aged {
                    bytes = out[..used].to_vec();
                }
            }
            let bytes = resealed(bytes, &patches);
            let mut reader = SegmentReader::default();
            let mut given = 0;
            let _ = reader.series(&mut SliceBytes(&bytes), column, usize::MAX, &mut |_, _| given += 1);
            prop_assert!(given <= ROWS_MAX);
            let _ = reader.cells(&mut SliceBytes(&bytes), &mut |_, _| ());
            let _ = reader.columns(&mut SliceBytes(&bytes), 0..u64::MAX, &mut |_| true);
            prop_assert!(reader.stripe.capacity() <= 2 * SEGMENT_BYTES_MAX && reader.directory.capacity() <= 2 * SEGMENT_BYTES_MAX);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = SegmentReader::default();
            prop_assert!(reader.open(&mut SliceBytes(&bytes)).is_err());
        }
    }
}
