//! Alertmanagers: one durable outbox each, one POST in flight each.

use super::{Daemon, input::PostId, output::Level, output::PostKind, settings::AlertmanagerSettings};
use crate::{
    notify::{Outbox, OutboxOptions, payload},
    time::Now,
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// Peers are numbered for the platform's kept connections: Alertmanagers from here, upstreams from 0.
pub(super) const ALERTMANAGER_PEER_FROM: u32 = 1_000;

pub(super) struct Alertmanager {
    pub url: String,
    pub timeout_ms: u64,
    pub outbox: Outbox,
    pub in_flight: Option<PostId>,
    pub last_error: String,
    /// Alerts dropped or refused that are in the ledger.
    pub lost_told: u64,
}

impl Alertmanager {
    pub fn state_key(url: &str) -> String {
        // A slot's name is short; the URL may not be.
        format!("alerts/{:016x}", crate::prng::stable_hash(url.as_bytes()))
    }
}

impl Daemon<'_> {
    /// Takes over the peers of a configuration; those that stay keep their queue.
    pub(super) fn set_alertmanagers(&mut self, settings: &[AlertmanagerSettings]) {
        let mut before = core::mem::take(&mut self.alertmanagers);
        for one in settings {
            let kept = before.iter().position(|peer| peer.url == one.url).map(|index| before.swap_remove(index));
            let mut peer = kept.unwrap_or_else(|| {
                let mut outbox = Outbox::new(OutboxOptions { seed: self.options.seed, ..OutboxOptions::default() });
                let key = Alertmanager::state_key(&one.url);
                let restored = self.store.state_get(&key).map(|bytes| outbox.restore(bytes));
                if let Some(Err(error)) = restored {
                    self.log(Level::Warn, "outbox-restore", format_args!("{}: {error}", one.url));
                }
                Alertmanager {
                    url: one.url.clone(),
                    timeout_ms: one.timeout_ms,
                    outbox,
                    in_flight: None,
                    last_error: String::new(),
                    lost_told: 0,
                }
            });
            peer.timeout_ms = one.timeout_ms;
            self.alertmanagers.push(peer);
        }
        for gone in before.iter().filter(|peer| peer.outbox.waiting_count() > 0) {
            let (url, count) = (gone.url.clone(), gone.outbox.waiting_count());
            self.log(
                Level::Warn,
                "alertmanager-removed",
                format_args!("{count} alerts for {url} were never told: it is no longer configured"),
            );
        }
    }

    /// The next POST to an Alertmanager, written into `body`.
    pub(super) fn alertmanager_post(&mut self, now: Now, body: &mut String) -> Option<(PostId, u32, String, u64)> {
        let post = PostId(self.next_id);
        for (index, peer) in self.alertmanagers.iter_mut().enumerate() {
            if peer.in_flight.is_none() && peer.outbox.next_post(now, body).is_some() {
                peer.in_flight = Some(post);
                self.next_id += 1;
                let url = format!("{}{}", peer.url, payload::PATH);
                return Some((post, ALERTMANAGER_PEER_FROM + index as u32, url, peer.timeout_ms));
            }
        }
        None
    }

    pub(super) fn alertmanagers_due_mono_ms(&self) -> Option<u64> {
        self.alertmanagers
            .iter()
            .filter(|peer| peer.in_flight.is_none())
            .filter_map(|peer| peer.outbox.next_due_mono_ms())
            .min()
    }

    /// True when the post was one of ours.
    pub(super) fn alertmanager_answered(
        &mut self,
        now: Now,
        post: PostId,
        result: Result<(u16, Option<u64>, &str), &str>,
    ) -> bool {
        let Some(index) = self.alertmanagers.iter().position(|peer| peer.in_flight == Some(post)) else { return false };
        let peer = &mut self.alertmanagers[index];
        peer.in_flight = None;
        let error = match result {
            Ok((status, retry_after_ms, body)) => {
                peer.outbox.answered(now, status, retry_after_ms);
                if (200..300).contains(&status) { String::new() } else { format!("answered {status}: {}", body.trim()) }
            }
            Err(error) => {
                peer.outbox.failed(now);
                error.to_string()
            }
        };
        let changed = peer.last_error != error;
        peer.last_error.clone_from(&error);
        let url = peer.url.clone();
        if changed && error.is_empty() {
            self.log(Level::Info, "alertmanager-up", format_args!("{url} takes alerts again"));
        } else if changed {
            self.log(Level::Warn, "alertmanager-down", format_args!("{url}: {error}; alerts wait and are told later"));
        }
        self.alerts_lost();
        self.save_outboxes();
        true
    }

    pub(super) fn alertmanager_notices(&self, notices: &mut Vec<String>) {
        for peer in self.alertmanagers.iter().filter(|peer| !peer.last_error.is_empty()) {
            notices.push(format!(
                "Alertmanager {}: {}; {} alerts wait",
                peer.url,
                peer.last_error,
                peer.outbox.waiting_count()
            ));
        }
    }
}

impl PostKind {
    pub(super) const ALERTS: Self = Self::Json;
}
