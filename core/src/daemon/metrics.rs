//! Holdfast's own metrics: one table for what has no labels, then the families that do.

use super::{
    Daemon,
    alertmanagers::Alertmanager,
    exposition::{Exposition, Kind},
    settings::Opened,
    status::HOLDFAST_VERSION,
};
use crate::{
    ledger::{Ledger, Reason},
    receive::Cause,
    rules::Group,
    store::stored::Stored,
    time::Now,
};
use alloc::vec::Vec;

/// What the daemon counts itself. Totals since the process started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub requests: u64,
    pub requests_refused: u64,
    pub queries: u64,
    pub scrapes: u64,
    pub scrapes_failed: u64,
    pub scrapes_skipped: u64,
    pub rule_samples: u64,
    pub rule_rows_refused: u64,
    pub flushes: u64,
    pub flushes_failed: u64,
    pub log_bytes: u64,
    pub segments: u64,
    pub segment_bytes: u64,
    pub aged_segments: u64,
    pub aged_bytes: u64,
    pub commits_failed: u64,
    pub clock_jumps: u64,
    pub reloads: u64,
    pub reloads_failed: u64,
    /// Stored units (segments, layout parts, log frames) that were damaged and left out.
    pub damaged_units: u64,
    pub state_refused: u64,
    /// Stored units left out because only a newer version reads them; each time that one is met.
    pub newer_units: u64,
}

/// Name, kind, help, value of each of several things.
type Family<T> = (&'static str, Kind, &'static str, fn(&T) -> f64);

/// Name, help, value of each reason.
type LossFamily = (&'static str, &'static str, fn(&Ledger, Reason) -> u64);

