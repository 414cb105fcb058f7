use super::super::tests::{SEGMENT_BYTES, meta, open, put, sequences};
use super::*;
use crate::disk::{directory::Directory, segments::refuse_newer};
use holdfast_core::{
    daemon::output::Put,
    labels::LabelSet,
    spill::{ClockEpoch, LayoutWriter, SEGMENT_BYTES_MAX, SegmentForm, SegmentReader, layout_pairs_read},
    store::{
        ColumnKind, TimelineKey,
        stored::{LayoutPart, Stored},
    },
};
use std::{fs, path::Path};

fn told(segments: &mut Segments) -> Vec<String> {
    std::iter::from_fn(|| segments.take_loss()).map(|loss| loss.subject).collect()
}

/// What is in the transaction, what is kept, and what the indexes and the tables hold are the same.
fn assert_true(segments: &Segments, when: &str) {
    let (along, bounds) = Sums::read(&segments.connection, Along::Indexes).expect("readable");
    assert_eq!(along, Sums::read(&segments.connection, Along::Tables).expect("readable").0, "{when}");
    assert_eq!(along, segments.sums, "{when}");
    assert_eq!(along, segments.sums_committed, "{when}");
    assert!(matches!(segments.known_sums(), Ok(Known::Sums(known)) if known == along), "{when}");
    assert!(segments.bounds.row_count_max >= bounds.row_count_max && segments.bounds.span_ms_max >= bounds.span_ms_max);
}

fn part(layout: u64, column_from: u32) -> Put<'static> {
    let timeline = TimelineKey(layout % 3);
    Put::Layout(LayoutPart { timeline, layout, column_from, column_count: 5, bytes: b"a part" })
}

#[test]
fn the_sums_stay_true_whatever_is_put_replaced_dropped_and_rolled_back() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 2 << 20);
    assert_true(&segments, "new");
    for round in 1..90_u64 {
        segments.put(part(round % 7, 0));
        segments.put(part(round % 7, round as u32 % 4));
        let numbers = SegmentMeta { layout: round % 7, timeline: TimelineKey(round % 3), ..meta(round) };
        segments.put(Put::Segment { meta: numbers, bytes: &[round as u8; SEGMENT_BYTES] });
        segments.put(Put::Replace { meta: numbers, bytes: b"shorter" });
        segments.put(Put::Segment { meta: numbers, bytes: &[0; SEGMENT_BYTES] });
        segments.commit().expect_err("the sequence is taken");
        assert_true(&segments, "rolled back");
        segments.put(part(round % 7, 0));
        segments.put(Put::Segment { meta: numbers, bytes: &[round as u8; SEGMENT_BYTES] });
        segments.put(Put::State { key: "rules", bytes: &round.to_le_bytes() });
        segments.put(Put::State { key: "brief", bytes: if round % 2 == 0 { b"here" } else { b"" } });
        if round == 40 {
            segments.put(Put::DropBefore { t_ms: 20_000 });
        }
        segments.commit().expect("committed");
        assert_true(&segments, "committed");
    }
    assert!(segments.dropped().segment_count > 0 && segments.expired().segment_count > 0, "by room and by age");
    drop(segments);
    let mut segments = open(directory.path(), (1 << 20) + (1 << 19));
    assert_true(&segments, "opened with a smaller quota");
    assert!(told(&mut segments).iter().all(|subject| subject == DATABASE), "only what went for the quota");
}

#[test]
fn a_directory_from_before_there_were_sums_gets_them_with_its_next_transaction() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 8 << 20);
    put(&mut segments, 1..=5);
    segments.connection.execute("DELETE FROM state WHERE key = ?1", [SUMS_KEY]).expect("deleted");
    drop(segments);
    let mut segments = open(directory.path(), 8 << 20);
    assert_eq!((sequences(&mut segments).len(), told(&mut segments)), (5, Vec::new()));
    put(&mut segments, 6..=6);
    assert_true(&segments, "after the next one");
}

#[test]
fn a_segment_that_is_gone_from_table_and_indexes_is_told_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 8 << 20);
    put(&mut segments, 1..=5);
    segments.connection.execute("DELETE FROM segments WHERE sequence = 3", []).expect("deleted");
    drop(segments);
    let mut segments = open(directory.path(), 8 << 20);
    let words = told(&mut segments);
    assert!(words.len() == 1 && words[0].ends_with("4 segments are there of 5"), "{words:?}");
    assert_true(&segments, "as it is now");
    drop(segments);
    let mut segments = open(directory.path(), 8 << 20);
    assert_eq!(told(&mut segments), Vec::<String>::new());
}

