//! What every [`Disk`] promises, checked on SQLite and files and on the fake.

use crate::fake_stored::FakeDisk;
use holdfast::disk::{Disk, DiskLoss, DiskSettings, flash::Flash};
use holdfast_core::{
    daemon::output::Put,
    ledger::Reason,
    prng::Prng,
    spill::LOG_PAGE_BYTES,
    store::{
        TimelineKey,
        stored::{LayoutPart, PartPlace, SegmentBytes, SegmentMeta},
    },
};
use std::path::Path;

fn settings(path: &Path) -> DiskSettings {
    DiskSettings { path: path.to_path_buf(), quota_bytes: 16 << 20, log_bytes: 64 * 1024, heap_bytes_max: 4 << 20 }
}

/// Runs one check on both. `reopen` ends the process and starts its successor.
fn both(check: impl Fn(&mut dyn Disk, &mut dyn FnMut(&mut dyn FnMut(&mut dyn Disk)))) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    {
        let mut disk = Flash::open(&settings(directory.path())).expect("opened");
        let other = tempfile::tempdir().expect("a temporary directory");
        let path = other.path().to_path_buf();
        check(&mut disk, &mut |with| with(&mut Flash::open(&settings(&path)).expect("reopened")));
    }
    let mut reopened = FakeDisk::default();
    check(&mut FakeDisk::default(), &mut |with| {
        reopened.kill();
        with(&mut reopened);
    });
}

fn segment(sequence: u64, row_from: u64, columns: (u32, u32), t_ms: (i64, i64)) -> SegmentMeta {
    SegmentMeta {
        sequence,
        timeline: TimelineKey(7),
        layout: 70,
        row_from,
        row_count: 10,
        column_from: columns.0,
        column_count: columns.1,
        t_min_ms: t_ms.0,
        t_max_ms: t_ms.1,
    }
}

fn part(timeline: u64, layout: u64, column_from: u32, column_count: u32, bytes: &[u8]) -> Put<'_> {
    Put::Layout(LayoutPart { timeline: TimelineKey(timeline), layout, column_from, column_count, bytes })
}

/// The segments of a layout that hold a column, in the order in which they come.
fn column(disk: &mut dyn Disk, layout: u64, column: u32, start_ms: i64, end_ms: i64) -> Vec<u64> {
    let mut found = Vec::new();
    disk.stored()
        .segments(layout, start_ms, end_ms, &mut |meta, _| {
            if (meta.column_from..meta.column_from + meta.column_count).contains(&column) {
                found.push(meta.sequence);
            }
            true
        })
        .expect("readable");
    found
}

fn rows(disk: &mut dyn Disk, timeline: u64, row_from: u64) -> Vec<u64> {
    let mut found = Vec::new();
    disk.stored()
        .rows(TimelineKey(timeline), row_from, &mut |meta, _| {
            found.push(meta.sequence);
            true
        })
        .expect("readable");
    found
}

/// The parts in this time, in order. From behind each one on, those behind it come.
fn layouts(disk: &mut dyn Disk, start_ms: i64, end_ms: i64) -> Vec<(u64, u32)> {
    let mut behind = |after| {
        let mut found = Vec::new();
        let visit = &mut |place: PartPlace, overlaps: bool, bytes: &mut dyn SegmentBytes| {
            let mut whole = vec![0; bytes.len()];
            bytes.read_at(0, &mut whole).expect("inside");
            assert!(bytes.read_at(1, &mut whole).is_err());
            found.push((place, overlaps, whole));
            true
        };
        disk.stored().layouts(start_ms, end_ms, after, visit).expect("readable");
        found
    };
    let all = behind(None);
    for (index, (place, ..)) in all.iter().enumerate() {
        assert_eq!(behind(Some(*place)), all[index + 1..]);
    }
    for (place, _, bytes) in &all {
        let same = |(column_from, _, part): &(u32, u32, Vec<u8>)| (*column_from, part) == (place.column_from, bytes);
        assert!(layout(disk, place.layout).iter().any(same));
    }
    let overlapping = all.iter().filter(|(_, overlaps, _)| *overlaps);
    overlapping.map(|(place, ..)| (place.layout, place.column_from)).collect()
}

fn layout(disk: &mut dyn Disk, layout: u64) -> Vec<(u32, u32, Vec<u8>)> {
    let mut found = Vec::new();
    disk.stored()
        .layout(layout, &mut |part| {
            found.push((part.column_from, part.column_count, part.bytes.to_vec()));
            true
        })
        .expect("readable");
    found
}

