use super::*;
use crate::labels::LabelSet;
use crate::{
    daemon::Settings,
    ledger::Ledger,
    spill::world::{Disk, START_MS, UUID, all_samples, at, flush, labels, scrape},
    store::stored::StoredError,
};
use alloc::collections::BTreeMap;

const BOOT: [u8; 16] = [9; 16];

impl StartDisk for Disk {
    fn state(&mut self, key: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.database.states.get(key).cloned())
    }
    fn flash(&mut self) -> &mut dyn Flash {
        self
    }
}

fn plan(kib: usize) -> Plan {
    Plan::for_slab(kib << 10).unwrap()
}

fn slab(plan: &Plan) -> Vec<u8> {
    vec![0; plan.slab_bytes()]
}

fn open<'m>(slab: &'m mut [u8], is_predecessors: bool, plan: &Plan, disk: &mut Disk) -> Opened<'m> {
    let given = SlabGiven { bytes: slab, is_predecessors, retired: None };
    open_store(given, plan, UUID, BOOT, disk, &Settings::default(), at(START_MS + 100_000)).unwrap()
}

fn ledger(store: &Store<'_>) -> Ledger {
    let (ledger, errors) = losses::restore(store);
    assert_eq!(errors, [""; 0]);
    ledger
}

type Model = BTreeMap<(LabelSet, i64), u64>;

/// Rows that are stored, rows that are in the log, and rows that only RAM has; states that are newer than the log's.
fn live(store: &mut Store<'_>, spill: &mut Spill, disk: &mut Disk, from: i64) -> Model {
    let names: Vec<LabelSet> = (0..30).map(|index| labels(&format!("m{index}"), 1)).collect();
    let mut model = Model::new();
    for row in from..from + 90 {
        let bits = |index: usize| (row as f64 * 1.5 + index as f64).to_bits();
        let puts: Vec<_> = names.iter().enumerate().map(|(index, name)| (name, bits(index), None)).collect();
        scrape(store, 1, START_MS + row * 100, &puts);
        for (index, name) in names.iter().enumerate() {
            model.insert((name.clone(), START_MS + row * 100), bits(index));
        }
        store.state_put("rules", format!("as of row {row}").as_bytes()).unwrap();
        if row == from + 30 {
            assert!(seal_all(disk, store, spill, at(START_MS), SealReason::Checkpoint, &mut vec![0; OUTPUT_BYTES_MAX]));
        }
        if row % 20 == 0 && spill.log_generation().is_some() {
            flush(spill, store, disk);
        }
    }
    model
}

#[test]
fn a_slab_of_another_plan_is_on_the_disk_before_the_new_one_begins() {
    for (old_kib, new_kib) in [(1024, 512), (512, 1024), (512, 513)] {
        let (old, new, mut disk) = (plan(old_kib), plan(new_kib), Disk::default());
        let (mut old_slab, mut new_slab) = (slab(&old), slab(&new));
        let Opened { mut store, mut spill, .. } = open(&mut old_slab, false, &old, &mut disk);
        let mut model = live(&mut store, &mut spill, &mut disk, 0);
        drop((store, spill));

        let report = retire_slab(&mut old_slab, UUID, BOOT, &mut disk, at(START_MS)).unwrap();
        assert!(report.rows > 0 && report.series == 30, "{report:?}");
        let given = SlabGiven { bytes: &mut new_slab, is_predecessors: false, retired: Some(Ok(report)) };
        let opened = open_store(given, &new, UUID, BOOT, &mut disk, &Settings::default(), at(START_MS)).unwrap();
        let Opened { mut store, mut spill, notices, .. } = opened;
        assert!(notices.len() == 1 && notices[0].contains("other region sizes"), "{notices:?}");
        assert!(all_samples(&store, &disk) == model, "from {old_kib} to {new_kib} KiB");
        assert_eq!(store.state_get("rules"), Some(&b"as of row 89"[..]), "not the log's older one");
        assert!(Reason::all().all(|reason| ledger(&store).events(reason) == 0));

        // It goes on, and a killed process' successor attaches.
        model.extend(live(&mut store, &mut spill, &mut disk, 90));
        drop((store, spill));
        let Opened { store, start, .. } = open(&mut new_slab, true, &new, &mut disk);
        assert!(matches!(start, Start::Attached(_)), "{start}");
        assert!(all_samples(&store, &disk) == model);
    }
}

