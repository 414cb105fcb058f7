//! What the daemon tells about itself as JSON: targets, rules, alerts, and the status pages.

use super::{
    Daemon,
    answer::{Answer, Stats, write_labels},
    input::RequestId,
    requests::matcher_lists,
    settings::JobKind,
};
use crate::{
    api::{ApiError, Json, Params},
    labels::Matcher,
    number::GoFloat,
    rules::{Alert, Group, Rule},
    store::{RegionName, stored::Stored},
    time::{DurationText, Now, Rfc3339},
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// The Prometheus whose behaviour is served: Grafana switches features on it.
pub const PROMETHEUS_VERSION: &str = "3.5.3";
pub const HOLDFAST_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Go's zero time, which Prometheus gives for what has not happened yet.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Rows of each list of `status/tsdb`; Prometheus' figures (web/api/v1, `serveTSDBStatus`).
const TOP_COUNT: usize = 10;
const TOP_COUNT_MAX: usize = 100;

impl Daemon<'_> {
    /// Groups in order of file and name; of those that are filtered to nothing, none.
    pub(super) fn rules_status(&self, request: RequestId, params: &Params) -> Result<Answer, ApiError> {
        let kind = params.get("type").to_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            let kind = params.get("type");
            return Err(ApiError::bad_data(format!("invalid parameter \"type\": not supported value {kind:?}")));
        }
        let exclude_alerts = params.flag("exclude_alerts")?;
        let matcher_lists = matcher_lists(params)?;
        let (group_count_max, token) = group_page(params)?;
        let named = |name: &str, value: &str| {
            let mut wanted = params.all(name).peekable();
            wanted.peek().is_none() || wanted.any(|one| one == value)
        };
        let matches = |rule: &Rule| {
            let label =
                |name: &str| rule.labels().iter().find(|(label, _)| **label == *name).map_or("", |(_, value)| value);
            let all = |list: &[Matcher]| list.iter().all(|matcher| matcher.matches(label(&matcher.name)));
            matcher_lists.is_empty() || matcher_lists.iter().any(|list| all(list))
        };
        let mut groups: Vec<&Group> = self.rules.groups().iter().collect();
        groups.sort_by_key(|group| (group.file(), group.name()));
        let mut found: Vec<(&Group, Vec<&Rule>)> = Vec::new();
        let mut next_token = None;
        for group in groups {
            if token.is_some_and(|token| group_token(group).as_str() < token) {
                continue;
            }
            if !named("rule_group[]", group.name()) || !named("file[]", group.file()) {
                continue;
            }
            let rules: Vec<&Rule> = group
                .rules()
                .iter()
                .filter(|rule| kind.is_empty() || rule.is_alert() == (kind == "alert"))
                .filter(|rule| named("rule_name[]", rule.name()) && matches(rule))
                .collect();
            if rules.is_empty() {
                continue;
            }
            if group_count_max.is_some_and(|count_max| found.len() == count_max) {
                next_token = Some(group);
                break;
            }
            found.push((group, rules));
        }
        Ok(Answer::success(request, |json| {
            json.object(|json| {
                json.key("groups").array(|json| {
                    for (group, rules) in found {
                        write_group(json, group, &rules, exclude_alerts);
                    }
                });
                if let Some(group) = next_token {
                    json.key("groupNextToken").text(&group_token(group));
                }
            });
        }))
    }

    pub(super) fn alerts_status(&self, request: RequestId) -> Answer {
        Answer::success(request, |json| {
            json.object(|json| {
                json.key("alerts").array(|json| {
                    for rule in self.rules.groups().iter().flat_map(Group::rules) {
                        for alert in rule.active_alerts() {
                            write_alert(json, alert);
                        }
                    }
                });
            });
        })
    }

    pub(super) fn alertmanagers_status(&self, request: RequestId) -> Answer {
        Answer::success(request, |json| {
            json.object(|json| {
                json.key("activeAlertmanagers").array(|json| {
                    for peer in &self.alertmanagers {
                        json.object(|json| {
                            json.key("url").display(format_args!("{}{}", peer.url, crate::notify::payload::PATH));
                        });
                    }
                });
                json.key("droppedAlertmanagers").array(|_| {});
            });
        })
    }

    pub(super) fn buildinfo(&self, request: RequestId) -> Answer {
        Answer::success(request, write_version)
    }

    /// `/version`: the same without an envelope.
    pub(super) fn version(&self) -> Vec<u8> {
        let mut json = Json::default();
        write_version(&mut json);
        let mut bytes = json.into_bytes();
        bytes.push(b'\n');
        bytes
    }

    pub(super) fn runtime_info(&self, now: Now, request: RequestId) -> Answer {
        Answer::success(request, |json| {
            json.object(|json| {
                json.key("startTime").display(Rfc3339(self.options.started_wall_ms));
                json.key("CWD").text("");
                json.key("hostname").text(&self.options.hostname);
                json.key("serverTime").display(Rfc3339(now.wall_ms));
                json.key("reloadConfigSuccess").plain(self.reload_errors.is_none());
                json.key("lastConfigTime").display(Rfc3339(self.configured_wall_ms));
                json.key("corruptionCount").plain(self.counters.damaged_units);
                json.key("goroutineCount").plain(1);
                json.key("GOMAXPROCS").plain(1);
                json.key("GOMEMLIMIT").plain(self.options.memory_limit_bytes);
                json.key("GOGC").text("");
                json.key("GODEBUG").text("");
                json.key("storageRetention").text(&self.retention_text());
            });
        })
    }

    pub(super) fn retention_text(&self) -> alloc::string::String {
        let time = self.options.retention_ms.map(|ms| DurationText(ms).to_string());
        let size = self.options.retention_bytes.map(bytes_text);
        match (time, size) {
            (Some(time), Some(size)) => format!("{time} or {size}"),
            (Some(text), None) | (None, Some(text)) => text,
            (None, None) => "by size".into(),
        }
    }

    pub(super) fn tsdb_status(&self, now: Now, request: RequestId, params: &Params) -> Result<Answer, ApiError> {
        let limit = match params.get("limit").parse::<usize>() {
            _ if params.get("limit").is_empty() => TOP_COUNT,
            Ok(limit @ 1..=TOP_COUNT_MAX) => limit,
            Ok(limit) if limit > TOP_COUNT_MAX => {
                return Err(ApiError::bad_data(format!("limit must be at most {TOP_COUNT_MAX}")));
            }
            _ => return Err(ApiError::bad_data("limit must be a positive number")),
        };
        // Prometheus' figures for an empty head are the two ends of time.
        let (mut oldest_ms, mut newest_ms) = (i64::MAX, i64::MIN);
        for timeline in self.store.timelines() {
            let rows = self.store.rows(timeline);
            let instant = |row| self.store.row_instant(timeline, row);
            if let (false, Some(first), Some(last)) =
                (rows.is_empty(), instant(rows.start), instant(rows.end.saturating_sub(1)))
            {
                (oldest_ms, newest_ms) = (oldest_ms.min(first), newest_ms.max(last));
            }
        }
        Ok(Answer::stats(
            request,
            Stats {
                series_count: self.store.series_count() as u64,
                sample_count: self.store.usage().counters.committed_samples,
                oldest_ms,
                newest_ms,
                start_ms: now.wall_ms.saturating_sub(self.options.lookback_delta_ms),
                limit,
            },
        ))
    }

    /// What the built-in page shows.
    pub(super) fn holdfast_status(&mut self, now: Now, request: RequestId, stored: &mut dyn Stored) -> Answer {
        let usage = self.store.usage();
        let lags: Vec<_> = self.forward_lags(stored);
        Answer::success(request, |json| {
            json.object(|json| {
                json.key("version").text(HOLDFAST_VERSION);
                json.key("title").text(&self.options.page_title);
                json.key("hostname").text(&self.options.hostname);
                json.key("host");
                match self.targets.iter().map(|slot| slot.target.spec()).find(|spec| spec.kind == JobKind::Host) {
                    Some(spec) => json.object(|json| {
                        json.key("job").text(spec.labels.get("job").unwrap_or(""));
                        json.key("instance").text(spec.labels.get("instance").unwrap_or(""));
                    }),
                    None => json.plain("null"),
                };
                json.key("started_ms").plain(self.options.started_wall_ms);
                json.key("now_ms").plain(now.wall_ms);
                json.key("memory").object(|json| {
                    json.key("limit_bytes").plain(self.options.memory_limit_bytes);
                    json.key("resident_bytes").plain(self.usage.resident_bytes);
                    json.key("resident_peak_bytes").plain(self.usage.resident_bytes_peak);
                    json.key("regions").array(|json| {
                        for region in usage.regions {
                            json.object(|json| {
                                json.key("name").text(region.region.name());
                                json.key("used").plain(region.used);
                                json.key("total").plain(region.total);
                                json.key("bytes").plain(region.bytes);
                                // The page's names.
                                json.key("used_bytes").plain(region.used * region.bytes / region.total.max(1));
                                json.key("total_bytes").plain(region.bytes);
                            });
                        }
                    });
                });
                json.key("disk").object(|json| {
                    json.key("used_bytes").plain(self.usage.disk_bytes);
                    json.key("quota_bytes").plain(self.options.retention_bytes.unwrap_or(0));
                    match self.oldest_ms {
                        Some(oldest_ms) => json.key("oldest_ms").plain(oldest_ms),
                        None => json.key("oldest_ms").plain("null"),
                    };
                });
                json.key("store").object(|json| {
                    json.key("series").plain(self.store.series_count());
                    let series_max = usage.regions.iter().find(|region| region.region == RegionName::Series);
                    json.key("series_max").plain(series_max.map_or(0, |region| region.total));
                    let rows_in_ram: u64 = self
                        .store
                        .timelines()
                        .map(|timeline| self.store.rows(timeline))
                        .map(|rows| rows.end - rows.start)
                        .sum();
                    json.key("rows_in_ram").plain(rows_in_ram);
                    json.key("samples_appended").plain(usage.counters.committed_samples);
                    json.key("refused_series").plain(usage.counters.refused_series);
                    json.key("evicted_unspilled_samples").plain(usage.counters.evicted_unspilled_samples);
                });
                json.key("forward").array(|json| {
                    for (upstream, lag) in self.upstreams.iter().zip(&lags) {
                        json.object(|json| {
                            json.key("name").text(&upstream.settings.name);
                            json.key("url").text(&upstream.settings.url);
                            json.key("lag_rows").plain(lag.rows);
                            json.key("lag_ms")
                                .plain(lag.oldest_ms.map_or(0, |oldest_ms| (now.wall_ms - oldest_ms).max(0)));
                            json.key("sent_samples").plain(upstream.forwarder.status().samples_sent);
                            json.key("last_error");
                            if upstream.last_error.is_empty() {
                                json.plain("null");
                            } else {
                                json.text(&upstream.last_error);
                            }
                        });
                    }
                });
                json.key("losses").array(|json| self.write_losses_newest(json));
                json.key("notices").array(|json| {
                    for notice in self.notices() {
                        json.text(&notice);
                    }
                });
            });
        })
    }
}