fn timelines(disk: &mut dyn Disk) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    disk.stored()
        .timelines(&mut |timeline, row_end| {
            found.push((timeline.0, row_end));
            true
        })
        .expect("readable");
    found
}

#[test]
fn an_empty_store_has_nothing_and_says_so_without_an_error() {
    both(|disk, _| {
        assert_eq!(disk.stored().oldest_ms().expect("readable"), None);
        assert!(timelines(disk).is_empty() && rows(disk, 7, 0).is_empty());
        assert!(layouts(disk, i64::MIN, i64::MAX).is_empty() && layout(disk, 70).is_empty());
        assert!(column(disk, 70, 0, i64::MIN, i64::MAX).is_empty());
        assert_eq!(disk.state("cursor").expect("readable"), None);
        disk.commit().expect("nothing to commit");
        disk.log_sync().expect("nothing to sync");
    });
}

#[test]
fn a_segment_is_found_up_to_both_edges_of_its_time_and_its_columns() {
    both(|disk, _| {
        disk.put(Put::Segment { meta: segment(1, 0, (4, 3), (1_000, 2_000)), bytes: b"abc" });
        disk.commit().expect("committed");
        assert_eq!(column(disk, 70, 4, 2_000, 3_000), [1]);
        assert!(column(disk, 70, 4, 2_001, 3_000).is_empty());
        assert_eq!(column(disk, 70, 4, 0, 1_000), [1]);
        assert!(column(disk, 70, 4, 0, 999).is_empty());
        assert_eq!(column(disk, 70, 6, i64::MIN, i64::MAX), [1]);
        assert!(column(disk, 70, 7, i64::MIN, i64::MAX).is_empty());
        assert!(column(disk, 70, 3, i64::MIN, i64::MAX).is_empty());
        assert!(column(disk, 71, 4, i64::MIN, i64::MAX).is_empty());
        assert_eq!(disk.stored().oldest_ms().expect("readable"), Some(1_000));
    });
}

#[test]
fn rows_are_found_from_any_row_inside_and_come_by_row_and_then_by_column() {
    both(|disk, _| {
        disk.put(Put::Segment { meta: segment(3, 10, (5, 5), (0, 1)), bytes: b"d" });
        disk.put(Put::Segment { meta: segment(2, 10, (0, 5), (0, 1)), bytes: b"c" });
        disk.put(Put::Segment { meta: segment(1, 0, (0, 10), (0, 1)), bytes: b"a" });
        disk.commit().expect("committed");
        assert_eq!(rows(disk, 7, 0), [1, 2, 3]);
        assert_eq!(rows(disk, 7, 9), [1, 2, 3]);
        assert_eq!(rows(disk, 7, 10), [2, 3]);
        assert_eq!(rows(disk, 7, 19), [2, 3]);
        assert!(rows(disk, 7, 20).is_empty() && rows(disk, 7, u64::MAX).is_empty());
        assert!(rows(disk, 8, 0).is_empty());
        assert_eq!(timelines(disk), [(7, 20)]);
    });
}

#[test]
fn a_layout_part_is_found_only_by_segments_of_its_own_columns() {
    both(|disk, _| {
        disk.put(part(7, 70, 0, 4, b"first"));
        disk.put(part(7, 70, 4, 4, b"second"));
        disk.put(part(7, 70, 4, 6, b"second, longer"));
        disk.put(Put::Segment { meta: segment(1, 0, (0, 4), (1_000, 2_000)), bytes: b"x" });
        disk.put(Put::Segment { meta: segment(2, 10, (0, 5), (3_000, 4_000)), bytes: b"x" });
        disk.commit().expect("committed");
        assert_eq!(layouts(disk, 0, 2_999), [(70, 0)]);
        let all = [(70, 0), (70, 4)];
        assert_eq!(layouts(disk, 0, 3_000), all);
        assert_eq!(layouts(disk, 4_000, 4_000), all);
        assert!(layouts(disk, 4_001, i64::MAX).is_empty());
        assert_eq!(layout(disk, 70), [(0, 4, b"first".to_vec()), (4, 6, b"second, longer".to_vec())]);
    });
}

