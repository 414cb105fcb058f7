use super::super::{Disk, DiskSettings, flash::Flash};
use super::*;
use holdfast_core::store::{TimelineKey, stored::Stored};

pub const SEGMENT_BYTES: usize = 40_000;

pub fn open(directory: &Path, quota_bytes: u64) -> Segments {
    let directory = Directory::open(directory).expect("locked");
    Segments::open(&directory, quota_bytes, 4 << 20).expect("opened")
}

pub fn meta(sequence: u64) -> SegmentMeta {
    SegmentMeta {
        sequence,
        timeline: TimelineKey(1),
        layout: 10,
        row_from: sequence * 10,
        row_count: 10,
        column_from: 0,
        column_count: 1,
        t_min_ms: sequence as i64 * 1_000,
        t_max_ms: sequence as i64 * 1_000 + 999,
    }
}

pub fn put(segments: &mut Segments, sequences: std::ops::RangeInclusive<u64>) {
    for sequence in sequences {
        segments.put(Put::Segment { meta: meta(sequence), bytes: &[sequence as u8; SEGMENT_BYTES] });
        segments.commit().expect("committed");
    }
}

pub fn sequences(segments: &mut Segments) -> Vec<u64> {
    let mut found = Vec::new();
    segments
        .rows(TimelineKey(1), 0, &mut |meta, _| {
            found.push(meta.sequence);
            true
        })
        .expect("readable");
    found
}

#[test]
fn the_quota_holds_and_the_oldest_segments_go_with_their_range_counted() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 2 << 20);
    put(&mut segments, 1..=100);
    let kept = sequences(&mut segments);
    let dropped = segments.dropped();
    assert!(kept.len() > 30, "{} segments of 40 kB in 2 MiB less the spare pages", kept.len());
    assert_eq!(kept.last(), Some(&100));
    assert_eq!(dropped.segment_count, 100 - kept.len() as u64);
    assert_eq!(dropped.range_ms, Some((1_000, (kept[0] as i64 - 1) * 1_000 + 999)));
    assert_eq!(dropped.bytes, dropped.segment_count * SEGMENT_BYTES as u64);
    assert_eq!(segments.oldest_ms().expect("readable"), Some(kept[0] as i64 * 1_000));
    let length = fs::metadata(directory.path().join(DATABASE)).expect("there").len();
    assert!(length <= 2 << 20, "{length} bytes");
}

#[test]
fn a_lowered_quota_drops_the_oldest_and_cuts_the_file_at_the_next_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 8 << 20);
    put(&mut segments, 1..=100);
    assert_eq!(sequences(&mut segments).len(), 100);
    drop(segments);
    let mut segments = open(directory.path(), 1 << 20);
    let kept = sequences(&mut segments);
    assert!((5..26).contains(&kept.len()) && kept.last() == Some(&100), "{kept:?}");
    assert_eq!(segments.dropped().segment_count, 100 - kept.len() as u64);
    let length = fs::metadata(directory.path().join(DATABASE)).expect("there").len();
    assert!(length <= 1 << 20, "{length} bytes");
}

#[test]
fn something_larger_than_the_whole_quota_is_refused_and_the_next_thing_is_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 1 << 20);
    segments.put(Put::State { key: "huge", bytes: &vec![1; 1 << 20] });
    segments.put(Put::State { key: "small", bytes: b"1" });
    let words = segments.commit().expect_err("too large");
    assert!(words.contains("--storage.tsdb.retention.size"), "{words}");
    assert_eq!(segments.state("small").expect("readable"), None, "nothing of a failed transaction is kept");
    segments.put(Put::State { key: "small", bytes: b"1" });
    segments.commit().expect("committed");
}

