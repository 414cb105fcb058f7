//! Asks the daemon, and holds its answers to the model.

use super::{
    Request, Scale, World,
    configured::{BATCH_DEADLINE_MS, FLUSH_INTERVAL_MS, SAMPLES_PER_SEND_MAX},
};
use crate::{
    model::{LOOKBACK_MS, Outcome, Samples},
    network::{self, SOURCES, UpstreamKind},
};
use holdfast_core::{
    daemon::{
        Input,
        input::{Method, RequestId},
    },
    ledger::Reason,
    store::STALE_NAN_BITS,
    time::Rfc3339Ms,
};
use std::collections::BTreeMap;

/// How far back the range queries of the chaos go, and in which steps: no divisor of an interval.
const STEPS_BACK_MS: i64 = 120_000;
const STEP_MS: i64 = 7_000;

impl World {
    /// Whatever is wrong outside, what was scraped is answered, and as it was served.
    pub(super) fn query(&mut self) {
        if !self.faults.is_multiple_of(2) {
            return;
        }
        let range_ms = LOOKBACK_MS + STEPS_BACK_MS;
        let found = self.samples(&format!("{{__name__=~\"m.*\"}}[{}s]", range_ms / 1000), 0);
        let samples = by_name(&found);
        // Asked and answered in one instant.
        let now_ms = self.now.wall_ms;
        let between_ms = now_ms - range_ms + 1..=now_ms;
        self.model.check(self.seed, &samples, between_ms.clone(), self.clock_jumped);
        if !self.clock_jumped {
            self.check_pushed();
        }
        if self.clock_jumped || !self.faults.is_multiple_of(6) {
            return;
        }
        let up = self.samples(&format!("up[{}s]", range_ms / 1000), 0);
        let up: [Vec<(i64, f64)>; SOURCES] = std::array::from_fn(|source| {
            let instance = format!("\"{}\"", network::instance_of(source));
            up.iter().find(|(key, _)| key.contains(&instance)).map_or(Vec::new(), |(_, samples)| samples.clone())
        });
        self.model.check_up(self.seed, &up, between_ms);
        let steps_ms: Vec<i64> =
            (0..).map(|step| now_ms - STEPS_BACK_MS + step * STEP_MS).take_while(|t| *t <= now_ms).collect();
        let (start, end) = ((now_ms - STEPS_BACK_MS) as f64 / 1000.0, now_ms as f64 / 1000.0);
        let query = format!("query={{__name__=~\"m.*\"}}&start={start}&end={end}&step={}", STEP_MS / 1000);
        let given = found_samples(&self.ask("query_range", &query));
        self.model.check_steps(self.seed, &steps_ms, &by_name(&given), &samples);
    }

    /// In a long life nothing may grow: what the second half needs of each thing, the first half has needed too.
    pub(super) fn observe_growth(&mut self, end_ms: u64) {
        let Scale { is_day: true, chaos_ms, retention_ms: Some(retention_ms), .. } = self.scale else { return };
        let [segments, layouts, state_bytes] = self.disk.counts();
        let seen = [self.heap_bytes, segments as i64, layouts as i64, state_bytes as i64];
        let began_ms = end_ms - chaos_ms;
        // Until the retention has come round once, the disk fills.
        let half = match self.now.mono_ms.saturating_sub(began_ms) {
            since_ms if since_ms < retention_ms => return,
            since_ms => usize::from(since_ms > chaos_ms / 2 + retention_ms),
        };
        for (most, seen) in self.most[half].iter_mut().zip(seen) {
            *most = (*most).max(seen);
        }
    }

    pub(super) fn check_growth(&self) {
        let names = ["heap bytes", "segments", "parts of layouts", "bytes of small state"];
        // For chance: how long the outages of each half were.
        let slacks = [64 * 1024, 20, 10, 2 * 1024];
        for (index, (name, slack)) in names.into_iter().zip(slacks).enumerate() {
            let (early, late) = (self.most[0][index], self.most[1][index]);
            println!("{name}: {early}, then {late}");
            assert!(early > 0 && late > 0, "seed {}: {name} were not looked at", self.seed);
            assert!(late <= early + early / 4 + slack, "seed {}: {name} grew from {early} to {late}", self.seed);
        }
    }

