//! Golden bytes: what this version writes, byte for byte, and that it reads them and those of earlier versions. They are
//! never edited; a new version of a format gets new ones.

use super::{
    frame::{FRAME_HEAD_BYTES, finish_frame, put_start, put_state},
    rows::{BlockSpec, RowsWriter},
    testing::{Column, EPOCH, Grid, GridRows},
    *,
};
use crate::{
    labels::LabelSet,
    store::{ColumnKind, Presence, TimelineKey},
};
use alloc::{vec, vec::Vec};
use core::ops::Range;

const SEGMENT_V1: &[u8] = include_bytes!("../../../tests/fixtures/spill/segment-v1.bin");
const LAYOUT_V1: &[u8] = include_bytes!("../../../tests/fixtures/spill/layout-v1.bin");
const LOG_V1: &[u8] = include_bytes!("../../../tests/fixtures/spill/log-v1.bin");
const SEGMENT: &[u8] = include_bytes!("../../../tests/fixtures/spill/segment-v2.bin");
const SEGMENT_AGED: &[u8] = include_bytes!("../../../tests/fixtures/spill/segment-v2-aged.bin");
const SEGMENT_NEWER: &[u8] = include_bytes!("../../../tests/fixtures/spill/segment-v2-newer.bin");
const LAYOUT_NEWER: &[u8] = include_bytes!("../../../tests/fixtures/spill/layout-v2-newer.bin");
const LAYOUT: &[u8] = include_bytes!("../../../tests/fixtures/spill/layout-v2.bin");
const LOG: &[u8] = include_bytes!("../../../tests/fixtures/spill/log-v2.bin");

/// What version 1 could say: a column of each form, with each presence coding.
fn grid_v1() -> Grid {
    let floats = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<u64>>();
    let all = vec![Presence::Value; 6];
    let column = |cells: Vec<u64>, presence: &[Presence]| Column {
        age: None,
        kind: ColumnKind::Float,
        cells,
        presence: presence.to_vec(),
    };
    use Presence::{Absent, Stale, Value};
    let mut columns = vec![
        column(floats(&[0.0; 6]), &[Absent; 6]),
        column(floats(&[0.0; 6]), &all),
        column(floats(&[1.0; 6]), &all),
        column(floats(&[-42.0; 6]), &all),
        column(floats(&[0.25; 6]), &all),
        column(floats(&[f64::NAN; 6]), &all),
        column(floats(&[4096.0, 8192.0, 4096.0, 12_288.0, 0.0, 4096.0]), &all),
        Column { age: None, kind: ColumnKind::Age, cells: vec![5, 0, 7, 0, 0, 250], presence: all.clone() },
        column(floats(&[1.25, 1.5, 1.75, 0.0, 2.25, 2.5]), &[Value, Value, Value, Stale, Value, Value]),
        column(floats(&[0.1, -0.0, 1e300, 5e-324, f64::INFINITY, 0.3]), &[Absent, Value, Stale, Value, Absent, Value]),
        column(vec![0xe490_7d49_cc47_93d7, 1, u64::MAX, 0x8000_0000_0000_0000, 3, 0x7ff0_0000_0000_0002], &all),
    ];
    columns[6].age = Some(7);
    let instants_ms = vec![
        1_760_000_000_003,
        1_760_000_005_001,
        1_760_000_010_004,
        1_760_000_015_000,
        1_760_000_020_002,
        1_760_000_025_000,
    ];
    Grid { instants_ms, columns }
}

