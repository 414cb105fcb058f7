//! How a daemon comes to its store: it goes on with the slab its predecessor left, or fills a fresh one from the disk.
//!
//! Needs no more memory than running does: one frame, one layout and one block of cells at a time.

use super::settings::Settings;
use crate::{
    spill::{
        ClockEpoch, FRAME_BYTES_MAX, Frame, Recovery, RecoveryReport, Replay, ReplayReport, SPILL_STATE_KEY, Spill,
        SpillOptions, SpillState,
    },
    store::{AttachError, AttachReport, Identity, Plan, Store, stored::Stored},
    time::Now,
};
use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

/// Heap for the layouts of the rows being replayed; rows whose layout did not fit count as lost.
const REPLAY_LAYOUT_BYTES_MAX: usize = 512 * 1024;
/// Bytes of the log read at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// What a start reads from the disk.
pub trait StartDisk {
    /// Small state by name, as last committed.
    fn state(&mut self, key: &str) -> Result<Option<Vec<u8>>, String>;
    /// Bytes of the log file in which `generation` lies (files are used in turn); 0 at the end.
    fn log_read(&mut self, generation: u64, offset_bytes: u64, buf: &mut [u8]) -> Result<usize, String>;
    fn stored(&mut self) -> &mut dyn Stored;
}

/// How a store was come by, for the log and for the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Attached(AttachReport),
    Recovered {
        /// Why the slab was not gone on with, where there was one.
        slab: Option<AttachError>,
        /// What was found in each generation of the log that was read.
        logs: Vec<RecoveryReport>,
        replayed: ReplayReport,
    },
}

impl core::fmt::Display for Start {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Attached(report) => write!(
                f,
                "attached to the store of the process before: {} series, {} rows, {} samples",
                report.series, report.rows, report.samples
            ),
            Self::Recovered { slab, logs, replayed } => {
                if let Some(error) = slab {
                    write!(f, "the store in memory is not gone on with ({error}); ")?;
                }
                let frames: u64 = logs.iter().map(|log| log.frames).sum();
                write!(f, "recovered {} rows from {frames} frames of the tail log", replayed.rows)?;
                if logs.iter().any(|log| log.torn) {
                    f.write_str("; its last frame was torn")?;
                }
                let damaged: u64 = logs.iter().map(|log| u64::from(log.damaged) + log.frames_missing).sum();
                if damaged > 0 || replayed.rows_lost > 0 {
                    write!(f, "; {damaged} damaged places cost {} rows", replayed.rows_lost)?;
                }
                if let Some(refused) = &replayed.refused_first {
                    write!(f, "; {} rows found no room: {refused}", replayed.rows_refused)?;
                }
                Ok(())
            }
        }
    }
}

/// Attaches or recovers. `slab` is a predecessor's where `is_predecessors` says so.
///
/// # Errors
///
/// The disk cannot be read, or holds something newer than this program; nothing on it was changed.
pub fn open_store<'m>(
    slab: &'m mut [u8],
    is_predecessors: bool,
    plan: &Plan,
    store_uuid: [u8; 16],
    boot_id: [u8; 16],
    disk: &mut dyn StartDisk,
    settings: &Settings,
    now: Now,
) -> Result<(Store<'m>, Spill, Start), String> {
    let state = match disk.state(SPILL_STATE_KEY)? {
        Some(bytes) => SpillState::decode(&bytes).map_err(|error| format!("the database's spill state: {error}"))?,
        None => SpillState::default(),
    };
    let epoch = ClockEpoch {
        boot_hash: crate::prng::stable_hash(&boot_id),
        wall_offset_ms: now.wall_ms - now.mono_ms as i64,
        // Whether the clock is synchronised is not looked at yet; DESIGN §10 has what is to come.
        trusted: true,
    };
    let options = SpillOptions::new(store_uuid);
    let identity = Identity { store_uuid, boot_id, log_generation: state.log_generation };
    let (slab, refused) = if is_predecessors {
        match Store::attach(slab, plan, &identity) {
            Ok((store, report)) => {
                let spill = Spill::new(options, epoch, state, store.log_generation());
                return Ok((store, spill, Start::Attached(report)));
            }
            Err((error, slab)) => (slab, Some(error)),
        }
    } else {
        (slab, None)
    };
    let mut store = Store::create(slab, plan, identity).map_err(|error| error.to_string())?;
    store.layout_next_at_least(state.layout_next);
    for key in super::state_keys(settings) {
        if let Some(bytes) = disk.state(&key)? {
            store.state_put(&key, &bytes).map_err(|error| format!("the saved state {key:?}: {error}"))?;
        }
    }
    let mut buf = vec![0; FRAME_BYTES_MAX + PIECE_BYTES];
    let mut newest = state.log_generation;
    for file in 0..2 {
        let mut recovery = Recovery::new(&mut buf, None);
        read_log(disk, file, &mut recovery, &mut |_, _| Ok(()))?;
        newest = newest.max(recovery.finish().generation.unwrap_or(0));
    }
    let mut replay = Replay::new(REPLAY_LAYOUT_BYTES_MAX);
    let mut logs = Vec::new();
    // A later generation than the database names was begun by a checkpoint whose commit did not come through.
    for generation in (state.log_generation.max(1)..=newest).take(2) {
        let mut recovery = Recovery::new(&mut buf, Some(generation));
        read_log(disk, generation, &mut recovery, &mut |disk, frame| {
            replay.apply(frame, &mut store, disk.stored()).map_err(|error| error.to_string())
        })?;
        logs.push(recovery.finish());
    }
    let replayed = replay.finish(&mut store);
    Ok((store, Spill::new(options, epoch, state, newest), Start::Recovered { slab: refused, logs, replayed }))
}

fn read_log(
    disk: &mut dyn StartDisk,
    generation: u64,
    recovery: &mut Recovery<'_>,
    give: &mut dyn FnMut(&mut dyn StartDisk, Frame<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut piece = [0; PIECE_BYTES];
    let mut offset_bytes = 0;
    loop {
        let length = disk.log_read(generation, offset_bytes, &mut piece)?;
        if length == 0 {
            return Ok(());
        }
        offset_bytes += length as u64;
        let mut rest = &piece[..length];
        while !rest.is_empty() {
            let taken = recovery.feed(rest);
            rest = &rest[taken..];
            while let Some(frame) = recovery.next_frame().map_err(|error| format!("the tail log: {error}"))? {
                give(disk, frame)?;
            }
        }
    }
}
