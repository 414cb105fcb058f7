//! One run: time, what is under way, what goes wrong, and the daemon in the middle.

use crate::{
    fake_stored::FakeDisk,
    model::Model,
    network::{self, ExporterMode, Ledger, PeerMode, UpstreamKind},
};
use holdfast::disk::{Disk, for_start::ForStart};
use holdfast_core::{
    daemon::{
        Daemon, Input, Options, Output, Settings,
        input::{FetchId, Method, PostId, RequestId},
        output::{FetchWhat, OUTPUT_BYTES_MAX, PostKind, Put},
        settings::{AlertmanagerSettings, JobKind, JobSettings, RemoteWriteSettings, Scheme, TargetSettings},
        start,
    },
    forward::PARKED_RETRY_MS,
    labels::LabelSet,
    memory::Plan,
    prng::{self, Prng},
    rules::{GroupSpec, RuleKind, RuleSpec},
    store::AttachError,
    time::Now,
};
use std::collections::BTreeMap;

const SLAB_BYTES: usize = 384 * 1024;
const INTERVAL_MS: u64 = 5_000;
const TIMEOUT_MS: u64 = 3_000;
const FLUSH_INTERVAL_MS: u64 = 30_000;
const EXPORTERS: usize = 3;
/// Chaos, then calm. The calm is longer than any back-off.
const CHAOS_MS: u64 = 12 * 60_000;
const CALM_MS: u64 = 6 * 60_000;
const CLOCK_START_MS: i64 = 1_790_000_000_000;
const SAMPLES_PER_SEND_MAX: u64 = 200;
/// A commit of the last segments, then a sync: longer than the fake disk ever takes for both.
const SYNC_MS_MAX: u64 = 500;
/// How long samples wait for company on their way upstream.
const BATCH_DEADLINE_MS: u64 = 5_000;

pub struct End {
    pub trace_hash: u64,
    pub faults: u64,
    pub scrapes: u64,
    pub simulated_ms: u64,
}

