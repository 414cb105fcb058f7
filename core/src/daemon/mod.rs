//! The machine that owns the stages. Sans-IO: what happens comes in through [`Daemon::handle`], what is to be done comes
//! out of [`Daemon::poll_output`], which takes at most one bounded bite of work per call.
//!
//! `input` and `output` are all that can happen and all that can be asked for.

pub mod input;
pub mod output;
pub mod settings;

mod alertmanagers;
mod answer;
mod exposition;
mod flush;
mod losses;
mod metrics;
mod reader;
mod receive;
mod requests;
mod retention;
mod rows;
mod rules_run;
mod series;
pub mod start;
mod status;
mod targets;
#[cfg(test)]
mod test_world;
mod upstreams;

pub use {
    input::Input,
    output::Output,
    settings::{Options, Settings},
    status::{HOLDFAST_VERSION, PROMETHEUS_VERSION},
    upstreams::state_keys,
};

use crate::{
    ledger::{Ledger, Loss, Reason},
    prng,
    promql::source::Source,
    rules::{self, RuleOptions},
    scrape::{METADATA_BYTES_MAX, Shared},
    spill::Spill,
    store::{Store, stored::Stored},
    time::{JumpWatch, Now, Rfc3339},
};
use alertmanagers::Alertmanager;
use alloc::{
    boxed::Box,
    collections::VecDeque,
    format,
    string::{String, ToString},
    vec::Vec,
};
use answer::{Answer, Answers, Step};
use flush::Flush;
use input::{FetchId, RequestId, Usage};
use losses::KnownDamage;
use metrics::Counters;
use output::{FetchWhat, Level, OUTPUT_BYTES_MAX, PostKind};
use receive::Receiver;
use requests::Incoming;
use retention::Retention;
use rows::StoredRows;
use series::{ReadCache, SeriesSource};
use targets::{ACCEPT, FetchEvent, TargetSlot};
use upstreams::Upstream;

/// Decoded stripes of stored segments that are kept while queries read them: an hour of 32 columns at one second.
const STRIPES_BYTES_MAX: usize = 256 * 1024;

pub struct Daemon<'m> {
    options: Options,
    settings: Settings,
    store: Store<'m>,
    spill: Spill,
    targets: Vec<TargetSlot>,
    /// What all targets share.
    scraping: Shared,
    rules: rules::Engine,
    upstreams: Vec<Upstream>,
    /// Which rows stored segments hold.
    held: StoredRows,
    alertmanagers: Vec<Alertmanager>,
    answers: Answers,
    receiver: Receiver,
    /// What answers and rules keep of the segments that they read.
    cache: ReadCache,
    flush: Flush,
    retention: Retention,
    /// Small things to ask for, oldest first.
    effects: VecDeque<Effect>,
    /// Requests to `/-/reload` that wait for the platform's word.
    reloads_waiting: Vec<RequestId>,
    reload_errors: Option<String>,
    configured_wall_ms: i64,
    counters: Counters,
    ledger: Ledger,
    known_damage: KnownDamage,
    usage: Usage,
    oldest_ms: Option<i64>,
    /// The rules took the last bite: requests have the next one.
    rules_wait: bool,
    jumps: JumpWatch,
    now: Now,
    next_id: u64,
    next_target: u32,
    stopping: bool,
}

/// What is asked for without being computed then.
enum Effect {
    FetchAbort { fetch: FetchId },
    TargetGone { target: u32 },
    Page { request: RequestId, path: Box<str> },
    Reload,
    Log { level: Level, cause: u64, message: String },
}

