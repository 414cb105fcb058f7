//! From a request to its answer: one match over the routes.

use super::{
    Daemon, Effect,
    answer::{Answer, EXPOSITION, Federate, PREFLIGHT, QueryRequest, Select, SelectKind, TEXT, query_error},
    input::{Method, RequestId},
};
use crate::{
    api::{ApiError, ErrorType, Params, Route, RouteError, params, route},
    labels::Matcher,
    promql::{self, Query, QueryOptions, ValueType, Window},
    store::stored::Stored,
    time::Now,
};
use alloc::{format, string::ToString, vec::Vec};

/// Points per series one range query may ask for; Prometheus' figure and words (web/api/v1, `queryRange`).
const POINTS_PER_SERIES_MAX: i64 = 11_000;

/// A request as it came in.
pub(super) struct Incoming<'a> {
    pub request: RequestId,
    pub method: Method,
    pub path: &'a str,
    pub query: &'a str,
    pub content_type: &'a str,
    pub content_encoding: &'a str,
    pub body: Vec<u8>,
}

impl Daemon<'_> {
    pub(super) fn handle_request(&mut self, now: Now, incoming: Incoming<'_>, stored: &mut dyn Stored) {
        self.counters.requests += 1;
        let request = incoming.request;
        let Some(path) = self.path_under_prefix(incoming.path) else {
            return self.answers.add(Answer::text(request, 404, "404 page not found\n"));
        };
        let path = path.to_string();
        let found = match route(incoming.method, &path) {
            Ok(found) => found,
            Err(RouteError::NotFound) => return self.answers.add(Answer::text(request, 404, "404 page not found\n")),
            Err(RouteError::MethodNotAllowed(headers)) => {
                return self.answers.add(Answer::method_not_allowed(request, headers));
            }
        };
        if let Route::Page(path) = found {
            return self.effects.push_back(Effect::Page { request, path: path.into() });
        }
        if found == Route::Reload && self.options.enable_lifecycle {
            self.reloads_waiting.push(request);
            return self.effects.push_back(Effect::Reload);
        }
        if found == Route::Write && !self.answers.is_full() {
            return self.receive(now, incoming);
        }
        if self.answers.is_full() {
            let error = ApiError::new(ErrorType::Unavailable, "too many requests are being answered; try again");
            self.counters.requests_refused += 1;
            return self.answers.add(Answer::error(request, &error));
        }
        let answer = Params::parse(incoming.query, incoming.content_type, &incoming.body)
            .and_then(|params| self.answer(now, request, found, &params, stored))
            .unwrap_or_else(|error| match found {
                // Not an endpoint of the API: its errors are plain text (web/federate.go).
                Route::Federate => Answer::text(request, error.kind.status(), &format!("{}\n", error.message)),
                _ => Answer::error(request, &error),
            });
        self.answers.add(answer);
    }

    /// The path without the route prefix; `None` when it lies outside.
    fn path_under_prefix<'p>(&self, path: &'p str) -> Option<&'p str> {
        match path.strip_prefix(self.options.route_prefix.as_str())? {
            "" => Some("/"),
            rest if rest.starts_with('/') => Some(rest),
            _ => None,
        }
    }

    fn answer(
        &mut self,
        now: Now,
        request: RequestId,
        route: Route<'_>,
        params: &Params,
        stored: &mut dyn Stored,
    ) -> Result<Answer, ApiError> {
        Ok(match route {
            Route::Query => self.query(now, request, params)?,
            Route::QueryRange => self.query_range(now, request, params)?,
            Route::FormatQuery => {
                let expr = parse_query(params)?;
                Answer::success(request, |json| {
                    json.display(expr);
                })
            }
            Route::Series => {
                if params.all("match[]").next().is_none() {
                    return Err(ApiError::bad_data("no match[] parameter provided"));
                }
                Answer::select(request, self.select(SelectKind::Series, params)?)
            }
            Route::Labels => Answer::select(request, self.select(SelectKind::LabelNames, params)?),
            Route::LabelValues(name) => {
                let name = params::unescape_label_name(&params::decode(&name.replace('+', "%2B"))?);
                if name.is_empty() {
                    return Err(ApiError::bad_data(format!("invalid label name: {name:?}")));
                }
                Answer::select(request, self.select(SelectKind::LabelValues(name.into()), params)?)
            }
            Route::Metadata => self.metadata(request, params)?,
            Route::TargetsMetadata => self.targets_metadata(request, params)?,
            Route::ScrapePools => self.scrape_pools(request),
            Route::QueryExemplars => exemplars(request, params)?,
            Route::Targets => self.targets_status(request, params),
            Route::Rules => self.rules_status(request, params)?,
            Route::Alerts => self.alerts_status(request),
            Route::Alertmanagers => self.alertmanagers_status(request),
            Route::StatusBuildInfo => self.buildinfo(request),
            Route::StatusConfig => Answer::success(request, |json| {
                json.object(|json| {
                    json.key("yaml").text(&self.settings.yaml);
                });
            }),
            Route::StatusFlags => Answer::success(request, |json| {
                json.object(|json| {
                    for (name, value) in &self.options.flags {
                        json.key(name).text(value);
                    }
                });
            }),
            Route::StatusRuntimeInfo => self.runtime_info(now, request),
            Route::StatusTsdb => self.tsdb_status(now, request, params)?,
            Route::StatusWalReplay => Answer::success(request, |json| {
                // Answered only once the store is attached or recovered: nothing is left to replay.
                json.object(|json| {
                    for key in ["min", "max", "current"] {
                        json.key(key).plain(0);
                    }
                });
            }),
            Route::Notifications => Answer::success(request, |json| {
                json.array(|_| {});
            }),
            Route::Version => Answer::whole(request, 200, TEXT, self.version()),
            Route::StatusHoldfast => self.holdfast_status(now, request, stored),
            Route::StatusAnalyze => self.analyze_status(request, params, stored)?,
            Route::StatusLosses => self.losses_status(request),
            Route::Federate => self.federate(now, request, params)?,
            Route::Metrics => Answer::whole(request, 200, EXPOSITION, self.metrics(now, stored)),
            Route::Healthy => Answer::text(request, 200, "Holdfast is healthy.\n"),
            Route::Ready => Answer::text(request, 200, "Holdfast is ready.\n"),
            Route::Reload => {
                Answer::text(request, 403, "Lifecycle API is not enabled; start with --web.enable-lifecycle\n")
            }
            Route::Options => Answer::whole(request, 204, PREFLIGHT, Vec::new()),
            Route::Page(_) | Route::Write => unreachable!("pages are answered by the platform, writes by the receiver"),
        })
    }

    fn query(&mut self, now: Now, request: RequestId, params: &Params) -> Result<Answer, ApiError> {
        let limit = params.limit("limit")?;
        let t_ms = params.instant_ms("time", now.wall_ms)?;
        let expr = parse_query(params)?;
        self.start_query(now, request, params, &expr, Window::Instant { t_ms }, limit)
    }

    fn query_range(&mut self, now: Now, request: RequestId, params: &Params) -> Result<Answer, ApiError> {
        let limit = params.limit("limit")?;
        let start_ms = params.time_ms("start", None)?;
        let end_ms = params.time_ms("end", None)?;
        if end_ms < start_ms {
            return Err(ApiError::bad_data("invalid parameter \"end\": end timestamp must not be before start time"));
        }
        let step_ms = params.duration_ms("step", None)?;
        if step_ms <= 0 {
            return Err(ApiError::bad_data(
                "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
            ));
        }
        if end_ms.saturating_sub(start_ms) / step_ms > POINTS_PER_SERIES_MAX {
            return Err(ApiError::bad_data(
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
            ));
        }
        let expr = parse_query(params)?;
        if !matches!(expr.value_type(), ValueType::Scalar | ValueType::Vector) {
            return Err(ApiError::bad_data(format!(
                "invalid parameter \"query\": invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                expr.value_type().text()
            )));
        }
        self.start_query(now, request, params, &expr, Window::Range { start_ms, end_ms, step_ms }, limit)
    }

    fn start_query(
        &mut self,
        now: Now,
        request: RequestId,
        params: &Params,
        expr: &promql::Expr,
        window: Window,
        limit: usize,
    ) -> Result<Answer, ApiError> {
        let timeout_ms = params.duration_ms("timeout", Some(i64::MAX))?.max(0) as u64;
        let lookback_delta_ms = match params.duration_ms("lookback_delta", Some(0)) {
            Ok(delta_ms) if delta_ms > 0 => delta_ms,
            Ok(_) => self.options.lookback_delta_ms,
            Err(_) => {
                let text = params.get("lookback_delta");
                return Err(ApiError::bad_data(format!(
                    "error parsing lookback delta duration: cannot parse {text:?} to a valid duration"
                )));
            }
        };
        self.counters.queries += 1;
        let options = QueryOptions {
            lookback_delta_ms,
            samples_max: self.options.query_samples_max,
            bytes_max: self.answers.bytes_max(),
        };
        let query = Query::new(expr, window, options).map_err(query_error)?.with_text(params.get("query"));
        let deadline_mono_ms = now.mono_ms.saturating_add(timeout_ms.min(self.options.query_timeout_ms));
        let stats = !params.get("stats").is_empty();
        Ok(Answer::query(request, QueryRequest { query, limit, started_mono_ms: now.mono_ms, deadline_mono_ms, stats }))
    }

    fn select(&self, kind: SelectKind, params: &Params) -> Result<Select, ApiError> {
        let limit = params.limit("limit")?;
        let start_ms = params.instant_ms("start", i64::MIN)?;
        let end_ms = params.instant_ms("end", i64::MAX)?;
        Ok(Select { kind, matcher_lists: matcher_lists(params)?, start_ms, end_ms, limit })
    }

    fn federate(&mut self, now: Now, request: RequestId, params: &Params) -> Result<Answer, ApiError> {
        Ok(Answer::federate(
            request,
            Federate {
                matcher_lists: matcher_lists(params)?,
                now_ms: now.wall_ms,
                lookback_ms: self.options.lookback_delta_ms,
                external_labels: self.settings.external_labels.clone(),
            },
        ))
    }
}