    /// Scraping and answering go on from RAM; what had to be dropped is said, and everything newer is there at the end.
    pub(super) fn disk_goes_and_comes(&mut self) {
        let seed = self.seed;
        self.run_until(self.now.mono_ms + 60_000);
        (self.disk.failing, self.disk_failing_until_ms) = (true, u64::MAX);
        for _ in 0..20 {
            self.run_until(self.now.mono_ms + 60_000);
            let up = self.samples("up[1m]", 0);
            let is_up =
                up.values().all(|samples| samples.len() == 12 && samples.iter().all(|(_, value)| *value == 1.0));
            assert!(up.len() == SOURCES && is_up, "seed {seed}: without a disk {up:?}");
        }
        assert!(self.said_evicted, "seed {seed}: 20 minutes do not fit this ring, and nobody said what went");
        assert!(self.store_status("evicted_unspilled_samples") > 0, "seed {seed}");
        self.disk_failing_until_ms = 0;
        self.run_until(self.now.mono_ms + 2 * FLUSH_INTERVAL_MS);
        let (evicted, began_ms) = (self.store_status("evicted_unspilled_samples"), self.now.wall_ms);
        self.run_until(self.now.mono_ms + 10 * 60_000);
        assert_eq!(self.store_status("evicted_unspilled_samples"), evicted, "seed {seed}: the disk is there again");
        let found = self.samples(&format!("{{__name__=~\"m.*\"}}[{}s]", 11 * 60), 0);
        self.model.check(seed, &by_name(&found), began_ms..=i64::MAX, false);
        let rows_in_ram = self.store_status("rows_in_ram");
        assert!(
            rows_in_ram < self.model.rows.len() as u64,
            "seed {seed}: {rows_in_ram} rows in RAM, this ring is not tight"
        );
    }

    /// A killed process leaves the whole ledger; a power cut takes at most what came since the last flush.
    pub(super) fn losses_survive(&mut self) {
        let seed = self.seed;
        let evicted = |world: &Self| world.daemon.as_ref().map(|daemon| daemon.ledger().count(Reason::Evicted));
        let disk_away = |world: &mut Self| {
            (world.disk.failing, world.disk_failing_until_ms) = (true, u64::MAX);
            world.run_until(world.now.mono_ms + 15 * 60_000);
        };
        self.run_until(self.now.mono_ms + 60_000);
        disk_away(self);
        let of_store = self.store_status("evicted_unspilled_samples");
        let first = evicted(self).filter(|count| *count > 0);
        assert!(first.is_some_and(|first| first <= of_store), "seed {seed}: {first:?} of {of_store}");
        self.kill();
        assert_eq!(evicted(self), first, "seed {seed}");
        // The killed process' last losses are told by its successor, and a flush brings all to the medium.
        self.run_until(self.now.mono_ms + 2 * FLUSH_INTERVAL_MS);
        let flushed = evicted(self);
        assert_eq!(flushed, Some(of_store), "seed {seed}: each sample that was evicted is counted once");
        self.cut_power();
        assert_eq!(evicted(self), flushed, "seed {seed}");
        disk_away(self);
        assert!(evicted(self) > flushed, "seed {seed}");
        self.cut_power();
        let left = evicted(self);
        assert!(left >= flushed, "seed {seed}: {left:?} of {flushed:?} that were flushed");
        let answer = self.ask("status/losses", "");
        let reasons = answer["data"]["reasons"].as_array().cloned().unwrap_or_default();
        let told = reasons.iter().find(|one| one["reason"] == "evicted_unspilled");
        let told = told.unwrap_or_else(|| panic!("seed {seed}: {answer}"));
        assert_eq!(told["count"].as_u64(), left, "seed {seed}: {answer}");
        for loss in told["losses"].as_array().into_iter().flatten() {
            assert!(loss["from"].as_str() <= loss["to"].as_str(), "seed {seed}: {answer}");
        }
    }