#[test]
fn bytes_are_read_piece_by_piece_and_never_past_the_end() {
    both(|disk, _| {
        let long: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
        disk.put(Put::Segment { meta: segment(1, 0, (0, 1), (0, 1)), bytes: &long });
        disk.put(Put::Segment { meta: segment(2, 10, (0, 1), (2, 3)), bytes: b"" });
        disk.put(Put::Segment { meta: segment(3, 20, (0, 1), (4, 5)), bytes: b"short" });
        disk.commit().expect("committed");
        let mut seen = Vec::new();
        let visit = &mut |meta: &SegmentMeta, bytes: &mut dyn holdfast_core::store::stored::SegmentBytes| {
            seen.push((meta.sequence, bytes.len()));
            if meta.sequence == 1 {
                let mut piece = [0; 1000];
                for offset in [0, 1, 4096, 50_000, 99_000] {
                    bytes.read_at(offset, &mut piece).expect("inside");
                    assert_eq!(piece[..], long[offset..offset + 1000]);
                }
                assert!(bytes.read_at(99_001, &mut piece).is_err());
                assert!(bytes.read_at(usize::MAX, &mut piece).is_err());
            }
            if meta.sequence == 3 {
                let mut whole = [0; 5];
                bytes.read_at(0, &mut whole).expect("inside");
                assert_eq!(&whole, b"short");
            }
            bytes.read_at(bytes.len(), &mut []).expect("nothing is always there");
            assert!(bytes.read_at(bytes.len(), &mut [0]).is_err());
            true
        };
        disk.stored().segments(70, i64::MIN, i64::MAX, visit).expect("readable");
        assert_eq!(seen, [(1, 100_000), (2, 0), (3, 5)]);
    });
}

#[test]
fn a_visitor_that_has_seen_enough_is_not_called_again() {
    both(|disk, _| {
        for sequence in 1..=3 {
            disk.put(part(7, 70 + sequence, 0, 1, b"x"));
            let meta = SegmentMeta { layout: 70 + sequence, ..segment(sequence, sequence * 10, (0, 1), (0, 1)) };
            disk.put(Put::Segment { meta, bytes: b"x" });
        }
        let mut calls = 0;
        let stored = disk.stored();
        stored
            .rows(TimelineKey(7), 0, &mut |_, _| {
                calls += 1;
                calls < 2
            })
            .expect("readable");
        stored
            .layouts(0, 1, None, &mut |_, _, _| {
                calls += 1;
                false
            })
            .expect("readable");
        stored
            .timelines(&mut |_, _| {
                calls += 1;
                false
            })
            .expect("readable");
        assert_eq!(calls, 4);
    });
}

#[test]
fn state_is_replaced_by_name_and_deleted_by_nothing() {
    both(|disk, _| {
        disk.put(Put::State { key: "cursor", bytes: b"1" });
        disk.put(Put::State { key: "outbox", bytes: &[9; 70_000] });
        disk.put(Put::State { key: "cursor", bytes: b"2" });
        disk.commit().expect("committed");
        assert_eq!(disk.state("cursor").expect("readable").as_deref(), Some(&b"2"[..]));
        assert_eq!(disk.state("outbox").expect("readable"), Some(vec![9; 70_000]));
        disk.put(Put::State { key: "cursor", bytes: b"" });
        disk.put(Put::State { key: "unknown", bytes: b"" });
        disk.commit().expect("committed");
        assert_eq!(disk.state("cursor").expect("readable"), None);
    });
}

#[test]
fn what_ended_before_the_instant_goes_and_what_ended_at_it_stays() {
    both(|disk, _| {
        disk.put(part(7, 70, 0, 1, b"old layout"));
        disk.put(Put::Segment { meta: segment(1, 0, (0, 1), (1_000, 1_999)), bytes: b"x" });
        disk.put(part(7, 71, 0, 1, b"new layout"));
        let newer = SegmentMeta { layout: 71, ..segment(2, 10, (0, 1), (1_500, 2_000)) };
        disk.put(Put::Segment { meta: newer, bytes: b"x" });
        disk.commit().expect("committed");
        disk.put(Put::DropBefore { t_ms: 1_999 });
        disk.commit().expect("committed");
        assert_eq!(rows(disk, 7, 0), [1, 2]);
        assert_eq!(disk.take_loss(), None);
        disk.put(Put::DropBefore { t_ms: 2_000 });
        disk.commit().expect("committed");
        let (reason, subject) = (Reason::Retention, "holdfast.db".to_owned());
        let loss = DiskLoss { reason, subject, span_ms: Some((1_000, 1_999)), samples: 10 };
        assert_eq!((disk.take_loss(), disk.take_loss()), (Some(loss), None), "told once");
        assert_eq!(rows(disk, 7, 0), [2]);
        assert!(layout(disk, 70).is_empty(), "no segment names it any more");
        assert_eq!(disk.stored().oldest_ms().expect("readable"), Some(1_500));
    });
}