#[test]
fn a_state_that_changed_is_told() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 8 << 20);
    segments.put(Put::State { key: "rules", bytes: b"firing" });
    segments.commit().expect("committed");
    segments.connection.execute("UPDATE state SET key = 'rulez' WHERE key = 'rules'", []).expect("changed");
    drop(segments);
    let words = told(&mut open(directory.path(), 8 << 20));
    assert!(words.len() == 1 && words[0].contains("state"), "{words:?}");
}

#[test]
fn damaged_sums_are_told_and_taken_anew() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 8 << 20);
    put(&mut segments, 1..=5);
    segments.connection.execute("UPDATE state SET value = x'0102' WHERE key = ?1", [SUMS_KEY]).expect("changed");
    drop(segments);
    let mut segments = open(directory.path(), 8 << 20);
    let words = told(&mut segments);
    assert!(words.len() == 1 && words[0].contains("sums"), "{words:?}");
    put(&mut segments, 6..=6);
    assert_true(&segments, "after the next transaction");
}

/// A segment's header as the core writes it, and its numbers; their times take eight bytes each in the row.
fn headed(sequence: u64) -> (SegmentMeta, [u8; 96]) {
    let t_ms = sequence as i64 + (1 << 50);
    let numbers = SegmentMeta { t_min_ms: t_ms, t_max_ms: t_ms + 9, ..meta(sequence) };
    let head = SegmentHead {
        timeline: numbers.timeline,
        layout: numbers.layout,
        row_from: numbers.row_from,
        row_count: numbers.row_count,
        column_from: numbers.column_from,
        column_count: numbers.column_count,
        epoch: ClockEpoch::default(),
        form: SegmentForm::Packed,
        t_min_ms: numbers.t_min_ms,
        t_max_ms: numbers.t_max_ms,
        bytes: 96,
        instants_bytes: 0,
        stripe_count: 0,
        extra_count: 0,
        index_crc: 0,
    };
    let mut bytes = [0; 96];
    head.put(&mut bytes);
    (numbers, bytes)
}

/// Three segments, and in the second one's row, which stands right before its bytes, a changed `t_max`: the indexes have what was put.
fn with_a_damaged_row(directory: &Path) -> Segments {
    let mut segments = open(directory, 8 << 20);
    for sequence in 1..=3 {
        let (meta, bytes) = headed(sequence);
        segments.put(Put::Segment { meta, bytes: &bytes });
    }
    segments.commit().expect("committed");
    drop(segments);
    let path = directory.join(DATABASE);
    let mut file = fs::read(&path).expect("readable");
    let second = headed(2).1;
    let at = file.windows(96).position(|window| window == second).expect("stored");
    file[at - 2] ^= 0x10;
    fs::write(&path, file).expect("written");
    open(directory, 8 << 20)
}

/// Sequences whose bytes are given.
fn readable(segments: &mut Segments) -> Vec<u64> {
    let mut found = Vec::new();
    let visited = segments.rows(TimelineKey(1), 0, &mut |meta, bytes| {
        found.extend(SegmentReader::head(bytes).is_ok().then_some(meta.sequence));
        true
    });
    visited.expect("readable");
    found
}

/// A row that says other times than its segment's header was believed: samples were looked for where they are not.
#[test]
fn a_row_with_wrong_numbers_is_left_out_and_has_its_own_again_afterwards() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = with_a_damaged_row(directory.path());
    assert!(told(&mut segments).is_empty(), "the indexes are whole");
    assert_eq!(readable(&mut segments), [1, 3]);
    assert!(segments.has_damaged_rows() && !segments.is_damaged());
    segments.mend_rows();
    let words = told(&mut segments);
    assert!(words.len() == 1 && words[0].contains("segment 2 "), "{words:?}");
    assert_eq!(readable(&mut segments), [1, 2, 3]);
    assert!(!segments.has_damaged_rows());
    assert_true(&segments, "mended");
}

