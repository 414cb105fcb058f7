use super::*;
use crate::disk::{Disk, DiskSettings, flash::Flash};
use holdfast_core::{
    labels::LabelSet,
    spill::{ClockEpoch, SealReason, Spill, SpillOptions, SpillState},
    store::{Identity, Missing, Plan, Store},
    time::Now,
};

const START_MS: i64 = 1_790_000_000_000;

/// A day of one target, every five minutes.
fn stored(directory: &Path) {
    let settings = DiskSettings {
        path: directory.to_path_buf(),
        quota_bytes: 16 << 20,
        log_bytes: 64 * 1024,
        heap_bytes_max: 4 << 20,
    };
    let mut disk = Flash::open(&settings).expect("opened");
    let plan = Plan::for_slab(512 << 10).expect("a plan");
    let mut slab = vec![0; plan.slab_bytes()];
    let identity = Identity { store_uuid: disk.store_uuid(), boot_id: [1; 16], log_generation: 0 };
    let mut store = Store::create(&mut slab, &plan, identity).expect("a store");
    let epoch = ClockEpoch { boot_hash: 1, wall_offset_ms: 0, trusted: true };
    let mut spill = Spill::new(SpillOptions::new(identity.store_uuid, &plan), epoch, SpillState::default(), 0);
    let id = store.timeline_open(TimelineKey(1)).expect("room");
    for row in 0..=288 {
        store.row_begin(id, START_MS + row * 300_000).expect("at rest");
        for (name, value) in [("up", 1.0), ("total", (row * row) as f64)] {
            let labels = LabelSet::from_pairs([("__name__", name), ("instance", "h:9100"), ("job", "node")]);
            store.row_put(id, labels.as_ref(), value.to_bits(), None).expect("room");
        }
        store.row_commit(id, Missing::Stale);
    }
    let mut out = vec![0; holdfast_core::daemon::output::OUTPUT_BYTES_MAX];
    let now = Now { mono_ms: 1, wall_ms: START_MS };
    while let Some(put) = spill.seal_next(&store, now, SealReason::Checkpoint, &mut out) {
        disk.put(put);
    }
    spill.commit(&mut store, 1);
    disk.commit().expect("committed");
    spill.committed(&mut store, 1, true);
    while let Some(length) = spill.frame_next(&store, &mut out) {
        disk.log_append(1, &out[..length]);
    }
    disk.log_sync().expect("synced");
}

fn analyzed(directory: &Path, is_json: bool) -> Result<String, AnalyzeError> {
    let url = "http://127.0.0.1:1".to_owned();
    run(&Analyze { directory: directory.to_path_buf(), url, quota_bytes: Some(16 << 20), is_json }, |_| 0)
}

#[test]
fn a_directory_that_nobody_has_is_told_by_target_and_class_and_stays_as_it_was() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    stored(directory.path());
    let before = std::fs::read(directory.path().join("holdfast.db")).expect("readable");
    let report: Value = serde_json::from_str(&analyzed(directory.path(), true).expect("told")).expect("JSON");
    assert!(before == std::fs::read(directory.path().join("holdfast.db")).expect("readable"));
    let target = &report["targets"][0];
    assert_eq!((target["job"].as_str(), target["instance"].as_str()), (Some("node"), Some("h:9100")));
    assert_eq!(
        (target["series"].as_u64(), target["segments"].as_u64(), target["rows"].as_u64()),
        (Some(2), Some(2), Some(289))
    );
    assert_eq!(target["classes"]["constant"]["samples"], 289);
    assert_eq!(target["classes"]["integer"]["samples"], 289);
    assert_eq!((report["days_stored"].as_f64(), report["logs"][0]["generation"].as_u64()), (Some(1.0), Some(1)));
    let disk_bytes = report["disk_bytes"].as_f64().expect("bytes");
    assert_eq!(report["samples"], 2 * 289);
    // The reader of JSON gives a float to its last bit but one.
    let each = report["disk_bytes_per_sample"].as_f64().expect("bytes");
    assert!((each - disk_bytes / 578.0).abs() < 1e-9 * each, "{each} of the database and both logs, {disk_bytes}");
    let left = report["days_left"].as_f64().expect("a rate");
    let rate = report["segment_bytes"].as_f64().expect("bytes");
    let free = (16 << 20) as f64 - disk_bytes;
    assert!((left - free / rate).abs() < 1e-6 * left, "{report}");
    let text = analyzed(directory.path(), false).expect("told");
    assert!(
        text.contains("node h:9100")
            && text.contains("days left at this rate")
            && text.contains(&format!("all files: {:.3} a sample", disk_bytes / 578.0)),
        "{text}"
    );
}

#[test]
fn a_directory_without_a_sample_has_no_bytes_per_sample() {
    let report = report(4096, 1 << 20, Vec::new(), Vec::new());
    assert_eq!((report["samples"].as_u64(), report["disk_bytes_per_sample"].as_f64()), (Some(0), None));
    let text = text(&report);
    assert!(text.ends_with("disk: 4096 of 1048576 bytes\n"), "{text}");
}

#[test]
fn a_directory_in_use_is_asked_for_over_the_api() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    stored(directory.path());
    let _held = Directory::open(directory.path()).expect("locked");
    let error = analyzed(directory.path(), false).expect_err("nobody answers there").to_string();
    assert!(error.contains("--url") && error.contains(&std::process::id().to_string()), "{error}");
}

#[test]
fn what_is_no_data_directory_is_told_and_left_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    assert!(matches!(analyzed(directory.path(), false), Err(AnalyzeError::NotOurs { .. })));
    assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 0);
    let missing = directory.path().join("missing");
    assert!(matches!(analyzed(&missing, false), Err(AnalyzeError::NotThere { .. })));
    assert!(!missing.exists());
}

#[test]
fn pages_are_added_up() {
    let mut sum = Value::Null;
    for page in [
        json!({"series": 3, "bytes": 5, "from_ms": 10, "to_ms": 20, "damage": ["a"], "classes": {"float": {"bytes": 1}}}),
        json!({"series": 4, "bytes": 7, "from_ms": 5, "to_ms": 15, "damage": ["b"], "classes": {"float": {"bytes": 2}}}),
        json!({"series": 4, "bytes": 0, "from_ms": null, "to_ms": null, "damage": [], "classes": {"float": {"bytes": 0}}}),
    ] {
        add(&mut sum, page);
    }
    assert_eq!(
        sum,
        json!({"series": 4, "bytes": 12, "from_ms": 5, "to_ms": 20, "damage": ["a", "b"],
                           "classes": {"float": {"bytes": 3}}})
    );
}