/// A layout is stored once. Were it dropped with its last segment, the next segment of a target that is scraped as
/// before would name columns that nobody knows.
#[test]
fn the_newest_layout_of_a_timeline_outlives_its_segments() {
    both(|_, reopen| {
        reopen(&mut |disk| {
            disk.put(part(7, 70, 0, 1, b"in use"));
            disk.put(Put::Segment { meta: segment(1, 0, (0, 1), (0, 10)), bytes: b"x" });
            disk.commit().expect("committed");
        });
        // A successor that attached to the slab does not store the layout again either.
        reopen(&mut |disk| {
            disk.put(Put::DropBefore { t_ms: 11 });
            disk.commit().expect("committed");
            disk.put(Put::Segment { meta: segment(2, 10, (0, 1), (20, 30)), bytes: b"y" });
            disk.commit().expect("committed");
            assert_eq!(layouts(disk, 20, 30), [(70, 0)]);
            assert_eq!(layout(disk, 70), [(0, 1, b"in use".to_vec())]);
        });
    });
}

#[test]
fn synced_and_committed_things_survive_the_process_and_the_rest_of_the_transaction_does_not() {
    both(|_, reopen| {
        reopen(&mut |disk| {
            disk.put(Put::Segment { meta: segment(1, 0, (0, 1), (0, 1)), bytes: b"kept" });
            disk.put(Put::State { key: "cursor", bytes: b"1" });
            disk.commit().expect("committed");
            disk.put(Put::Segment { meta: segment(2, 10, (0, 1), (0, 1)), bytes: b"lost" });
            disk.put(Put::State { key: "cursor", bytes: b"2" });
            disk.log_append(5, b"frame one, ");
            disk.log_sync().expect("synced");
        });
        reopen(&mut |disk| {
            assert_eq!(rows(disk, 7, 0), [1]);
            assert_eq!(disk.state("cursor").expect("readable").as_deref(), Some(&b"1"[..]));
            let mut bytes = [0; 11];
            assert_eq!(disk.log_read(5, 0, &mut bytes).expect("readable"), 11);
            assert_eq!(&bytes, b"frame one, ");
            disk.log_resume(5, 11);
            disk.log_append(5, b"frame two");
            disk.log_sync().expect("synced");
            disk.log_append(6, b"other file, not synced");
        });
        reopen(&mut |disk| {
            let mut bytes = [0; 20];
            disk.log_read(5, 0, &mut bytes).expect("readable");
            assert_eq!(&bytes, b"frame one, frame two", "the generation before the one that is not synced");
            disk.log_append(6, b"other file");
            disk.log_sync().expect("synced");
            disk.log_append(6, b"on a page of its own");
            disk.log_sync().expect("synced");
        });
        reopen(&mut |disk| {
            let mut bytes = [0; 20];
            disk.log_read(6, 0, &mut bytes[..10]).expect("readable");
            assert_eq!(&bytes[..10], b"other file");
            disk.log_read(6, LOG_PAGE_BYTES, &mut bytes).expect("readable");
            assert_eq!(&bytes, b"on a page of its own");
        });
    });
}

#[test]
fn a_segment_is_replaced_in_its_place_and_one_that_is_gone_stays_away() {
    both(|disk, _| {
        for sequence in 1..=3 {
            let at = sequence as i64 * 10;
            disk.put(Put::Segment { meta: segment(sequence, sequence * 10, (0, 1), (at, at + 9)), bytes: b"packed" });
        }
        disk.commit().expect("committed");
        let sealed = |disk: &mut dyn Disk, from: u64| {
            let mut found = Vec::new();
            let visit = &mut |meta: &SegmentMeta, bytes: &mut dyn SegmentBytes| {
                let mut buf = vec![0; bytes.len()];
                bytes.read_at(0, &mut buf).expect("readable");
                found.push((meta.sequence, String::from_utf8(buf).expect("text")));
                true
            };
            disk.stored().sealed_from(from, visit).expect("readable");
            found
        };
        let named = |sequence, bytes: &str| (sequence, bytes.to_owned());
        let second = segment(2, 20, (0, 1), (20, 29));
        disk.put(Put::Replace { meta: second, bytes: b"aged" });
        assert_eq!(sealed(disk, 2), [named(2, "aged"), named(3, "packed")], "visible before the commit");
        disk.commit().expect("committed");
        assert_eq!(sealed(disk, 0), [named(1, "packed"), named(2, "aged"), named(3, "packed")]);
        disk.put(Put::DropBefore { t_ms: 30 });
        disk.put(Put::Replace { meta: second, bytes: b"aged twice" });
        disk.commit().expect("committed");
        assert_eq!(sealed(disk, 0), [named(3, "packed")]);
        assert_eq!(rows(disk, 7, 0), [3]);
    });
}

