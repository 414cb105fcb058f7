//! From flash to a running store: the whole of recovery as one call, for a start without a slab to attach to.
//!
//! Both files are looked through for their generation, then replayed in order. When RAM runs short on the way, rows go
//! into segments, so that a log larger than RAM comes back too. Heap: two buffers of 128 KiB, the newest layouts, and a
//! block of cells; all of it is given back at the end.

use super::{
    format::ClockEpoch,
    recovery::{Recovery, RecoveryReport, Replay, ReplayReport},
    state::{SpillOptions, SpillState},
    writer::{SealReason, Spill, ring_is_short},
};
use crate::{
    daemon::output::{OUTPUT_BYTES_MAX, Put},
    store::{
        Store,
        stored::{Stored, StoredError},
    },
    time::Now,
};
use alloc::{vec, vec::Vec};

/// What recovery needs of the platform; synchronous, before the daemon runs.
pub trait Flash {
    /// Reads from one of the log's two files (0 or 1) at an offset; 0 at its end, and when there is no such file.
    fn log_read(&mut self, file: usize, offset: u64, buf: &mut [u8]) -> Result<usize, StoredError>;
    fn stored(&mut self) -> &mut dyn Stored;
    /// Into the transaction that ends with the next `commit`.
    fn put(&mut self, put: Put<'_>) -> Result<(), StoredError>;
    fn commit(&mut self) -> Result<(), StoredError>;
    /// Forgets what was put since the last commit.
    fn roll_back(&mut self);
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Of each file that was replayed, older generation first.
    pub logs: Vec<RecoveryReport>,
    pub replay: ReplayReport,
    /// Times that rows had to go into segments to make room.
    pub seals: u32,
    /// Such seals that failed; what the store then had to drop it has counted as evicted unspilled.
    pub seals_failed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    #[error("{0}")]
    Format(super::format::FormatError),
    #[error("reading the data directory: {0}")]
    Stored(StoredError),
}

impl From<StoredError> for RecoverError {
    fn from(error: StoredError) -> Self {
        Self::Stored(error)
    }
}

/// Replays the log into a fresh store and returns the spill to go on with. The first thing to do then is a seal run for
/// [`SealReason::Checkpoint`]; until it is committed, nothing on flash has changed that a second recovery would miss.
///
/// `state` is what the database has under `SPILL_STATE_KEY`. The database's small states are to be in the store already:
/// those of the log win over them. `layout_bytes_max` as in [`Replay::new`].
///
/// # Errors
///
/// A log of a newer version, or a disk that does not answer. The store is to be thrown away then.
pub fn recover(
    flash: &mut dyn Flash,
    store: &mut Store<'_>,
    options: SpillOptions,
    epoch: ClockEpoch,
    state: SpillState,
    now: Now,
    layout_bytes_max: usize,
) -> Result<(Spill, Recovered), RecoverError> {
    let mut buf = vec![0; super::FRAME_BYTES_MAX];
    let mut found = [None; 2];
    for (file, generation) in found.iter_mut().enumerate() {
        let mut scan = Recovery::new(&mut buf, None);
        each_piece(flash, file, &mut scan, &mut |_, _| Ok(()))?;
        *generation = scan.finish().generation;
    }
    let newest = found.iter().flatten().copied().max().unwrap_or(0);
    let mut spill = Spill::new(options, epoch, state, newest);
    store.layout_next_at_least(state.layout_next);
    let mut recovered = Recovered::default();
    let mut replay = Replay::new(options.store_uuid, layout_bytes_max);
    let mut out = vec![0; OUTPUT_BYTES_MAX];
    for (file, generation) in replay_order(state.log_generation, found) {
        let mut recovery = Recovery::new(&mut buf, Some(generation));
        each_piece(flash, file, &mut recovery, &mut |flash, frame| {
            replay.apply(frame, store, flash.stored())?;
            if ring_is_short(store) {
                match seal_all(flash, store, &mut spill, now, SealReason::Stop, &mut out) {
                    true => recovered.seals += 1,
                    false => recovered.seals_failed += 1,
                }
            }
            Ok(())
        })?;
        replay.generation_ended(store);
        recovered.logs.push(recovery.finish());
    }
    recovered.replay = replay.finish(store);
    Ok((spill, recovered))
}

/// Which files to replay, in which order: every generation from the one before the named one on, older first.
///
/// The one before the named one may have rows that were flushed while the checkpoint was being committed.
pub fn replay_order(named: u64, found: [Option<u64>; 2]) -> impl Iterator<Item = (usize, u64)> {
    let mut files = [0, 1].map(|file| (file, found[file]));
    files.sort_unstable_by_key(|(_, generation)| *generation);
    files.into_iter().filter_map(move |(file, generation)| {
        generation.filter(|generation| generation.saturating_add(1) >= named).map(|generation| (file, generation))
    })
}

/// Feeds a file to `recovery` and gives what frames come out.
fn each_piece(
    flash: &mut dyn Flash,
    file: usize,
    recovery: &mut Recovery<'_>,
    each: &mut dyn FnMut(&mut dyn Flash, super::Frame<'_>) -> Result<(), StoredError>,
) -> Result<(), RecoverError> {
    let mut piece = [0; 4096];
    let mut offset = 0;
    loop {
        let length = flash.log_read(file, offset, &mut piece)?.min(piece.len());
        if length == 0 {
            return Ok(());
        }
        offset += length as u64;
        let mut rest = &piece[..length];
        while !rest.is_empty() {
            let taken = recovery.feed(rest);
            rest = &rest[taken..];
            while let Some(frame) = recovery.next_frame().map_err(RecoverError::Format)? {
                each(flash, frame)?;
            }
        }
    }
}

/// Puts everything that is not stored into segments, in one transaction; false: the disk did not take it.
pub(crate) fn seal_all(
    flash: &mut dyn Flash,
    store: &mut Store<'_>,
    spill: &mut Spill,
    now: Now,
    reason: SealReason,
    out: &mut [u8],
) -> bool {
    let mut ok = true;
    while let Some(put) = spill.seal_next(store, now, reason, out) {
        ok = ok && flash.put(put).is_ok();
    }
    spill.commit(store, 0);
    ok = ok && flash.commit().is_ok();
    if !ok {
        flash.roll_back();
    }
    spill.committed(store, 0, ok);
    ok
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spill::world::{Disk, Put1, START_MS, all_samples, at, create, flush, labels, scrape, seal};
    use crate::{labels::LabelSet, prng::Prng, store::Plan};
    use alloc::collections::BTreeMap;

    #[test]
    fn files_are_replayed_from_the_generation_before_the_named_one_on_and_older_first() {
        let order = |named, found| replay_order(named, found).collect::<Vec<_>>();
        assert_eq!(order(4, [Some(4), Some(3)]), [(1, 3), (0, 4)]);
        assert_eq!(order(4, [Some(4), Some(5)]), [(0, 4), (1, 5)]);
        assert_eq!(order(5, [Some(4), Some(3)]), [(0, 4)]);
        assert_eq!(order(6, [Some(4), Some(3)]), []);
        assert_eq!(order(0, [None, Some(1)]), [(1, 1)]);
        assert_eq!(order(1, [None, None]), []);
    }

    fn small() -> Plan {
        Plan::for_series(288 << 10, 150).unwrap()
    }

    /// A log of more rows than the recovering store's ring holds.
    fn large_log(disk: &mut Disk) -> BTreeMap<(LabelSet, i64), u64> {
        let (large, mut slab) = (Plan::for_series(4 << 20, 150).unwrap(), Vec::new());
        let mut store = create(&mut slab, &large);
        let (mut spill, _, _) = disk.recover(&mut store);
        seal(&mut spill, &mut store, disk, at(START_MS), SealReason::Checkpoint);
        let names: Vec<LabelSet> = (0..100).map(|index| labels(&alloc::format!("noise_{index}"), 1)).collect();
        let (mut prng, mut model) = (Prng::new(1), BTreeMap::new());
        for row in 0..600 {
            let mut puts: Vec<Put1<'_>> = Vec::new();
            for name in &names {
                let bits = prng.next_u64() >> 2;
                model.insert((name.clone(), START_MS + row), bits);
                puts.push((name, bits, None));
            }
            scrape(&mut store, 1, START_MS + row, &puts);
            if row % 10 == 9 {
                flush(&mut spill, &mut store, disk);
            }
        }
        model
    }

    #[test]
    fn a_log_larger_than_ram_comes_back_whole_by_way_of_segments() {
        let mut disk = Disk::default();
        let model = large_log(&mut disk);
        let (plan, mut slab) = (small(), Vec::new());
        let mut store = create(&mut slab, &plan);
        let logged: usize = disk.files.iter().map(|file| file.bytes.len()).sum();
        assert!(logged > 2 * plan.ring_bytes as usize, "{logged} bytes of log, a ring of {}", plan.ring_bytes);
        let (_, recovered) = disk.recover_all(&mut store).unwrap();
        assert!(recovered.seals > 1 && recovered.seals_failed == 0, "{recovered:?}");
        assert_eq!(store.usage().counters.evicted_unspilled_rows, 0);
        assert!(all_samples(&store, &disk) == model);
    }

    /// Three power cuts in a row. The third process numbered its layouts anew from the database, so that the log before
    /// had one number for one timeline and the newest log the same number for another: the newest rows came back under
    /// the names of the other timeline's series (simulator, seed 17).
    #[test]
    fn a_layout_number_that_a_power_cut_freed_names_nothing_of_its_first_owner() {
        let (mut disk, plan, mut model) = (Disk::default(), Plan::for_series(288 << 10, 150).unwrap(), BTreeMap::new());
        let names = [labels("of_one", 1), labels("of_two", 1)];
        for process in 0..3 {
            let mut slab = Vec::new();
            let mut store = create(&mut slab, &plan);
            let (mut spill, _, _) = disk.recover(&mut store);
            seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
            // The second process sees the second timeline first.
            let timelines: &[u64] = [&[1_u64][..], &[2, 1], &[1]][process as usize];
            for timeline in timelines {
                let (name, t_ms) = (&names[*timeline as usize - 1], START_MS + process);
                scrape(&mut store, *timeline, t_ms, &[(name, 100 * timeline + process as u64, None)]);
                model.insert((name.clone(), t_ms), 100 * timeline + process as u64);
            }
            flush(&mut spill, &mut store, &mut disk);
        }
        let mut slab = Vec::new();
        let mut store = create(&mut slab, &plan);
        disk.recover(&mut store);
        assert_eq!(all_samples(&store, &disk), model);
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_rows_that_are_counted_and_a_later_recovery_has_them_again() {
        let mut disk = Disk::default();
        let model = large_log(&mut disk);
        let (plan, mut slab) = (small(), Vec::new());
        disk.is_full = true;
        let mut store = create(&mut slab, &plan);
        let (_, recovered) = disk.recover_all(&mut store).unwrap();
        assert!(recovered.seals_failed > 0 && recovered.seals == 0, "{recovered:?}");
        let lost = store.usage().counters.evicted_unspilled_rows;
        assert!(lost > 0);
        assert_eq!(all_samples(&store, &disk).len() + lost as usize * 100, model.len());
        disk.is_full = false;
        let mut store = create(&mut slab, &plan);
        disk.recover_all(&mut store).unwrap();
        assert!(all_samples(&store, &disk) == model);
    }

    #[test]
    fn a_disk_that_does_not_answer_ends_recovery() {
        let mut disk = Disk::default();
        large_log(&mut disk);
        disk.database.fails = true;
        let (plan, mut slab) = (small(), Vec::new());
        let mut store = create(&mut slab, &plan);
        assert!(matches!(disk.recover_all(&mut store), Err(RecoverError::Stored(_))));
    }
}