    pub(super) fn database_makes_room(&mut self) {
        let seed = self.seed;
        self.run_until(self.now.mono_ms + 6 * 60_000);
        self.disk.is_damaged = true;
        // Whether it is met by a flush under way or by the next one.
        self.run_until(self.now.mono_ms + 2 * FLUSH_INTERVAL_MS + self.prng.clone().below(FLUSH_INTERVAL_MS));
        let events =
            |world: &Self| world.daemon.as_ref().map(|daemon| daemon.ledger().events(Reason::DatabaseSetAside));
        let check = |world: &mut Self| {
            let found = world.samples("{__name__=~\"m.*\"}[20m]", 0);
            world.model.check(seed, &by_name(&found), 0..=i64::MAX, false);
        };
        if self.disk.is_damaged {
            // Nothing was sealed in the meantime: a checkpoint at the next start does.
            self.kill();
            self.run_until(self.now.mono_ms + 2 * FLUSH_INTERVAL_MS);
        }
        assert_eq!(events(self), Some(1), "seed {seed}");
        check(self);
        let [segments, layouts, states] = self.disk.counts();
        assert!(segments > 0 && layouts > 0 && states > 0, "seed {seed}: {segments}, {layouts}, {states}");
        self.cut_power();
        assert_eq!(events(self), Some(1), "seed {seed}");
        self.run_until(self.now.mono_ms + 60_000);
        check(self);
    }

    fn store_status(&mut self, field: &str) -> u64 {
        let answer = self.ask("status/holdfast", "");
        answer["data"]["store"][field].as_u64().unwrap_or_else(|| panic!("no {field} in {answer}"))
    }

    // The end.

    pub(super) fn check(&mut self) {
        let (seed, jumped) = (self.seed, self.clock_jumped);
        // With retention, only as far back as it is sure to reach.
        let range_ms = self.scale.retention_ms.map_or(2 * 86_400_000, |retention_ms| retention_ms as i64 / 2);
        let found =
            self.samples(&format!("{{__name__=~\"m.*\"}}[{}s]", range_ms / 1000), self.wall_ms_max - self.now.wall_ms);
        if self.is_told {
            for (key, samples) in &found {
                self.tell(&format!("{key}: {samples:?}"));
            }
        }
        let (row_count, pushed_count) = (self.model.rows.len(), self.pushers.acknowledged.len());
        let between_ms = self.wall_ms_max - range_ms + 1..=i64::MAX;
        self.model.check(seed, &by_name(&found), between_ms, jumped);

        // What the store had just now, the upstream has as soon as its batch was due.
        self.run_until(self.now.mono_ms + 2 * BATCH_DEADLINE_MS);
        self.check_upstream(&found, row_count);
        self.check_pushed();
        self.check_pushed_upstream(pushed_count);
        let starts = self.starts_at.len() as u64;
        assert!((1..=1 + self.power_cuts).contains(&starts), "seed {seed}: startsAt {:?}", self.starts_at);
        if !jumped {
            // What was told as firing was told as over, or at least until when it held.
            let now = Rfc3339Ms(self.now.wall_ms).to_string();
            let still = self.down_until.iter().find(|(_, until)| **until > now);
            assert!(still.is_none(), "seed {seed}: at {now} the Alertmanager still believes {still:?}");
        }

        let evicted = self.store_status("evicted_unspilled_samples");
        assert_eq!(evicted, 0, "seed {seed}: the disk was never away for long");
        if self.is_told {
            let rows_in_ram = self.store_status("rows_in_ram");
            println!("tight {}: {rows_in_ram} rows in RAM of {}", self.scale.is_tight, self.model.rows.len());
        }

        let up = self.samples("up[2m]", 0);
        assert_eq!(up.len(), SOURCES, "seed {seed}: {up:?}");
        // A clock that was set back comes by old instants again, and bad scrapes may have been at the same ones.
        if self.set_back_from_ms.is_none_or(|from_ms| self.now.wall_ms - 120_000 > from_ms) {
            assert!(up.values().all(|samples| samples.iter().all(|(_, value)| *value == 1.0)), "seed {seed}: {up:?}");
            assert_eq!(self.series_now("ALERTS{alertname=\"Down\"}"), [""; 0], "seed {seed}");
        }
        let sums = self.samples("sums:m0[1m]", 0);
        assert_eq!(sums.len(), 1, "seed {seed}: the recording rule's result");
        let ups = self.samples("ups:count[1m]", 0);
        let all_up = ups.values().flatten().all(|(_, count)| *count == SOURCES as f64);
        assert!(ups.len() == 1 && all_up, "seed {seed}: {ups:?}");
    }