/// A full disk once refused every later write for good. Now the oldest history makes room inside the file.
#[test]
fn on_a_full_disk_the_transaction_fails_and_the_next_attempt_finds_room() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 8 << 20);
    put(&mut segments, 1..=20);
    // The file cannot grow any more: SQLite reports the same as for a medium without space.
    let pages = segments.pragma_u64("page_count").expect("readable");
    segments.connection.pragma_update(None, "max_page_count", pages as i64).expect("set");
    segments.put(Put::Segment { meta: meta(21), bytes: &[21; SEGMENT_BYTES] });
    segments.put(Put::Segment { meta: meta(22), bytes: &[22; SEGMENT_BYTES] });
    segments.commit().expect_err("the disk is full");
    assert_eq!(segments.dropped().range_ms.map(|range| range.0), Some(1_000));
    let left = sequences(&mut segments);
    assert!(left.len() < 20 && left.last() == Some(&20), "{left:?}");
    put(&mut segments, 21..=22);
    assert_eq!(sequences(&mut segments).last(), Some(&22));
}

#[test]
fn a_segment_sequence_is_never_overwritten() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 8 << 20);
    put(&mut segments, 1..=1);
    segments.put(Put::Segment { meta: meta(1), bytes: b"other" });
    segments.commit().expect_err("it is taken");
    segments.put(Put::Segment { meta: SegmentMeta { sequence: u64::MAX, ..meta(2) }, bytes: b"x" });
    assert!(segments.commit().expect_err("out of range").contains("sequence"));
    assert_eq!(sequences(&mut segments), [1]);
}

#[test]
fn bounds_are_found_again_at_a_start_whatever_was_rolled_back() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 8 << 20);
    let wide = |sequence| SegmentMeta { row_from: 0, row_count: 1_000, t_max_ms: 900_000, ..meta(sequence) };
    segments.put(Put::Segment { meta: wide(1), bytes: b"x" });
    segments.put(Put::Segment { meta: wide(1), bytes: b"x" });
    segments.commit().expect_err("the second is refused, and the first with it");
    segments.put(Put::Segment { meta: wide(2), bytes: b"x" });
    segments.commit().expect("committed");
    drop(segments);
    let mut segments = open(directory.path(), 8 << 20);
    let mut found = 0;
    let mut count = |_: &SegmentMeta, _: &mut dyn holdfast_core::store::stored::SegmentBytes| {
        found += 1;
        true
    };
    segments.rows(TimelineKey(1), 999, &mut count).expect("readable");
    segments.segments(10, 0, 5_000, &mut count).expect("readable");
    assert_eq!(found, 2);
}

#[test]
fn the_store_keeps_its_uuid_and_two_stores_differ() {
    let (one, two) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    let uuid = open(one.path(), 8 << 20).store_uuid();
    assert_eq!(open(one.path(), 8 << 20).store_uuid(), uuid);
    assert_ne!(open(two.path(), 8 << 20).store_uuid(), uuid);
}

#[test]
fn a_damaged_database_is_set_aside_and_the_daemon_starts() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut segments = open(directory.path(), 8 << 20);
    put(&mut segments, 1..=3);
    drop(segments);
    let path = directory.path().join(DATABASE);
    let mut bytes = fs::read(&path).expect("there");
    bytes[..4096].fill(0xa5);
    fs::write(&path, &bytes).expect("written");
    let mut segments = open(directory.path(), 8 << 20);
    assert!(sequences(&mut segments).is_empty());
    put(&mut segments, 4..=4);
    assert_eq!(fs::read(directory.path().join("holdfast.db.damaged")).expect("kept"), bytes);
}

fn settings(path: &Path) -> DiskSettings {
    DiskSettings { path: path.to_path_buf(), quota_bytes: 8 << 20, log_bytes: 64 * 1024, heap_bytes_max: 4 << 20 }
}

#[test]
fn a_newer_database_is_refused_with_advice_and_not_touched() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join(DATABASE);
    drop(Flash::open(&settings(directory.path())).expect("made"));
    for (version, is_newer) in [(schema::FORMAT_VERSION, false), (schema::FORMAT_VERSION + 1, true)] {
        Connection::open(&path).expect("opened").pragma_update(None, "user_version", version).expect("set");
        let before = fs::read(&path).expect("there");
        match Flash::open(&settings(directory.path())) {
            Ok(_) => assert!(!is_newer),
            Err(error) => {
                assert!(is_newer && error.to_string().contains("newer holdfast"), "{error}");
                assert_eq!(fs::read(&path).expect("there"), before);
            }
        }
    }
}

