//! What goes wrong, and how processes end and begin.

use super::{
    World,
    configured::{self, FLUSH_INTERVAL_MS},
    held_bytes,
};
use crate::{
    model::{LOOKBACK_MS, Outcome},
    network::{ExporterMode, HOST, PeerMode, SOURCES, UpstreamKind},
};
use holdfast::disk::{Disk, for_start::ForStart};
use holdfast_core::{
    daemon::{Daemon, Input, start},
    forward::PARKED_RETRY_MS,
    ledger::Reason,
    prng,
    store::AttachError,
};

/// A commit of the last segments, then a sync: longer than the fake disk ever takes for both.
pub(super) const SYNC_MS_MAX: u64 = 500;
/// A disk that fails longer than this costs rows where the ring is tight, as it must.
const TIGHT_DISK_FAILS_MS_MAX: u64 = 40_000;

impl World {
    pub(super) fn chaos(&mut self) {
        let end_ms = self.now.mono_ms + self.scale.chaos_ms;
        while self.now.mono_ms < end_ms {
            let until_ms = (self.now.mono_ms + 1_000 + self.prng.below(self.scale.fault_gap_ms)).min(end_ms);
            self.run_until(until_ms);
            self.query();
            self.fault();
            self.observe_growth(end_ms);
        }
    }

    pub(super) fn calm(&mut self) {
        self.exporters.iter_mut().for_each(|(mode, _)| *mode = ExporterMode::Fine);
        self.upstream.0 = PeerMode::Fine;
        self.alertmanager = PeerMode::Fine;
        self.disk.failing = false;
        self.disk_failing_until_ms = 0;
        self.is_calm = true;
        // Nobody reloads twice in one millisecond.
        self.run_until(self.now.mono_ms + 1_000);
        for source in 0..SOURCES {
            if !self.is_there[source] {
                self.reload(source);
            }
        }
        if self.upstream_kind == UpstreamKind::Window {
            // The operator has opened it; what was parked is tried again every ten minutes.
            self.upstream_kind = UpstreamKind::Moody;
            self.run_until(self.now.mono_ms + PARKED_RETRY_MS);
        }
        self.run_until(self.now.mono_ms + self.scale.calm_ms);
    }

    /// One thing goes wrong, or one thing heals.
    fn fault(&mut self) {
        self.faults += 1;
        let kind = self.prng.below(17);
        match kind {
            0..=2 => {
                let index = self.prng.below(SOURCES as u64) as usize;
                use ExporterMode::{BrokenLine, CutOff, Fine, Hanging, Refused, Status500};
                let modes = [Fine, Refused, Hanging, Status500, CutOff, BrokenLine];
                self.exporters[index].0 = modes[self.prng.below(6) as usize];
            }
            3..=5 => self.upstream.0 = self.peer_mode(),
            6 => self.alertmanager = self.peer_mode(),
            7 => self.disk_fails(),
            8..=11 if self.scale.is_day && self.now.mono_ms > self.scale.chaos_ms / 2 => self.heal(),
            8 | 9 => self.kill(),
            10 => self.cut_power(),
            11 => self.stop(),
            12 if self.seed.is_multiple_of(4) && !self.scale.is_day => {
                let jump_ms = self.prng.below(7_200_000) as i64 - 3_600_000;
                self.now.wall_ms += jump_ms;
                self.clock_jumped = true;
                if jump_ms < 0 {
                    self.set_back_from_ms = Some(self.wall_ms_max);
                }
            }
            13 | 14 => {
                let source = self.prng.below(SOURCES as u64) as usize;
                self.reload(source);
            }
            _ => self.heal(),
        }
    }

    /// The exporters are well again, and in a long life the peers too: nobody's outage may last as long as the
    /// retention.
    fn heal(&mut self) {
        self.exporters.iter_mut().for_each(|(mode, _)| *mode = ExporterMode::Fine);
        if self.scale.is_day {
            (self.upstream.0, self.alertmanager) = (PeerMode::Fine, PeerMode::Fine);
        }
    }

    fn peer_mode(&mut self) -> PeerMode {
        use PeerMode::{AnswerLost, Fine, Refused, Status429, Status500};
        [Fine, Refused, Status500, Status429, AnswerLost][self.prng.below(5) as usize]
    }

    fn disk_fails(&mut self) {
        let for_ms = self.prng.below(90_000);
        if !self.scale.is_tight {
            self.disk.failing = true;
            self.disk_failing_until_ms = self.now.mono_ms + for_ms;
        } else if self.now.mono_ms > self.disk_failing_until_ms + 2 * FLUSH_INTERVAL_MS {
            self.disk.failing = true;
            self.disk_failing_until_ms = self.now.mono_ms + for_ms.min(TIGHT_DISK_FAILS_MS_MAX);
        }
    }