/// As Prometheus writes sizes: the largest unit that leaves no rest.
fn bytes_text(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit_bytes, _)| bytes > 0 && bytes.is_multiple_of(*unit_bytes));
    unit.map_or_else(|| format!("{bytes}B"), |(unit_bytes, unit)| format!("{}{unit}", bytes / unit_bytes))
}

fn write_version(json: &mut Json) {
    json.object(|json| {
        json.key("version").text(PROMETHEUS_VERSION);
        json.key("revision").text("holdfast");
        json.key("branch").text("main");
        json.key("buildUser").text("");
        json.key("buildDate").text("");
        json.key("goVersion").text("");
        json.key("holdfast").text(HOLDFAST_VERSION);
    });
}

/// How many groups are wanted, and from which one on.
fn group_page(params: &Params) -> Result<(Option<usize>, Option<&str>), ApiError> {
    let token = Some(params.get("group_next_token")).filter(|token| !token.is_empty());
    let count_max = match params.get("group_limit") {
        "" if token.is_some() => {
            let error = "invalid parameter \"group_next_token\": group_limit needs to be present in order to paginate over the groups";
            return Err(ApiError::bad_data(error));
        }
        "" => None,
        text => match text.parse::<usize>() {
            Ok(0) | Err(_) => {
                let error = "invalid parameter \"group_limit\": group_limit needs to be a valid number, greater than 0";
                return Err(ApiError::bad_data(error));
            }
            Ok(count_max) => Some(count_max),
        },
    };
    Ok((count_max, token))
}