/// What will happen to the daemon, unless it is gone by then.
enum Event {
    FetchHead(FetchId, u16),
    FetchBody(FetchId, Vec<u8>),
    /// The page is whole: exporter, page number, and when it was asked for.
    FetchEnd(FetchId, usize, u64, i64),
    FetchFailed(FetchId, &'static str),
    PostAnswered(PostId, u16, &'static str),
    PostFailed(PostId),
    LogSynced {
        token: u64,
        result: Result<(), String>,
        durable_count: usize,
    },
    Committed {
        token: u64,
        result: Result<(), String>,
    },
    RequestReady(RequestId),
}

struct Request {
    id: RequestId,
    status: u16,
    body: Vec<u8>,
    done: bool,
}

pub struct World {
    seed: u64,
    prng: Prng,
    now: Now,
    boot: u64,
    daemon: Option<Daemon<'static>>,
    /// The slab while no daemon has it.
    slab: Option<&'static mut [u8]>,
    slab_is_predecessors: bool,
    disk: FakeDisk,
    disk_failing_until_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    event_next: u64,
    exporters: [(ExporterMode, u64); EXPORTERS],
    upstream: (PeerMode, Ledger),
    upstream_kind: UpstreamKind,
    /// The daemon has said that the upstream will never have something.
    said_lost: bool,
    alertmanager: PeerMode,
    starts_at: std::collections::BTreeSet<String>,
    model: Model,
    /// Scrapes stored when the flush under way began.
    flush_count: Option<usize>,
    uncertain: u64,
    power_cuts: u64,
    faults: u64,
    clock_jumped: bool,
    /// The latest the wall clock has ever shown.
    wall_ms_max: i64,
    /// What it showed before it was last set back, at the most.
    set_back_from_ms: Option<i64>,
    /// For how long processes have run, all together, and how long that was when a sync last failed.
    up_ms: u64,
    is_calm: bool,
    sync_failed_up_ms: Option<u64>,
    requests: Vec<Request>,
    request_next: u64,
    trace: u64,
    /// The daemon wants to be called again at this time.
    wake_ms: u64,
    buf: Vec<u8>,
    is_told: bool,
}

impl World {
    pub fn run(seed: u64) -> End {
        let mut world = Self {
            seed,
            prng: Prng::new(seed),
            now: Now { mono_ms: 1_000, wall_ms: CLOCK_START_MS },
            boot: 1,
            daemon: None,
            slab: Some(Box::leak(vec![0; SLAB_BYTES].into_boxed_slice())),
            slab_is_predecessors: false,
            disk: FakeDisk::default(),
            disk_failing_until_ms: 0,
            events: BTreeMap::new(),
            event_next: 0,
            exporters: [(ExporterMode::Fine, 0); EXPORTERS],
            upstream: (PeerMode::Fine, Ledger::default()),
            upstream_kind: [UpstreamKind::Moody, UpstreamKind::Away, UpstreamKind::Window, UpstreamKind::Picky]
                [prng::mix(seed) as usize % 4],
            said_lost: false,
            alertmanager: PeerMode::Fine,
            starts_at: std::collections::BTreeSet::new(),
            model: Model::default(),
            flush_count: None,
            uncertain: 0,
            power_cuts: 0,
            faults: 0,
            clock_jumped: false,
            wall_ms_max: CLOCK_START_MS,
            set_back_from_ms: None,
            up_ms: 0,
            is_calm: false,
            sync_failed_up_ms: None,
            requests: Vec::new(),
            request_next: 1,
            trace: seed,
            wake_ms: 0,
            buf: vec![0; OUTPUT_BYTES_MAX],
            is_told: std::env::var_os("HOLDFAST_SIM_TRACE").is_some(),
        };
        world.start();
        world.chaos();
        world.calm();
        world.check();
        let end = End {
            trace_hash: world.trace,
            faults: world.faults,
            scrapes: world.model.scrapes.len() as u64,
            simulated_ms: world.now.mono_ms,
        };
        // The slab is leaked for the run only: what borrowed it is gone with the daemon.
        let _ = world.daemon.take().map(Daemon::into_slab);
        end
    }

    fn chaos(&mut self) {
        let end_ms = self.now.mono_ms + CHAOS_MS;
        while self.now.mono_ms < end_ms {
            let until_ms = (self.now.mono_ms + 1_000 + self.prng.below(40_000)).min(end_ms);
            self.run_until(until_ms);
            self.query();
            self.fault();
        }
    }

    /// Whatever is wrong outside, what was scraped is answered, and as it was served.
    fn query(&mut self) {
        let range_ms = 300_000;
        let found = self.samples(&format!("{{__name__=~\"m.*\"}}[{}s]", range_ms / 1000), 0);
        let name = |key: &str| key.split('"').nth(3).unwrap_or_default().to_owned();
        let by_name = found.iter().map(|(key, samples)| (name(key), samples.clone())).collect();
        // Asked and answered in one instant.
        let between_ms = self.now.wall_ms - range_ms + 1..=self.now.wall_ms;
        self.model.check(self.seed, &by_name, between_ms, self.clock_jumped);
        self.ask("query=up");
    }

    fn calm(&mut self) {
        self.exporters.iter_mut().for_each(|(mode, _)| *mode = ExporterMode::Fine);
        self.upstream.0 = PeerMode::Fine;
        self.alertmanager = PeerMode::Fine;
        self.disk.failing = false;
        self.disk_failing_until_ms = 0;
        self.is_calm = true;
        if self.upstream_kind == UpstreamKind::Window {
            // The operator has opened it; what was parked is tried again every ten minutes.
            self.upstream_kind = UpstreamKind::Moody;
            self.run_until(self.now.mono_ms + PARKED_RETRY_MS);
        }
        self.run_until(self.now.mono_ms + CALM_MS);
    }

    /// One thing goes wrong, or one thing heals.
    fn fault(&mut self) {
        self.faults += 1;
        match self.prng.below(14) {
            0..=2 => {
                let index = self.prng.below(EXPORTERS as u64) as usize;
                use ExporterMode::{BrokenLine, CutOff, Fine, Hanging, Refused, Status500};
                let modes = [Fine, Refused, Hanging, Status500, CutOff, BrokenLine];
                self.exporters[index].0 = modes[self.prng.below(6) as usize];
            }
            3..=5 => self.upstream.0 = self.peer_mode(),
            6 => self.alertmanager = self.peer_mode(),
            7 => {
                self.disk.failing = true;
                self.disk_failing_until_ms = self.now.mono_ms + self.prng.below(90_000);
            }
            8 | 9 => self.kill(),
            10 => self.cut_power(),
            11 => self.stop(),
            12 if self.seed.is_multiple_of(4) => {
                let jump_ms = self.prng.below(7_200_000) as i64 - 3_600_000;
                self.now.wall_ms += jump_ms;
                self.clock_jumped = true;
                if jump_ms < 0 {
                    self.set_back_from_ms = Some(self.wall_ms_max);
                }
            }
            _ => self.exporters.iter_mut().for_each(|(mode, _)| *mode = ExporterMode::Fine),
        }
    }

    fn peer_mode(&mut self) -> PeerMode {
        use PeerMode::{AnswerLost, Fine, Refused, Status429, Status500};
        [Fine, Refused, Status500, Status429, AnswerLost][self.prng.below(5) as usize]
    }

    // Processes.

    fn start(&mut self) {
        let Some(slab) = self.slab.take() else { unreachable!("the slab is with the daemon that runs") };
        let mut plan = Plan::for_slab(SLAB_BYTES).expect("the plan");
        plan.timelines_count = plan.timelines_count.max(8);
        let boot_id = prng::mix(self.boot).to_le_bytes();
        let boot_id = [boot_id, boot_id].concat().try_into().expect("16 bytes");
        let settings = settings();
        let uuid = self.disk.store_uuid();
        let opened = start::open_store(
            start::SlabGiven { bytes: slab, is_predecessors: self.slab_is_predecessors },
            &plan,
            uuid,
            boot_id,
            &mut ForStart(&mut self.disk),
            &settings,
            self.now,
        );
        let (store, spill, how) = opened.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        self.note(&format!("{how:?}"));
        if let start::Start::Recovered { slab: Some(error), .. } = &how {
            // DESIGN §5: three processes went on with this slab and did not live for a minute. The fourth gives it up, which
            // costs what a power cut costs. Nothing else may be wrong with what a killed process leaves.
            assert!(matches!(error, AttachError::NeverHealthy { .. }), "seed {}: {error}", self.seed);
            self.model_power_cut();
        }
        let daemon = Daemon::new(options(self.now), settings, store, spill, self.now, self.disk.stored());
        self.daemon = Some(daemon.unwrap_or_else(|errors| panic!("seed {}: {errors:?}", self.seed)));
        self.wake_ms = self.now.mono_ms;
        self.flush_count = None;
    }

    fn end_process(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        self.slab = Some(daemon.into_slab());
        self.slab_is_predecessors = true;
        // Messages on their way arrive or do not; nobody hears of it.
        self.uncertain += 1;
        self.events.clear();
        self.requests.clear();
        self.disk.failing = false;
    }

    fn kill(&mut self) {
        self.note("kill");
        self.end_process();
        self.disk.kill();
        self.pass(self.prng.clone().below(20_000));
        self.start();
    }

    fn cut_power(&mut self) {
        self.note("power cut");
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
        self.power_cuts += 1;
    }

    /// SIGTERM, and a new process.
    fn stop(&mut self) {
        self.note("stop");
        let Some(daemon) = &mut self.daemon else { return };
        daemon.handle(self.now, Input::Stop, self.disk.stored());
        let end_ms = self.now.mono_ms + 10_000;
        self.wake_ms = self.now.mono_ms;
        while self.daemon.is_some() && self.now.mono_ms < end_ms {
            self.step(end_ms);
        }
        assert!(self.daemon.is_none(), "seed {}: the daemon does not stop", self.seed);
        self.pass(2_000);
        self.start();
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms as i64;
        self.wall_ms_max = self.wall_ms_max.max(self.now.wall_ms);
        if self.daemon.is_some() {
            self.up_ms += ms;
        }
    }

    // Time.

    fn run_until(&mut self, end_ms: u64) {
        while self.now.mono_ms < end_ms {
            self.step(end_ms);
        }
    }

    /// To the next thing that happens, at the latest `end_ms`.
    fn step(&mut self, end_ms: u64) {
        let event_ms = self.events.keys().next().map_or(u64::MAX, |(at_ms, _)| *at_ms);
        let next_ms = event_ms.min(self.wake_ms).min(end_ms).max(self.now.mono_ms);
        self.pass(next_ms - self.now.mono_ms);
        if self.disk.failing && self.disk_failing_until_ms <= self.now.mono_ms {
            self.disk.failing = false;
        }
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now.mono_ms {
                break;
            }
            let event = entry.remove();
            self.deliver(event);
            self.drain();
        }
        if self.wake_ms <= self.now.mono_ms {
            self.drain();
            // A daemon that asks to be woken in the past would spin.
            self.wake_ms = self.wake_ms.max(self.now.mono_ms + 1);
        }
    }

    fn later(&mut self, delay_ms: u64, event: Event) {
        self.event_next += 1;
        self.events.insert((self.now.mono_ms + delay_ms, self.event_next), event);
    }

    fn deliver(&mut self, event: Event) {
        let Some(daemon) = &mut self.daemon else { return };
        let (now, stored) = (self.now, self.disk.stored());
        match event {
            Event::FetchHead(fetch, status) => {
                let content_type = "text/plain; version=0.0.4; charset=utf-8";
                daemon.handle(now, Input::FetchHead { fetch, status, content_type }, stored);
            }
            Event::FetchBody(fetch, bytes) => daemon.handle(now, Input::FetchBody { fetch, bytes: &bytes }, stored),
            Event::FetchEnd(fetch, exporter, page, t_ms) => {
                daemon.handle(now, Input::FetchEnd { fetch }, stored);
                self.model.stored(exporter, page, t_ms, self.up_ms);
            }
            Event::FetchFailed(fetch, error) => daemon.handle(now, Input::FetchFailed { fetch, error }, stored),
            Event::PostAnswered(post, status, body) => {
                daemon.handle(now, Input::PostAnswered { post, status, retry_after_ms: None, body }, stored);
            }
            Event::PostFailed(post) => {
                daemon.handle(now, Input::PostFailed { post, error: "connection reset" }, stored)
            }
            Event::LogSynced { token, result, durable_count } => {
                if result.is_ok() {
                    self.model.durable(durable_count);
                }
                daemon.handle(
                    now,
                    Input::LogSynced { token, result: result.as_ref().copied().map_err(String::as_str) },
                    stored,
                );
            }
            Event::Committed { token, result } => {
                daemon.handle(
                    now,
                    Input::Committed { token, result: result.as_ref().copied().map_err(String::as_str) },
                    stored,
                );
            }
            Event::RequestReady(request) => daemon.handle(now, Input::RequestReady { request }, stored),
        }
    }

    /// Performs what the daemon asks for until it wants to sleep.
    fn drain(&mut self) {
        let mut buf = std::mem::take(&mut self.buf);
        for count in 0.. {
            assert!(count < 100_000, "seed {}: the daemon never rests", self.seed);
            let Some(daemon) = &mut self.daemon else { break };
            let output = daemon.poll_output(self.now, &mut buf, self.disk.stored());
            let rests = matches!(output, Output::SleepUntil { .. } | Output::Stopped);
            self.perform(output);
            if rests {
                break;
            }
        }
        self.buf = buf;
    }

    fn perform(&mut self, output: Output<'_>) {
        match output {
            Output::SleepUntil { mono_ms } => self.wake_ms = mono_ms,
            Output::Again => {}
            Output::Fetch { fetch, what, timeout_ms, .. } => {
                let FetchWhat::Http { url, .. } = what else { panic!("no host target is configured") };
                self.note(url);
                let exporter = url.as_bytes()["http://e".len()] - b'0';
                self.fetch(fetch, usize::from(exporter), timeout_ms);
            }
            Output::FetchAbort { fetch } => self.events.retain(|_, event| {
                !matches!(event, Event::FetchHead(id, ..) | Event::FetchBody(id, ..) | Event::FetchEnd(id, ..)
                    | Event::FetchFailed(id, ..) if *id == fetch)
            }),
            Output::TargetGone { .. } | Output::RespondPage { .. } | Output::Reload => {}
            Output::Respond { request, status, .. } => {
                if let Some(known) = self.requests.iter_mut().find(|known| known.id == request) {
                    known.status = status;
                }
            }
            Output::RespondBody { request, bytes, last, broken } => {
                assert!(!broken, "seed {}: an answer was cut", self.seed);
                if let Some(known) = self.requests.iter_mut().find(|known| known.id == request) {
                    known.body.extend_from_slice(bytes);
                    known.done = last;
                }
                if !last {
                    self.later(0, Event::RequestReady(request));
                }
            }
            Output::Post { post, kind, body, .. } => self.post(post, kind, body),
            Output::LogAppend { generation, bytes } => {
                self.flush_count.get_or_insert(self.model.scrapes.len());
                self.trace = prng::mix(self.trace ^ prng::stable_hash(bytes));
                self.tell(&format!("log {generation}: {} bytes", bytes.len()));
                self.disk.log_append(generation, bytes);
            }
            Output::LogSync { token } => {
                let durable_count = self.flush_count.take().unwrap_or(self.model.scrapes.len());
                let result = self.disk.log_sync();
                if result.is_err() {
                    self.sync_failed_up_ms = Some(self.up_ms);
                }
                self.tell(&format!("log sync {result:?}"));
                let delay_ms = self.prng.below(60);
                self.later(delay_ms, Event::LogSynced { token, result, durable_count });
            }
            Output::Put(put) => {
                match &put {
                    Put::Segment { meta, .. } => self.tell(&format!("put {meta:?}")),
                    Put::Layout(part) => self.tell(&format!("put layout {} of {:016x}", part.layout, part.timeline.0)),
                    Put::State { key, .. } => self.tell(&format!("put {key}")),
                    Put::DropBefore { t_ms } => self.tell(&format!("drop before {t_ms}")),
                }
                self.disk.put(put);
            }
            Output::Commit { token } => {
                let result = self.disk.commit();
                if result.is_err() {
                    self.sync_failed_up_ms = Some(self.up_ms);
                }
                self.tell(&format!("commit {result:?}"));
                let delay_ms = self.prng.below(200);
                self.later(delay_ms, Event::Committed { token, result });
            }
            Output::Log { message, .. } => {
                self.said_lost |= message.contains("will never have");
                self.note(message);
            }
            Output::Stopped => {
                self.note("stopped");
                self.end_process();
                self.disk.kill();
            }
        }
    }

    fn fetch(&mut self, fetch: FetchId, exporter: usize, timeout_ms: u64) {
        let delay_ms = 1 + self.prng.below(80);
        let (mode, page) = &mut self.exporters[exporter];
        *page += 1;
        let (mode, page) = (*mode, *page);
        let mut text = network::page_text(exporter, page);
        match mode {
            ExporterMode::Refused => return self.later(delay_ms, Event::FetchFailed(fetch, "connection refused")),
            ExporterMode::Hanging => {
                return self.later(timeout_ms, Event::FetchFailed(fetch, "context deadline exceeded"));
            }
            ExporterMode::Status500 => return self.later(delay_ms, Event::FetchHead(fetch, 500)),
            ExporterMode::BrokenLine => text.push_str("this is { no sample\n"),
            ExporterMode::CutOff => text.truncate(text.len() / 2),
            ExporterMode::Fine => {}
        }
        self.later(delay_ms, Event::FetchHead(fetch, 200));
        let mut at_ms = delay_ms;
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(1 + self.prng.below(300) as usize));
            at_ms += self.prng.below(40);
            self.later(at_ms, Event::FetchBody(fetch, piece.to_vec()));
            rest = behind;
        }
        match mode {
            ExporterMode::CutOff => self.later(at_ms, Event::FetchFailed(fetch, "unexpected EOF")),
            // The daemon has given up by then.
            ExporterMode::BrokenLine => {}
            _ => self.later(at_ms, Event::FetchEnd(fetch, exporter, page, self.now.wall_ms)),
        }
    }

    fn post(&mut self, post: PostId, kind: PostKind, body: &[u8]) {
        self.trace = prng::mix(self.trace ^ prng::stable_hash(body));
        let delay_ms = 1 + self.prng.below(300);
        let is_upstream = kind == PostKind::RemoteWrite1;
        let mode = match (is_upstream, self.upstream_kind) {
            (true, UpstreamKind::Away) if !self.is_calm => PeerMode::Refused,
            (true, _) => self.upstream.0,
            (false, _) => self.alertmanager,
        };
        if is_upstream
            && mode == PeerMode::Fine
            && let Some(words) = network::refusal(self.upstream_kind, body, self.now.wall_ms)
        {
            return self.later(delay_ms, Event::PostAnswered(post, 400, words));
        }
        if matches!(mode, PeerMode::Fine | PeerMode::AnswerLost) {
            match kind {
                PostKind::RemoteWrite1 => self.upstream.1.take(self.seed, body, self.clock_jumped),
                PostKind::Json => self.take_alerts(body),
            }
        }
        match mode {
            PeerMode::Fine => self.later(delay_ms, Event::PostAnswered(post, 204, "")),
            PeerMode::Status500 => self.later(delay_ms, Event::PostAnswered(post, 500, "try later")),
            PeerMode::Status429 => self.later(delay_ms, Event::PostAnswered(post, 429, "try later")),
            PeerMode::Refused => self.later(delay_ms, Event::PostFailed(post)),
            PeerMode::AnswerLost => {
                self.uncertain += 1;
                self.later(delay_ms, Event::PostFailed(post));
            }
        }
    }

    fn take_alerts(&mut self, body: &[u8]) {
        let alerts: Vec<serde_json::Value> = serde_json::from_slice(body)
            .unwrap_or_else(|error| panic!("seed {}: alerts are no JSON: {error}", self.seed));
        for alert in alerts {
            if alert["labels"]["alertname"] == "Always" {
                self.starts_at.insert(alert["startsAt"].as_str().unwrap_or_default().to_owned());
            }
        }
    }

    // The end.

    fn check(&mut self) {
        let (seed, jumped) = (self.seed, self.clock_jumped);
        let found = self.samples("{__name__=~\"m.*\"}[2d]", self.wall_ms_max - self.now.wall_ms);
        let name = |key: &str| key.split('"').nth(3).unwrap_or_default().to_owned();
        if self.is_told {
            for (key, samples) in &found {
                self.tell(&format!("{key}: {samples:?}"));
            }
        }
        let by_name = found.iter().map(|(key, samples)| (name(key), samples.clone())).collect();
        self.model.check(seed, &by_name, i64::MIN..=i64::MAX, jumped);

        // What the store had just now, the upstream has as soon as its batch was due.
        self.run_until(self.now.mono_ms + 2 * BATCH_DEADLINE_MS);
        for (key, samples) in &found {
            let known = self.upstream.1.samples.get(key);
            let is_poison = self.upstream_kind == UpstreamKind::Picky && name(key) == network::POISON;
            assert!(!is_poison || self.said_lost, "seed {seed}: nobody said that the upstream lacks {key}");
            for (t_ms, value) in samples.iter().filter(|_| !is_poison) {
                let upstream = known.and_then(|known| known.get(t_ms));
                let is_there = upstream.is_some_and(|values| values.contains(&value.to_bits()));
                assert!(is_there, "seed {seed}: {key} is {value} at {t_ms}, and upstream {upstream:x?}");
            }
        }
        let repeats_max = self.uncertain * 2 * SAMPLES_PER_SEND_MAX;
        assert!(
            self.upstream.1.repeats <= repeats_max,
            "seed {seed}: {} samples were repeated",
            self.upstream.1.repeats
        );
        assert_eq!(self.upstream.1.sites.iter().collect::<Vec<_>>(), ["attic"], "seed {seed}");

        let starts = self.starts_at.len() as u64;
        assert!((1..=1 + self.power_cuts).contains(&starts), "seed {seed}: startsAt {:?}", self.starts_at);

        let up = self.samples("up[2m]", 0);
        assert_eq!(up.len(), EXPORTERS, "seed {seed}: {up:?}");
        // A clock that was set back comes by old instants again, and bad scrapes may have been at the same ones.
        if self.set_back_from_ms.is_none_or(|from_ms| self.now.wall_ms - 120_000 > from_ms) {
            assert!(up.values().all(|samples| samples.iter().all(|(_, value)| *value == 1.0)), "seed {seed}: {up:?}");
        }
        let sums = self.samples("sums:m0[1m]", 0);
        assert_eq!(sums.len(), 1, "seed {seed}: the recording rule's result");
    }

    /// Asks for an instant query over the API, `after_ms` behind now, and gives samples by [`network::key`].
    fn samples(&mut self, query: &str, after_ms: i64) -> BTreeMap<String, Vec<(i64, f64)>> {
        let time = (self.now.wall_ms + after_ms) as f64 / 1000.0;
        let answer = self.ask(&format!("query={}&time={time}", query.replace('+', "%2B")));
        let mut found = BTreeMap::new();
        for series in answer["data"]["result"].as_array().into_iter().flatten() {
            let labels = series["metric"].as_object().into_iter().flatten();
            let labels = labels.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
            let samples = series["values"].as_array().into_iter().flatten().map(|pair| {
                let t_ms = (pair[0].as_f64().expect("a timestamp") * 1000.0).round() as i64;
                (t_ms, pair[1].as_str().expect("a text").parse().expect("a number"))
            });
            found.insert(network::key(labels), samples.collect());
        }
        found
    }

    fn ask(&mut self, query: &str) -> serde_json::Value {
        let id = RequestId(self.request_next);
        self.request_next += 1;
        self.requests.push(Request { id, status: 0, body: Vec::new(), done: false });
        let Some(daemon) = &mut self.daemon else { panic!("seed {}: no daemon to ask", self.seed) };
        let input = Input::Request {
            request: id,
            method: Method::Get,
            path: "/api/v1/query",
            query,
            content_type: "",
            body: b"",
        };
        daemon.handle(self.now, input, self.disk.stored());
        let end_ms = self.now.mono_ms + 60_000;
        self.wake_ms = self.now.mono_ms;
        while self.now.mono_ms < end_ms && !self.requests.iter().any(|request| request.id == id && request.done) {
            self.step(end_ms);
        }
        let index = self.requests.iter().position(|request| request.id == id && request.done);
        let request =
            self.requests.remove(index.unwrap_or_else(|| panic!("seed {}: {query} was not answered", self.seed)));
        let body = String::from_utf8_lossy(&request.body);
        assert_eq!(request.status, 200, "seed {}: {query}: {body}", self.seed);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("seed {}: {query}: {error}: {body}", self.seed))
    }

    /// What belongs to the run's hash.
    fn note(&mut self, text: &str) {
        self.trace = prng::mix(self.trace ^ prng::stable_hash(text.as_bytes()) ^ self.now.mono_ms);
        self.tell(text);
    }

    /// For the one who reads a failing run.
    fn tell(&self, text: &str) {
        if self.is_told {
            println!("{:>8} {text}", self.now.mono_ms);
        }
    }
}