/// SQLite does not find the entries of a row by numbers that changed, says that the database is damaged, and it was set aside.
#[test]
fn a_row_with_wrong_numbers_is_dropped_with_its_entries() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = with_a_damaged_row(directory.path());
    segments.put(Put::DropBefore { t_ms: headed(3).0.t_min_ms + 9 });
    segments.commit().expect("committed");
    assert_eq!(segments.expired().range_ms, Some((headed(1).0.t_min_ms, headed(2).0.t_max_ms)));
    assert_eq!(readable(&mut segments), [3]);
    assert_true(&segments, "dropped");
    assert!(!segments.is_damaged());
}

/// A flipped bit in the number of the format looked like a later holdfast's database, and ended the start; one in the version for
/// writing made a database that nobody may write; most others had the database set aside.
#[test]
fn a_flipped_bit_in_what_never_changes_in_the_files_header_is_turned_back() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    put(&mut open(directory.path(), 8 << 20), 1..=3);
    let path = directory.path().join(DATABASE);
    let before = fs::read(&path).expect("readable");
    for at in (0..24).chain(44..48).chain(52..64).chain(68..72) {
        for bit in [0, 3, 7] {
            let mut file = fs::read(&path).expect("readable");
            file[at] ^= 1 << bit;
            fs::write(&path, file).expect("written");
            refuse_newer(&Directory::open(directory.path()).expect("locked")).expect("no other version");
            let mut segments = open(directory.path(), 8 << 20);
            assert_eq!(sequences(&mut segments), [1, 2, 3], "byte {at}, bit {bit}");
            let words = told(&mut segments);
            assert!(words.len() == 1 && words[0].contains("header"), "byte {at}, bit {bit}: {words:?}");
            assert_eq!(fs::read(&path).expect("readable")[at], before[at]);
        }
    }
}

/// A flipped bit gave a row the number of the next segment: no segment could be put any more.
#[test]
fn a_row_under_a_number_that_was_not_given_is_damage() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 8 << 20);
    for sequence in 1..=3 {
        let (meta, bytes) = headed(sequence);
        segments.put(Put::Segment { meta, bytes: &bytes });
    }
    segments.commit().expect("committed");
    let (meta, bytes) = headed(3);
    segments.put(Put::Segment { meta, bytes: &bytes });
    segments.commit().expect_err("it was given");
    assert!(!segments.is_damaged(), "that is the caller's mistake");
    drop(segments);
    let path = directory.path().join(DATABASE);
    let mut file = fs::read(&path).expect("readable");
    let third = file.windows(96).position(|window| window == bytes).expect("stored");
    // Before the bytes lie 19 of numbers, 12 of their types, and the row's number.
    assert_eq!(file[third - 32], 3);
    file[third - 32] = 4;
    fs::write(&path, file).expect("written");
    let mut segments = open(directory.path(), 8 << 20);
    let (meta, bytes) = headed(4);
    segments.put(Put::Segment { meta, bytes: &bytes });
    segments.commit().expect_err("the number is taken");
    assert!(segments.is_damaged());
}

/// A part that a damaged row number leads to was taken for the one that was looked for, and samples came under its names.
#[test]
fn a_layout_part_in_anothers_place_is_not_given() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 8 << 20);
    let mut out = vec![0; SEGMENT_BYTES_MAX];
    let mut writer = LayoutWriter::new(TimelineKey(1), 10, 0, &mut out).expect("room");
    assert!(writer.push(ColumnKind::Float, LabelSet::from_pairs([("__name__", "up")]).as_ref()));
    let length = writer.finish();
    for layout in [10, 11] {
        let timeline = TimelineKey(1);
        let part = LayoutPart { timeline, layout, column_from: 0, column_count: 1, bytes: &out[..length] };
        segments.put(Put::Layout(part));
    }
    segments.commit().expect("committed");
    for (layout, is_whole) in [(10, true), (11, false)] {
        let mut given = None;
        let visited = segments.layout(layout, &mut |part| {
            given = Some(part.bytes.len());
            true
        });
        visited.expect("readable");
        assert_eq!(given, Some(if is_whole { length } else { 0 }));
    }
    let mut found = Vec::new();
    let visited = segments.layouts(i64::MIN, i64::MAX, None, &mut |place, _, bytes| {
        found.push((place.layout, layout_pairs_read(bytes, &mut Vec::new()).is_ok()));
        true
    });
    visited.expect("readable");
    assert_eq!(found, [(10, true), (11, false)]);
}
