//! Targets: made from the settings, scraped when due, told about over the API.

use super::{
    Daemon, Effect,
    answer::{Answer, write_labels},
    input::{FetchId, RequestId},
    output::Level,
    settings::{JobKind, Settings},
    status::write_time,
};
use crate::{
    api::{ApiError, Json, Params},
    promql,
    scrape::{Health, Progress, Target, TargetCounters, TargetSpec},
    time::Now,
};
use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

/// The text format only: other formats are answered as Prometheus answers what it did not ask for.
pub(super) const ACCEPT: &str = "text/plain;version=0.0.4;q=1,*/*;q=0.1";

pub(super) struct TargetSlot {
    /// Numbers the target for the platform's kept connection.
    pub number: u32,
    pub target: Target,
    pub fetch: Option<FetchId>,
    /// What of its losses is in the ledger.
    pub lost_told: TargetCounters,
}

impl Daemon<'_> {
    /// Takes over the targets of a configuration. Targets that stay the same keep their schedule and state; those that
    /// go end with stale markers.
    pub(super) fn set_targets(&mut self, now: Now, settings: &Settings) {
        let mut before = core::mem::take(&mut self.targets);
        for job in &settings.scrape {
            for one in &job.targets {
                let spec = TargetSpec::new(job, one);
                if self.targets.iter().any(|slot| slot.target.timeline_key() == spec.timeline_key()) {
                    // The same target twice in one configuration is scraped once, as in Prometheus.
                    continue;
                }
                if let Some(index) = before.iter().position(|slot| *slot.target.spec() == spec) {
                    self.targets.push(before.swap_remove(index));
                    continue;
                }
                let mut target = Target::new(spec, self.options.seed, now);
                if job.kind == JobKind::Host {
                    target.scrape_at_once(now);
                }
                let number = self.next_target;
                self.next_target += 1;
                self.targets.push(TargetSlot { number, target, fetch: None, lost_told: TargetCounters::default() });
            }
        }
        for slot in before {
            let kept = self.targets.iter().any(|other| other.target.timeline_key() == slot.target.timeline_key());
            if let Some(fetch) = slot.fetch {
                self.effects.push_back(Effect::FetchAbort { fetch });
            }
            self.effects.push_back(Effect::TargetGone { target: slot.number });
            // A target whose limits or interval changed goes on in the same timeline: nothing of it ends.
            match kept {
                true => slot.target.replace(&mut self.scraping),
                false => slot.target.remove(now, &mut self.store, &mut self.scraping),
            }
        }
    }

    /// Starts the scrape of the target that is due longest, if one is.
    pub(super) fn scrape_step(&mut self, now: Now) -> Option<usize> {
        let index = (0..self.targets.len()).min_by_key(|index| self.targets[*index].target.due_mono_ms())?;
        let slot = &mut self.targets[index];
        if slot.target.due_mono_ms() > now.mono_ms {
            return None;
        }
        let skipped_before = slot.target.status().counters.scrapes_skipped;
        let started = slot.target.start(now).is_some();
        let skipped = slot.target.status().counters.scrapes_skipped - skipped_before;
        self.counters.scrapes_skipped += skipped;
        if started {
            self.held.number_rows(&mut self.store, slot.target.timeline_key());
            slot.fetch = Some(FetchId(self.next_id));
            self.next_id += 1;
            return Some(index);
        }
        // Its turn passed because a scrape is still going; its next turn lies in the future.
        self.scrape_step(now)
    }

    pub(super) fn targets_due_mono_ms(&self) -> Option<u64> {
        self.targets.iter().map(|slot| slot.target.due_mono_ms()).min()
    }

    /// Passes what the platform tells about a fetch to its target.
    pub(super) fn fetch_event(&mut self, now: Now, fetch: FetchId, event: FetchEvent<'_>) {
        let Some(index) = self.targets.iter().position(|slot| slot.fetch == Some(fetch)) else { return };
        let slot = &mut self.targets[index];
        let health_before = slot.target.status().health;
        let (rows, shared) = (&mut self.store, &mut self.scraping);
        let over = matches!(event, FetchEvent::End | FetchEvent::Failed(_));
        let progress = match event {
            FetchEvent::Head { status, content_type } => slot.target.head(now, status, content_type, rows, shared),
            FetchEvent::Body(bytes) => slot.target.body(now, bytes, rows, shared),
            FetchEvent::End => slot.target.end(now, rows, shared),
            FetchEvent::Failed(error) => slot.target.failed(now, error, rows, shared),
        };
        if over || progress != Progress::Going {
            slot.fetch = None;
            if !over {
                self.effects.push_back(Effect::FetchAbort { fetch });
            }
        }
        if progress != Progress::Ended {
            return;
        }
        let status = slot.target.status();
        self.counters.scrapes += 1;
        self.counters.scrapes_failed += u64::from(status.health == Health::Down);
        if status.health != health_before {
            let url = target_name(&slot.target);
            let (health, error) = (status.health, status.last_error.clone());
            let cause = slot.target.timeline_key().0;
            if health == Health::Down {
                self.log_cause(Level::Warn, cause, format_args!("target {url} is down: {error}"));
            } else if health_before == Health::Down {
                self.log_cause(Level::Info, cause ^ 1, format_args!("target {url} is up"));
            }
        }
        if let Some(refused) = self.targets[index].target.status().last_refused {
            let url = target_name(&self.targets[index].target);
            let cause = self.targets[index].target.timeline_key().0 ^ 2;
            self.log_cause(
                Level::Warn,
                cause,
                format_args!("new series of {url} are not stored, the known ones go on: {refused}"),
            );
        }
        self.target_lost(index);
        self.rows_written();
    }

    /// `state` and `scrapePool` filter as in Prometheus: dropped targets are counted per pool only where they are asked
    /// for too.
    pub(super) fn targets_status(&self, request: RequestId, params: &Params) -> Answer {
        let state = params.get("state").to_lowercase();
        let pool = params.get("scrapePool");
        let shown = |slot: &&TargetSlot| {
            matches!(state.as_str(), "" | "any" | "active") && (pool.is_empty() || pool == slot.target.spec().job_name)
        };
        let mut active: Vec<&TargetSlot> = self.targets.iter().filter(shown).collect();
        active.sort_by_key(|slot| slot.target.spec().job_name.as_str());
        Answer::success(request, |json| {
            json.object(|json| {
                json.key("activeTargets").array(|json| {
                    for slot in active {
                        self.write_target(json, &slot.target);
                    }
                });
                json.key("droppedTargets").array(|_| {});
                json.key("droppedTargetCounts");
                if !matches!(state.as_str(), "" | "any" | "dropped") {
                    json.plain("null");
                    return;
                }
                json.object(|json| {
                    for pool in self.pools() {
                        json.key(pool).plain(0);
                    }
                });
            });
        })
    }

    fn write_target(&self, json: &mut Json, target: &Target) {
        let (spec, status) = (target.spec(), target.status());
        json.object(|json| {
            json.key("discoveredLabels");
            write_labels(json, spec.discovered_labels.as_ref());
            json.key("labels");
            write_labels(json, spec.labels.as_ref());
            json.key("scrapePool").text(&spec.job_name);
            let url = target_name(target);
            json.key("scrapeUrl").text(&url);
            json.key("globalUrl").text(&global_url(&url, &self.options.external_url));
            json.key("lastError").text(&status.last_error);
            write_time(json, "lastScrape", status.last_scrape_wall_ms);
            json.key("lastScrapeDuration").plain(status.last_duration_ms as f64 / 1000.0);
            json.key("health").text(status.health.text());
            json.key("scrapeInterval").text(spec.discovered_labels.get("__scrape_interval__").unwrap_or(""));
            json.key("scrapeTimeout").text(spec.discovered_labels.get("__scrape_timeout__").unwrap_or(""));
            if let Some(refused) = &status.last_refused {
                json.key("holdfastRefused").display(refused);
            }
        });
    }

    pub(super) fn scrape_pools(&self, request: RequestId) -> Answer {
        Answer::success(request, |json| {
            json.object(|json| {
                json.key("scrapePools").array(|json| {
                    for pool in self.pools() {
                        json.text(pool);
                    }
                });
            });
        })
    }

    /// Names of the jobs that have targets, in order.
    fn pools(&self) -> Vec<&str> {
        let mut pools: Vec<&str> = self.targets.iter().map(|slot| slot.target.spec().job_name.as_str()).collect();
        pools.sort_unstable();
        pools.dedup();
        pools
    }

    /// What each target says about its metrics. `match_target` selects targets by their labels, `metric` one metric, whose
    /// name is then left out of the rows.
    pub(super) fn targets_metadata(&self, request: RequestId, params: &Params) -> Result<Answer, ApiError> {
        let limit = match params.count("limit")? {
            Some(limit @ 0..) => usize::try_from(limit).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let matchers = match params.get("match_target") {
            "" => Vec::new(),
            text => promql::parse_selector(text)
                .map_err(|error| ApiError::bad_data(format!("invalid parameter \"match_target\": {error}")))?,
        };
        let wanted = params.get("metric");
        let targets = self.targets.iter().filter(|slot| {
            let labels = &slot.target.spec().labels;
            matchers.iter().all(|matcher| matcher.matches_labels(labels.as_ref()))
        });
        let rows = targets.flat_map(|slot| {
            let entries = self.scraping.metadata.entries(slot.target.meta());
            entries.filter(|entry| wanted.is_empty() || wanted == entry.metric).map(|entry| (&slot.target, entry))
        });
        Ok(Answer::success(request, |json| {
            json.array(|json| {
                for (target, entry) in rows.take(limit) {
                    json.object(|json| {
                        json.key("target");
                        write_labels(json, target.spec().labels.as_ref());
                        if wanted.is_empty() {
                            json.key("metric").text(entry.metric);
                        }
                        json.key("type").text(entry.kind.text());
                        json.key("help").text(entry.help);
                        json.key("unit").text(entry.unit);
                    });
                }
            });
        }))
    }

    /// Metric name to the distinct (type, help, unit) that targets gave. A limit below zero is none.
    pub(super) fn metadata(&self, request: RequestId, params: &Params) -> Result<Answer, ApiError> {
        let bound = |count: Option<i64>, least| match count {
            Some(count) if count >= least => usize::try_from(count).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let (limit, per_metric) = (bound(params.count("limit")?, 0), bound(params.count("limit_per_metric")?, 1));
        let wanted = params.get("metric");
        let mut found: BTreeMap<&str, Vec<(&'static str, &str, &str)>> = BTreeMap::new();
        for slot in &self.targets {
            for entry in self.scraping.metadata.entries(slot.target.meta()) {
                if !wanted.is_empty() && wanted != entry.metric {
                    continue;
                }
                let list = found.entry(entry.metric).or_default();
                let row = (entry.kind.text(), entry.help, entry.unit);
                if !list.contains(&row) && list.len() < per_metric {
                    list.push(row);
                }
            }
        }
        Ok(Answer::success(request, |json| {
            json.object(|json| {
                for (metric, list) in found.iter().take(limit) {
                    json.key(metric).array(|json| {
                        for (kind, help, unit) in list {
                            json.object(|json| {
                                json.key("type").text(kind);
                                json.key("unit").text(unit);
                                json.key("help").text(help);
                            });
                        }
                    });
                }
            });
        }))
    }
}

pub(super) enum FetchEvent<'a> {
    Head { status: u16, content_type: &'a str },
    Body(&'a [u8]),
    End,
    Failed(&'a str),
}

/// The URL, or what stands for it where the target is this host.
pub(super) fn target_name(target: &Target) -> String {
    match target.spec().kind {
        JobKind::Http => target.spec().url.to_string(),
        JobKind::Host => "host:".to_string() + target.spec().discovered_labels.get("__address__").unwrap_or(""),
    }
}

/// A target's URL as others reach it: a host that means this one is replaced by the external URL's (web/api/v1,
/// `getGlobalURL`).
fn global_url(url: &str, external_url: &str) -> String {
    let host_of = |url: &str| -> Option<(usize, usize)> {
        let start = url.find("://")? + 3;
        let end = url[start..].find('/').map_or(url.len(), |at| start + at);
        let authority = &url[start..end];
        let host_end = if authority.starts_with('[') {
            authority.find(']')? + 1
        } else {
            authority.find(':').unwrap_or(authority.len())
        };
        Some((start, start + host_end))
    };
    let (Some((start, end)), Some((external_start, external_end))) = (host_of(url), host_of(external_url)) else {
        return url.into();
    };
    if !matches!(&url[start..end], "127.0.0.1" | "localhost" | "[::1]") {
        return url.into();
    }
    format!("{}{}{}", &url[..start], &external_url[external_start..external_end], &url[end..])
}

#[cfg(test)]
mod tests {
    use super::global_url;

    #[test]
    fn only_a_host_that_means_this_one_is_replaced_for_others() {
        for (url, expected) in [
            ("http://127.0.0.1:9100/metrics", "http://box:9100/metrics"),
            ("http://localhost/metrics?a=b", "http://box/metrics?a=b"),
            ("http://[::1]:9100/metrics", "http://box:9100/metrics"),
            ("http://10.0.0.1:9100/metrics", "http://10.0.0.1:9100/metrics"),
            ("http://localhosts:9100/metrics", "http://localhosts:9100/metrics"),
            ("host:box", "host:box"),
        ] {
            assert_eq!(global_url(url, "http://box:9090/prometheus"), expected);
        }
    }
}
