//! A week of pods that come and go: a target that replaces a tenth of its series every minute, on the real disk.
//!
//! What must not grow with the store's age is looked at after each day: the regions of the slab, the heap, the files,
//! and the bites that a question takes. What has ended is found by its labels as long as the retention keeps it.
//!
//! `HOLDFAST_CHURN_SERIES` is how many series the target has (50), `HOLDFAST_CHURN_DAYS` how long it lives (7).

use super::{Scale, configured, held_bytes};
use holdfast::disk::{Disk, DiskSettings, flash::Flash, for_start::ForStart};
use holdfast_core::{
    daemon::{
        Daemon, Input, Output, Settings,
        input::{Method, RequestId, Usage},
        output::OUTPUT_BYTES_MAX,
        settings::{JobKind, JobSettings, TargetSettings},
        start,
    },
    labels::LabelSet,
    memory::Plan,
    time::Now,
};
use std::collections::BTreeMap;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
const RETENTION_DAYS: u64 = 2;
/// A pod lives this long: each minute a tenth of them is replaced.
const LIFE_MINUTES: u64 = 10;
/// So that the numbers of a week have one length, and what they take in memory does not grow with them.
const FIRST_POD: u64 = 100_000;
const CLOCK_START_MS: i64 = 1_790_000_000_000;

/// What one day's end looked like.
#[derive(Clone, Debug, Default)]
pub struct DayEnd {
    /// Used entries or bytes of each region of the slab.
    pub regions: BTreeMap<String, u64>,
    pub heap_bytes: i64,
    pub disk_bytes: u64,
    /// Outputs the daemon gave while it answered the questions.
    pub bites: u64,
    pub refused: u64,
    pub evicted_unspilled: u64,
}

pub struct Churn {
    series_count: u64,
    now: Now,
    daemon: Daemon<'static>,
    disk: Flash,
    wake_ms: u64,
    usage_due_ms: u64,
    /// When each page was scraped; there is one a minute.
    scraped_ms: Vec<i64>,
    heap_bytes: i64,
    answer: Option<(RequestId, u16, Vec<u8>, bool)>,
    request_next: u64,
    bites: u64,
    buf: Vec<u8>,
}

impl Churn {
    /// Lives for so many days and gives each one's end.
    pub fn live(series_count: u64, days: u64) -> Vec<DayEnd> {
        // Data on a RAM file system: what is looked at is not how long a sync takes.
        let folder = tempfile::Builder::new().prefix("holdfast-churn-").tempdir_in("/dev/shm");
        let folder = folder.expect("/dev/shm is writable");
        let mut life = Self::new(series_count, folder.path());
        let ends = (1..=days).map(|day| life.day(day)).collect();
        // The slab is leaked for the run only: what borrowed it is gone with the daemon.
        let _ = life.daemon.into_slab();
        ends
    }

    fn new(series_count: u64, folder: &std::path::Path) -> Self {
        let scale = Scale {
            interval_ms: MINUTE_MS,
            chaos_ms: 0,
            calm_ms: 0,
            fault_gap_ms: 0,
            retention_ms: Some(RETENTION_DAYS * DAY_MS),
            is_tight: false,
            ring_bytes: None,
            is_day: false,
            is_host_there: false,
        };
        let mut disk = Flash::open(&DiskSettings {
            path: folder.join("data"),
            quota_bytes: 512 << 20,
            log_bytes: 4 << 20,
            heap_bytes_max: 1 << 20,
        })
        .expect("a data directory");
        // Room for six times the series that there are at a time; a week has a thousand times as many.
        let plan = Plan::for_series(96 * 1024 + series_count as usize * 4_096, series_count * 6).expect("a plan");
        let slab: &'static mut [u8] = Box::leak(vec![0; plan.slab_bytes()].into_boxed_slice());
        let now = Now { mono_ms: 1_000, wall_ms: CLOCK_START_MS };
        let settings = settings();
        let uuid = disk.store_uuid();
        let given = start::SlabGiven { bytes: slab, is_predecessors: false, retired: None };
        let start::Opened { store, spill, .. } =
            start::open_store(given, &plan, uuid, [1; 16], &mut ForStart(&mut disk), &settings, now).expect("a store");
        let held_before_bytes = held_bytes();
        let daemon = Daemon::new(configured::options(&scale, now), settings, store, spill, now, disk.stored());
        let daemon = daemon.unwrap_or_else(|errors| panic!("{errors:?}"));
        Self {
            series_count,
            now,
            daemon,
            disk,
            wake_ms: 0,
            usage_due_ms: 0,
            scraped_ms: Vec::new(),
            heap_bytes: held_bytes() - held_before_bytes,
            answer: None,
            request_next: 1,
            bites: 0,
            buf: vec![0; OUTPUT_BYTES_MAX],
        }
    }

