//! How a daemon comes to its store: it goes on with the slab its predecessor left, or fills a fresh one from the disk.
//!
//! ```text
//! slab of this plan ----> attach ---------------------------------------------> go on
//! slab of another plan -> attach with its own plan, seal all, two checkpoints --+
//! slab that is damaged -> set aside ---------------------------------------+    v
//! no slab -----------------------------------------------------------------+--> recover from the disk
//! ```
//!
//! Only a disk that cannot be read, or holds something newer, ends a start. What is damaged is set aside: named in the log,
//! taken down in the ledger, kept under another name where there is one. Needs no more memory than running does: one
//! frame, one layout and one block of cells at a time.

use super::{losses, output::OUTPUT_BYTES_MAX, settings::Settings};
use crate::{
    daemon::output::Put,
    ledger::{LEDGER_KEYS, Loss, Reason},
    spill::{
        ClockEpoch, Flash, FormatError, Recovered, SPILL_STATE_KEY, SealReason, Spill, SpillOptions, SpillState,
        mark_stored, recover, seal_all,
    },
    store::{AttachError, AttachReport, Identity, Plan, SlabHead, Store, TimelineKey, stored::Stored},
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
                    f.write_str("; its last flush is torn or damaged")?;
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

/// Layout numbers that are passed over when nobody knows which were given: those of layouts without a stored segment.
const LAYOUT_NUMBERS_SKIPPED: u64 = 1 << 20;
/// Before the name of a small state that was set aside.
const ASIDE: &str = "aside/";

/// Memory for the store.
pub struct SlabGiven<'m> {
    pub bytes: &'m mut [u8],
    /// A process before this one left it so; otherwise what is in it means nothing.
    pub is_predecessors: bool,
    /// What became of a predecessor's slab of another size.
    pub retired: Option<Retired>,
}

/// What was in a slab of another plan and is on the disk now; or why it is not.
pub type Retired = Result<AttachReport, RetireError>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetireError {
    #[error("{0}")]
    Slab(AttachError),
    #[error("the disk did not take what was in it: {0}")]
    Disk(String),
}

/// A store to run with.
pub struct Opened<'m> {
    pub store: Store<'m>,
    pub spill: Spill,
    pub start: Start,
    /// What was lost or set aside on the way, a line each.
    pub notices: Vec<String>,
}

/// What a start finds wrong.
#[derive(Default)]
struct Found {
    losses: Vec<(Reason, String, u64)>,
    notices: Vec<String>,
}

impl Found {
    fn lose(&mut self, reason: Reason, subject: impl Into<String>, count: u64, notice: String) {
        self.losses.push((reason, subject.into(), count));
        self.notices.push(notice);
    }
}

/// Attaches or recovers.
///
/// # Errors
///
/// The disk cannot be read, or holds something newer than this program; nothing on it was changed.
pub fn open_store<'m>(
    mut slab: SlabGiven<'m>,
    plan: &Plan,
    store_uuid: [u8; 16],
    boot_id: [u8; 16],
    disk: &mut dyn StartDisk,
    settings: &Settings,
    now: Now,
) -> Result<Opened<'m>, String> {
    let mut found = Found::default();
    if slab.is_predecessors && SlabHead::read(slab.bytes).is_ok_and(|head| head.plan != *plan) {
        slab.retired = Some(retire_slab(slab.bytes, store_uuid, boot_id, disk, now));
        slab.is_predecessors = false;
    }
    let retired = slab.retired.is_some();
    match slab.retired {
        Some(Ok(AttachReport { series, rows, .. })) => found.notices.push(format!(
            "the store in memory was made with other region sizes: its {series} series and {rows} rows are on the disk now"
        )),
        Some(Err(error)) => set_slab_aside(&mut found, &error),
        None => {}
    }
    let head = if slab.is_predecessors { SlabHead::read(slab.bytes).ok() } else { None };
    let state = spill_state(disk, head.as_ref(), &mut found)?;
    let options = SpillOptions::new(store_uuid, plan);
    let epoch = clock_epoch(boot_id, now);
    let identity = Identity { store_uuid, boot_id, log_generation: state.log_generation };
    let (slab, refused) = if slab.is_predecessors {
        match Store::attach(slab.bytes, plan, &identity) {
            Ok((mut store, report)) => {
                mark_stored(&mut store, disk.stored())
                    .map_err(|error| format!("reading the data directory: {error}"))?;
                let spill = Spill::new(options, epoch, state, 0);
                return Ok(opened(store, spill, Start::Attached(report), found, now));
            }
            Err((error, slab)) => {
                set_slab_aside(&mut found, &RetireError::Slab(error));
                (slab, Some(error))
            }
        }
    } else {
        (slab.bytes, None)
    };
    let mut store = Store::create(slab, plan, identity).map_err(|error| error.to_string())?;
    for key in super::state_keys(settings) {
        if let Some(bytes) = disk.state(&key)?
            && let Err(refused) = store.state_put(&key, &bytes)
        {
            set_state_aside(disk, &key, &bytes, &refused.to_string(), &mut found);
        }
    }
    let (spill, recovered) = recover(disk.flash(), &mut store, options, epoch, state, now, REPLAY_LAYOUT_BYTES_MAX)
        .map_err(|error| error.to_string())?;
    log_losses(&recovered, retired, &mut found);
    Ok(opened(store, spill, Start::Recovered { slab: refused, recovered }, found, now))
}