#[test]
fn a_database_of_another_program_is_refused_and_not_touched() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join(DATABASE);
    Connection::open(&path).expect("opened").execute_batch("CREATE TABLE music (title TEXT)").expect("made");
    let before = fs::read(&path).expect("there");
    let error = Flash::open(&settings(directory.path())).err().expect("foreign");
    assert!(matches!(error, DiskError::Foreign { .. }), "{error}");
    assert_eq!(fs::read(&path).expect("there"), before);
}

#[test]
fn the_whole_directory_stays_within_its_quota() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut disk = Flash::open(&settings(directory.path())).expect("opened");
    for sequence in 1..=400 {
        disk.put(Put::Segment { meta: meta(sequence), bytes: &[1; SEGMENT_BYTES] });
        if sequence % 4 == 0 {
            disk.commit().expect("committed");
        }
    }
    let usage = disk.usage();
    assert!(usage.disk_bytes <= usage.quota_bytes && usage.disk_bytes > 4 << 20, "{usage:?}");
    assert!(usage.dropped_segment_count > 100 && usage.dropped_until_ms.is_some());
}

#[test]
fn a_quota_without_room_for_history_is_refused_with_the_figure_that_would_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let smallest = settings(directory.path()).quota_bytes_min();
    let small = DiskSettings { quota_bytes: smallest - 1, ..settings(directory.path()) };
    let words = Flash::open(&small).err().expect("too small").to_string();
    assert!(words.contains(&smallest.to_string()), "{words}");
    assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 0);
    drop(Flash::open(&DiskSettings { quota_bytes: smallest + 64 * 1024, ..small }).expect("enough"));
}

/// Overwrites the database's pages behind SQLite's back, the first one left out.
fn damage(directory: &Path) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(directory.join(DATABASE)).expect("there");
    let pages = file.metadata().expect("there").len() / PAGE_BYTES;
    for page in 1..pages {
        file.write_all_at(&[0xff; 64], page * PAGE_BYTES).expect("written");
    }
}

fn flash(directory: &Path) -> Flash {
    let settings = DiskSettings {
        path: directory.to_path_buf(),
        quota_bytes: 16 << 20,
        log_bytes: 64 * 1024,
        heap_bytes_max: 4 << 20,
    };
    Flash::open(&settings).expect("opened")
}

fn store(disk: &mut Flash, sequence: u64) -> Result<(), String> {
    disk.put(Put::Segment { meta: meta(sequence), bytes: &[sequence as u8; SEGMENT_BYTES] });
    disk.commit()
}

fn is_set_aside(disk: &mut Flash, directory: &Path) -> bool {
    let loss = disk.take_loss();
    let is_told = loss
        .is_some_and(|loss| (loss.reason, loss.subject.as_str()) == (Reason::DatabaseSetAside, "holdfast.db.damaged"));
    is_told && fs::metadata(directory.join("holdfast.db.damaged")).is_ok_and(|file| file.len() > 1 << 20)
}

/// `SQLITE_CORRUPT` failed every commit until somebody restarted the daemon.
#[test]
fn a_database_found_damaged_at_a_commit_makes_room_for_a_new_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut disk = flash(directory.path());
    let store_uuid = disk.store_uuid();
    (1..=60).for_each(|sequence| store(&mut disk, sequence).expect("committed"));
    damage(directory.path());
    // What frees pages walks over them.
    disk.put(Put::DropBefore { t_ms: 30_000 });
    let sequence = 61;
    let error = store(&mut disk, sequence).expect_err("damage is met");
    assert!(error.contains("malformed"), "{error}");
    assert!(is_set_aside(&mut disk, directory.path()));
    store(&mut disk, sequence).expect("the new one takes it");
    drop(disk);
    let mut disk = flash(directory.path());
    assert_eq!((disk.store_uuid(), disk.take_loss()), (store_uuid, None));
    assert_eq!(sequences_of(&mut disk), [sequence]);
}