impl<'m> Daemon<'m> {
    /// A machine over a store that is attached or recovered already, with its small state in the store's slots.
    pub fn new(
        options: Options,
        settings: Settings,
        store: Store<'m>,
        spill: Spill,
        now: Now,
        stored: &mut dyn Stored,
    ) -> Result<Self, Vec<rules::RuleError>> {
        // Decoded stripes are a part of the requests' half.
        let stripes_bytes = (half_of_queries(&options) / 4).min(STRIPES_BYTES_MAX);
        let answers = Answers::new(half_of_queries(&options) - stripes_bytes, options.query_count_max);
        let rules = rules::Engine::new(settings.rule_groups.clone(), rule_options(&options, &settings), now)?;
        let flush = Flush::new(options.flush_interval_ms, now);
        let (ledger, ledger_errors) = losses::restore(&store);
        let scraping =
            Shared::new(METADATA_BYTES_MAX, store.plan().seen_lines_bytes() as usize, store.seed_of_process());
        let mut daemon = Self {
            options,
            settings: Settings::default(),
            store,
            spill,
            targets: Vec::new(),
            scraping,
            rules,
            upstreams: Vec::new(),
            held: StoredRows::default(),
            alertmanagers: Vec::new(),
            answers,
            receiver: Receiver::new(),
            cache: ReadCache::new(stripes_bytes),
            flush,
            retention: Retention::new(now),
            effects: VecDeque::new(),
            reloads_waiting: Vec::new(),
            reload_errors: None,
            configured_wall_ms: now.wall_ms,
            counters: Counters::default(),
            ledger,
            known_damage: KnownDamage::default(),
            usage: Usage::default(),
            oldest_ms: stored.oldest_ms().ok().flatten(),
            rules_wait: false,
            jumps: JumpWatch::new(now),
            now,
            next_id: 1,
            next_target: 0,
            stopping: false,
        };
        for error in ledger_errors {
            daemon.lose(&Loss::new(Reason::StateSetAside, "the ledger of losses", 0));
            daemon.log(Level::Error, "ledger-restore", format_args!("{error}"));
        }
        if let Some(bytes) = daemon.store.state_get(rules_run::RULES_STATE)
            && let Err(error) = daemon.rules.restore(bytes, daemon.store.state_get(rules_run::RULES_ALIVE), now)
        {
            daemon.log(Level::Warn, "rules-restore", format_args!("{error}"));
        }
        daemon.retention_restore();
        daemon.held.refresh(stored);
        daemon.configure(now, settings, stored);
        daemon.adopt_timelines(now);
        Ok(daemon)
    }

    /// One thing happened.
    pub fn handle(&mut self, now: Now, input: Input<'_>, stored: &mut dyn Stored) {
        self.observe(now);
        match input {
            Input::Tick => {}
            Input::FetchHead { fetch, status, content_type } => {
                self.fetch_event(now, fetch, FetchEvent::Head { status, content_type });
            }
            Input::FetchBody { fetch, bytes } => self.fetch_event(now, fetch, FetchEvent::Body(bytes)),
            Input::FetchEnd { fetch } => self.fetch_event(now, fetch, FetchEvent::End),
            Input::FetchFailed { fetch, error } => self.fetch_event(now, fetch, FetchEvent::Failed(error)),
            Input::Request { request, method, path, query, content_type, content_encoding, body } => {
                let incoming = Incoming { request, method, path, query, content_type, content_encoding, body };
                self.handle_request(now, incoming, stored);
            }
            Input::RequestReady { request } => self.answers.ready(request),
            Input::RequestGone { request } => {
                self.answers.gone(request);
                self.receiver.gone(request);
                self.reloads_waiting.retain(|waiting| *waiting != request);
            }
            Input::PostAnswered { post, status, retry_after_ms, body } => {
                let result = Ok((status, retry_after_ms, body));
                if !self.alertmanager_answered(now, post, result) {
                    self.upstream_answered(now, post, result);
                }
            }
            Input::PostFailed { post, error } => {
                if !self.alertmanager_answered(now, post, Err(error)) {
                    self.upstream_answered(now, post, Err(error));
                }
            }
            Input::LogSynced { token, result } => self.log_synced(token, result),
            Input::Committed { token, result } => {
                self.cache.clear();
                self.committed(now, token, result, stored);
            }
            Input::Settings(settings) => self.reload(now, *settings, stored),
            Input::SettingsRefused { errors } => self.reload_refused(errors),
            Input::Usage(usage) => self.used(usage, stored),
            Input::Lost(loss) => self.platform_lost(&loss, stored),
            Input::Stop => {
                self.stopping = true;
                self.save_rules(now);
                self.flush.now(now);
            }
        }
    }