/// Exemplars are not kept, so there are none; what is asked is checked, because clients probe with this.
fn exemplars(request: RequestId, params: &Params) -> Result<Answer, ApiError> {
    let start_ms = params.instant_ms("start", i64::MIN)?;
    let end_ms = params.instant_ms("end", i64::MAX)?;
    if end_ms < start_ms {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    parse_query(params)?;
    Ok(Answer::success(request, |json| {
        json.array(|_| {});
    }))
}

fn parse_query(params: &Params) -> Result<promql::Expr, ApiError> {
    if params.get("query").is_empty() {
        let message = "invalid parameter \"query\": unknown position: parse error: no expression found in input";
        return Err(ApiError::bad_data(message));
    }
    promql::parse(params.get("query"))
        .map_err(|error| ApiError::bad_data(format!("invalid parameter \"query\": {error}")))
}

/// One list per `match[]`. A selector that matches everything is refused, in the words Prometheus has for this parameter.
pub(super) fn matcher_lists(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    params
        .all("match[]")
        .map(|text| {
            promql::parse_selector(text).map_err(|error| {
                if error.message.ends_with("must contain at least one non-empty matcher") {
                    let message = "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher";
                    return ApiError::bad_data(message);
                }
                ApiError::bad_data(format!("invalid parameter \"match[]\": {error}"))
            })
        })
        .collect()
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