/// With what version 2 has besides: buckets that refer to the one before and to the one before that, a column with the
/// presence of its neighbour, ages that refer to ages, a drift and exceptions.
fn grid() -> Grid {
    use Presence::{Absent, Stale, Value};
    let mut grid = grid_v1();
    let mut push = |age, kind, cells: [u64; 6], presence: [Presence; 6]| {
        grid.columns.push(Column { age, kind, cells: cells.to_vec(), presence: presence.to_vec() });
    };
    let floats = |values: [f64; 6]| values.map(f64::to_bits);
    push(None, ColumnKind::Float, floats([107.0, 190.0, 211.0, 345.0, 420.0, 431.0]), [Value; 6]);
    push(Some(14), ColumnKind::Float, floats([107.0, 190.0, 212.0, 346.0, 422.0, 433.0]), [Value; 6]);
    push(Some(15), ColumnKind::Float, floats([0.5, 13.25, 14.0, 80.5, 99.0, 99.25]), [Value; 6]);
    push(None, ColumnKind::Age, [900, 250, 13_000, 77, 4, 1], [Value; 6]);
    push(None, ColumnKind::Age, [901, 251, 13_001, 78, 5, 2], [Value; 6]);
    push(None, ColumnKind::Float, floats([107.0, 190.0, 212.0, 346.0, 422.0, 433.0]), [Value; 6]);
    push(
        None,
        ColumnKind::Float,
        floats([5.5, 0.0, 80.5, 0.0, 7.5, 1.25]),
        [Value, Stale, Value, Absent, Value, Value],
    );
    push(None, ColumnKind::Float, floats([1e9, 0.0, 3.0, 0.0, 77.0, 0.0]), [Value, Stale, Value, Absent, Value, Value]);
    // A sum that was rounded, and what is no decimal among decimals.
    push(None, ColumnKind::Float, floats([0.1, 0.1 + 0.2, 0.1 + 0.2 + 0.3, 1.0, 1.5, 2.1 + 1e-15]), [Value; 6]);
    let odd = [1.5, f64::from_bits(0x7ff8_0000_0000_0001), 2.25, f64::INFINITY, f64::INFINITY, -0.0];
    push(None, ColumnKind::Float, floats(odd), [Value; 6]);
    grid
}

/// What aged stripes tell apart, in two of them.
fn grid_aged() -> Grid {
    const ROWS: u64 = 40;
    let all = vec![Presence::Value; ROWS as usize];
    let noise = |row: u64, below: u64| (crate::prng::mix(row.wrapping_mul(0x9e37) ^ below) % below) as f64;
    let cells = |value: &dyn Fn(u64) -> f64| (0..ROWS).map(|row| value(row).to_bits()).collect::<Vec<u64>>();
    let sum = |step: &dyn Fn(u64) -> f64| {
        let mut sum = 0.0;
        (0..ROWS)
            .map(|row| {
                sum += step(row);
                sum.to_bits()
            })
            .collect::<Vec<u64>>()
    };
    let mut columns = Vec::new();
    let mut push = |cells: Vec<u64>| {
        columns.push(Column { age: None, kind: ColumnKind::Float, cells, presence: all.clone() });
    };
    // Constants: none, zero, one, the one before, decimals, bits.
    [1e6, 0.0, 1.0, 1.0, -12.25, f64::NAN].into_iter().for_each(|value| push(cells(&|_| value)));
    // A rate, buckets of it (one referring to the last column, one further back), their float sum.
    push(sum(&|row| 100.0 + noise(row, 30)));
    push(sum(&|row| 100.0 + noise(row, 30) + if row % 11 == 0 { 1.0 } else { 0.0 }));
    push(sum(&|row| noise(row, 4_000_000) * 1e-9));
    push(sum(&|row| 100.0 + noise(row, 30) + if row % 13 == 0 { 1.0 } else { 0.0 }));
    // A level, decimals; durations above a floor; pages; a walk that rests now and then; noise of 64 bits.
    push(cells(&|row| (20_000.0 + noise(row, 500)) / 100.0));
    push(cells(&|row| (60.0 + noise(row, 4) * noise(row + 1, 300)) / 1e6));
    push(cells(&|row| 4_096.0 * noise(row, 1_000)));
    push(sum(&|row| if row % 3 == 0 { noise(row, 9) - 4.0 } else { 0.0 }));
    push((0..ROWS).map(crate::prng::mix).collect());
    // One odd value among numbers: the usual NaN, another one.
    let odd = |odd: u64| move |row: u64| if row % 7 < 2 { odd } else { (row as f64 / 8.0).to_bits() };
    push((0..ROWS).map(odd(0x7ff8_0000_0000_0001)).collect());
    push((0..ROWS).map(odd(0xfff8_0000_0000_0007)).collect());
    // Counters that are like ones further back; what comes and goes, and its neighbour; in the second stripe values with ages.
    (0..14).for_each(|counter| push(sum(&|row| noise(row + counter % 5, 20))));
    for from in [10, 12] {
        let presence = (0..ROWS).map(|row| match row {
            row if row < from => Presence::Absent,
            30 => Presence::Stale,
            31 => Presence::Absent,
            _ => Presence::Value,
        });
        let cells = cells(&|row| noise(row, 3));
        columns.push(Column { age: None, kind: ColumnKind::Float, cells, presence: presence.collect() });
    }
    let (values, ages) = (cells(&|row| noise(row, 70)), (0..ROWS).map(|row| row % 5 * 250).collect());
    columns.push(Column { age: Some(34), kind: ColumnKind::Float, cells: values, presence: all.clone() });
    columns.push(Column { age: None, kind: ColumnKind::Age, cells: ages, presence: all });
    let instants_ms = (0..ROWS as i64).map(|row| 1_760_000_000_000 + 5_000 * row + row * row % 7).collect();
    Grid { instants_ms, columns }
}