/// Brings all that a predecessor's slab of another plan holds to the disk. The slab means nothing afterwards.
///
/// Two checkpoints, so that the database names a generation whose predecessor is not replayed either: the states in the
/// log are older than those of the slab.
pub fn retire_slab(
    slab: &mut [u8],
    store_uuid: [u8; 16],
    boot_id: [u8; 16],
    disk: &mut dyn StartDisk,
    now: Now,
) -> Retired {
    let head = SlabHead::read(slab).map_err(RetireError::Slab)?;
    let state = spill_state(disk, Some(&head), &mut Found::default()).map_err(RetireError::Disk)?;
    let identity = Identity { store_uuid, boot_id, log_generation: state.log_generation };
    let (mut store, report) =
        Store::attach(slab, &head.plan, &identity).map_err(|(error, _)| RetireError::Slab(error))?;
    mark_stored(&mut store, disk.stored()).map_err(|error| RetireError::Disk(error.to_string()))?;
    let mut spill = Spill::new(SpillOptions::new(store_uuid, &head.plan), clock_epoch(boot_id, now), state, 0);
    let mut out = vec![0; OUTPUT_BYTES_MAX];
    for _ in 0..2 {
        if !seal_all(disk.flash(), &mut store, &mut spill, now, SealReason::Checkpoint, &mut out) {
            return Err(RetireError::Disk("it cannot be written".into()));
        }
    }
    Ok(report)
}

fn clock_epoch(boot_id: [u8; 16], now: Now) -> ClockEpoch {
    ClockEpoch {
        boot_hash: crate::prng::stable_hash(&boot_id),
        wall_offset_ms: now.wall_ms - now.mono_ms as i64,
        // Whether the clock is synchronised is not looked at yet; DESIGN §10 has what is to come.
        trusted: true,
    }
}

/// What the database knows of the spill. Where that is gone or damaged it is found out anew: numbers from what is stored,
/// the generation from the slab, or else all of the log is replayed.
fn spill_state(disk: &mut dyn StartDisk, slab: Option<&SlabHead>, found: &mut Found) -> Result<SpillState, String> {
    if let Some(bytes) = disk.state(SPILL_STATE_KEY)? {
        match SpillState::decode(&bytes) {
            Ok(state) => return Ok(state),
            Err(error @ FormatError::FromNewerVersion { .. }) => {
                return Err(format!("the database's spill state: {error}"));
            }
            Err(error) => set_state_aside(disk, SPILL_STATE_KEY, &bytes, &error.to_string(), found),
        }
    }
    let mut state = recounted(disk.stored()).map_err(|error| format!("reading the data directory: {error}"))?;
    state.log_generation = slab.map_or(0, |head| head.log_generation);
    Ok(state)
}

/// Sequence and layout numbers behind everything that is stored.
fn recounted(stored: &mut dyn Stored) -> Result<SpillState, crate::store::stored::StoredError> {
    let mut timelines: Vec<TimelineKey> = Vec::new();
    stored.timelines(&mut |key, _| {
        timelines.push(key);
        true
    })?;
    let (mut sequence_max, mut layout_max) = (None, None);
    for key in timelines {
        stored.rows(key, 0, &mut |meta, _| {
            sequence_max = sequence_max.max(Some(meta.sequence));
            layout_max = layout_max.max(Some(meta.layout));
            true
        })?;
    }
    stored.layouts(i64::MIN, i64::MAX, None, &mut |part, _, _| {
        layout_max = layout_max.max(Some(part.layout));
        true
    })?;
    Ok(SpillState {
        log_generation: 0,
        segment_sequence_next: sequence_max.map_or(0, |sequence| sequence.saturating_add(1)),
        layout_next: layout_max.map_or(0, |layout| layout.saturating_add(LAYOUT_NUMBERS_SKIPPED)),
        // What has aged before is told by its form.
        aged_next: 0,
    })
}