/// As above in one file: as many bytes, other regions.
#[test]
fn a_slab_of_another_plan_and_the_same_size_is_retired_in_place() {
    let (old, mut disk) = (Plan::for_series(512 << 10, 300).unwrap(), Disk::default());
    let new = Plan::for_series(512 << 10, 500).unwrap();
    let mut bytes = vec![0; 512 << 10];
    let Opened { mut store, mut spill, .. } = open(&mut bytes, false, &old, &mut disk);
    let model = live(&mut store, &mut spill, &mut disk, 0);
    drop((store, spill));
    let Opened { store, start, notices, .. } = open(&mut bytes, true, &new, &mut disk);
    assert!(matches!(start, Start::Recovered { slab: None, .. }), "{start}");
    assert!(notices.len() == 1 && notices[0].contains("other region sizes"), "{notices:?}");
    assert!(all_samples(&store, &disk) == model);
    assert_eq!(store.state_get("rules"), Some(&b"as of row 89"[..]));
}

/// A process that is killed while it retires a slab: the next one does it again.
#[test]
fn a_slab_can_be_retired_twice() {
    let (old, new, mut disk) = (plan(512), plan(1024), Disk::default());
    let (mut old_slab, mut new_slab) = (slab(&old), slab(&new));
    let Opened { mut store, mut spill, .. } = open(&mut old_slab, false, &old, &mut disk);
    let model = live(&mut store, &mut spill, &mut disk, 0);
    drop((store, spill));
    let before = disk.clone();
    retire_slab(&mut old_slab, UUID, BOOT, &mut disk, at(START_MS)).unwrap();
    retire_slab(&mut old_slab, UUID, BOOT, &mut disk, at(START_MS)).unwrap();
    let Opened { store, .. } = open(&mut new_slab, false, &new, &mut disk);
    assert!(all_samples(&store, &disk) == model);
    // Killed before the commit: the slab may be ahead of the database by one generation.
    let mut disk = before;
    disk.is_full = true;
    let mut copy = old_slab.clone();
    assert!(matches!(
        retire_slab(&mut copy, UUID, BOOT, &mut disk, at(START_MS)),
        Err(RetireError::Slab(AttachError::OtherGeneration { .. }))
    ));
}

#[test]
fn a_disk_that_does_not_take_the_old_slab_is_a_loss_and_no_refusal() {
    let (old, new, mut disk) = (plan(512), plan(1024), Disk::default());
    let (mut old_slab, mut new_slab) = (slab(&old), slab(&new));
    let Opened { mut store, mut spill, .. } = open(&mut old_slab, false, &old, &mut disk);
    let model = live(&mut store, &mut spill, &mut disk, 0);
    drop((store, spill));
    disk.is_full = true;
    let retired = Some(retire_slab(&mut old_slab, UUID, BOOT, &mut disk, at(START_MS)));
    assert!(matches!(retired, Some(Err(RetireError::Disk(_)))));
    let given = SlabGiven { bytes: &mut new_slab, is_predecessors: false, retired };
    let now = at(START_MS + 100_000);
    let opened = open_store(given, &new, UUID, BOOT, &mut disk, &Settings::default(), now).unwrap();
    let ledger = ledger(&opened.store);
    assert_eq!(ledger.events(Reason::SlabSetAside), 1);
    // The log had rows up to the last flush.
    let found = all_samples(&opened.store, &disk);
    assert!(!found.is_empty() && found.iter().all(|(key, bits)| model[key] == *bits));
    let newest_ms = found.keys().map(|(_, t_ms)| *t_ms).max().unwrap();
    let entry = ledger.entries(Reason::SlabSetAside).next().unwrap();
    assert_eq!(entry.span_ms, Some((newest_ms, now.wall_ms)));
}

#[test]
fn a_damaged_spill_state_costs_nothing_but_itself() {
    for damage in [0, 1, 2] {
        let (plan, mut disk) = (plan(512), Disk::default());
        let mut bytes = slab(&plan);
        let Opened { mut store, mut spill, .. } = open(&mut bytes, false, &plan, &mut disk);
        let mut model = live(&mut store, &mut spill, &mut disk, 0);
        drop((store, spill));
        let state = disk.database.states.get_mut(SPILL_STATE_KEY).unwrap();
        match damage {
            0 => state[17] ^= 4,
            1 => state.truncate(10),
            _ => drop(disk.database.states.remove(SPILL_STATE_KEY)),
        }
        let Opened { mut store, mut spill, start, notices } = open(&mut bytes, true, &plan, &mut disk);
        assert!(matches!(start, Start::Attached(_)), "{start}");
        let counted = u64::from(damage < 2);
        assert_eq!((ledger(&store).events(Reason::StateSetAside), notices.len() as u64), (counted, counted));
        assert_eq!(disk.database.states.contains_key("aside/spill"), damage < 2);
        assert!(all_samples(&store, &disk) == model);
        // Sequences and layouts go on behind what is stored.
        model.extend(live(&mut store, &mut spill, &mut disk, 90));
        assert!(all_samples(&store, &disk) == model);
        drop((store, spill));

        // The same with a power cut.
        let state = disk.database.states.get_mut(SPILL_STATE_KEY).unwrap();
        state[17] ^= 4;
        let mut bytes = slab(&plan);
        let Opened { mut store, mut spill, .. } = open(&mut bytes, false, &plan, &mut disk);
        let found = all_samples(&store, &disk);
        assert!(found.len() > 160 * 30 && found.iter().all(|(key, bits)| model[key] == *bits), "{}", found.len());
        let more = live(&mut store, &mut spill, &mut disk, 180);
        let now = all_samples(&store, &disk);
        assert!(found.iter().chain(&more).all(|(key, bits)| now.get(key) == Some(bits)));
    }
}

