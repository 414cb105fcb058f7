//! Losses: taken down in the ledger, kept over restarts, said in the log, served.
//!
//! Whoever drops something calls [`Daemon::lose`] at once: the slab has it before anything else happens, and the next flush
//! brings it to the medium.

use super::{
    Daemon,
    answer::Answer,
    input::RequestId,
    output::Level,
    reader::{Damage, DamagedUnit},
    targets::target_name,
};
use crate::{
    api::{ApiError, ErrorType, Json, Params},
    forward::{Lost, LostReason},
    ledger::{Entry, LEDGER_KEYS, Ledger, Loss, Reason},
    prng,
    scrape::TargetCounters,
    spill::{LayoutLabels, analyze, layout_labels},
    store::{
        Store, TimelineKey,
        stored::{Stored, StoredError},
    },
    time::{Rfc3339, Rfc3339Ms},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// Hashes of damaged units that this process has met: a query meets them again each time.
#[derive(Default)]
pub(super) struct KnownDamage {
    units: Vec<u64>,
    next: usize,
}

/// Segments of one page of `status/analyze`: some milliseconds of decoding.
const ANALYZED_SEGMENTS_MAX: u64 = 8;
/// Of more units the oldest is forgotten, and counted once more when it is met again.
const KNOWN_DAMAGE_COUNT_MAX: usize = 256;

impl KnownDamage {
    fn is_new(&mut self, unit: u64) -> bool {
        if self.units.contains(&unit) {
            return false;
        }
        if self.units.len() < KNOWN_DAMAGE_COUNT_MAX {
            self.units.push(unit);
        } else {
            self.units[self.next] = unit;
            self.next = (self.next + 1) % KNOWN_DAMAGE_COUNT_MAX;
        }
        true
    }
}

/// The ledger as the store's small state has it, and what of it could not be read.
pub(super) fn restore(store: &Store<'_>) -> (Ledger, Vec<String>) {
    let (mut ledger, mut errors) = (Ledger::default(), Vec::new());
    for (page, key) in LEDGER_KEYS.into_iter().enumerate() {
        if let Some(Err(error)) = store.state_get(key).map(|bytes| ledger.restore(page, bytes)) {
            errors.push(error.to_string());
        }
    }
    (ledger, errors)
}

impl Daemon<'_> {
    /// Takes a loss down.
    pub(super) fn lose(&mut self, loss: &Loss<'_>) {
        let page = self.ledger.note(self.now.wall_ms, loss).page;
        let bytes = self.ledger.save(page);
        self.keep_state(LEDGER_KEYS[page], &bytes);
    }

    /// The platform dropped something, or found it damaged, and has said so in the log.
    pub(super) fn platform_lost(&mut self, loss: &Loss<'_>, stored: &mut dyn Stored) {
        self.counters.damaged_units += u64::from(loss.reason == Reason::Damage);
        self.lose(loss);
        if loss.reason == Reason::DatabaseSetAside {
            // A new one is in its place. What RAM has of the old one's rows is stored once more, before anything else.
            self.spill.database_replaced(&mut self.store);
            self.held.refresh(stored);
            self.oldest_ms = None;
            self.flush.now(self.now);
        }
    }

    /// What a timeline belongs to, in words.
    pub(super) fn timeline_name(&self, key: TimelineKey) -> String {
        let slot = self.targets.iter().find(|slot| slot.target.timeline_key() == key);
        slot.map_or_else(|| format!("timeline {:016x}", key.0), |slot| target_name(&slot.target))
    }

    /// What a target's last scrape had to leave out: the difference to what was told of it before.
    pub(super) fn target_lost(&mut self, index: usize) {
        let slot = &mut self.targets[index];
        let now = slot.target.status().counters;
        let TargetCounters { samples_duplicate, samples_out_of_bounds, samples_refused, samples_over_limit, .. } =
            core::mem::replace(&mut slot.lost_told, now);
        let t_ms = slot.target.status().last_scrape_wall_ms;
        let more = [
            (Reason::Duplicate, now.samples_duplicate - samples_duplicate),
            (Reason::OutOfBounds, now.samples_out_of_bounds - samples_out_of_bounds),
            (Reason::SeriesRefused, now.samples_refused - samples_refused),
            (Reason::SampleLimit, now.samples_over_limit - samples_over_limit),
        ];
        if more.iter().all(|(_, count)| *count == 0) {
            return;
        }
        let name = target_name(&self.targets[index].target);
        for (reason, count) in more.into_iter().filter(|(_, count)| *count > 0) {
            self.lose(&Loss::new(reason, &name, count).over(t_ms.map(|t_ms| (t_ms, t_ms))));
            // What is refused or over the limit is said with the target's other news.
            if matches!(reason, Reason::Duplicate | Reason::OutOfBounds) {
                let cause = prng::mix(self.targets[index].target.timeline_key().0 ^ reason as u64);
                let help = reason.help();
                self.log_cause(Level::Warn, cause, format_args!("{count} samples of {name} are left out: {help}"));
            }
        }
    }

    /// What an upstream will never have.
    pub(super) fn upstream_lost(&mut self, name: &str, lost: Vec<Lost>) {
        for one in lost {
            let span = match one.span_ms {
                Some((from_ms, to_ms)) => format!("{} to {}", Rfc3339(from_ms), Rfc3339(to_ms)),
                None => "an unknown time".into(),
            };
            let cause = prng::mix(one.timeline.0 ^ one.rows.start);
            let (from, to, key) = (one.rows.start, one.rows.end, one.timeline.0);
            self.log_cause(
                Level::Error,
                cause,
                format_args!(
                    "upstream {name} will never have rows {from}..{to} of timeline {key:016x} ({span}): {}",
                    one.reason
                ),
            );
            let (reason, count) = match one.reason {
                LostReason::Retention => (Reason::UpstreamOvertaken, to - from),
                LostReason::Unreadable => (Reason::UpstreamUnreadable, to - from),
                LostReason::Refused { .. } | LostReason::TooLarge => (Reason::UpstreamRefused, one.samples),
            };
            let subject = format!("{name}: {}", self.timeline_name(one.timeline));
            self.lose(&Loss::new(reason, &subject, count).over(one.span_ms).of_rows(from..to));
        }
    }

    /// What an Alertmanager will never be told.
    pub(super) fn alerts_lost(&mut self) {
        for index in 0..self.alertmanagers.len() {
            let peer = &mut self.alertmanagers[index];
            let counters = peer.outbox.counters();
            let before = core::mem::replace(&mut peer.lost_told, counters.dropped_count + counters.refused_count);
            let count = peer.lost_told - before;
            if count == 0 {
                continue;
            }
            let (url, now_ms) = (peer.url.clone(), self.now.wall_ms);
            self.lose(&Loss::new(Reason::AlertsDropped, &url, count).over(Some((now_ms, now_ms))));
            self.log(
                Level::Error,
                "alerts-dropped",
                format_args!("{count} alerts were not told to {url}: {}", Reason::AlertsDropped.help()),
            );
        }
    }

    /// Stored units that had to be left out: each is named once.
    pub(super) fn damage_found(&mut self, damage: Damage) {
        self.counters.newer_units += damage.newer;
        for unit in damage.units {
            let DamagedUnit { sequence, layout, .. } = unit;
            let subject = match sequence {
                Some(sequence) => format!("segment {sequence} of {}", self.timeline_name(unit.timeline)),
                None => format!("layout {layout} of {}", self.timeline_name(unit.timeline)),
            };
            let cause = prng::stable_hash(subject.as_bytes());
            if !self.known_damage.is_new(cause) {
                continue;
            }
            self.counters.damaged_units += 1;
            if self.ledger.entries(Reason::Damage).any(|entry| *entry.subject == *subject) {
                continue;
            }
            let span = match unit.span_ms {
                Some((from_ms, to_ms)) => format!(" with samples from {} to {}", Rfc3339(from_ms), Rfc3339(to_ms)),
                None => String::new(),
            };
            self.log_cause(Level::Error, cause, format_args!("{subject}{span} is left out: {}", unit.error));
            let loss = Loss { rows: unit.rows, ..Loss::new(Reason::Damage, &subject, unit.samples).over(unit.span_ms) };
            self.lose(&loss);
        }
    }

    /// For the page: what was lost, each reason with its newest loss.
    pub(super) fn write_losses_newest(&self, json: &mut Json) {
        for reason in Reason::all() {
            let Some(newest) = self.ledger.entries(reason).next_back() else { continue };
            json.object(|json| {
                self.write_reason(json, reason);
                json.key("newest");
                write_entry(json, newest);
            });
        }
    }

    fn write_reason(&self, json: &mut Json, reason: Reason) {
        json.key("reason").text(reason.name());
        json.key("help").text(reason.help());
        json.key("unit").text(reason.unit());
        json.key("count").plain(self.ledger.count(reason));
        json.key("events").plain(self.ledger.events(reason));
    }

    /// `status/losses`: every reason, with what is known of each loss.
    pub(super) fn losses_status(&self, request: RequestId) -> Answer {
        Answer::success(request, |json| {
            json.object(|json| {
                json.key("reasons").array(|json| {
                    for reason in Reason::all() {
                        json.object(|json| {
                            self.write_reason(json, reason);
                            json.key("losses").array(|json| {
                                // The newest first: that is what is looked for.
                                for entry in self.ledger.entries(reason).rev() {
                                    write_entry(json, entry);
                                }
                            });
                        });
                    }
                });
            });
        })
    }
}