    /// The next thing to do. Called until it gives `SleepUntil`, `Again` or `Stopped`.
    pub fn poll_output<'b>(&mut self, now: Now, buf: &'b mut [u8], stored: &mut dyn Stored) -> Output<'b> {
        assert!(buf.len() >= OUTPUT_BYTES_MAX, "the output buffer has {} bytes", buf.len());
        self.observe(now);
        if let Some(effect) = self.effects.pop_front() {
            return effect.output(buf);
        }
        if !self.stopping
            && let Some(index) = self.scrape_step(now)
        {
            return self.fetch_output(index, buf);
        }
        if self.flush.is_active(now) {
            self.cache.clear();
            return self.flush_step(now, buf, stored);
        }
        if self.stopping {
            let wait = Output::SleepUntil { mono_ms: now.mono_ms + 1_000 };
            if !self.flush.is_quiet(now) {
                return wait;
            }
            // One that ends in order is no sign that the slab brings processes down.
            self.store.set_healthy();
            return Output::Stopped;
        }
        let mut body = String::new();
        if let Some((post, peer, url, timeout_ms)) = self.alertmanager_post(now, &mut body) {
            let (url, body) = put_two(buf, url.as_bytes(), body.as_bytes());
            return Output::Post { post, peer, url: text(url), kind: PostKind::ALERTS, timeout_ms, body };
        }
        if let Some(index) = self.upstream_due(now) {
            return self.upstream_post(now, index, buf, stored);
        }
        // Rules that take longer than their interval are due at every turn, and must not keep requests waiting for ever.
        let rules_wait = core::mem::take(&mut self.rules_wait);
        if !rules_wait && self.rules_step(now, stored) {
            self.rules_wait = true;
            return Output::Again;
        }
        let receive_rests = core::mem::take(&mut self.receiver.rests);
        if !receive_rests && self.receive_step(now) {
            self.receiver.rests = true;
            return Output::Again;
        }
        let sequence_next = self.spill.segment_sequence_next();
        let mut reader = SeriesSource::new(&self.store, stored, &mut self.cache, sequence_next);
        let source: &mut dyn Source = &mut reader;
        let step = self.answers.step(now, source, buf);
        let damage = reader.into_damage();
        self.damage_found(damage);
        match step {
            Step::Head { request, status, headers } => return Output::Respond { request, status, headers },
            Step::Piece { request, bytes, last, broken } => {
                return Output::RespondBody { request, bytes, last, broken };
            }
            Step::Worked => return Output::Again,
            Step::Idle if rules_wait || receive_rests => return Output::Again,
            Step::Idle => {}
        }
        Output::SleepUntil { mono_ms: self.next_due_mono_ms(now) }
    }

    /// Ends at once, as a killed process does, and gives the slab back as it is.
    pub fn into_slab(self) -> &'m mut [u8] {
        self.store.into_slab()
    }

    /// What was ever lost.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn next_due_mono_ms(&self, now: Now) -> u64 {
        [
            self.targets_due_mono_ms(),
            self.flush.due_mono_ms(),
            self.rules.next_due_mono_ms(),
            self.alertmanagers_due_mono_ms(),
            self.upstreams_due_mono_ms(now),
            self.receive_due_mono_ms(),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now.mono_ms + 60_000)
    }

    fn observe(&mut self, now: Now) {
        self.now = now;
        if let Some(jump_ms) = self.jumps.observe(now) {
            self.counters.clock_jumps += 1;
            self.log(
                Level::Warn,
                "clock-jump",
                format_args!("the wall clock jumped by {jump_ms} ms; schedules go on by the monotonic clock"),
            );
            // Otherwise a process that is killed before the next evaluation leaves the jump to count as an outage.
            if let Some(bytes) = self.rules.alive(now) {
                self.keep_state(rules_run::RULES_ALIVE, &bytes);
                self.flush.hurry(now);
            }
        }
    }

    /// The platform's figures, every few seconds.
    fn used(&mut self, usage: Usage, stored: &mut dyn Stored) {
        if usage.dropped_until_ms != self.usage.dropped_until_ms
            && let Some(t_ms) = usage.dropped_until_ms
        {
            // The quota has taken segments: layouts may have gone with them.
            self.spill.dropped_before(t_ms.saturating_add(1));
            self.held.refresh(stored);
            self.log(
                Level::Warn,
                "quota",
                format_args!("the disk quota is used up: samples up to {} were dropped for newer ones", Rfc3339(t_ms)),
            );
        }
        self.usage = usage;
    }

    /// Takes a configuration over.
    fn configure(&mut self, now: Now, settings: Settings, stored: &mut dyn Stored) {
        self.set_targets(now, &settings);
        self.set_alertmanagers(&settings.alertmanagers);
        self.set_upstreams(&settings, stored);
        self.settings = settings;
        self.configured_wall_ms = now.wall_ms;
    }

    fn reload(&mut self, now: Now, settings: Settings, stored: &mut dyn Stored) {
        let options = rule_options(&self.options, &settings);
        if let Err(errors) = self.rules.reload(settings.rule_groups.clone(), options, now) {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return self.reload_refused(&lines.join("\n"));
        }
        self.configure(now, settings, stored);
        self.counters.reloads += 1;
        self.reload_errors = None;
        self.log(Level::Info, "reload", format_args!("a new configuration is in use"));
        for request in core::mem::take(&mut self.reloads_waiting) {
            self.answers.add(Answer::text(request, 200, ""));
        }
    }

    /// The old configuration goes on.
    fn reload_refused(&mut self, errors: &str) {
        self.counters.reloads_failed += 1;
        self.reload_errors = Some(errors.to_string());
        self.log(
            Level::Error,
            "reload-refused",
            format_args!("the new configuration is refused, the old one goes on: {errors}"),
        );
        for request in core::mem::take(&mut self.reloads_waiting) {
            self.answers.add(Answer::text(request, 500, &format!("failed to reload config: {errors}\n")));
        }
    }

    /// What the page should say above everything else.
    fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if let Some(errors) = &self.reload_errors {
            notices.push(format!("The last reload was refused; the configuration before it goes on: {errors}"));
        }
        if self.flush.log_is_failing() {
            notices.push("The tail log cannot be written; samples since then are only in memory.".into());
        }
        if self.flush.commit_is_failing() {
            notices.push("Segments cannot be stored; samples stay in memory and are tried again.".into());
        }
        let usage = self.store.usage();
        if usage.counters.refused_series > 0 {
            notices.push(format!(
                "{} samples of new series found no room since the store was made; see the regions of the memory budget.",
                usage.counters.refused_series
            ));
        }
        if usage.counters.evicted_unspilled_samples > 0 {
            notices.push(format!(
                "{} samples left memory before they were stored.",
                usage.counters.evicted_unspilled_samples
            ));
        }
        self.alertmanager_notices(&mut notices);
        self.upstream_notices(&mut notices);
        notices
    }

    fn fetch_output<'b>(&self, index: usize, buf: &'b mut [u8]) -> Output<'b> {
        let slot = &self.targets[index];
        let spec = slot.target.spec();
        let Some(fetch) = slot.fetch else { unreachable!("a started scrape has a fetch") };
        let what = match spec.kind {
            settings::JobKind::Host => FetchWhat::Host,
            settings::JobKind::Http => {
                let timeout = format!("{}", spec.timeout_ms as f64 / 1000.0);
                let (url, timeout) = put_two(buf, spec.url.as_bytes(), timeout.as_bytes());
                FetchWhat::Http { url: text(url), accept: ACCEPT, timeout_header: text(timeout) }
            }
        };
        Output::Fetch { fetch, target: slot.number, what, timeout_ms: spec.timeout_ms }
    }

    fn log(&mut self, level: Level, cause: &'static str, message: core::fmt::Arguments<'_>) {
        self.log_cause(level, prng::stable_hash(cause.as_bytes()), message);
    }

    fn log_cause(&mut self, level: Level, cause: u64, message: core::fmt::Arguments<'_>) {
        self.effects.push_back(Effect::Log { level, cause, message: message.to_string() });
    }
}