#[test]
fn a_database_found_damaged_at_a_read_makes_room_for_a_new_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut disk = flash(directory.path());
    (1..=60).for_each(|sequence| store(&mut disk, sequence).expect("committed"));
    damage(directory.path());
    let mut buf = [0; 16];
    let mut is_read = true;
    let visited = disk.stored().rows(TimelineKey(1), 0, &mut |_, bytes| {
        is_read &= bytes.read_at(SEGMENT_BYTES - 16, &mut buf).is_ok();
        true
    });
    assert!(visited.is_err() || !is_read);
    // A transaction that is open by then fails as a whole.
    disk.put(Put::State { key: "a", bytes: b"1" });
    disk.usage();
    assert!(is_set_aside(&mut disk, directory.path()));
    assert!(disk.commit().is_err());
    store(&mut disk, 61).expect("committed");
    assert_eq!((sequences_of(&mut disk), disk.state("a").expect("readable")), (vec![61], None));
}

#[test]
fn a_database_damaged_beyond_its_header_is_set_aside_at_the_start_and_the_store_stays_the_same() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut disk = flash(directory.path());
    let store_uuid = disk.store_uuid();
    (1..=60).for_each(|sequence| store(&mut disk, sequence).expect("committed"));
    // What the log says of its owner.
    let epoch = holdfast_core::spill::ClockEpoch { boot_hash: 1, wall_offset_ms: 0, trusted: true };
    let plan = holdfast_core::store::Plan::for_slab(256 << 10).expect("a plan");
    let options = holdfast_core::spill::SpillOptions::new(store_uuid, &plan);
    let mut slab = vec![0; plan.slab_bytes()];
    let identity = holdfast_core::store::Identity { store_uuid, boot_id: [1; 16], log_generation: 0 };
    let mut hot = holdfast_core::store::Store::create(&mut slab, &plan, identity).expect("a store");
    let mut spill = holdfast_core::spill::Spill::new(options, epoch, Default::default(), 0);
    let mut buf = vec![0; holdfast_core::daemon::output::OUTPUT_BYTES_MAX];
    let now = holdfast_core::time::Now { mono_ms: 1, wall_ms: 1 };
    while let Some(put) = spill.seal_next(&hot, now, holdfast_core::spill::SealReason::Checkpoint, &mut buf) {
        disk.put(put);
    }
    spill.commit(&mut hot, 1);
    spill.committed(&mut hot, 1, disk.commit().is_ok());
    while let Some(bytes) = spill.frame_next(&hot, &mut buf) {
        disk.log_append(1, &buf[..bytes]);
    }
    disk.log_sync().expect("synced");
    drop(disk);
    damage(directory.path());
    let mut disk = flash(directory.path());
    assert!(is_set_aside(&mut disk, directory.path()));
    assert_eq!(disk.store_uuid(), store_uuid, "slab and log go on");
    store(&mut disk, 1).expect("committed");
}

/// The next start then found too little of the quota left, and refused.
#[test]
fn what_is_set_aside_never_takes_more_than_half_of_the_quota() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    drop(flash(directory.path()));
    let aside = directory.path().join("holdfast.db.damaged");
    for (bytes, stays) in [(8 << 20, true), ((8 << 20) + 4096, false)] {
        fs::write(&aside, vec![1; bytes]).expect("written");
        let mut disk = flash(directory.path());
        assert_eq!(aside.exists(), stays, "{bytes} of 16 MiB");
        store(&mut disk, bytes as u64).expect("committed");
    }
}

fn sequences_of(disk: &mut Flash) -> Vec<u64> {
    let mut found = Vec::new();
    let visited = disk.stored().rows(TimelineKey(1), 0, &mut |meta, _| {
        found.push(meta.sequence);
        true
    });
    visited.expect("readable");
    found
}
