//! What of the alerts is kept over a restart: version byte, then postcard.
//!
//! Durations instead of monotonic instants, because the next process has another monotonic clock.

use super::{Alert, AlertState, Group, alert::RESOLVED_KEPT_MS, engine::RuleOptions, group::Rule};
use crate::{labels::LabelSet, time::Now};
use alloc::{boxed::Box, vec::Vec};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("the saved state of alerts is broken; alerts start over")]
    Broken,
    #[error(
        "the saved state of alerts has version {found} and this program knows {known}; update it or delete the state"
    )]
    Version { found: u8, known: u8 },
}

#[derive(Serialize, Deserialize)]
struct Saved<'a> {
    wall_ms: i64,
    #[serde(borrow)]
    rules: Vec<SavedRule<'a>>,
}

#[derive(Serialize, Deserialize)]
struct SavedRule<'a> {
    timeline_name: &'a str,
    #[serde(borrow)]
    alerts: Vec<SavedAlert<'a>>,
}

#[derive(Serialize, Deserialize)]
struct SavedAlert<'a> {
    state: SavedState,
    #[serde(borrow)]
    labels: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    annotations: Vec<(&'a str, &'a str)>,
    value_bits: u64,
    active_at_ms: i64,
    fired_at_ms: Option<i64>,
    resolved_at_ms: Option<i64>,
    keep_firing_since_ms: Option<i64>,
}

/// An alert's state with how long ago its instants were.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum SavedState {
    Pending { held_ms: i64 },
    Firing { held_ms: i64, cleared_for_ms: Option<i64> },
    Resolved { ago_ms: i64 },
}

impl SavedState {
    /// The same state some time on.
    fn later(self, ms: i64) -> Self {
        match self {
            Self::Pending { held_ms } => Self::Pending { held_ms: held_ms.saturating_add(ms) },
            Self::Firing { held_ms, cleared_for_ms } => Self::Firing {
                held_ms: held_ms.saturating_add(ms),
                cleared_for_ms: cleared_for_ms.map(|cleared_for_ms| cleared_for_ms.saturating_add(ms)),
            },
            Self::Resolved { ago_ms } => Self::Resolved { ago_ms: ago_ms.saturating_add(ms) },
        }
    }
}

pub(super) fn save(groups: &[Group], now: Now) -> Vec<u8> {
    let mono_ms = now.mono_ms as i64;
    let rules = groups.iter().flat_map(|group| &group.rules).filter(|rule| !rule.alerts.is_empty());
    let rules = rules.map(|rule| SavedRule {
        timeline_name: &rule.timeline_name,
        alerts: rule.alerts.iter().filter_map(|alert| SavedAlert::new(alert, mono_ms)).collect(),
    });
    let saved = Saved { wall_ms: now.wall_ms, rules: rules.collect() };
    match postcard::to_extend(&saved, alloc::vec![VERSION]) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("plain data of known length always encodes into a vector: {error}"),
    }
}

/// Until when a saved state held: a few bytes, written after every evaluation, so that the state itself is written
/// only when it changes. Without it, how long a process was away could not be told from how long nothing had changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Alive {
    /// Of the state it belongs to.
    saved_wall_ms: i64,
    wall_ms: i64,
    /// Monotonic milliseconds from the save to now.
    after_save_ms: u64,
}

pub(super) fn alive(saved: Now, now: Now) -> Vec<u8> {
    let after_save_ms = now.mono_ms.saturating_sub(saved.mono_ms);
    let alive = Alive { saved_wall_ms: saved.wall_ms, wall_ms: now.wall_ms, after_save_ms };
    match postcard::to_extend(&alive, alloc::vec![VERSION]) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("three numbers always encode into a vector: {error}"),
    }
}