/// The fake is the oracle: whatever is put and dropped in whatever order, both give the same answers.
#[test]
fn a_long_random_history_reads_the_same_from_both() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut fake = FakeDisk::default();
    let mut real = Flash::open(&settings(directory.path())).expect("opened");
    let mut prng = Prng::new(20);
    for step in 1..=600_u64 {
        let timeline = prng.below(4).wrapping_sub(2);
        let (layout_number, t_min_ms) = (timeline.wrapping_mul(10) + prng.below(3), prng.below(5_000) as i64 - 1_000);
        let meta = SegmentMeta {
            sequence: step,
            timeline: TimelineKey(timeline),
            layout: layout_number,
            row_from: prng.below(500),
            row_count: 1 + prng.below(60) as u32,
            column_from: 32 * prng.below(3) as u32,
            column_count: 1 + prng.below(40) as u32,
            t_min_ms,
            t_max_ms: t_min_ms + prng.below(700) as i64,
        };
        let bytes = vec![step as u8; prng.below(3_000) as usize];
        let drop_before_ms = prng.below(2_000) as i64 - 1_200;
        for disk in [&mut fake as &mut dyn Disk, &mut real] {
            match step % 7 {
                0 => disk.put(part(timeline, layout_number, meta.column_from, meta.column_count, &bytes)),
                1 if step % 5 == 0 => disk.put(Put::DropBefore { t_ms: drop_before_ms }),
                2 => disk.commit().expect("committed"),
                _ => disk.put(Put::Segment { meta, bytes: &bytes }),
            }
        }
        if step % 100 == 50 {
            real.commit().expect("committed");
            fake.commit().expect("committed");
            drop(real);
            fake.kill();
            real = Flash::open(&settings(directory.path())).expect("reopened");
        }
        let (start_ms, row_from) = (prng.below(5_000) as i64 - 1_000, prng.below(560));
        let end_ms = start_ms + prng.below(1_000) as i64;
        let asked = |disk: &mut dyn Disk| {
            let mut by_sequence = None;
            let visit = &mut |meta: &SegmentMeta, bytes: &mut dyn holdfast_core::store::stored::SegmentBytes| {
                by_sequence = Some((*meta, bytes.len()));
                true
            };
            disk.stored().segment(meta.sequence.saturating_sub(step % 7), visit).expect("readable");
            (
                by_sequence,
                column(disk, meta.layout, meta.column_from + 3, start_ms, end_ms),
                rows(disk, timeline, row_from),
                layouts(disk, start_ms, end_ms),
                layout(disk, meta.layout),
                timelines(disk),
                disk.stored().oldest_ms().expect("readable"),
            )
        };
        assert_eq!(asked(&mut real), asked(&mut fake), "after step {step}");
    }
    assert!(rows(&mut real, 0, 0).len() > 10, "the history was long enough to mean something");
}

#[test]
fn a_failed_sync_or_commit_of_the_fake_keeps_nothing_of_it() {
    let mut fake = FakeDisk::default();
    fake.log_append(1, b"one");
    fake.log_sync().expect("synced");
    fake.failing = true;
    fake.log_append(1, b"two");
    fake.put(Put::State { key: "cursor", bytes: b"1" });
    assert!(fake.log_sync().is_err() && fake.commit().is_err());
    fake.failing = false;
    assert_eq!(fake.state("cursor").expect("readable"), None);
    fake.log_append(1, b"THREE");
    fake.cut_power(2);
    let mut bytes = [0; 8];
    assert_eq!(fake.log_read(1, LOG_PAGE_BYTES, &mut bytes).expect("readable"), 2);
    assert_eq!(&bytes[..2], b"TH");
    assert_eq!(fake.log_read(1, 0, &mut bytes).expect("readable"), 8);
    assert_eq!(&bytes, b"one\0\0\0\0\0");
}