impl Effect {
    fn output(self, buf: &mut [u8]) -> Output<'_> {
        match self {
            Self::FetchAbort { fetch } => Output::FetchAbort { fetch },
            Self::TargetGone { target } => Output::TargetGone { target },
            Self::Page { request, path } => Output::RespondPage { request, path: put_text(buf, &path) },
            Self::Reload => Output::Reload,
            Self::Log { level, cause, message } => Output::Log { level, cause, message: put_text(buf, &message) },
        }
    }
}

fn rule_options(options: &Options, settings: &Settings) -> RuleOptions {
    RuleOptions {
        evaluation_interval_ms: settings.evaluation_interval_ms,
        query_offset_ms: settings.rule_query_offset_ms,
        query: crate::promql::QueryOptions {
            lookback_delta_ms: options.lookback_delta_ms,
            samples_max: options.query_samples_max,
            bytes_max: half_of_queries(options),
        },
        external_labels: settings.external_labels.clone(),
        external_url: options.external_url.clone(),
        for_outage_tolerance_ms: options.for_outage_tolerance_ms,
        for_grace_period_ms: options.for_grace_period_ms,
    }
}

/// Rules have one half of the memory for queries, requests the other: a query bomb makes no alert go quiet.
fn half_of_queries(options: &Options) -> usize {
    usize::try_from(options.query_bytes_max / 2).unwrap_or(usize::MAX)
}

/// As much of a text as the buffer holds, cut between characters.
fn put_text<'b>(buf: &'b mut [u8], message: &str) -> &'b str {
    let end = message.floor_char_boundary(buf.len());
    buf[..end].copy_from_slice(&message.as_bytes()[..end]);
    text(&buf[..end])
}

/// Two byte strings side by side in the buffer. Both were bounded when they were made.
fn put_two<'b>(buf: &'b mut [u8], first: &[u8], second: &[u8]) -> (&'b [u8], &'b [u8]) {
    assert!(first.len() + second.len() <= buf.len(), "{} and {} bytes do not fit", first.len(), second.len());
    let (left, right) = buf.split_at_mut(first.len());
    left.copy_from_slice(first);
    right[..second.len()].copy_from_slice(second);
    (left, &right[..second.len()])
}

fn text(bytes: &[u8]) -> &str {
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => unreachable!("only text is put here"),
    }
}

#[cfg(test)]
#[path = "losses_tests.rs"]
mod losses_tests;
#[cfg(test)]
#[path = "daemon_tests.rs"]
mod tests;
