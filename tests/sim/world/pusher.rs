//! Two that push by remote write into the same world: in time, late, in parts of an instant, and again what was not answered.

use super::{Event, Request, World};
use crate::network;
use holdfast_core::{
    daemon::{
        Input,
        input::{Method, RequestId},
    },
    prng::Prng,
};
use std::collections::BTreeMap;

/// From one request to the next, at most.
const GAP_MS: u64 = 4_000;
/// How far back late samples lie, at most.
const LATE_MS: u64 = 100_000;
/// Their instants lie on this grid, so that parts of one come in several requests.
const GRID_MS: i64 = 1_000;
/// Series of each of the two.
const SERIES: u64 = 6;
/// After so long without an answer the request is sent again.
const PATIENCE_MS: u64 = 30_000;

/// One sample: whose and which series it is, when, and its value.
pub type Pushed = ((u64, u64), i64, f64);

pub struct Pushers {
    prng: Prng,
    /// What is to be answered yet: sent as this request, or not sent while there is none.
    waiting: Vec<Pushed>,
    in_flight: Option<(RequestId, u64)>,
    /// Every value there ever was.
    sent: BTreeMap<((u64, u64), i64), f64>,
    /// Answered 204, in this order.
    pub acknowledged: Vec<Acknowledged>,
    durable_count: usize,
    pub busy_count: u64,
}

pub struct Acknowledged {
    sample: Pushed,
    may_be_lost: bool,
}

impl Pushers {
    pub fn new(seed: u64) -> Self {
        Self {
            prng: Prng::new(seed ^ 0x9u64.rotate_left(40)),
            waiting: Vec::new(),
            in_flight: None,
            sent: BTreeMap::new(),
            acknowledged: Vec::new(),
            durable_count: 0,
            busy_count: 0,
        }
    }

    /// The first `count` are on the medium.
    pub fn durable(&mut self, count: usize) {
        self.durable_count = self.durable_count.max(count);
    }

    pub fn power_cut(&mut self) {
        self.acknowledged[self.durable_count..].iter_mut().for_each(|one| one.may_be_lost = true);
    }

    /// The process is gone, and the request with it.
    pub fn process_ended(&mut self) {
        self.in_flight = None;
    }

    /// A few samples of one instant, most often now, and at times a whole run of one series.
    fn think_of(&mut self, mono_ms: u64) {
        let late_ms = if self.prng.chance(1, 3) { self.prng.below(LATE_MS.min(mono_ms)) } else { 0 };
        // The clock as it is where it never jumped: the first reading of the other one was this.
        let now_ms = super::CLOCK_START_MS + mono_ms as i64 - super::MONO_START_MS as i64;
        let start_ms = (now_ms - late_ms as i64) / GRID_MS * GRID_MS;
        let pusher = self.prng.below(2);
        let (series_count, instant_count) =
            if self.prng.chance(1, 6) { (1, 1 + self.prng.below(30) as i64) } else { (1 + self.prng.below(SERIES), 1) };
        for _ in 0..series_count {
            let series = (pusher, self.prng.below(SERIES));
            for back in (0..instant_count).rev() {
                let t_ms = start_ms - back * GRID_MS;
                let value = self.sent.len() as f64;
                self.waiting.push((series, t_ms, *self.sent.entry((series, t_ms)).or_insert(value)));
            }
        }
    }
}

