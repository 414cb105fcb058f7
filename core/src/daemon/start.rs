//! How a daemon comes to its store: it goes on with the slab its predecessor left, or fills a fresh one from the disk.
//!
//! Needs no more memory than running does: one frame, one layout and one block of cells at a time.

use super::settings::Settings;
use crate::{
    spill::{ClockEpoch, Flash, Recovered, SPILL_STATE_KEY, Spill, SpillOptions, SpillState, mark_stored, recover},
    store::{AttachError, AttachReport, Identity, Plan, Store},
    time::Now,
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// Heap for the layouts of the rows being replayed; rows whose layout did not fit count as lost.
const REPLAY_LAYOUT_BYTES_MAX: usize = 512 * 1024;

/// What a start needs of the disk.
pub trait StartDisk: Flash {
    /// Small state by name, as last committed.
    fn state(&mut self, key: &str) -> Result<Option<Vec<u8>>, String>;
    fn flash(&mut self) -> &mut dyn Flash;
}

/// How a store was come by, for the log and for the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Attached(AttachReport),
    Recovered {
        /// Why the slab was not gone on with, where there was one.
        slab: Option<AttachError>,
        recovered: Recovered,
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
            Self::Recovered { slab, recovered: Recovered { logs, replay, .. } } => {
                if let Some(error) = slab {
                    write!(f, "the store in memory is not gone on with ({error}); ")?;
                }
                let frames: u64 = logs.iter().map(|log| log.frames).sum();
                write!(f, "recovered {} rows from {frames} frames of the tail log", replay.rows)?;
                if logs.iter().any(|log| log.torn) {
                    f.write_str("; its last frame was torn")?;
                }
                let damaged: u64 = logs.iter().map(|log| u64::from(log.damaged) + log.frames_missing).sum();
                if damaged > 0 || replay.rows_lost > 0 {
                    write!(f, "; {damaged} damaged places cost {} rows", replay.rows_lost)?;
                }
                if let Some(refused) = &replay.refused_first {
                    write!(
                        f,
                        "; {} rows and {} samples found no room: {refused}",
                        replay.rows_refused, replay.samples_refused
                    )?;
                }
                Ok(())
            }
        }
    }
}

/// Memory for the store.
pub struct SlabGiven<'m> {
    pub bytes: &'m mut [u8],
    /// A process before this one left it so; otherwise what is in it means nothing.
    pub is_predecessors: bool,
}

/// Attaches or recovers.
///
/// # Errors
///
/// The disk cannot be read, or holds something newer than this program; nothing on it was changed.
pub fn open_store<'m>(
    slab: SlabGiven<'m>,
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
    let (slab, refused) = if slab.is_predecessors {
        match Store::attach(slab.bytes, plan, &identity) {
            Ok((mut store, report)) => {
                mark_stored(&mut store, disk.stored())
                    .map_err(|error| format!("reading the data directory: {error}"))?;
                return Ok((store, Spill::new(options, epoch, state, 0), Start::Attached(report)));
            }
            Err((error, slab)) => (slab, Some(error)),
        }
    } else {
        (slab.bytes, None)
    };
    let mut store = Store::create(slab, plan, identity).map_err(|error| error.to_string())?;
    for key in super::state_keys(settings) {
        if let Some(bytes) = disk.state(&key)? {
            store.state_put(&key, &bytes).map_err(|error| format!("the saved state {key:?}: {error}"))?;
        }
    }
    let (spill, recovered) = recover(disk.flash(), &mut store, options, epoch, state, now, REPLAY_LAYOUT_BYTES_MAX)
        .map_err(|error| error.to_string())?;
    Ok((store, spill, Start::Recovered { slab: refused, recovered }))
}