/// A state that cannot be used stays in the database under another name, and the start goes on without it.
fn set_state_aside(disk: &mut dyn StartDisk, key: &str, bytes: &[u8], why: &str, found: &mut Found) {
    let aside = format!("{ASIDE}{key}");
    let flash = disk.flash();
    let kept = flash.put(Put::State { key: &aside, bytes }).and_then(|()| flash.commit());
    let place = match kept {
        Ok(()) => format!("it is kept as {aside:?} in the database"),
        Err(error) => {
            flash.roll_back();
            format!("it could not be kept under another name: {error}")
        }
    };
    found.lose(Reason::StateSetAside, key, 0, format!("the saved state {key:?} is not used: {why}; {place}"));
}

fn set_slab_aside(found: &mut Found, error: &RetireError) {
    if *error == RetireError::Slab(AttachError::NoStore) {
        return;
    }
    found.lose(
        Reason::SlabSetAside,
        error.to_string(),
        0,
        format!("the store in memory is not gone on with ({error}); what was not yet in the tail log is gone"),
    );
}

/// What the log did not give back.
fn log_losses(recovered: &Recovered, retired: bool, found: &mut Found) {
    for log in &recovered.logs {
        let file = format!("tail-{}.log", log.generation.unwrap_or(0) % 2);
        if let Some(range) = &log.damaged_first {
            let (start, end, missing) = (range.start, range.end, log.frames_missing);
            let more = match log.damaged {
                1 => String::new(),
                damaged => format!(" and {} more places", damaged - 1),
            };
            found.lose(
                Reason::Damage,
                format!("{file} bytes {start} to {end}{more}"),
                0,
                format!("{file} is damaged from byte {start} to {end}{more}: {missing} frames are missing"),
            );
        } else if log.frames_missing > 0 {
            let missing = log.frames_missing;
            found.lose(
                Reason::Damage,
                format!("{file}: {missing} frames"),
                0,
                format!("{missing} frames of {file} are missing"),
            );
        }
        // What a slab of another plan held is stored, whatever the log's end looks like.
        if log.torn && !retired {
            found.lose(
                Reason::LogTorn,
                file.clone(),
                0,
                format!(
                    "the last flush in {file} is torn, as a power cut leaves it, or damaged: rows of at most one flush \
                     interval may be missing"
                ),
            );
        }
        if let Some(at) = log.mended_first {
            let count = log.mended;
            found.lose(
                Reason::Damage,
                format!("{file} byte {at}: mended"),
                0,
                format!("{file}: the headers of {count} frames, the first at byte {at}, had a flipped bit each and were mended; nothing of them is missing"),
            );
        }
    }
    let replay = &recovered.replay;
    let rows = replay.rows_lost + replay.rows_refused;
    if rows > 0 {
        let why = replay.refused_first.map_or_else(|| "their layout is missing".into(), |refused| refused.to_string());
        found.lose(Reason::LogLost, "the tail log", rows, format!("{rows} rows of the tail log are lost: {why}"));
    }
    if replay.samples_refused > 0 {
        let count = replay.samples_refused;
        found.lose(
            Reason::SeriesRefused,
            "the tail log",
            count,
            format!("{count} samples of the tail log found no room"),
        );
    }
    if replay.frames_unreadable > 0 {
        let count = replay.frames_unreadable;
        found.lose(
            Reason::Damage,
            format!("the tail log: {count} frames"),
            0,
            format!("{count} frames of the tail log match their checksums and cannot be read"),
        );
    }
    if replay.frames_newer > 0 {
        let count = replay.frames_newer;
        found.notices.push(format!("{count} frames of the tail log are of a newer version and were passed over"));
    }
    if replay.states_refused > 0 {
        let count = replay.states_refused;
        found.lose(
            Reason::StateSetAside,
            "the tail log",
            0,
            format!("{count} small states of the tail log found no slot"),
        );
    }
}

/// Takes down in the ledger what was found wrong.
fn opened<'m>(mut store: Store<'m>, spill: Spill, start: Start, mut found: Found, now: Now) -> Opened<'m> {
    let (mut ledger, errors) = losses::restore(&store);
    for error in errors {
        found.lose(Reason::StateSetAside, "the ledger of losses", 0, error);
    }
    // What is missing came after the newest row that is there.
    let newest_ms = store.newest_rows_ms().max().filter(|newest_ms| *newest_ms <= now.wall_ms);
    for (reason, subject, count) in &found.losses {
        let is_newest = matches!(reason, Reason::SlabSetAside | Reason::LogTorn);
        let span_ms = newest_ms.filter(|_| is_newest).map(|newest_ms| (newest_ms, now.wall_ms));
        let page = ledger.note(now.wall_ms, &Loss::new(*reason, subject, *count).over(span_ms)).page;
        if let Err(refused) = store.state_put(LEDGER_KEYS[page], &ledger.save(page)) {
            found.notices.push(format!("the ledger of losses would not survive a restart: {refused}"));
        }
    }
    Opened { store, spill, start, notices: found.notices }
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
