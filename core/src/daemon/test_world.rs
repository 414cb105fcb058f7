//! A daemon for tests: no disk, scripted exporters, an Alertmanager and upstreams that take everything, and a client.

use super::{
    Daemon, Input, Options, Output, Settings,
    input::{Method, RequestId},
    output::{FetchWhat, OUTPUT_BYTES_MAX},
    settings::{JobKind, JobSettings, Opened, TargetSettings},
};
use crate::{
    labels::LabelSet,
    memory::Plan,
    spill::{ClockEpoch, Spill, SpillOptions, SpillState},
    store::{Identity, Store, stored::NothingStored},
    time::Now,
};
use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec,
    vec::Vec,
};

const SLAB_BYTES: usize = 1 << 20;
const LABEL_BYTES: u32 = 192 * 1024;
pub const START_WALL_MS: i64 = 1_790_000_000_000;

pub struct World {
    pub daemon: Daemon<'static>,
    pub now: Now,
    /// By URL: a page, or why there is none.
    pub pages: BTreeMap<String, Result<String, &'static str>>,
    pub replies: BTreeMap<u64, Reply>,
    /// What was posted, one after another.
    pub posts: Vec<String>,
    pub reloads: usize,
    /// Requests whose client does not read on by itself.
    pub slow: Vec<RequestId>,
    next_request: u64,
    buf: Vec<u8>,
}

/// An answer as its client has it so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub piece_count: usize,
    pub is_whole: bool,
    pub is_cut: bool,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value)
    }
}

pub fn options() -> Options {
    Options {
        lookback_delta_ms: 300_000,
        query_timeout_ms: 120_000,
        query_samples_max: 50_000_000,
        query_count_max: 20,
        query_bytes_max: 2 << 20,
        external_url: "http://box:9090".into(),
        route_prefix: String::new(),
        enable_lifecycle: false,
        enable_remote_write_receiver: true,
        flush_interval_ms: 30_000,
        retention_ms: Some(15 * 86_400_000),
        retention_bytes: Some(512 << 20),
        resend_delay_ms: 60_000,
        for_outage_tolerance_ms: 3_600_000,
        for_grace_period_ms: 600_000,
        page_title: "Holdfast".into(),
        hostname: "box".into(),
        flags: vec![("query.timeout".into(), "2m".into())],
        storage_path: "./data".into(),
        memory_limit_bytes: 16 << 20,
        seed: 1,
        started_wall_ms: START_WALL_MS,
        opened: Opened::Recovered { took_us: 0 },
    }
}

/// A job that scrapes its targets every second.
pub fn job(name: &str, addresses: &[&str]) -> JobSettings {
    let targets =
        addresses.iter().map(|address| TargetSettings { address: (*address).into(), labels: LabelSet::default() });
    JobSettings { targets: targets.collect(), ..JobSettings::new(name, JobKind::Http, 1_000, 1_000) }
}

pub fn settings(jobs: Vec<JobSettings>) -> Settings {
    Settings { scrape: jobs, evaluation_interval_ms: 1_000, ..Settings::default() }
}

impl World {
    pub fn new(options: Options, settings: Settings) -> Self {
        let now = Now { mono_ms: 1_000, wall_ms: START_WALL_MS };
        // Room for a few label sets of 3 KiB, which a plan for so few series would not have.
        let plan = Plan::for_slab(SLAB_BYTES - LABEL_BYTES as usize).expect("a plan");
        let plan = Plan { label_bytes: plan.label_bytes + LABEL_BYTES, ring_bytes: plan.ring_bytes - 4096, ..plan };
        let slab = alloc::boxed::Box::leak(vec![0; SLAB_BYTES].into_boxed_slice());
        let identity = Identity { store_uuid: [1; 16], boot_id: [2; 16], log_generation: 0 };
        let store = Store::create(slab, &plan, identity).expect("a store");
        let epoch = ClockEpoch { boot_hash: 2, wall_offset_ms: now.wall_ms - now.mono_ms as i64, trusted: true };
        let spill = Spill::new(SpillOptions::new([1; 16], &plan), epoch, SpillState::default(), 0);
        let daemon = Daemon::new(options, settings, store, spill, now, &mut NothingStored).expect("rules that parse");
        Self {
            daemon,
            now,
            pages: BTreeMap::new(),
            replies: BTreeMap::new(),
            posts: Vec::new(),
            reloads: 0,
            slow: Vec::new(),
            next_request: 1,
            buf: vec![0; OUTPUT_BYTES_MAX],
        }
    }

    /// A world with one exporter that serves `page`, scraped at least three times.
    pub fn scraping(page: &str) -> Self {
        let mut world = Self::new(options(), settings(vec![job("node", &["h:1"])]));
        world.serve("http://h:1/metrics", page);
        world.pass(4_000);
        world
    }

    pub fn serve(&mut self, url: &str, page: &str) {
        self.pages.insert(url.into(), Ok(page.into()));
    }