fn segment() -> Vec<u8> {
    let mut out = vec![0; SEGMENT_BYTES_MAX];
    let encoded = encode_segment(&grid().spec(100, 0..21, 17), &grid(), &mut out).unwrap();
    assert_eq!((encoded.t_min_ms, encoded.t_max_ms), (1_759_999_997_003, 1_760_000_025_000));
    out.truncate(encoded.bytes);
    out
}

fn layout() -> Vec<u8> {
    let mut out = vec![0; SEGMENT_BYTES_MAX];
    let mut writer = LayoutWriter::new(TimelineKey(0x0a0b_0c0d_0e0f_1011), 5, 0, &mut out).unwrap();
    for (kind, labels) in layout_columns() {
        assert!(writer.push(kind, labels.as_ref()));
    }
    let used = writer.finish();
    out.truncate(used);
    out
}

fn layout_columns() -> [(ColumnKind, LabelSet); 4] {
    let labels = |name, quantile| LabelSet::from_pairs([("__name__", name), ("job", "größe"), ("quantile", quantile)]);
    [
        (ColumnKind::Float, labels("rpc_seconds", "0.5")),
        (ColumnKind::Float, labels("rpc_seconds", "0.99")),
        (ColumnKind::Age, labels("rpc_seconds", "0.99")),
        (ColumnKind::Float, labels("up", "")),
    ]
}

/// Some rows of the grid as a frame's payload.
fn rows(rows: Range<usize>, history_rows: usize, out: &mut [u8]) -> usize {
    let grid = grid();
    let mut writer = RowsWriter::new(&mut out[FRAME_HEAD_BYTES..]);
    let known = rows.start - history_rows..rows.end;
    let spec = BlockSpec {
        timeline: TimelineKey(0x0a0b_0c0d_0e0f_1011),
        layout: 5,
        row_from: 100 + rows.start as u64,
        column_count_total: grid.columns.len() as u32,
        columns: 0..grid.columns.len() as u32,
        columns_stored: 0,
        history_rows,
        instants_ms: &grid.instants_ms[known.clone()],
    };
    assert!(writer.block(&spec, &GridRows { grid: &grid, rows: known }));
    writer.finish()
}