/// Name, kind, help, value.
type Row = (&'static str, Kind, &'static str, fn(&Daemon<'_>) -> f64);

const TABLE: &[Row] = &[
    ("process_cpu_seconds_total", Kind::Counter, "Total user and system CPU time spent in seconds.", |d| {
        d.usage.cpu_ms as f64 / 1000.0
    }),
    ("process_resident_memory_bytes", Kind::Gauge, "Resident memory size in bytes.", |d| d.usage.resident_bytes as f64),
    ("process_open_fds", Kind::Gauge, "Number of open file descriptors.", |d| f64::from(d.usage.open_files)),
    ("process_start_time_seconds", Kind::Gauge, "Start time of the process since unix epoch in seconds.", |d| {
        d.options.started_wall_ms as f64 / 1000.0
    }),
    (
        "holdfast_attach_seconds",
        Kind::Gauge,
        "Time this process took to go on with the store that the one before left in memory; 0 when it did not.",
        |d| match d.options.opened {
            Opened::Attached { took_us, .. } => took_us as f64 / 1e6,
            Opened::Recovered { .. } => 0.0,
        },
    ),
    (
        "holdfast_attach_cpu_seconds",
        Kind::Gauge,
        "The part of holdfast_attach_seconds during which this process had the processor.",
        |d| match d.options.opened {
            Opened::Attached { cpu_us, .. } => cpu_us as f64 / 1e6,
            Opened::Recovered { .. } => 0.0,
        },
    ),
    (
        "holdfast_recovery_seconds",
        Kind::Gauge,
        "Time this process took to bring the store back from the data directory; 0 when it went on with memory.",
        |d| match d.options.opened {
            Opened::Attached { .. } => 0.0,
            Opened::Recovered { took_us } => took_us as f64 / 1e6,
        },
    ),
    ("holdfast_memory_limit_bytes", Kind::Gauge, "The memory budget (--memory.limit).", |d| {
        d.options.memory_limit_bytes as f64
    }),
    ("holdfast_memory_resident_peak_bytes", Kind::Gauge, "Largest resident size so far.", |d| {
        d.usage.resident_bytes_peak as f64
    }),
    ("holdfast_disk_bytes", Kind::Gauge, "All files of the data directory.", |d| d.usage.disk_bytes as f64),
    (
        "holdfast_written_bytes_total",
        Kind::Counter,
        "Bytes this process gave to the block layer, log and database together.",
        |d| d.usage.written_bytes as f64,
    ),
    ("holdfast_connections", Kind::Gauge, "Open connections of clients.", |d| f64::from(d.usage.connections)),
    ("holdfast_http_requests_total", Kind::Counter, "Requests answered, refused ones included.", |d| {
        d.counters.requests as f64
    }),
    (
        "holdfast_http_requests_refused_total",
        Kind::Counter,
        "Requests told to come back because too many, or too large ones, were being answered.",
        |d| (d.counters.requests_refused + d.answers.refused_count) as f64,
    ),
    ("holdfast_queries_total", Kind::Counter, "PromQL queries started over the API.", |d| d.counters.queries as f64),
    (
        "holdfast_answers_failed_total",
        Kind::Counter,
        "Answers whose work failed: an error of the query, no memory left, or out of time.",
        |d| d.answers.failed_count as f64,
    ),
    ("holdfast_scrapes_total", Kind::Counter, "Scrapes ended, failed ones included.", |d| d.counters.scrapes as f64),
    ("holdfast_scrapes_failed_total", Kind::Counter, "Scrapes that failed.", |d| d.counters.scrapes_failed as f64),
    (
        "holdfast_scrapes_skipped_total",
        Kind::Counter,
        "Intervals that passed without a scrape because the last one still ran or the process slept.",
        |d| d.counters.scrapes_skipped as f64,
    ),
    ("holdfast_series", Kind::Gauge, "Series in memory.", |d| d.store.series_count() as f64),
    ("holdfast_samples_appended_total", Kind::Counter, "Samples stored, stale markers included.", |d| {
        d.store.usage().counters.committed_samples as f64
    }),
    ("holdfast_series_refused_total", Kind::Counter, "Samples of new series that a full region refused.", |d| {
        d.store.usage().counters.refused_series as f64
    }),
    (
        "holdfast_samples_duplicate_total",
        Kind::Counter,
        "Samples dropped because the same row had the series already.",
        |d| d.store.usage().counters.duplicates as f64,
    ),
    (
        "holdfast_samples_evicted_total",
        Kind::Counter,
        "Samples that left memory, on flash before unless the next counter says otherwise.",
        |d| d.store.usage().counters.evicted_samples as f64,
    ),
    (
        "holdfast_samples_evicted_unspilled_total",
        Kind::Counter,
        "Samples that left memory before they were in a segment.",
        |d| d.store.usage().counters.evicted_unspilled_samples as f64,
    ),
    ("holdfast_flushes_total", Kind::Counter, "Flushes of the tail log that reached the medium.", |d| {
        d.counters.flushes as f64
    }),
    ("holdfast_flushes_failed_total", Kind::Counter, "Flushes that failed and are tried again.", |d| {
        d.counters.flushes_failed as f64
    }),
    ("holdfast_log_bytes_total", Kind::Counter, "Bytes appended to the tail log.", |d| d.counters.log_bytes as f64),
    ("holdfast_segments_total", Kind::Counter, "Segments committed to the database.", |d| d.counters.segments as f64),
    ("holdfast_segment_bytes_total", Kind::Counter, "Bytes of the segments committed.", |d| {
        d.counters.segment_bytes as f64
    }),
    ("holdfast_aged_segments_total", Kind::Counter, "Stored segments written again behind the entropy coder.", |d| {
        d.counters.aged_segments as f64
    }),
    ("holdfast_aged_bytes_total", Kind::Counter, "Bytes of the segments written again.", |d| {
        d.counters.aged_bytes as f64
    }),
    ("holdfast_commits_failed_total", Kind::Counter, "Transactions that failed and are tried again.", |d| {
        d.counters.commits_failed as f64
    }),
    ("holdfast_damaged_units_total", Kind::Counter, "Stored units that were damaged and left out.", |d| {
        d.counters.damaged_units as f64
    }),
    (
        "holdfast_newer_units_total",
        Kind::Counter,
        "Times that a stored unit was left out because only a newer version reads it.",
        |d| d.counters.newer_units as f64,
    ),
    ("holdfast_rule_samples_total", Kind::Counter, "Samples stored by rules.", |d| d.counters.rule_samples as f64),
    ("holdfast_rule_rows_refused_total", Kind::Counter, "Rule results of which something found no room.", |d| {
        d.counters.rule_rows_refused as f64
    }),
    ("holdfast_receive_requests_total", Kind::Counter, "Requests to write, refused ones included.", |d| {
        d.receiver.request_count as f64
    }),
    (
        "holdfast_receive_requests_refused_total",
        Kind::Counter,
        "Requests to write answered 4xx: that cannot be read, or of which samples were refused.",
        |d| d.receiver.refused_count as f64,
    ),
    (
        "holdfast_receive_requests_busy_total",
        Kind::Counter,
        "Requests to write told to come back, because others waited or memory was full of samples not yet on the disk.",
        |d| d.receiver.busy_count as f64,
    ),
    ("holdfast_receive_samples_total", Kind::Counter, "Samples in requests to write.", |d| {
        d.receiver.tally.samples as f64
    }),
    ("holdfast_receive_samples_stored_total", Kind::Counter, "Those of them that were stored.", |d| {
        d.receiver.tally.stored as f64
    }),
    ("holdfast_receive_exemplars_ignored_total", Kind::Counter, "Exemplars in requests to write; none is kept.", |d| {
        d.receiver.tally.exemplars as f64
    }),
    (
        "holdfast_receive_metadata_ignored_total",
        Kind::Counter,
        "Entries of metadata in requests to write; none is kept.",
        |d| d.receiver.tally.metadata as f64,
    ),
    ("holdfast_receive_pushers", Kind::Gauge, "Pairs of job and instance that pushed lately.", |d| {
        d.receiver.pusher_count() as f64
    }),
    ("holdfast_clock_jumps_total", Kind::Counter, "Jumps of the wall clock of a second or more.", |d| {
        d.counters.clock_jumps as f64
    }),
    ("holdfast_config_reloads_total", Kind::Counter, "Configurations taken over while running.", |d| {
        d.counters.reloads as f64
    }),
    ("holdfast_config_last_reload_successful", Kind::Gauge, "Whether the last reload was taken over.", |d| {
        f64::from(u8::from(d.reload_errors.is_none()))
    }),
    ("holdfast_state_refused_total", Kind::Counter, "Times that small state found no slot in memory.", |d| {
        d.counters.state_refused as f64
    }),
];

impl Daemon<'_> {
    pub(super) fn metrics(&mut self, now: Now, stored: &mut dyn Stored) -> Vec<u8> {
        let mut out = Exposition::default();
        out.family("holdfast_build_info", Kind::Gauge, "The version of this program; always 1.")
            .labelled(&[("version", HOLDFAST_VERSION), ("prometheus", super::status::PROMETHEUS_VERSION)], 1.0);
        for (name, kind, help, value) in TABLE {
            out.family(name, *kind, help).value(value(self));
        }
        let usage = self.store.usage();
        out.family("holdfast_memory_region_used", Kind::Gauge, "Used entries or bytes of each region of the store.");
        for region in usage.regions {
            out.labelled(&[("region", region.region.name())], region.used as f64);
        }
        out.family("holdfast_memory_region_size", Kind::Gauge, "Entries or bytes each region of the store has.");
        for region in usage.regions {
            out.labelled(&[("region", region.region.name())], region.total as f64);
        }
        let name = "holdfast_receive_samples_refused_total";
        out.family(name, Kind::Counter, "Samples in requests to write that were refused.");
        for (kind, count) in Cause::KINDS.iter().zip(self.receiver.tally.refused) {
            out.labelled(&[("reason", kind)], count as f64);
        }
        let loss_families: [LossFamily; 2] = [
            ("holdfast_losses_total", "What was ever lost, by reason, since the store was made.", Ledger::count),
            (
                "holdfast_loss_events_total",
                "How often something was lost, by reason, since the store was made.",
                Ledger::events,
            ),
        ];
        for (name, help, value) in loss_families {
            out.family(name, Kind::Counter, help);
            for reason in Reason::all() {
                out.labelled(&[("reason", reason.name())], value(&self.ledger, reason) as f64);
            }
        }
        self.forward_metrics(now, stored, &mut out);
        let peer_families: [Family<Alertmanager>; 4] = [
            ("holdfast_notifications_sent_total", Kind::Counter, "Alerts an Alertmanager has taken.", |p| {
                p.outbox.counters().sent_count as f64
            }),
            (
                "holdfast_notifications_dropped_total",
                Kind::Counter,
                "Alerts dropped because the queue was full or the peer refused them.",
                |p| (p.outbox.counters().dropped_count + p.outbox.counters().refused_count) as f64,
            ),
            ("holdfast_notifications_failed_total", Kind::Counter, "Messages that failed and are tried again.", |p| {
                p.outbox.counters().failed_post_count as f64
            }),
            ("holdfast_notifications_waiting", Kind::Gauge, "Alerts waiting for an Alertmanager.", |p| {
                p.outbox.waiting_count() as f64
            }),
        ];
        for (name, kind, help, value) in peer_families {
            out.family(name, kind, help);
            for peer in &self.alertmanagers {
                out.labelled(&[("alertmanager", &peer.url)], value(peer));
            }
        }
        let group_families: [Family<Group>; 3] = [
            ("holdfast_rule_group_evaluations_total", Kind::Counter, "Evaluations of a rule group.", |g| {
                g.evaluated_count() as f64
            }),
            ("holdfast_rule_group_missed_total", Kind::Counter, "Evaluations that were missed.", |g| {
                g.missed_count() as f64
            }),
            ("holdfast_rule_group_failures_total", Kind::Counter, "Failed evaluations of the group's rules.", |g| {
                g.rules().iter().map(|rule| rule.failed_count()).sum::<u64>() as f64
            }),
        ];
        for (name, kind, help, value) in group_families {
            out.family(name, kind, help);
            for group in self.rules.groups() {
                out.labelled(&[("group", group.name()), ("file", group.file())], value(group));
            }
        }
        out.into_bytes()
    }
}