    /// Lets time pass, and everything happen that is due.
    pub fn pass(&mut self, ms: u64) {
        let end_ms = self.now.mono_ms + ms;
        loop {
            let wake_ms = self.drain().clamp(self.now.mono_ms + 1, end_ms.max(self.now.mono_ms + 1));
            if self.now.mono_ms >= end_ms {
                return;
            }
            let step_ms = wake_ms - self.now.mono_ms;
            self.now = Now { mono_ms: wake_ms, wall_ms: self.now.wall_ms + step_ms as i64 };
        }
    }

    pub fn handle(&mut self, input: Input<'_>) {
        self.daemon.handle(self.now, input, &mut NothingStored);
    }

    /// Sends a request; nothing is done about it yet.
    pub fn send(&mut self, method: Method, target: &str, content_type: &str, body: &str) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = body.as_bytes().to_vec();
        self.handle(Input::Request { request, method, path, query, content_type, content_encoding: "", body });
        request
    }

    /// Pushes a body as a remote writer does.
    pub fn push(&mut self, body: &[u8]) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.handle(Input::Request {
            request,
            method: Method::Post,
            path: "/api/v1/write",
            query: "",
            content_type: "application/x-protobuf",
            content_encoding: "snappy",
            body: body.to_vec(),
        });
        request
    }

    /// Sends a request and reads the answer to its end.
    pub fn ask(&mut self, method: Method, target: &str, form: &str) -> Reply {
        let request = self.send(method, target, "application/x-www-form-urlencoded", form);
        self.drain();
        self.replies.remove(&request.0).unwrap_or_else(|| panic!("no answer to {target}"))
    }

    pub fn get(&mut self, target: &str) -> Reply {
        self.ask(Method::Get, target, "")
    }

    /// Checks a GET: status and body.
    pub fn check(&mut self, target: &str, status: u16, body: &str) {
        let reply = self.get(target);
        assert_eq!((reply.status, reply.body.as_str()), (status, body), "{target}");
    }

    /// The `data` of a good answer.
    pub fn data(&mut self, target: &str) -> String {
        let reply = self.get(target);
        let data = reply.body.strip_prefix(r#"{"status":"success","data":"#).and_then(|rest| rest.strip_suffix('}'));
        data.unwrap_or_else(|| panic!("{target}: {}", reply.body)).into()
    }

    /// Performs what the daemon asks for until it rests; returns when it wants to be woken.
    pub fn drain(&mut self) -> u64 {
        for _ in 0..1_000_000 {
            if let Some(wake_ms) = self.perform_one() {
                return wake_ms;
            }
        }
        panic!("the daemon never rests");
    }

    /// Performs one thing; the time to wake up once there is nothing more.
    pub fn perform_one(&mut self) -> Option<u64> {
        let Self { daemon, now, buf, .. } = self;
        let output = daemon.poll_output(*now, buf, &mut NothingStored);
        match output {
            Output::SleepUntil { mono_ms } => return Some(mono_ms),
            Output::Stopped => return Some(u64::MAX),
            Output::Again | Output::FetchAbort { .. } | Output::TargetGone { .. } | Output::LogAppend { .. } => {}
            Output::Put(_) | Output::Log { .. } => {}
            Output::Reload => self.reloads += 1,
            Output::Fetch { fetch, what, .. } => {
                let FetchWhat::Http { url, .. } = what else { panic!("no host target is configured") };
                let page = self.pages.get(url).cloned().unwrap_or(Err("connect: connection refused"));
                match page {
                    Ok(page) => {
                        let content_type = "text/plain; version=0.0.4";
                        self.handle(Input::FetchHead { fetch, status: 200, content_type });
                        self.handle(Input::FetchBody { fetch, bytes: page.as_bytes() });
                        self.handle(Input::FetchEnd { fetch });
                    }
                    Err(error) => self.handle(Input::FetchFailed { fetch, error }),
                }
            }
            Output::Respond { request, status, headers } => {
                let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
                self.replies.insert(request.0, Reply { status, headers, ..Reply::default() });
            }
            Output::RespondPage { request, path } => {
                let reply = Reply { status: 200, body: path.into(), is_whole: true, ..Reply::default() };
                self.replies.insert(request.0, reply);
            }
            Output::RespondBody { request, bytes, last, broken } => {
                let text = core::str::from_utf8(bytes).expect("text whose characters are not cut by pieces");
                let reply = self.replies.get_mut(&request.0).expect("a head comes first");
                assert!(!reply.is_whole && !reply.is_cut, "nothing follows the last piece");
                reply.body.push_str(text);
                reply.piece_count += 1;
                (reply.is_whole, reply.is_cut) = (last && !broken, broken);
                if !last && !self.slow.contains(&request) {
                    self.handle(Input::RequestReady { request });
                }
            }
            Output::Post { post, body, .. } => {
                let text = String::from_utf8_lossy(body).into_owned();
                self.posts.push(text);
                self.handle(Input::PostAnswered { post, status: 200, retry_after_ms: None, body: "" });
            }
            Output::LogSync { token } => self.handle(Input::LogSynced { token, result: Ok(()) }),
            Output::Commit { token } => self.handle(Input::Committed { token, result: Ok(()) }),
        }
        None
    }
}