fn log() -> Vec<u8> {
    let mut log = Vec::new();
    let mut out = vec![0; FRAME_BYTES_MAX];
    let payload =
        put_start(&GenerationStart { store_uuid: *b"0123456789abcdef", epoch: EPOCH }, &mut out[FRAME_HEAD_BYTES..]);
    let used = finish_frame(FrameKind::GenerationStart, 7, 0, payload, &mut out);
    log.extend_from_slice(&out[..used]);
    let payload = put_state("forward/site", b"row 9", &mut out[FRAME_HEAD_BYTES..]).unwrap();
    let used = finish_frame(FrameKind::State, 7, 1, payload, &mut out);
    log.extend_from_slice(&out[..used]);
    let bytes = layout();
    out[FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + bytes.len()].copy_from_slice(&bytes);
    let used = finish_frame(FrameKind::Layout, 7, 2, bytes.len(), &mut out);
    log.extend_from_slice(&out[..used]);
    let used = finish_frame(FrameKind::Rows, 7, 3, rows(0..4, 0, &mut out), &mut out);
    log.extend_from_slice(&out[..used]);
    // A sync; what lies in the rest of its page is what was there.
    log.resize(LOG_PAGE_BYTES as usize, 0xaa);
    let used = finish_frame(FrameKind::Rows, 7, 4, rows(4..6, 2, &mut out), &mut out);
    log.extend_from_slice(&out[..used]);
    log
}

#[track_caller]
fn check(written: &[u8], golden: &[u8]) {
    let hex: alloc::string::String = written.iter().map(|byte| alloc::format!("{byte:02x}")).collect();
    assert!(written == golden, "this version writes other bytes: {hex}");
}

#[test]
fn todays_writer_makes_the_golden_segment_and_the_reader_reads_it() {
    check(&segment(), SEGMENT);
    check_segment(SEGMENT, &grid());
}

#[test]
fn todays_ager_makes_the_golden_aged_segment_and_the_reader_reads_it() {
    let grid = grid_aged();
    let (mut packed, mut out) = (vec![0; SEGMENT_BYTES_MAX], vec![0; SEGMENT_BYTES_MAX]);
    let encoded = encode_segment(&grid.spec(100, 0..35, 32), &grid, &mut packed).unwrap();
    let aged = Ager::default().age(&mut SliceBytes(&packed[..encoded.bytes]), &mut out);
    let Ok(Aging::Aged { bytes }) = aged else { panic!("{aged:?}") };
    check(&out[..bytes], SEGMENT_AGED);
    check_segment(SEGMENT_AGED, &grid);
}

#[test]
fn a_segment_of_version_1_is_read_and_ages() {
    let mut out = vec![0; SEGMENT_BYTES_MAX];
    let aged = Ager::default().age(&mut SliceBytes(SEGMENT_V1), &mut out);
    let Ok(Aging::Aged { bytes }) = aged else { panic!("{aged:?}") };
    check_segment(&out[..bytes], &grid_v1());
    check_segment(SEGMENT_V1, &grid_v1());
}

fn check_segment(bytes: &[u8], grid: &Grid) {
    let mut reader = SegmentReader::default();
    let head = reader.open(&mut SliceBytes(bytes)).unwrap();
    let columns = 0..grid.columns.len() as u32;
    assert_eq!(
        (head.epoch, head.layout, head.rows(), head.columns()),
        (EPOCH, 5, 100..100 + grid.instants_ms.len() as u64, columns.clone())
    );
    for column in columns.filter(|column| grid.columns[*column as usize].kind == ColumnKind::Float) {
        let mut samples = Vec::new();
        reader
            .series(&mut SliceBytes(bytes), column, usize::MAX, &mut |t_ms, bits| samples.push((t_ms, bits)))
            .unwrap();
        let expected = grid.samples(column as usize, 100).into_iter().map(|(_, t_ms, bits)| (t_ms, bits));
        assert_eq!(samples, expected.collect::<Vec<_>>(), "column {column}");
    }
}

#[test]
fn todays_writer_makes_the_golden_layout_part_and_the_reader_reads_it() {
    check(&layout(), LAYOUT);
    check_layout(LAYOUT);
}

#[test]
fn a_layout_part_of_version_1_is_read() {
    check_layout(LAYOUT_V1);
}