    /// The configuration is read again without this source's target, or with it once more.
    fn reload(&mut self, source: usize) {
        self.note(&format!("reload {source}"));
        self.is_there[source] = !self.is_there[source];
        let settings = configured::settings(&self.scale, &self.is_there);
        let ending = self.model.ending(source);
        self.is_host_new |= source == HOST;
        self.handle(Input::Settings(Box::new(settings)));
        self.drain();
        if self.is_there[source] {
            return;
        }
        let left: Vec<String> = self.series_now(&format!("{{__name__=~\"m{source}_.*\"}}"));
        // Where a clock that was set back comes by old instants again, samples of then may be the newest.
        let is_new_time = self.set_back_from_ms.is_none_or(|from_ms| self.now.wall_ms > from_ms + LOOKBACK_MS);
        for series in left.into_iter().filter(|_| is_new_time) {
            assert!(!self.model.is_known(&series), "seed {}: {series} goes on without its target", self.seed);
        }
        self.ended.extend(ending.into_iter().map(|series| (self.model.rows.len(), series)));
        self.model.stored(source, Outcome::Gone, self.now.wall_ms, self.up_ms);
    }

    // Processes.

    pub(super) fn start(&mut self) {
        let Some(slab) = self.slab.take() else { unreachable!("the slab is with the daemon that runs") };
        let plan = configured::plan(&self.scale);
        let boot_id = prng::mix(self.boot).to_le_bytes();
        let boot_id = [boot_id, boot_id].concat().try_into().expect("16 bytes");
        let settings = configured::settings(&self.scale, &self.is_there);
        let uuid = self.disk.store_uuid();
        let opened = start::open_store(
            start::SlabGiven { bytes: slab, is_predecessors: self.slab_is_predecessors, retired: None },
            &plan,
            uuid,
            boot_id,
            &mut ForStart(&mut self.disk),
            &settings,
            self.now,
        );
        let start::Opened { store, spill, start: how, .. } =
            opened.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        self.note(&format!("{how:?}"));
        if let start::Start::Recovered { slab: Some(error), .. } = &how {
            // DESIGN §5: three processes went on with this slab and none lived up to its first commit. The fourth gives it up,
            // which costs what a power cut costs. Nothing else may be wrong with what a killed process leaves.
            assert!(matches!(error, AttachError::NeverHealthy { .. }), "seed {}: {error}", self.seed);
            self.model_power_cut();
        }
        let options = configured::options(&self.scale, self.now);
        let held_before_bytes = held_bytes();
        let daemon = Daemon::new(options, settings, store, spill, self.now, self.disk.stored());
        self.heap_bytes += held_bytes() - held_before_bytes;
        self.daemon = Some(daemon.unwrap_or_else(|errors| panic!("seed {}: {errors:?}", self.seed)));
        self.wake_ms = self.now.mono_ms;
        self.usage_due_ms = self.now.mono_ms;
        self.flush_began = None;
        self.is_host_new = true;
        self.push_later();
    }

    pub(super) fn end_process(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        self.slab = Some(daemon.into_slab());
        self.slab_is_predecessors = true;
        // Messages on their way arrive or do not; nobody hears of it.
        self.uncertain += 1;
        self.events.clear();
        self.requests.clear();
        self.pushers.process_ended();
        self.asked.clear();
        self.heap_bytes = 0;
        self.disk.failing = false;
    }

    pub(super) fn kill(&mut self) {
        self.note("kill");
        let lost = self.lost();
        self.end_process();
        self.disk.kill();
        self.pass(self.prng.clone().below(20_000));
        self.start();
        let found = self.lost();
        let is_kept = lost.iter().zip(&found).all(|(before, after)| before <= after);
        assert!(is_kept, "seed {}: the ledger had {lost:?} before a kill and {found:?} after it", self.seed);
    }

    /// Counts and events of the ledger, reason by reason.
    pub(super) fn lost(&self) -> Vec<(u64, u64)> {
        let Some(daemon) = &self.daemon else { return Vec::new() };
        Reason::all().map(|reason| (daemon.ledger().count(reason), daemon.ledger().events(reason))).collect()
    }

    pub(super) fn cut_power(&mut self) {
        self.note("power cut");
        // How far the upstream has come is saved with the flush: what it took since may come again.
        self.repeats_max += self.upstream.1.taken - self.taken_at_sync;
        self.end_process();
        let kept = self.prng.below(4_000) as usize;
        self.disk.cut_power(if self.prng.chance(1, 3) { 0 } else { kept });
        self.model_power_cut();
        self.boot += 1;
        if let Some(slab) = &mut self.slab {
            slab.fill(0);
        }
        self.slab_is_predecessors = false;
        self.pass(self.prng.clone().below(60_000));
        self.start();
    }

    /// At most one flush interval is lost, and the time of a sync: unless a sync has failed in the last one.
    fn model_power_cut(&mut self) {
        let bound_ms = FLUSH_INTERVAL_MS + SYNC_MS_MAX;
        let has_failed = self.sync_failed_up_ms.is_some_and(|failed_ms| failed_ms + bound_ms >= self.up_ms);
        let durable_up_ms = (!has_failed).then_some(self.up_ms.saturating_sub(bound_ms));
        self.model.power_cut(self.seed, durable_up_ms);
        self.pushers.power_cut();
        self.power_cuts += 1;
    }

    /// SIGTERM, and a new process.
    pub(super) fn stop(&mut self) {
        self.note("stop");
        self.handle(Input::Stop);
        let end_ms = self.now.mono_ms + 10_000;
        self.wake_ms = self.now.mono_ms;
        while self.daemon.is_some() && self.now.mono_ms < end_ms {
            self.step(end_ms);
        }
        assert!(self.daemon.is_none(), "seed {}: the daemon does not stop", self.seed);
        self.pass(2_000);
        self.start();
    }
}