impl Daemon<'_> {
    /// `status/analyze`: without parameters what there is, else a page of one timeline.
    pub(super) fn analyze_status(
        &self,
        request: RequestId,
        params: &Params,
        stored: &mut dyn Stored,
    ) -> Result<Answer, ApiError> {
        let unreadable =
            |error: StoredError| ApiError::new(ErrorType::Internal, format!("reading stored segments: {error}"));
        if params.get("timeline").is_empty() {
            let mut timelines: Vec<TimelineKey> = Vec::new();
            stored
                .timelines(&mut |key, _| {
                    timelines.push(key);
                    true
                })
                .map_err(unreadable)?;
            return Ok(Answer::success(request, |json| {
                json.object(|json| {
                    json.key("disk_bytes").plain(self.usage.disk_bytes);
                    json.key("quota_bytes").plain(self.options.retention_bytes.unwrap_or(0));
                    json.key("logs").array(|json| {
                        if let Some(generation) = self.spill.log_generation() {
                            json.object(|json| {
                                json.key("generation").plain(generation);
                                json.key("bytes").plain(self.spill.log_bytes());
                                json.key("damaged").plain(0);
                            });
                        }
                    });
                    json.key("timelines").array(|json| {
                        for key in timelines {
                            json.text(&format!("{:016x}", key.0));
                        }
                    });
                });
            }));
        }
        let timeline = u64::from_str_radix(params.get("timeline"), 16)
            .map_err(|_| ApiError::bad_data("invalid parameter \"timeline\": write it as this endpoint lists it"))?;
        let row = match params.get("row") {
            "" => 0,
            text => text.parse().map_err(|_| ApiError::bad_data("invalid parameter \"row\": not a row number"))?,
        };
        let report = analyze(stored, TimelineKey(timeline), row, ANALYZED_SEGMENTS_MAX).map_err(unreadable)?;
        let labels = report.layout.map_or(Ok(LayoutLabels::default()), |layout| layout_labels(stored, layout));
        let labels = labels.map_err(unreadable)?;
        Ok(Answer::success(request, |json| report.write(json, &labels)))
    }
}

fn write_entry(json: &mut Json, entry: &Entry) {
    json.object(|json| {
        json.key("subject").text(&entry.subject);
        json.key("count").plain(entry.count);
        json.key("events").plain(entry.events);
        let times = [("from", entry.span_ms.map(|span| span.0)), ("to", entry.span_ms.map(|span| span.1))];
        for (key, t_ms) in times {
            json.key(key);
            match t_ms {
                Some(t_ms) => json.display(Rfc3339Ms(t_ms)),
                None => json.plain("null"),
            };
        }
        json.key("rows");
        match &entry.rows {
            Some(rows) => json.object(|json| {
                json.key("from").plain(rows.start);
                json.key("to").plain(rows.end);
            }),
            None => json.plain("null"),
        };
        json.key("noted_first").display(Rfc3339Ms(entry.noted_ms.0));
        json.key("noted_last").display(Rfc3339Ms(entry.noted_ms.1));
        json.key("summed").plain(entry.summed);
    });
}