    fn check_upstream(&self, found: &Samples, row_count: usize) {
        let seed = self.seed;
        let is_poison = |series: &str| self.upstream_kind == UpstreamKind::Picky && series == network::POISON;
        let upstream = |key: &str, t_ms: &i64| self.upstream.1.samples.get(key).and_then(|known| known.get(t_ms));
        for (key, samples) in found {
            let is_poison = is_poison(network::name_of(key));
            assert!(!is_poison || self.said_lost, "seed {seed}: nobody said that the upstream lacks {key}");
            for (t_ms, value) in samples.iter().filter(|_| !is_poison) {
                let upstream = upstream(key, t_ms);
                let is_there = upstream.is_some_and(|values| values.contains(&value.to_bits()));
                assert!(is_there, "seed {seed}: {key} is {value} at {t_ms}, and upstream {upstream:x?}");
            }
        }
        // All that no power cut can have taken, however long ago.
        for row in self.model.rows[..row_count].iter().filter(|row| !row.may_be_lost && !self.clock_jumped) {
            let Outcome::Page(page) = row.outcome else { continue };
            for (_, series) in network::series_of(row.source, page).filter(|(_, series)| !is_poison(series)) {
                let is_there = upstream(&network::key_of(row.source, series), &row.t_ms).is_some();
                assert!(is_there, "seed {seed}: the upstream lacks {series} of {row:?}");
            }
        }
        // A target that went by a reload ended its series.
        for (row, series) in &self.ended {
            let row = &self.model.rows[*row];
            if row.may_be_lost || self.clock_jumped || is_poison(series) {
                continue;
            }
            let upstream = upstream(&network::key_of(row.source, series), &row.t_ms);
            let is_stale = upstream.is_some_and(|values| values.contains(&STALE_NAN_BITS));
            assert!(is_stale, "seed {seed}: upstream {series} did not end with its target: {row:?}, {upstream:x?}");
        }
        let repeats_max = self.uncertain * 2 * SAMPLES_PER_SEND_MAX + self.repeats_max;
        let repeats = self.upstream.1.repeats;
        assert!(repeats <= repeats_max, "seed {seed}: {repeats} samples were repeated");
        assert_eq!(self.upstream.1.sites.iter().collect::<Vec<_>>(), ["attic"], "seed {seed}");
    }

    /// Asks for an instant query over the API, `after_ms` behind now, and gives samples by [`network::key`].
    pub(super) fn samples(&mut self, query: &str, after_ms: i64) -> Samples {
        let time = (self.now.wall_ms + after_ms) as f64 / 1000.0;
        found_samples(&self.ask("query", &format!("query={query}&time={time}")))
    }

    /// Names of the series that a selector finds now.
    pub(super) fn series_now(&mut self, selector: &str) -> Vec<String> {
        let time = self.now.wall_ms as f64 / 1000.0;
        let answer = self.ask("query", &format!("query={selector}&time={time}"));
        let series = answer["data"]["result"].as_array().into_iter().flatten();
        series.map(|series| series["metric"]["__name__"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn ask(&mut self, what: &str, query: &str) -> serde_json::Value {
        let id = RequestId(self.request_next);
        self.request_next += 1;
        self.requests.push(Request { id, status: 0, body: Vec::new(), done: false });
        let path = format!("/api/v1/{what}");
        self.handle(Input::Request {
            request: id,
            method: Method::Get,
            path: &path,
            query: &query.replace('+', "%2B"),
            content_type: "",
            content_encoding: "",
            body: Vec::new(),
        });
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
}

fn found_samples(answer: &serde_json::Value) -> Samples {
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

pub(super) fn by_name(found: &Samples) -> Samples {
    found.iter().map(|(key, samples)| (network::name_of(key).to_owned(), samples.clone())).collect()
}