/// `alive` of another state, or one that cannot be read, is as good as none.
pub(super) fn restore(
    groups: &mut [Group],
    bytes: &[u8],
    alive: Option<&[u8]>,
    options: &RuleOptions,
    now: Now,
) -> Result<(), StateError> {
    let (&version, rest) = bytes.split_first().ok_or(StateError::Broken)?;
    if version != VERSION {
        return Err(StateError::Version { found: version, known: VERSION });
    }
    let saved: Saved<'_> = postcard::from_bytes(rest).map_err(|_| StateError::Broken)?;
    // A clock that went back tells nothing about the outage; then it counts as none.
    let alive = alive
        .and_then(|alive| alive.strip_prefix(&[VERSION]))
        .and_then(|alive| postcard::from_bytes::<Alive>(alive).ok())
        .filter(|alive| alive.saved_wall_ms == saved.wall_ms)
        .unwrap_or(Alive { saved_wall_ms: saved.wall_ms, wall_ms: saved.wall_ms, after_save_ms: 0 });
    let outage_ms = now.wall_ms.saturating_sub(alive.wall_ms).max(0);
    let after_save_ms = i64::try_from(alive.after_save_ms).unwrap_or(i64::MAX);
    for rule in groups.iter_mut().flat_map(|group| &mut group.rules) {
        let Some(found) = saved.rules.iter().find(|saved| *saved.timeline_name == *rule.timeline_name) else {
            continue;
        };
        let restored =
            found.alerts.iter().filter_map(|alert| alert.restored(rule, after_save_ms, outage_ms, options, now));
        let mut alerts: Vec<Alert> = restored.collect();
        alerts.sort_by(|a, b| a.labels.cmp(&b.labels));
        alerts.dedup_by(|a, b| a.labels == b.labels);
        rule.alerts = alerts;
        rule.count_bytes();
    }
    Ok(())
}

impl<'a> SavedAlert<'a> {
    fn new(alert: &'a Alert, mono_ms: i64) -> Option<Self> {
        let state = match alert.state {
            AlertState::Inactive => return None,
            AlertState::Pending { since_ms } => SavedState::Pending { held_ms: mono_ms - since_ms },
            AlertState::Firing { since_ms, cleared_ms } => SavedState::Firing {
                held_ms: mono_ms - since_ms,
                cleared_for_ms: cleared_ms.map(|cleared_ms| mono_ms - cleared_ms),
            },
            AlertState::Resolved { at_ms } => SavedState::Resolved { ago_ms: mono_ms - at_ms },
        };
        Some(Self {
            state,
            labels: alert.labels.iter().collect(),
            annotations: alert.annotations.iter().map(|(name, value)| (&**name, &**value)).collect(),
            value_bits: alert.value.to_bits(),
            active_at_ms: alert.active_at_ms,
            fired_at_ms: alert.fired_at_ms,
            resolved_at_ms: alert.resolved_at_ms,
            keep_firing_since_ms: alert.keep_firing_since_ms,
        })
    }

    /// The alert as it goes on after an outage, or `None` when it starts over.
    fn restored(
        &self,
        rule: &Rule,
        after_save_ms: i64,
        outage_ms: i64,
        options: &RuleOptions,
        now: Now,
    ) -> Option<Alert> {
        let mono_ms = now.mono_ms as i64;
        let (for_ms, grace_ms) = (rule.for_ms() as i64, options.for_grace_period_ms as i64);
        let tolerated = outage_ms <= options.for_outage_tolerance_ms as i64;
        let mut active_at_ms = self.active_at_ms;
        let state = match self.state.later(after_save_ms) {
            SavedState::Pending { .. } if !tolerated || for_ms < grace_ms => return None,
            SavedState::Pending { held_ms } => {
                let remaining_ms = for_ms.saturating_sub(held_ms.max(0));
                if remaining_ms > 0 && remaining_ms < grace_ms {
                    let held_ms = for_ms - grace_ms;
                    active_at_ms = now.wall_ms - held_ms;
                    AlertState::Pending { since_ms: mono_ms - held_ms }
                } else {
                    active_at_ms = active_at_ms.saturating_add(outage_ms);
                    AlertState::Pending { since_ms: mono_ms.saturating_sub(held_ms.max(0)) }
                }
            }
            SavedState::Firing { .. } if !tolerated => return None,
            SavedState::Firing { held_ms, cleared_for_ms } => AlertState::Firing {
                since_ms: mono_ms.saturating_sub(held_ms.max(0)),
                cleared_ms: cleared_for_ms.map(|cleared_for_ms| mono_ms.saturating_sub(cleared_for_ms.max(0))),
            },
            SavedState::Resolved { ago_ms } => {
                let ago_ms = ago_ms.max(0).saturating_add(outage_ms);
                if ago_ms > RESOLVED_KEPT_MS {
                    return None;
                }
                AlertState::Resolved { at_ms: mono_ms - ago_ms }
            }
        };
        Some(Alert {
            state,
            labels: LabelSet::from_pairs(self.labels.iter().copied()),
            annotations: self.annotations.iter().map(|&(name, value)| (Box::from(name), Box::from(value))).collect(),
            value: f64::from_bits(self.value_bits),
            active_at_ms,
            fired_at_ms: self.fired_at_ms,
            resolved_at_ms: self.resolved_at_ms,
            keep_firing_since_ms: self.keep_firing_since_ms,
            sent_mono_ms: None,
        })
    }
}
