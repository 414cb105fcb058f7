//! Runs rules in bites, stores what they give, and tells the Alertmanagers.

use super::{Daemon, Source, alertmanagers::Alertmanager, output::Level, series::SeriesSource};
use crate::{
    labels::LabelSet,
    ledger::{Loss, Reason},
    prng,
    rules::Advance,
    store::{Missing, Refused, TimelineKey, stored::Stored},
    time::Now,
};
use alloc::string::String;

/// Samples one bite of a rule may read: about a millisecond on a slow core.
const BITE_SAMPLES: usize = 20_000;

/// Names of small state.
pub(super) const RULES_STATE: &str = "rules";
pub(super) const RULES_ALIVE: &str = "rules-alive";

impl Daemon<'_> {
    /// One bite of the rules; false when nothing is due.
    pub(super) fn rules_step(&mut self, now: Now, stored: &mut dyn Stored) -> bool {
        if self.rules.next_due_mono_ms().is_none_or(|due_ms| due_ms > now.mono_ms) {
            return false;
        }
        let sequence_next = self.spill.segment_sequence_next();
        let mut reader = SeriesSource::new(&self.store, stored, &mut self.cache, sequence_next);
        let source: &mut dyn Source = &mut reader;
        let mut lost = None;
        let advance = self.rules.advance(now, source, BITE_SAMPLES);
        let damage = reader.into_damage();
        let (refused, committed) = match advance {
            Advance::Idle => return false,
            Advance::More => {
                self.damage_found(damage);
                return true;
            }
            Advance::Write { timeline_name, t_ms, samples } => {
                let key = TimelineKey(prng::stable_hash(timeline_name.as_bytes()));
                self.held.number_rows(&mut self.store, key);
                match write_row(&mut self.store, key, t_ms, samples) {
                    Ok(count) => (None, count),
                    Err((refused, count)) => {
                        lost = Some((String::from(timeline_name), t_ms, count));
                        (Some(refused), 0)
                    }
                }
            }
            Advance::GroupDone => {
                let alerts = self.rules.alerts_due(now, self.options.resend_delay_ms);
                for peer in &mut self.alertmanagers {
                    peer.outbox.push(&alerts);
                }
                self.damage_found(damage);
                self.alerts_lost();
                self.save_rules(now);
                self.save_outboxes();
                return true;
            }
        };
        self.damage_found(damage);
        if let Some((name, t_ms, count)) = lost {
            self.lose(&Loss::new(Reason::SeriesRefused, &name, count).over(Some((t_ms, t_ms))));
        }
        self.counters.rule_samples += u64::from(committed);
        if let Some(refused) = refused {
            self.counters.rule_rows_refused += 1;
            self.log(Level::Warn, "rule-refused", format_args!("a rule's result was not stored: {refused}"));
        }
        self.rows_written();
        true
    }

    /// Keeps the alerts' state where a killed process leaves it, and has the next flush bring it to the medium soon.
    pub(super) fn save_rules(&mut self, now: Now) {
        let changed = self.rules.changed();
        if changed || self.rules.progressed() {
            let bytes = self.rules.save(now);
            self.keep_state(RULES_STATE, &bytes);
        }
        if let Some(bytes) = self.rules.alive(now) {
            self.keep_state(RULES_ALIVE, &bytes);
        }
        if changed {
            self.flush.hurry(now);
        }
    }

    pub(super) fn save_outboxes(&mut self) {
        let now = self.now;
        let mut changed = false;
        for index in 0..self.alertmanagers.len() {
            let peer = &mut self.alertmanagers[index];
            if peer.outbox.changed() {
                let (key, bytes) = (Alertmanager::state_key(&peer.url), peer.outbox.save());
                self.keep_state(&key, &bytes);
                changed = true;
            }
        }
        if changed {
            self.flush.hurry(now);
        }
    }
}

/// One row; series that the row before had and this one lacks end with a stale marker. A series the store has no room
/// for is left out; the error counts them.
fn write_row(
    store: &mut crate::store::Store<'_>,
    key: TimelineKey,
    t_ms: i64,
    samples: &[(LabelSet, u64)],
) -> Result<u32, (Refused, u64)> {
    let all = |refused| (refused, samples.len() as u64);
    let timeline = store.timeline_open(key).map_err(all)?;
    store.row_begin(timeline, t_ms).map_err(all)?;
    let mut refused: Option<(Refused, u64)> = None;
    for (labels, bits) in samples {
        if let Err(error) = store.row_put(timeline, labels.as_ref(), *bits, None) {
            refused = Some((error, refused.map_or(1, |(_, count)| count + 1)));
        }
    }
    let committed = store.row_commit(timeline, Missing::Stale);
    match refused {
        Some(error) => Err(error),
        None => Ok(committed.samples),
    }
}