fn check_layout(bytes: &[u8]) {
    let mut found = Vec::new();
    let head = layout_part_read(bytes, &mut |_, kind, labels| {
        found.push((kind, LabelSet::from(labels)));
        true
    });
    let timeline = TimelineKey(0x0a0b_0c0d_0e0f_1011);
    assert_eq!(head, Ok(LayoutHead { timeline, layout: 5, column_from: 0, column_count: 4 }));
    let mut expected = layout_columns();
    expected[2].1 = LabelSet::default();
    assert_eq!(found, expected);
}

#[test]
fn todays_writer_makes_the_golden_log_and_recovery_reads_it() {
    check(&log(), LOG);
    let mut buf = vec![0; FRAME_BYTES_MAX];
    let mut recovery = begin(LOG, LAYOUT, &mut buf);
    let timeline = TimelineKey(0x0a0b_0c0d_0e0f_1011);
    let (mut history, mut block) = (History::new(timeline), Block::default());
    let mut found = vec![Vec::new(); grid().columns.len()];
    for expected in [100..104, 104..106] {
        let Ok(Some(Frame::Rows { bytes })) = recovery.next_frame() else { panic!("a frame of rows") };
        let mut reader = RowsReader::new(bytes).unwrap();
        let head = reader.head().unwrap().unwrap();
        assert_eq!((head.timeline, head.layout, head.rows()), (timeline, 5, expected));
        reader.read(&head, Some(&history), &mut block, &mut |_, _| ()).unwrap();
        history.keep(&head, &block);
        assert_eq!(reader.head(), Ok(None));
        for (column, samples) in found.iter_mut().enumerate() {
            samples.extend(block.samples(&head, column as u32));
        }
    }
    assert_eq!(recovery.next_frame(), Ok(None));
    assert_eq!(recovery.finish(), RecoveryReport { generation: Some(7), frames: 5, ..RecoveryReport::default() });
    for (column, samples) in found.into_iter().enumerate() {
        let is_float = grid().columns[column].kind == ColumnKind::Float;
        assert_eq!(samples, if is_float { grid().samples(column, 100) } else { Vec::new() }, "column {column}");
    }
}

#[test]
fn a_log_of_version_1_is_read() {
    let mut buf = vec![0; FRAME_BYTES_MAX];
    let mut recovery = begin(LOG_V1, LAYOUT_V1, &mut buf);
    let rows = Frame::RowsPlain { column_count_total: 11, bytes: SEGMENT_V1 };
    assert_eq!(recovery.next_frame(), Ok(Some(rows)));
    assert_eq!(recovery.next_frame(), Ok(None));
    assert_eq!(recovery.finish(), RecoveryReport { generation: Some(7), frames: 4, ..RecoveryReport::default() });
}

/// Reads what comes before the rows.
fn begin<'b>(log: &[u8], layout: &[u8], buf: &'b mut [u8]) -> Recovery<'b> {
    let mut recovery = Recovery::new(buf, Some(7));
    assert_eq!(recovery.feed(log), log.len());
    let start = GenerationStart { store_uuid: *b"0123456789abcdef", epoch: EPOCH };
    assert_eq!(recovery.next_frame(), Ok(Some(Frame::GenerationStart(start))));
    assert_eq!(recovery.next_frame(), Ok(Some(Frame::State { key: "forward/site", bytes: b"row 9" })));
    assert_eq!(recovery.next_frame(), Ok(Some(Frame::Layout { bytes: layout })));
    recovery
}

