//! Upstreams: one forwarder each, reading from the store; one message in flight each.

use super::{
    Daemon,
    exposition::{Exposition, Kind},
    input::PostId,
    output::{Level, Output, PostKind},
    retention::STORED_TIME_STATE,
    rows::HeldRows,
    rules_run::{RULES_ALIVE, RULES_STATE},
    settings::{RemoteWriteSettings, Settings},
};
use crate::{
    forward::{ForwardSettings, Forwarder, Lag},
    prng,
    store::stored::Stored,
    time::Now,
};
use alloc::{format, string::String, vec::Vec};

/// Room at the end of the output buffer for the URL of a message.
const URL_BYTES_MAX: usize = 4 * 1024;

pub(super) struct Upstream {
    pub settings: RemoteWriteSettings,
    pub forwarder: Forwarder,
    in_flight: Option<PostId>,
    /// Rows have come that the forwarder has not seen.
    look: bool,
    /// Why the last message failed; empty while the upstream takes them.
    pub last_error: String,
}

/// The name of an upstream's saved cursors.
fn state_key(name: &str) -> String {
    format!("forward/{:016x}", prng::stable_hash(name.as_bytes()))
}

/// Every name under which small state is kept for this configuration.
pub fn state_keys(settings: &Settings) -> Vec<String> {
    let upstreams = settings.remote_writes.iter().map(|upstream| state_key(&upstream.name));
    let peers = settings.alertmanagers.iter().map(|peer| super::alertmanagers::Alertmanager::state_key(&peer.url));
    upstreams
        .chain(peers)
        .chain([RULES_STATE, RULES_ALIVE, STORED_TIME_STATE].map(String::from))
        .chain(crate::ledger::LEDGER_KEYS.map(String::from))
        .collect()
}