fn settings() -> Settings {
    let targets = (0..EXPORTERS)
        .map(|index| TargetSettings { address: format!("e{index}:9100"), labels: LabelSet::default() })
        .collect();
    let job = JobSettings {
        job_name: "sim".into(),
        kind: JobKind::Http,
        scrape_interval_ms: INTERVAL_MS,
        scrape_timeout_ms: TIMEOUT_MS,
        metrics_path: "/metrics".into(),
        scheme: Scheme::Http,
        params: Vec::new(),
        honor_labels: false,
        honor_timestamps: true,
        sample_limit: 0,
        body_size_limit_bytes: 0,
        label_limit: 0,
        label_name_length_limit: 0,
        label_value_length_limit: 0,
        targets,
    };
    let alert =
        RuleKind::Alert { alert: "Always".into(), for_ms: 20_000, keep_firing_for_ms: 0, annotations: Vec::new() };
    let record = RuleKind::Record { record: "sums:m0".into() };
    let rules = vec![
        RuleSpec { kind: record, expr: "sum(m0_0)".into(), labels: Vec::new() },
        RuleSpec { kind: alert, expr: "vector(1)".into(), labels: Vec::new() },
    ];
    let group = GroupSpec {
        name: "g".into(),
        file: "rules.yml".into(),
        interval_ms: Some(10_000),
        limit: 0,
        query_offset_ms: None,
        labels: Vec::new(),
        rules,
    };
    Settings {
        scrape: vec![job],
        rule_groups: vec![group],
        alertmanagers: vec![AlertmanagerSettings { url: "http://am:9093".into(), timeout_ms: 10_000 }],
        remote_writes: vec![RemoteWriteSettings {
            name: "up".into(),
            url: "http://up/api/v1/write".into(),
            timeout_ms: 30_000,
            samples_per_send_max: SAMPLES_PER_SEND_MAX,
            batch_deadline_ms: BATCH_DEADLINE_MS,
            backoff_ms_min: 30,
            backoff_ms_max: 5_000,
            retry_on_429: true,
        }],
        external_labels: LabelSet::from_pairs([("site", "attic")]),
        evaluation_interval_ms: 15_000,
        rule_query_offset_ms: 0,
        yaml: String::new(),
    }
}

fn options(now: Now) -> Options {
    Options {
        lookback_delta_ms: 300_000,
        query_timeout_ms: 120_000,
        query_samples_max: 50_000_000,
        query_count_max: 20,
        query_bytes_max: 8 << 20,
        external_url: "http://box:9090".into(),
        route_prefix: String::new(),
        enable_lifecycle: false,
        flush_interval_ms: FLUSH_INTERVAL_MS,
        retention_ms: None,
        retention_bytes: None,
        resend_delay_ms: 60_000,
        for_outage_tolerance_ms: 3_600_000,
        for_grace_period_ms: 600_000,
        page_title: "Holdfast".into(),
        hostname: "box".into(),
        flags: Vec::new(),
        storage_path: "sim".into(),
        memory_limit_bytes: 16 << 20,
        seed: 7,
        started_wall_ms: now.wall_ms,
    }
}