/// Names the page that begins with a group: file and name in hex, so that tokens sort as groups do, and a group that is
/// gone in between leaves its place.
fn group_token(group: &Group) -> String {
    let mut token = String::new();
    for byte in group.file().bytes().chain([0]).chain(group.name().bytes()) {
        token.push_str(&format!("{byte:02x}"));
    }
    token
}

fn write_group(json: &mut Json, group: &Group, rules: &[&Rule], exclude_alerts: bool) {
    json.object(|json| {
        json.key("name").text(group.name());
        json.key("file").text(group.file());
        json.key("rules").array(|json| {
            for rule in rules {
                write_rule(json, rule, exclude_alerts);
            }
        });
        json.key("interval").plain(group.interval_ms() as f64 / 1000.0);
        json.key("limit").plain(group.limit());
        json.key("evaluationTime").plain(group.evaluation_time_ms() as f64 / 1000.0);
        write_time(json, "lastEvaluation", group.last_evaluation_ms());
    });
}

fn write_rule(json: &mut Json, rule: &Rule, exclude_alerts: bool) {
    json.object(|json| {
        if rule.is_alert() {
            json.key("state").text(rule.state_text());
        }
        json.key("name").text(rule.name());
        json.key("query").text(rule.query());
        if rule.is_alert() {
            json.key("duration").plain(rule.for_ms() as f64 / 1000.0);
            json.key("keepFiringFor").plain(rule.keep_firing_for_ms() as f64 / 1000.0);
        }
        if rule.is_alert() || !rule.labels().is_empty() {
            json.key("labels");
            write_pairs(json, rule.labels());
        }
        if rule.is_alert() {
            json.key("annotations");
            write_pairs(json, rule.annotations());
            json.key("alerts");
            if exclude_alerts {
                json.plain("null");
            } else {
                json.array(|json| rule.active_alerts().for_each(|alert| write_alert(json, alert)));
            }
        }
        json.key("health").text(rule.health().text());
        if !rule.last_error().is_empty() {
            json.key("lastError").text(rule.last_error());
        }
        json.key("evaluationTime").plain(rule.evaluation_time_ms() as f64 / 1000.0);
        write_time(json, "lastEvaluation", rule.last_evaluation_ms());
        json.key("type").text(if rule.is_alert() { "alerting" } else { "recording" });
    });
}

fn write_alert(json: &mut Json, alert: &Alert) {
    json.object(|json| {
        json.key("labels");
        write_labels(json, alert.labels.as_ref());
        json.key("annotations");
        write_pairs(json, &alert.annotations);
        json.key("state").text(alert.state.text());
        json.key("activeAt").display(Rfc3339(alert.active_at_ms));
        if let Some(since_ms) = alert.keep_firing_since_ms {
            json.key("keepFiringSince").display(Rfc3339(since_ms));
        }
        json.key("value").display(GoFloat::E(alert.value));
    });
}

pub(super) fn write_pairs(json: &mut Json, pairs: &[(alloc::boxed::Box<str>, alloc::boxed::Box<str>)]) {
    json.object(|json| {
        for (name, value) in pairs {
            json.key(name).text(value);
        }
    });
}

pub(super) fn write_time(json: &mut Json, key: &str, wall_ms: Option<i64>) {
    json.key(key);
    match wall_ms {
        Some(wall_ms) => json.display(Rfc3339(wall_ms)),
        None => json.text(NEVER),
    };
}
