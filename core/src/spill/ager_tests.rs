use super::{
    super::{
        segment::{ColumnUnit, SliceBytes},
        testing::Grid,
    },
    *,
};
use crate::store::Presence;
use alloc::{vec, vec::Vec};

fn packed(grid: &Grid, row_from: u64) -> Vec<u8> {
    let mut out = vec![0xaa; SEGMENT_BYTES_MAX];
    let count = grid.columns.len() as u32;
    let encoded = grid.encode(row_from, 0..count, &mut out).unwrap();
    assert_eq!(encoded.column_end, count);
    out.truncate(encoded.bytes);
    out
}

fn aged(packed: &[u8]) -> Vec<u8> {
    let mut out = vec![0xaa; SEGMENT_BYTES_MAX];
    let Ok(Aging::Aged { bytes }) = Ager::default().age(&mut SliceBytes(packed), &mut out) else { panic!("not aged") };
    assert!(bytes < packed.len());
    out.truncate(bytes);
    out
}

/// Columns as they come back: cells, presence, ages.
type Units = Vec<(u32, Vec<u64>, Vec<Presence>, Vec<Option<i64>>)>;

fn units(bytes: &[u8]) -> Result<Units, FormatError> {
    let mut units = Units::new();
    SegmentReader::default().cells(&mut SliceBytes(bytes), &mut |column, unit: &ColumnUnit| {
        let ages = (0..unit.cells.len()).map(|row| unit.age_ms(row)).collect();
        let cells = unit.cells.iter().zip(&unit.presence);
        let cells = cells.map(|(cell, state)| if *state == Presence::Value { *cell } else { 0 }).collect();
        units.push((column, cells, unit.presence.clone(), ages));
    })?;
    Ok(units)
}

#[test]
fn an_aged_segment_holds_what_the_packed_one_held_under_the_same_numbers() {
    for (rows, columns) in [(1, 40), (2, 33), (17, 64), (240, 65), (256, 100)] {
        let grid = Grid::random(rows * 1_000 + columns, rows as usize, columns as usize);
        let packed = packed(&grid, 77);
        let aged = aged(&packed);
        assert_eq!(units(&aged), units(&packed));
        let (mut reader, bytes) = (SegmentReader::default(), &mut SliceBytes(&aged));
        let (before, after) = (SegmentReader::head(&mut SliceBytes(&packed)).unwrap(), reader.open(bytes).unwrap());
        assert_eq!((after.timeline, after.layout, after.epoch), (before.timeline, before.layout, before.epoch));
        assert_eq!((after.rows(), after.columns()), (before.rows(), before.columns()));
        assert_eq!((after.t_min_ms, after.t_max_ms), (before.t_min_ms, before.t_max_ms));
        assert_eq!((before.form, after.form), (SegmentForm::Packed, SegmentForm::Aged));
        assert_eq!(reader.instants_ms(), grid.instants_ms);
        // Series by series, and rows by rows.
        for column in (0..columns as u32).filter(|column| grid.columns[*column as usize].kind == ColumnKind::Float) {
            let mut found = Vec::new();
            reader.series(bytes, column, usize::MAX, &mut |t_ms, bits| found.push((t_ms, bits))).unwrap();
            let expected: Vec<(i64, u64)> =
                grid.samples(column as usize, 77).iter().map(|(_, t_ms, bits)| (*t_ms, *bits)).collect();
            assert_eq!(found, expected, "column {column}");
        }
        let mut given = 0;
        let read = reader.columns(bytes, 77..78, &mut |samples| {
            let row = grid.samples(samples.column as usize, 77)[0];
            assert_eq!((samples.rows, samples.t_ms, samples.bits), (&[row.0][..], &[row.1][..], &[row.2][..]));
            given += 1;
            given < 3
        });
        assert_eq!((read, given), (Ok(()), 3));
        let mut all = 0;
        reader.column_bytes(bytes, &mut |_, bytes| all += bytes).unwrap();
        assert!(all <= aged.len());
    }
}

#[test]
fn a_segment_ages_once() {
    let aged = aged(&packed(&Grid::random(1, 100, 20), 0));
    let mut out = vec![0; SEGMENT_BYTES_MAX];
    assert_eq!(Ager::default().age(&mut SliceBytes(&aged), &mut out), Ok(Aging::AgedBefore));
}

#[test]
fn what_would_not_get_smaller_stays_packed() {
    // Noise of 64 bits.
    let mut grid = Grid::random(2, 256, 4);
    for (at, column) in grid.columns.iter_mut().enumerate() {
        column.age = None;
        column.kind = ColumnKind::Float;
        column.presence.fill(Presence::Value);
        let noise = (0..256).map(|row| crate::prng::mix(row << 8 | at as u64));
        column.cells = noise.collect();
    }
    let packed_noise = packed(&grid, 0);
    let mut out = vec![0; SEGMENT_BYTES_MAX];
    assert_eq!(Ager::default().age(&mut SliceBytes(&packed_noise), &mut out), Ok(Aging::NotSmaller));
    // Nor does what has no room.
    let packed = packed(&Grid::random(3, 100, 20), 0);
    let needed = aged(&packed).len();
    let mut ager = Ager::default();
    assert_eq!(ager.age(&mut SliceBytes(&packed), &mut out[..needed - 1]), Ok(Aging::NotSmaller));
    assert_eq!(ager.age(&mut SliceBytes(&packed), &mut []), Ok(Aging::NotSmaller));
    assert_eq!(ager.age(&mut SliceBytes(&packed), &mut out[..needed]), Ok(Aging::Aged { bytes: needed }));
}

#[test]
fn every_flipped_bit_and_every_cut_is_told() {
    let bytes = aged(&packed(&Grid::random(5, 6, 40), 3));
    let mut reader = SegmentReader::default();
    let mut read = |bytes: &[u8]| reader.cells(&mut SliceBytes(bytes), &mut |_, _| ());
    assert_eq!(read(&bytes), Ok(()));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(read(&damaged).is_err(), "bit {bit} of byte {at}");
        }
    }
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_damaged_packed_segment_does_not_age() {
    let mut bytes = packed(&Grid::random(6, 20, 40), 3);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let aged = Ager::default().age(&mut SliceBytes(&bytes), &mut vec![0; SEGMENT_BYTES_MAX]);
    assert_eq!(aged, Err(FormatError::Checksum { what: "stripe" }));
}