#[test]
fn a_spill_state_of_a_newer_version_is_refused_with_advice() {
    let (plan, mut disk) = (plan(512), Disk::default());
    let mut state = SpillState::default().encode();
    state[0] = 9;
    let crc = crate::spill::crc32(&state[..32]);
    state[32..36].copy_from_slice(&crc.to_le_bytes());
    disk.database.states.insert(SPILL_STATE_KEY.into(), state.to_vec());
    let mut bytes = slab(&plan);
    let given = SlabGiven { bytes: &mut bytes, is_predecessors: false, retired: None };
    let error = open_store(given, &plan, UUID, BOOT, &mut disk, &Settings::default(), at(START_MS)).err().unwrap();
    assert!(error.contains("version 9") && error.contains("use the version that wrote it"), "{error}");
}

#[test]
fn a_state_too_large_for_the_new_slab_is_kept_under_another_name() {
    let (small, mut disk) = (plan(512), Disk::default());
    let large = vec![7; 20_000];
    disk.database.states.insert("rules".into(), large.clone());
    disk.database.states.insert("rules-alive".into(), vec![1, 2, 3]);
    let mut bytes = slab(&small);
    let Opened { store, notices, .. } = open(&mut bytes, false, &small, &mut disk);
    assert_eq!((store.state_get("rules"), store.state_get("rules-alive")), (None, Some(&[1, 2, 3][..])));
    assert_eq!(disk.database.states["aside/rules"], large);
    assert_eq!(ledger(&store).events(Reason::StateSetAside), 1);
    assert!(notices.len() == 1 && notices[0].contains("aside/rules"), "{notices:?}");
}

#[test]
fn a_torn_and_damaged_log_is_named_with_its_bytes() {
    let (plan, mut disk) = (plan(512), Disk::default());
    let mut bytes = slab(&plan);
    let Opened { mut store, mut spill, .. } = open(&mut bytes, false, &plan, &mut disk);
    live(&mut store, &mut spill, &mut disk, 0);
    flush(&mut spill, &mut store, &mut disk);
    let generation = spill.log_generation().unwrap();
    drop((store, spill));
    let file = &mut disk.files[generation as usize % 2];
    let end = file.bytes.len();
    file.bytes.truncate(end - 3);
    file.bytes[150] ^= 3;
    let mut bytes = slab(&plan);
    let Opened { store, notices, .. } = open(&mut bytes, false, &plan, &mut disk);
    let ledger = ledger(&store);
    assert_eq!((ledger.events(Reason::LogTorn), ledger.events(Reason::Damage)), (1, 1), "{notices:?}");
    let damage = ledger.entries(Reason::Damage).next().unwrap();
    assert!(damage.subject.starts_with(&format!("tail-{}.log bytes ", generation % 2)), "{damage:?}");
}

#[test]
fn a_foreign_or_empty_slab_is_told_apart() {
    let (plan, mut disk) = (plan(512), Disk::default());
    let mut bytes = slab(&plan);
    let Opened { store, .. } = open(&mut bytes, true, &plan, &mut disk);
    assert_eq!(ledger(&store).events(Reason::SlabSetAside), 0, "zeros are nothing that could be lost");
    bytes[8] = 77;
    let Opened { store, .. } = open(&mut bytes, true, &plan, &mut disk);
    assert_eq!(ledger(&store).events(Reason::SlabSetAside), 1);
}

#[test]
fn a_disk_that_cannot_be_read_ends_the_start() {
    let (plan, mut disk) = (plan(512), Disk::default());
    disk.database.fails = true;
    let mut bytes = slab(&plan);
    let given = SlabGiven { bytes: &mut bytes, is_predecessors: false, retired: None };
    let error = open_store(given, &plan, UUID, BOOT, &mut disk, &Settings::default(), at(START_MS)).err().unwrap();
    let reason = StoredError { reason: "the disk does not answer" };
    assert!(error.contains(reason.reason), "{error}");
}