    fn day(&mut self, day: u64) -> DayEnd {
        self.run_until(1_000 + day * DAY_MS);
        let bites_before = self.bites;
        self.ask_about_the_past(day);
        let mut end = DayEnd { bites: self.bites - bites_before, heap_bytes: self.heap_bytes, ..DayEnd::default() };
        end.disk_bytes = self.disk.usage().disk_bytes;
        let metrics = self.ask("/metrics", "");
        for line in metrics.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let value = || value.parse::<f64>().unwrap_or_else(|_| panic!("{line}")) as u64;
            match name {
                "holdfast_series_refused_total" => end.refused = value(),
                "holdfast_samples_evicted_unspilled_total" => end.evicted_unspilled = value(),
                _ if name.starts_with("holdfast_memory_region_used{") => {
                    let region = name.split('"').nth(1).expect("a region's name");
                    end.regions.insert(region.to_owned(), value());
                }
                _ => {}
            }
        }
        println!("day {day}: {end:?}");
        end
    }

    /// Pods that ended minutes, hours and days ago: each has its samples, and nobody else's.
    fn ask_about_the_past(&mut self, day: u64) {
        let minute = self.scraped_ms.len() as u64 - 1;
        let day_minutes = DAY_MS / MINUTE_MS;
        for ago in [15, 61, day_minutes / 2, day_minutes - 60, RETENTION_DAYS * day_minutes - 180] {
            if ago + 2 * LIFE_MINUTES > minute {
                continue;
            }
            // Born that many minutes ago.
            let born = minute - ago;
            let pod = self.first_pod(born) + self.series_count - 1;
            let at_ms = self.scraped_ms[(born + LIFE_MINUTES + 2) as usize];
            let found = self.query(&format!("pods_total{{pod=\"{pod}\"}}[{}m]", 3 * LIFE_MINUTES), at_ms);
            let values: Vec<f64> = found.get(&pod).cloned().unwrap_or_default();
            let expected: Vec<f64> = (born..born + LIFE_MINUTES).map(|minute| minute as f64).collect();
            assert_eq!((found.len(), values), (1, expected), "day {day}, {ago} minutes ago");
            let all = self.query("pods_total", self.scraped_ms[born as usize] + 1);
            let born_then = self.first_pod(born)..self.first_pod(born) + self.series_count;
            assert!(all.keys().copied().eq(born_then), "day {day}, {ago} minutes ago: {} series", all.len());
        }
        if day > RETENTION_DAYS + 1 {
            let gone_ms = self.scraped_ms[(minute - (RETENTION_DAYS + 1) * day_minutes) as usize];
            assert_eq!(self.query("pods_total", gone_ms), BTreeMap::new(), "day {day}: older than the retention");
        }
    }

    /// The oldest pod of a minute.
    fn first_pod(&self, minute: u64) -> u64 {
        FIRST_POD + minute * (self.series_count / LIFE_MINUTES)
    }

    /// Samples by pod.
    fn query(&mut self, query: &str, at_ms: i64) -> BTreeMap<u64, Vec<f64>> {
        let query = format!("query={query}&time={}", at_ms as f64 / 1_000.0);
        let answer: serde_json::Value = serde_json::from_str(&self.ask("/api/v1/query", &query)).expect("JSON");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let mut found = BTreeMap::new();
        for series in answer["data"]["result"].as_array().expect("a list") {
            let pod = series["metric"]["pod"].as_str().and_then(|pod| pod.parse().ok()).expect("a pod's number");
            let pairs = series["values"].as_array().cloned().unwrap_or_else(|| vec![series["value"].clone()]);
            let values = pairs.iter().map(|pair| pair[1].as_str().and_then(|text| text.parse().ok()).expect("a value"));
            assert_eq!(found.insert(pod, values.collect()), None, "{query}: pod {pod} twice");
        }
        found
    }

    fn ask(&mut self, path: &str, query: &str) -> String {
        let request = RequestId(self.request_next);
        self.request_next += 1;
        self.answer = Some((request, 0, Vec::new(), false));
        let content_type = "";
        self.handle(Input::Request {
            request,
            method: Method::Get,
            path,
            query,
            content_type,
            content_encoding: "",
            body: Vec::new(),
        });
        let end_ms = self.now.mono_ms + MINUTE_MS;
        self.wake_ms = self.now.mono_ms;
        while self.now.mono_ms < end_ms && self.answer.as_ref().is_some_and(|answer| !answer.3) {
            self.step(end_ms);
        }
        let (_, status, body, is_done) = self.answer.take().expect("asked above");
        let body = String::from_utf8(body).expect("UTF-8");
        assert!(is_done && status == 200, "{path}?{query}: {status} {body}");
        body
    }

    fn run_until(&mut self, end_ms: u64) {
        while self.now.mono_ms < end_ms {
            self.step(end_ms);
        }
    }

    fn step(&mut self, end_ms: u64) {
        let next_ms = self.wake_ms.min(self.usage_due_ms).min(end_ms).max(self.now.mono_ms);
        self.now.wall_ms += (next_ms - self.now.mono_ms) as i64;
        self.now.mono_ms = next_ms;
        if self.usage_due_ms <= self.now.mono_ms {
            self.usage_due_ms = self.now.mono_ms + MINUTE_MS;
            self.handle(Input::Usage(Usage { resident_bytes: 10 << 20, ..Usage::default() }));
        }
        self.drain();
        // A daemon that asks to be woken in the past would spin.
        self.wake_ms = self.wake_ms.max(self.now.mono_ms + 1);
    }

    fn handle(&mut self, input: Input<'_>) {
        let held_before_bytes = held_bytes();
        self.daemon.handle(self.now, input, self.disk.stored());
        self.heap_bytes += held_bytes() - held_before_bytes;
    }

    /// Performs what the daemon asks for until it wants to sleep. Every answer comes at once.
    fn drain(&mut self) {
        let mut buf = std::mem::take(&mut self.buf);
        loop {
            let held_before_bytes = held_bytes();
            let output = self.daemon.poll_output(self.now, &mut buf, self.disk.stored());
            self.heap_bytes += held_bytes() - held_before_bytes;
            self.bites += 1;
            match output {
                Output::SleepUntil { mono_ms } => {
                    self.wake_ms = mono_ms;
                    break;
                }
                Output::Fetch { fetch, .. } => {
                    self.scraped_ms.push(self.now.wall_ms);
                    let page = self.page_text();
                    let content_type = "text/plain; version=0.0.4; charset=utf-8";
                    self.handle(Input::FetchHead { fetch, status: 200, content_type });
                    self.handle(Input::FetchBody { fetch, bytes: page.as_bytes() });
                    self.handle(Input::FetchEnd { fetch });
                }
                Output::LogAppend { generation, bytes } => self.disk.log_append(generation, bytes),
                Output::LogSync { token } => {
                    let result = self.disk.log_sync();
                    self.handle(Input::LogSynced { token, result: result.as_ref().copied().map_err(String::as_str) });
                }
                Output::Put(put) => self.disk.put(put),
                Output::Commit { token } => {
                    let result = self.disk.commit();
                    self.handle(Input::Committed { token, result: result.as_ref().copied().map_err(String::as_str) });
                }
                Output::Respond { status, .. } => {
                    if let Some(answer) = &mut self.answer {
                        answer.1 = status;
                    }
                }
                Output::RespondBody { request, bytes, last, .. } => {
                    if let Some(answer) = &mut self.answer {
                        answer.2.extend_from_slice(bytes);
                        answer.3 = last;
                    }
                    if !last {
                        self.handle(Input::RequestReady { request });
                    }
                }
                Output::Log { message, .. } => assert!(!message.contains("left memory"), "{message}"),
                _ => {}
            }
        }
        self.buf = buf;
    }

    fn page_text(&self) -> String {
        let minute = self.scraped_ms.len() as u64 - 1;
        let first = self.first_pod(minute);
        let mut text = String::from("# TYPE pods_total counter\n");
        for pod in first..first + self.series_count {
            text.push_str(&format!("pods_total{{pod=\"{pod}\"}} {minute}\n"));
        }
        text
    }
}

fn settings() -> Settings {
    Settings {
        scrape: vec![JobSettings {
            targets: vec![TargetSettings { address: "pods:8080".into(), labels: LabelSet::default() }],
            ..JobSettings::new("churn", JobKind::Http, MINUTE_MS, 10_000)
        }],
        rule_groups: Vec::new(),
        alertmanagers: Vec::new(),
        remote_writes: Vec::new(),
        external_labels: LabelSet::default(),
        evaluation_interval_ms: MINUTE_MS,
        rule_query_offset_ms: 0,
        yaml: String::new(),
    }
}
