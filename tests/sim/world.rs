//! One run: time, what is under way, what goes wrong, and the daemon in the middle.

mod checks;
pub mod churn;
mod configured;
mod cuts;
mod faults;
mod pusher;
mod retention;

use crate::{
    fake_stored::FakeDisk,
    model::{Model, Outcome},
    network::{self, ExporterMode, HOST, Ledger, PeerMode, SOURCES, UpstreamKind},
};
use holdfast::{disk::Disk, memory::ALLOCATOR};
use holdfast_core::{
    daemon::{
        Daemon, Input, Output,
        input::{FetchId, PostId, RequestId, Usage},
        output::{FetchWhat, OUTPUT_BYTES_MAX, PostKind, Put},
    },
    prng::{self, Prng},
    time::Now,
};
use std::collections::{BTreeMap, BTreeSet};

const CLOCK_START_MS: i64 = 1_790_000_000_000;
const MONO_START_MS: u64 = 1_000;
/// As Prometheus' `ScrapeTimestampTolerance`.
const PLACE_TOLERANCE_MS: i64 = 2;
/// How often the platform tells of memory and disk.
const USAGE_INTERVAL_MS: u64 = 5_000;

/// How long a run is and how much happens in it.
#[derive(Clone, Copy)]
struct Scale {
    interval_ms: u64,
    /// Chaos, then calm. The calm is longer than any back-off, and than queries look back: what a power cut has taken the
    /// memory of has no end but that.
    chaos_ms: u64,
    calm_ms: u64,
    /// From one fault to the next, at most.
    fault_gap_ms: u64,
    retention_ms: Option<u64>,
    /// The ring holds so little that most of what is asked for has left it.
    is_tight: bool,
    /// A ring that is smaller still.
    ring_bytes: Option<u32>,
    /// A long life: it is watched for what grows, and its second half is one process'.
    is_day: bool,
    is_host_there: bool,
}

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
    /// A piece that no page may have: the daemon gives the scrape up.
    FetchBroken(FetchId, Vec<u8>),
    /// The page is whole.
    FetchEnd(FetchId),
    FetchFailed(FetchId, &'static str),
    PostAnswered(PostId, u16, &'static str),
    PostFailed(PostId),
    LogSynced {
        token: u64,
        result: Result<(), String>,
        durable: Stored,
    },
    Committed {
        token: u64,
        result: Result<(), String>,
    },
    RequestReady(RequestId),
    /// It is time to push something.
    Push,
}

/// How much there was of each thing when a flush began.
#[derive(Clone, Copy)]
struct Stored {
    rows: usize,
    pushed: usize,
    taken: u64,
}

/// A scrape under way.
struct Asked {
    source: usize,
    page: u64,
    t_ms: i64,
}

struct Request {
    id: RequestId,
    status: u16,
    body: Vec<u8>,
    done: bool,
}

pub struct World {
    seed: u64,
    scale: Scale,
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
    /// How each source is, and the number of its newest page.
    exporters: [(ExporterMode, u64); SOURCES],
    /// Which of them are configured.
    is_there: [bool; SOURCES],
    asked: BTreeMap<FetchId, Asked>,
    /// The daemon has not asked for the host's metrics since it knows of them.
    is_host_new: bool,
    upstream: (PeerMode, Ledger),
    upstream_kind: UpstreamKind,
    /// The daemon has said that the upstream will never have something.
    said_lost: bool,
    /// It has said that rows left memory before they were stored.
    said_evicted: bool,
    alertmanager: PeerMode,
    starts_at: BTreeSet<String>,
    /// Until when the Alertmanager believes that an instance is down.
    down_until: BTreeMap<String, String>,
    model: Model,
    /// Series that ended with their target, each with the number of the model's row.
    ended: Vec<(usize, &'static str)>,
    pushers: pusher::Pushers,
    /// What was stored when the flush under way began.
    flush_began: Option<Stored>,
    uncertain: u64,
    /// Samples that power cuts may make come again, and how many the upstream had taken when the last synced flush began.
    repeats_max: u64,
    taken_at_sync: u64,
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
    /// What the daemon holds of the heap: what its calls took and did not give back.
    heap_bytes: i64,
    /// The most that was seen of each thing that must not grow, early and late in a long life.
    most: [[i64; 4]; 2],
    usage_due_ms: u64,
    /// The daemon wants to be called again at this time.
    wake_ms: u64,
    buf: Vec<u8>,
    /// The power is cut, in copies, at all that is asked of the disk.
    cuts: Option<cuts::Cuts>,
    is_told: bool,
}

impl World {
    /// A short life with much trouble.
    pub fn run(seed: u64) -> End {
        Self::live(seed, Self::short(seed))
    }

    fn short(seed: u64) -> Scale {
        Scale {
            interval_ms: 5_000,
            chaos_ms: 12 * 60_000,
            calm_ms: 5 * 60_000 + 30_000,
            fault_gap_ms: 40_000,
            retention_ms: None,
            is_tight: prng::mix(seed) >> 8 & 3 == 0,
            ring_bytes: None,
            is_day: false,
            is_host_there: true,
        }
    }

    /// A day with trouble every few minutes.
    pub fn day(seed: u64) -> End {
        let scale = Scale {
            interval_ms: 15_000,
            chaos_ms: 24 * 3_600_000,
            calm_ms: 6 * 60_000,
            fault_gap_ms: 10 * 60_000,
            retention_ms: Some(4 * 3_600_000),
            is_tight: false,
            ring_bytes: None,
            is_day: true,
            is_host_there: false,
        };
        Self::live(seed, scale)
    }

    /// The disk is away for much longer than the ring can hold, and comes back.
    pub fn disk_away(seed: u64) {
        let scale = Scale { is_tight: true, ..Self::short(seed) };
        let mut world = Self::new(seed, scale);
        world.start();
        world.disk_goes_and_comes();
        let _ = world.daemon.take().map(Daemon::into_slab);
    }

    /// Losses while the disk is away, a killed process, and power cuts before and after the next flush.
    pub fn losses(seed: u64) {
        let scale = Scale { is_tight: true, ..Self::short(seed) };
        let mut world = Self::new(seed, scale);
        world.start();
        world.losses_survive();
        let _ = world.daemon.take().map(Daemon::into_slab);
    }

    /// The database is found damaged while the daemon runs, and everything that memory has goes into a new one.
    pub fn database_damaged(seed: u64) {
        let mut world = Self::new(seed, Scale { is_tight: false, ..Self::short(seed) });
        world.start();
        world.database_makes_room();
        let _ = world.daemon.take().map(Daemon::into_slab);
    }

    fn live(seed: u64, scale: Scale) -> End {
        let mut world = Self::new(seed, scale);
        world.start();
        world.chaos();
        if scale.is_day {
            world.check_growth();
        }
        world.calm();
        world.check();
        let end = End {
            trace_hash: world.trace,
            faults: world.faults,
            scrapes: world.model.scrapes() as u64,
            simulated_ms: world.now.mono_ms,
        };
        // The slab is leaked for the run only: what borrowed it is gone with the daemon.
        let _ = world.daemon.take().map(Daemon::into_slab);
        end
    }

    fn new(seed: u64, scale: Scale) -> Self {
        let slab_bytes = configured::plan(&scale).slab_bytes();
        Self {
            seed,
            scale,
            prng: Prng::new(seed),
            now: Now { mono_ms: MONO_START_MS, wall_ms: CLOCK_START_MS },
            boot: 1,
            daemon: None,
            slab: Some(Box::leak(vec![0; slab_bytes].into_boxed_slice())),
            slab_is_predecessors: false,
            disk: FakeDisk::default(),
            disk_failing_until_ms: 0,
            events: BTreeMap::new(),
            event_next: 0,
            exporters: [(ExporterMode::Fine, 0); SOURCES],
            is_there: std::array::from_fn(|source| source != HOST || scale.is_host_there),
            asked: BTreeMap::new(),
            is_host_new: true,
            upstream: (PeerMode::Fine, Ledger::default()),
            upstream_kind: match prng::mix(seed) % 4 {
                _ if scale.is_day => UpstreamKind::Moody,
                1 => UpstreamKind::Away,
                2 => UpstreamKind::Window,
                3 => UpstreamKind::Picky,
                _ => UpstreamKind::Moody,
            },
            said_lost: false,
            said_evicted: false,
            alertmanager: PeerMode::Fine,
            starts_at: BTreeSet::new(),
            down_until: BTreeMap::new(),
            model: Model::default(),
            ended: Vec::new(),
            pushers: pusher::Pushers::new(seed),
            flush_began: None,
            uncertain: 0,
            repeats_max: 0,
            taken_at_sync: 0,
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
            heap_bytes: 0,
            most: [[0; 4]; 2],
            usage_due_ms: 0,
            wake_ms: 0,
            buf: vec![0; OUTPUT_BYTES_MAX],
            cuts: None,
            is_told: std::env::var_os("HOLDFAST_SIM_TRACE").is_some(),
        }
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
        let next_ms = event_ms.min(self.wake_ms).min(self.usage_due_ms).min(end_ms).max(self.now.mono_ms);
        self.pass(next_ms - self.now.mono_ms);
        if self.disk.failing && self.disk_failing_until_ms <= self.now.mono_ms {
            self.disk.failing = false;
        }
        if self.usage_due_ms <= self.now.mono_ms {
            self.usage_due_ms = self.now.mono_ms + USAGE_INTERVAL_MS;
            let disk_bytes = self.disk.usage().disk_bytes;
            self.handle(Input::Usage(Usage { disk_bytes, resident_bytes: 10 << 20, ..Usage::default() }));
            self.drain();
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

    /// Gives the daemon one thing that happened, if there is a daemon.
    fn handle(&mut self, input: Input<'_>) {
        let Some(daemon) = &mut self.daemon else { return };
        let held_before_bytes = held_bytes();
        daemon.handle(self.now, input, self.disk.stored());
        self.heap_bytes += held_bytes() - held_before_bytes;
    }

    fn deliver(&mut self, event: Event) {
        if self.daemon.is_none() {
            return;
        }
        match event {
            Event::FetchHead(fetch, status) => {
                let content_type = "text/plain; version=0.0.4; charset=utf-8";
                self.handle(Input::FetchHead { fetch, status, content_type });
                if status != 200 {
                    self.scraped(fetch, false);
                }
            }
            Event::FetchBody(fetch, bytes) => self.handle(Input::FetchBody { fetch, bytes: &bytes }),
            Event::FetchBroken(fetch, bytes) => {
                self.handle(Input::FetchBody { fetch, bytes: &bytes });
                self.scraped(fetch, false);
            }
            Event::FetchEnd(fetch) => {
                self.handle(Input::FetchEnd { fetch });
                self.scraped(fetch, true);
            }
            Event::FetchFailed(fetch, error) => {
                self.handle(Input::FetchFailed { fetch, error });
                self.scraped(fetch, false);
            }
            Event::PostAnswered(post, status, body) => {
                self.handle(Input::PostAnswered { post, status, retry_after_ms: None, body });
            }
            Event::PostFailed(post) => self.handle(Input::PostFailed { post, error: "connection reset" }),
            Event::LogSynced { token, result, durable } => {
                if result.is_ok() {
                    self.taken_at_sync = durable.taken;
                    self.model.durable(durable.rows);
                    self.pushers.durable(durable.pushed);
                }
                self.handle(Input::LogSynced { token, result: result.as_ref().copied().map_err(String::as_str) });
            }
            Event::Committed { token, result } => {
                self.handle(Input::Committed { token, result: result.as_ref().copied().map_err(String::as_str) });
            }
            Event::RequestReady(request) => self.handle(Input::RequestReady { request }),
            Event::Push => self.push(),
        }
    }

    fn stored(&self) -> Stored {
        let pushed = self.pushers.acknowledged.len();
        Stored { rows: self.model.rows.len(), pushed, taken: self.upstream.1.taken }
    }

    /// The daemon has written the scrape's row.
    fn scraped(&mut self, fetch: FetchId, is_good: bool) {
        let Some(Asked { source, page, t_ms }) = self.asked.remove(&fetch) else { return };
        let outcome = if is_good { Outcome::Page(page) } else { Outcome::Failed };
        self.model.stored(source, outcome, t_ms, self.up_ms);
    }

    /// Performs what the daemon asks for until it wants to sleep.
    fn drain(&mut self) {
        let mut buf = std::mem::take(&mut self.buf);
        for count in 0.. {
            assert!(count < 100_000, "seed {}: the daemon never rests", self.seed);
            let Some(daemon) = &mut self.daemon else { break };
            let held_before_bytes = held_bytes();
            let output = daemon.poll_output(self.now, &mut buf, self.disk.stored());
            self.heap_bytes += held_bytes() - held_before_bytes;
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
                let source = match what {
                    FetchWhat::Http { url, .. } => usize::from(url.as_bytes()["http://e".len()] - b'0'),
                    FetchWhat::Host => HOST,
                };
                self.note(&format!("fetch {source}"));
                self.fetch(fetch, source, timeout_ms);
            }
            Output::FetchAbort { fetch } => {
                self.asked.remove(&fetch);
                self.events.retain(|_, event| {
                    !matches!(event, Event::FetchHead(id, ..) | Event::FetchBody(id, ..) | Event::FetchBroken(id, ..)
                        | Event::FetchEnd(id) | Event::FetchFailed(id, ..) if *id == fetch)
                });
            }
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
                self.push_answered();
                if !last {
                    self.later(0, Event::RequestReady(request));
                }
            }
            Output::Post { post, kind, body, .. } => self.post(post, kind, body),
            Output::LogAppend { generation, bytes } => {
                let stored = self.stored();
                self.flush_began.get_or_insert(stored);
                self.trace = prng::mix(self.trace ^ prng::stable_hash(bytes));
                self.tell(&format!("log {generation}: {} bytes", bytes.len()));
                self.disk.log_append(generation, bytes);
                self.cut_here("an append");
            }
            Output::LogSync { token } => {
                let durable = self.flush_began.take().unwrap_or(self.stored());
                let result = self.disk.log_sync();
                self.cut_here("a sync");
                if result.is_err() {
                    self.sync_failed_up_ms = Some(self.up_ms);
                }
                self.tell(&format!("log sync {result:?}"));
                let delay_ms = self.prng.below(60);
                self.later(delay_ms, Event::LogSynced { token, result, durable });
            }
            Output::Put(put) => {
                match &put {
                    Put::Segment { meta, .. } => self.tell(&format!("put {meta:?}")),
                    Put::Replace { meta, bytes } => self.tell(&format!("age {meta:?} to {} bytes", bytes.len())),
                    Put::Layout(part) => self.tell(&format!("put layout {} of {:016x}", part.layout, part.timeline.0)),
                    Put::State { key, .. } => self.tell(&format!("put {key}")),
                    Put::DropBefore { t_ms } => self.tell(&format!("drop before {t_ms}")),
                }
                self.disk.put(put);
                self.cut_here("a put");
            }
            Output::Commit { token } => {
                let result = self.disk.commit();
                self.cut_here("a commit");
                while let Some(loss) = self.disk.take_loss() {
                    self.handle(Input::Lost(loss.loss()));
                }
                if result.is_err() {
                    self.sync_failed_up_ms = Some(self.up_ms);
                }
                self.tell(&format!("commit {result:?}"));
                let delay_ms = self.prng.below(200);
                self.later(delay_ms, Event::Committed { token, result });
            }
            Output::Log { message, .. } => {
                self.said_evicted |= message.contains("left memory before they were stored");
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

    fn fetch(&mut self, fetch: FetchId, source: usize, timeout_ms: u64) {
        let delay_ms = 1 + self.prng.below(80);
        let (mode, page) = &mut self.exporters[source];
        *page += 1;
        let (mode, page) = (*mode, *page);
        let t_ms = self.instant(source);
        self.asked.insert(fetch, Asked { source, page, t_ms });
        let mut text = network::page_text(source, page);
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
            self.later(
                at_ms,
                match mode {
                    ExporterMode::BrokenLine if behind.is_empty() => Event::FetchBroken(fetch, piece.to_vec()),
                    _ => Event::FetchBody(fetch, piece.to_vec()),
                },
            );
            rest = behind;
        }
        match mode {
            ExporterMode::CutOff => self.later(at_ms, Event::FetchFailed(fetch, "unexpected EOF")),
            // The daemon has given up by then.
            ExporterMode::BrokenLine => {}
            _ => self.later(at_ms, Event::FetchEnd(fetch)),
        }
    }

    /// The timestamp of a scrape that is asked for now. The host's first one does not wait for its place in the interval,
    /// and has the time of its place where that was just before.
    fn instant(&mut self, source: usize) -> i64 {
        let now_ms = self.now.wall_ms;
        if source != HOST || !std::mem::take(&mut self.is_host_new) {
            return now_ms;
        }
        let behind_ms =
            now_ms.rem_euclid(self.scale.interval_ms as i64) - configured::host_place_ms(&self.scale) as i64;
        if (0..=PLACE_TOLERANCE_MS).contains(&behind_ms) { now_ms - behind_ms } else { now_ms }
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
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            match alert["labels"]["alertname"].as_str() {
                Some("Always") => {
                    self.starts_at.insert(text(&alert["startsAt"]));
                }
                Some("Down") => {
                    self.down_until.insert(text(&alert["labels"]["instance"]), text(&alert["endsAt"]));
                }
                other => panic!("seed {}: an alert of nobody: {other:?}", self.seed),
            }
        }
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

/// The heap of the whole process.
fn held_bytes() -> i64 {
    ALLOCATOR.live_bytes().0 as i64
}