impl Daemon<'_> {
    /// Takes over the upstreams of a configuration; those that stay keep their place.
    pub(super) fn set_upstreams(&mut self, settings: &Settings, stored: &mut dyn Stored) {
        let mut before = core::mem::take(&mut self.upstreams);
        for one in &settings.remote_writes {
            let forward = ForwardSettings::new(one, &settings.external_labels);
            if let Some(index) = before.iter().position(|upstream| upstream.settings.name == one.name) {
                let mut kept = before.swap_remove(index);
                kept.forwarder.set_settings(forward);
                kept.settings = one.clone();
                self.upstreams.push(kept);
                continue;
            }
            let seed = prng::mix(self.options.seed ^ prng::stable_hash(one.name.as_bytes()));
            let mut forwarder = Forwarder::new(forward, seed);
            let mut rows = HeldRows::new(&self.store, stored, &self.held);
            let restored = match self.store.state_get(&state_key(&one.name)) {
                Some(bytes) => forwarder.restore(bytes, &mut rows),
                None => Ok(()),
            };
            if let Err(error) = restored {
                self.log(Level::Warn, "forward-restore", format_args!("{}: {error}", one.name));
            }
            let (in_flight, look, last_error) = (None, true, String::new());
            self.upstreams.push(Upstream { settings: one.clone(), forwarder, in_flight, look, last_error });
        }
    }

    /// The index of an upstream that may have something to send now.
    pub(super) fn upstream_due(&self, now: Now) -> Option<usize> {
        self.upstreams.iter().position(|upstream| {
            let wakes = || upstream.forwarder.wake_mono_ms(now).is_some_and(|wake_ms| wake_ms <= now.mono_ms);
            upstream.in_flight.is_none() && (upstream.look || wakes())
        })
    }

    pub(super) fn upstreams_due_mono_ms(&self, now: Now) -> Option<u64> {
        self.upstreams.iter().filter_map(|upstream| upstream.forwarder.wake_mono_ms(now)).min()
    }

    /// New rows are there: every forwarder has a look, and waits for its batch's time.
    pub(super) fn rows_written(&mut self) {
        for upstream in &mut self.upstreams {
            upstream.look = true;
        }
    }

    /// One look at an upstream that is due: a message, or nothing to send after all.
    pub(super) fn upstream_post<'b>(
        &mut self,
        now: Now,
        index: usize,
        buf: &'b mut [u8],
        stored: &mut dyn Stored,
    ) -> Output<'b> {
        let upstream = &mut self.upstreams[index];
        upstream.look = false;
        let (body_room, url_room) = buf.split_at_mut(buf.len() - URL_BYTES_MAX);
        let mut rows = HeldRows::new(&self.store, stored, &self.held);
        let batch = upstream.forwarder.next_batch(now, &mut rows, body_room);
        let (damage, lost, name) = (rows.damage(), upstream.forwarder.take_lost(), upstream.settings.name.clone());
        self.damage_found(damage);
        self.upstream_lost(&name, lost);
        let Some(batch) = batch else {
            self.save_forward(index);
            return Output::Again;
        };
        let post = PostId(self.next_id);
        self.next_id += 1;
        let upstream = &mut self.upstreams[index];
        upstream.in_flight = Some(post);
        let url = super::put_text(url_room, &upstream.settings.url);
        Output::Post {
            post,
            peer: index as u32,
            url,
            kind: PostKind::RemoteWrite1,
            timeout_ms: upstream.settings.timeout_ms,
            body: &body_room[..batch.bytes],
        }
    }

    pub(super) fn upstream_answered(&mut self, now: Now, post: PostId, result: Result<(u16, Option<u64>, &str), &str>) {
        let Some(index) = self.upstreams.iter().position(|upstream| upstream.in_flight == Some(post)) else { return };
        let upstream = &mut self.upstreams[index];
        upstream.in_flight = None;
        let accepted = matches!(result, Ok((200..=299, ..)));
        match result {
            Ok((status, retry_after_ms, body)) => upstream.forwarder.answered(now, status, retry_after_ms, body),
            Err(error) => upstream.forwarder.failed(now, error),
        }
        let error = if accepted { String::new() } else { upstream.forwarder.status().last_error.clone() };
        let changed = error.is_empty() != upstream.last_error.is_empty();
        upstream.last_error.clone_from(&error);
        let name = upstream.settings.name.clone();
        let lost = upstream.forwarder.take_lost();
        if changed && accepted {
            self.log(Level::Info, "upstream-up", format_args!("upstream {name} takes samples again"));
        } else if changed {
            self.log(Level::Warn, "upstream-down", format_args!("upstream {name}: {error}; samples wait in the store"));
        }
        self.upstream_lost(&name, lost);
        self.save_forward(index);
    }

    /// Keeps an upstream's place where a killed process leaves it; the next flush brings it to the medium.
    fn save_forward(&mut self, index: usize) {
        let upstream = &self.upstreams[index];
        let key = state_key(&upstream.settings.name);
        match upstream.forwarder.save() {
            Ok(bytes) if self.store.state_get(&key) == Some(bytes.as_slice()) => {}
            Ok(bytes) => self.keep_state(&key, &bytes),
            Err(error) => {
                let name = upstream.settings.name.clone();
                self.log(
                    Level::Error,
                    "forward-save",
                    format_args!("the place of upstream {name} cannot be saved: {error}"),
                );
            }
        }
    }

    pub(super) fn forward_lags(&mut self, stored: &mut dyn Stored) -> Vec<Lag> {
        let mut rows = HeldRows::new(&self.store, stored, &self.held);
        self.upstreams.iter().map(|upstream| upstream.forwarder.lag(&mut rows)).collect()
    }

    pub(super) fn forward_metrics(&mut self, now: Now, stored: &mut dyn Stored, out: &mut Exposition) {
        let lags = self.forward_lags(stored);
        type Value = fn(&Upstream, &Lag, Now) -> f64;
        let families: [(&'static str, Kind, &str, Value); 9] = [
            ("holdfast_forward_samples_total", Kind::Counter, "Samples an upstream has taken.", |u, _, _| {
                u.forwarder.status().samples_sent as f64
            }),
            ("holdfast_forward_messages_total", Kind::Counter, "Messages an upstream has taken.", |u, _, _| {
                u.forwarder.status().messages_sent as f64
            }),
            (
                "holdfast_forward_bytes_total",
                Kind::Counter,
                "Bytes of these messages before compression.",
                |u, _, _| u.forwarder.status().bytes_sent as f64,
            ),
            ("holdfast_forward_retries_total", Kind::Counter, "Messages that had to go again.", |u, _, _| {
                u.forwarder.status().messages_retried as f64
            }),
            (
                "holdfast_forward_samples_refused_total",
                Kind::Counter,
                "Samples given up because the upstream refused them alone.",
                |u, _, _| u.forwarder.status().samples_refused as f64,
            ),
            (
                "holdfast_forward_rows_lost_total",
                Kind::Counter,
                "Rows given up, partly or whole, for any reason.",
                |u, _, _| u.forwarder.status().rows_lost as f64,
            ),
            ("holdfast_forward_lag_rows", Kind::Gauge, "Rows not yet taken, parked ones left out.", |_, lag, _| {
                lag.rows as f64
            }),
            ("holdfast_forward_lag_seconds", Kind::Gauge, "Age of the oldest row not yet taken.", |_, lag, now| {
                lag.oldest_ms.map_or(0.0, |oldest_ms| (now.wall_ms - oldest_ms).max(0) as f64 / 1000.0)
            }),
            (
                "holdfast_forward_parked_rows",
                Kind::Gauge,
                "Rows that wait because the upstream's window has moved on.",
                |_, lag, _| lag.rows_parked as f64,
            ),
        ];
        for (name, kind, help, value) in families {
            out.family(name, kind, help);
            for (upstream, lag) in self.upstreams.iter().zip(&lags) {
                out.labelled(&[("upstream", &upstream.settings.name)], value(upstream, lag, now));
            }
        }
    }

    pub(super) fn upstream_notices(&self, notices: &mut Vec<String>) {
        for upstream in self.upstreams.iter().filter(|upstream| !upstream.last_error.is_empty()) {
            notices.push(format!("Upstream {}: {}", upstream.settings.name, upstream.last_error));
        }
    }
}