/// The first golden segment with one stripe more, as a version that knows another kind of column would write it.
fn segment_newer() -> Vec<u8> {
    let number = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (instants_bytes, stripes) = (number(SEGMENT_V1, 80), number(SEGMENT_V1, 84));
    let directory = 96 + instants_bytes;
    let stripes_at = directory + 16 * stripes;
    let mut bytes = SEGMENT_V1[..stripes_at].to_vec();
    bytes[4] = 2;
    for stripe in 0..stripes {
        let at = directory + 16 * stripe + 4;
        let moved = number(&bytes, at) as u32 + 16;
        bytes[at..at + 4].copy_from_slice(&moved.to_le_bytes());
    }
    let extra = *b"\x02\x05sub-columns";
    let end = SEGMENT_V1.len() as u32 + 16;
    for field in [super::format::EXTRA_STRIPE | 4, end, extra.len() as u32, crc32(&extra)] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&SEGMENT_V1[stripes_at..]);
    bytes.extend_from_slice(&extra);
    bytes[44..48].copy_from_slice(&(end + extra.len() as u32).to_le_bytes());
    bytes[84..88].copy_from_slice(&(stripes as u32 + 1).to_le_bytes());
    let crc = crc32(&bytes[96..stripes_at + 16]);
    bytes[88..92].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32(&bytes[..92]);
    bytes[92..96].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn columns_of_a_kind_that_only_a_newer_version_knows_are_left_out_and_counted_and_the_others_read() {
    check(&segment_newer(), SEGMENT_NEWER);
    check_segment(SEGMENT_NEWER, &grid_v1());
    let mut reader = SegmentReader::default();
    assert_eq!(reader.open(&mut SliceBytes(SEGMENT_NEWER)).unwrap().extra_count, 1);
    assert_eq!(reader.open(&mut SliceBytes(SEGMENT)).unwrap().extra_count, 0);
    let mut out = vec![0; SEGMENT_BYTES_MAX];
    let aged = Ager::default().age(&mut SliceBytes(SEGMENT_NEWER), &mut out);
    assert!(matches!(aged, Err(FormatError::Newer { .. })), "it would lose them");
}

/// Kinds 2 and 9, each with its length and bytes, between columns of today.
fn layout_newer() -> Vec<u8> {
    let mut bytes = LAYOUT_V1[..44].to_vec();
    bytes[4] = 2;
    bytes.extend_from_slice(&[2, 3, b'a', b'b', b'c']);
    bytes.extend_from_slice(&LAYOUT[44 + usize::from(LAYOUT[6])..]);
    bytes.extend_from_slice(&[9, 0]);
    let body_bytes = (bytes.len() - 44) as u32;
    bytes[28..32].copy_from_slice(&6_u32.to_le_bytes());
    bytes[32..36].copy_from_slice(&body_bytes.to_le_bytes());
    let crc = crc32(&bytes[44..]);
    bytes[36..40].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32(&bytes[..40]);
    bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_layouts_columns_of_a_newer_kind_are_passed_over_and_counted() {
    check(&layout_newer(), LAYOUT_NEWER);
    let mut found = Vec::new();
    let read = layout_part_read(LAYOUT_NEWER, &mut |column, kind, labels| {
        found.push((column, kind, LabelSet::from(labels)));
        true
    });
    assert_eq!(read.map(|head| head.column_count), Ok(6));
    let mut expected = layout_columns();
    expected[2].1 = LabelSet::default();
    let expected: Vec<_> =
        expected.into_iter().zip(1..).map(|((kind, labels), column)| (column, kind, labels)).collect();
    assert_eq!(found, expected);
    let mut cursor = LayoutCursor::new(LAYOUT_NEWER).unwrap();
    while cursor.next(LAYOUT_NEWER).unwrap().is_some() {}
    assert_eq!(cursor.left_out, 2);
    let mut cut = LAYOUT_NEWER.to_vec();
    cut[45] = 100;
    let crc = crc32(&cut[44..]);
    cut[36..40].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32(&cut[..40]);
    cut[40..44].copy_from_slice(&crc.to_le_bytes());
    assert!(layout_part_read(&cut, &mut |_, _, _| true).is_err(), "a length beyond the part");
}

#[test]
fn another_tier_or_form_is_a_newer_versions_and_no_damage() {
    for (at, flip) in [(6, 1), (7, 0b1000)] {
        let mut bytes = SEGMENT.to_vec();
        bytes[at] ^= flip;
        let crc = crc32(&bytes[..92]);
        bytes[92..96].copy_from_slice(&crc.to_le_bytes());
        let read = SegmentReader::default().open(&mut SliceBytes(&bytes));
        assert!(matches!(read, Err(FormatError::Newer { .. })), "{read:?}");
    }
}
