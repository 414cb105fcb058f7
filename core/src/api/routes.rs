//! Every path Holdfast answers, in one table.

use crate::daemon::input::Method;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'p> {
    Query,
    QueryRange,
    QueryExemplars,
    FormatQuery,
    Series,
    Labels,
    /// Still escaped.
    LabelValues(&'p str),
    Metadata,
    Targets,
    TargetsMetadata,
    ScrapePools,
    Rules,
    Alerts,
    Alertmanagers,
    StatusBuildInfo,
    StatusConfig,
    StatusFlags,
    StatusRuntimeInfo,
    StatusTsdb,
    StatusWalReplay,
    StatusHoldfast,
    StatusLosses,
    StatusAnalyze,
    Notifications,
    Version,
    Federate,
    Metrics,
    Healthy,
    Ready,
    Reload,
    /// Remote write 1.0.
    Write,
    /// The built-in page's files.
    Page(&'p str),
    /// An `OPTIONS` request to the API, which browsers ask before cross-origin calls.
    Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    NotFound,
    /// With the headers of the answer, `Allow` among them.
    MethodNotAllowed(Methods),
}

/// Headers that say what is allowed; the first is `Allow`.
type Methods = &'static [(&'static str, &'static str)];
const GET: Methods = &[("Allow", "GET, HEAD, OPTIONS"), PLAIN];
const GET_POST: Methods = &[("Allow", "GET, HEAD, POST, OPTIONS"), PLAIN];
const POST_PUT: Methods = &[("Allow", "POST, PUT"), PLAIN];
const POST: Methods = &[("Allow", "OPTIONS, POST"), PLAIN];
const PLAIN: (&str, &str) = ("Content-Type", "text/plain; charset=utf-8");

/// Path under the route prefix, allowed methods, route.
const TABLE: &[(&str, Methods, Route<'static>)] = &[
    ("/api/v1/query", GET_POST, Route::Query),
    ("/api/v1/query_range", GET_POST, Route::QueryRange),
    ("/api/v1/query_exemplars", GET_POST, Route::QueryExemplars),
    ("/api/v1/format_query", GET_POST, Route::FormatQuery),
    ("/api/v1/series", GET_POST, Route::Series),
    ("/api/v1/labels", GET_POST, Route::Labels),
    ("/api/v1/metadata", GET, Route::Metadata),
    ("/api/v1/targets", GET, Route::Targets),
    ("/api/v1/targets/metadata", GET, Route::TargetsMetadata),
    ("/api/v1/scrape_pools", GET, Route::ScrapePools),
    ("/api/v1/rules", GET, Route::Rules),
    ("/api/v1/alerts", GET, Route::Alerts),
    ("/api/v1/alertmanagers", GET, Route::Alertmanagers),
    ("/api/v1/status/buildinfo", GET, Route::StatusBuildInfo),
    ("/api/v1/status/config", GET, Route::StatusConfig),
    ("/api/v1/status/flags", GET, Route::StatusFlags),
    ("/api/v1/status/runtimeinfo", GET, Route::StatusRuntimeInfo),
    ("/api/v1/status/tsdb", GET, Route::StatusTsdb),
    ("/api/v1/status/walreplay", GET, Route::StatusWalReplay),
    ("/api/v1/status/holdfast", GET, Route::StatusHoldfast),
    ("/api/v1/status/analyze", GET_POST, Route::StatusAnalyze),
    ("/api/v1/status/losses", GET, Route::StatusLosses),
    ("/api/v1/notifications", GET, Route::Notifications),
    ("/api/v1/write", POST, Route::Write),
    ("/version", GET, Route::Version),
    ("/federate", GET, Route::Federate),
    ("/metrics", GET, Route::Metrics),
    ("/-/healthy", GET, Route::Healthy),
    ("/-/ready", GET, Route::Ready),
    ("/-/reload", POST_PUT, Route::Reload),
];

/// `path` is without the query and without the route prefix.
pub fn route(method: Method, path: &str) -> Result<Route<'_>, RouteError> {
    let (allow, route) = find(path).ok_or(RouteError::NotFound)?;
    let name = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Other => "",
    };
    if !allow[0].1.split(", ").any(|allowed| allowed == name) {
        return Err(RouteError::MethodNotAllowed(allow));
    }
    Ok(if method == Method::Options { Route::Options } else { route })
}

fn find(path: &str) -> Option<(Methods, Route<'_>)> {
    if let Some((_, allow, route)) = TABLE.iter().find(|(known, _, _)| *known == path) {
        return Some((allow, *route));
    }
    if let Some(name) = path.strip_prefix("/api/v1/label/").and_then(|rest| rest.strip_suffix("/values")) {
        return (!name.is_empty() && !name.contains('/')).then_some((GET, Route::LabelValues(name)));
    }
    (!path.starts_with("/api/") && !path.starts_with("/-/")).then_some((GET, Route::Page(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_found_with_its_methods() {
        assert_eq!(route(Method::Post, "/api/v1/query"), Ok(Route::Query));
        assert_eq!(route(Method::Get, "/api/v1/label/job/values"), Ok(Route::LabelValues("job")));
        assert_eq!(route(Method::Options, "/api/v1/query"), Ok(Route::Options));
        assert_eq!(route(Method::Get, "/"), Ok(Route::Page("/")));
        assert_eq!(route(Method::Post, "/-/reload"), Ok(Route::Reload));
        assert_eq!(route(Method::Get, "/-/reload"), Err(RouteError::MethodNotAllowed(POST_PUT)));
        assert_eq!(route(Method::Post, "/api/v1/targets"), Err(RouteError::MethodNotAllowed(GET)));
        for path in ["/api/v1/nothing", "/api/v1/label//values", "/api/v1/label/a/b/values", "/-/quit"] {
            assert_eq!(route(Method::Get, path), Err(RouteError::NotFound), "{path}");
        }
    }

    #[test]
    fn every_path_is_in_the_document() {
        let document = include_str!("../../../docs/HTTP_API.md");
        for (path, _, _) in TABLE {
            assert!(document.contains(&alloc::format!("`{path}`")), "{path} is missing in docs/HTTP_API.md");
        }
    }
}