fn labels((pusher, series): (u64, u64)) -> [(&'static str, String); 3] {
    [("__name__", format!("p{series}")), ("instance", format!("i{pusher}")), ("job", "pushed".into())]
}

impl World {
    /// Tight rings are for those who scrape, and what is pushed has no place in a time that jumps.
    fn is_pushed_to(&self) -> bool {
        !self.scale.is_tight && !self.scale.is_day && !self.clock_jumped
    }

    pub(super) fn push_later(&mut self) {
        let delay_ms = 1 + self.pushers.prng.below(GAP_MS);
        self.later(delay_ms, Event::Push);
    }

    pub(super) fn push(&mut self) {
        if !self.is_pushed_to() {
            return;
        }
        self.push_later();
        if self.pushers.in_flight.is_some_and(|(_, sent_ms)| self.now.mono_ms < sent_ms + PATIENCE_MS) {
            return;
        }
        if let Some((request, _)) = self.pushers.in_flight.take() {
            self.requests.retain(|known| known.id != request);
            self.handle(Input::RequestGone { request });
        }
        if self.pushers.waiting.is_empty() {
            self.pushers.think_of(self.now.mono_ms);
        }
        let series: Vec<_> =
            self.pushers.waiting.iter().map(|(series, t_ms, value)| (labels(*series), *t_ms, *value)).collect();
        let body = network::write_request(&series);
        let request = RequestId(self.request_next);
        self.request_next += 1;
        self.requests.push(Request { id: request, status: 0, body: Vec::new(), done: false });
        self.pushers.in_flight = Some((request, self.now.mono_ms));
        self.handle(Input::Request {
            request,
            method: Method::Post,
            path: "/api/v1/write",
            query: "",
            content_type: "application/x-protobuf",
            content_encoding: "snappy",
            body,
        });
        self.wake_ms = self.now.mono_ms;
    }

    /// An answer is whole.
    pub(super) fn push_answered(&mut self) {
        let Some((request, _)) = self.pushers.in_flight else { return };
        let Some(index) = self.requests.iter().position(|known| known.id == request && known.done) else { return };
        let Request { status, body, .. } = self.requests.remove(index);
        self.pushers.in_flight = None;
        match status {
            204 => {
                let taken = std::mem::take(&mut self.pushers.waiting);
                self.note(&format!("pushed {}", taken.len()));
                let taken = taken.into_iter().map(|sample| Acknowledged { sample, may_be_lost: false });
                self.pushers.acknowledged.extend(taken);
            }
            503 => self.pushers.busy_count += 1,
            _ => panic!("seed {}: {status} {}", self.seed, String::from_utf8_lossy(&body)),
        }
    }

    /// Everything acknowledged is there, and nothing that was never sent.
    pub(super) fn check_pushed(&mut self) {
        let seed = self.seed;
        let after_ms = self.wall_ms_max - self.now.wall_ms;
        let found = self.samples("{job=\"pushed\"}[2d]", after_ms);
        let keys: BTreeMap<String, (u64, u64)> = (0..2)
            .flat_map(|pusher| (0..SERIES).map(move |series| (pusher, series)))
            .map(|series| {
                let labels = labels(series);
                (network::key(labels.iter().map(|(name, value)| (*name, value.as_str()))), series)
            })
            .collect();
        let mut there = BTreeMap::new();
        for (key, samples) in &found {
            let series = keys[key];
            assert!(samples.is_sorted_by(|a, b| a.0 < b.0), "seed {seed}: {key} is out of order: {samples:?}");
            for (t_ms, value) in samples {
                let sent = self.pushers.sent.get(&(series, *t_ms));
                assert_eq!(sent, Some(value), "seed {seed}: nobody sent {value} of {key} at {t_ms}");
                there.insert((series, *t_ms), *value);
            }
        }
        for one in self.pushers.acknowledged.iter().filter(|one| !one.may_be_lost) {
            let (series, t_ms, value) = one.sample;
            assert_eq!(there.get(&(series, t_ms)), Some(&value), "seed {seed}: {series:?} at {t_ms} was acknowledged");
        }
    }

    /// The first so many that were acknowledged have been forwarded, late or not.
    pub(super) fn check_pushed_upstream(&self, count: usize) {
        for one in self.pushers.acknowledged[..count].iter().filter(|one| !one.may_be_lost) {
            let (series, t_ms, value) = one.sample;
            let labels = labels(series);
            let key = network::key(labels.iter().map(|(name, value)| (*name, value.as_str())));
            let values = self.upstream.1.samples.get(&key).and_then(|known| known.get(&t_ms));
            let is_there = values.is_some_and(|values| values.contains(&value.to_bits()));
            assert!(is_there, "seed {}: the upstream lacks {key} at {t_ms}", self.seed);
        }
    }
}
