use crate::{
    daemon::{
        Input,
        input::Method,
        settings::AlertmanagerSettings,
        test_world::{Reply, START_WALL_MS, World, job, options, settings},
    },
    labels::LabelSet,
    rules::{GroupSpec, RuleKind, RuleSpec},
};
use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

const PAGE: &str = "# HELP m Two \\\\ lines\\nof help.\n# TYPE m gauge\nm{a=\"x\\\\y\\\"z\\n\"} NaN\nm{a=\"big\"} 1e21\nm{a=\"inf\"} +Inf\n\
                    # TYPE c_total counter\nc_total{instance=\"own\"} 0.0000001\n";
/// An instant after the third scrape at the latest.
const TIME: &str = "time=1790000003.500";

fn bad(message: &str) -> String {
    format!(r#"{{"status":"error","errorType":"bad_data","error":"{message}"}}"#)
}

#[test]
fn an_instant_query_gives_each_type_of_result_in_prometheus_form() {
    let mut world = World::scraping(PAGE);
    for (query, expected) in [
        ("1%2B1", r#"{"resultType":"scalar","result":[1790000003.500,"2"]}"#),
        ("1e-7", r#"{"resultType":"scalar","result":[1790000003.500,"0.0000001"]}"#),
        ("%22te%5C%22xt%22", r#"{"resultType":"string","result":[1790000003.500,"te\"xt"]}"#),
        ("vector(1e-7)", r#"{"resultType":"vector","result":[{"metric":{},"value":[1790000003.500,"1e-07"]}]}"#),
        ("nothing", r#"{"resultType":"vector","result":[]}"#),
        ("nothing[1m]", r#"{"resultType":"matrix","result":[]}"#),
        (
            "m{a=~%22x.*%22}",
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"m","a":"x\\y\"z\n","instance":"h:1","job":"node"},"value":[1790000003.500,"NaN"]}]}"#,
        ),
        (
            "-m{a!~%22x.*%22}",
            r#"{"resultType":"vector","result":[{"metric":{"a":"big","instance":"h:1","job":"node"},"value":[1790000003.500,"-1e+21"]},{"metric":{"a":"inf","instance":"h:1","job":"node"},"value":[1790000003.500,"-Inf"]}]}"#,
        ),
    ] {
        assert_eq!(world.data(&format!("/api/v1/query?query={query}&{TIME}")), expected, "{query}");
    }
    let warned = world.get("/api/v1/query?query=quantile(2,vector(1))&time=1");
    assert_eq!(
        warned.body,
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"+Inf"]}]},"warnings":["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"]}"#
    );
    assert_eq!(warned.header("Content-Type"), "application/json");
    assert_eq!(warned.header("Access-Control-Allow-Origin"), "*");
    // Without a time it is now.
    let now = (world.now.wall_ms / 1000).to_string();
    assert!(world.data("/api/v1/query?query=1").contains(&now));
    let stats = world.data("/api/v1/query?query=1&time=1&stats=all");
    assert!(stats.starts_with(
        r#"{"resultType":"scalar","result":[1,"1"],"stats":{"timings":{"evalTotalTime":0,"resultSortTime":0,"#
    ));
    assert!(stats.contains(r#""samples":{"totalQueryableSamples":"#), "{stats}");
}

#[test]
fn a_range_query_gives_a_point_per_step_over_get_and_post() {
    let mut world = World::scraping(PAGE);
    let expected = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"],[1.500,"1"],[2,"1"]]}]}}"#;
    let form = "query=1&start=1&end=2.2&step=500ms";
    world.check(&format!("/api/v1/query_range?{form}"), 200, expected);
    let post = world.ask(Method::Post, "/api/v1/query_range", form);
    assert_eq!((post.status, post.body.as_str()), (200, expected));
    // 11,000 steps are 11,001 points, and one more is too many.
    assert_eq!(world.get("/api/v1/query_range?query=1&start=1&end=11001&step=1").status, 200);
    for (form, message) in [
        (
            "query=1&start=1&end=11002&step=1",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        ("query=1&start=3&end=1&step=1", r#"invalid parameter \"end\": end timestamp must not be before start time"#),
        (
            "query=1&start=1&end=3&step=0",
            r#"invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer"#,
        ),
        ("query=1&start=1&end=3", r#"invalid parameter \"step\": cannot parse \"\" to a valid duration"#),
        ("query=1&end=3&step=1", r#"invalid parameter \"start\": cannot parse \"\" to a valid timestamp"#),
        ("query=1&start=1&step=1&end=x", r#"invalid parameter \"end\": cannot parse \"x\" to a valid timestamp"#),
        (
            "query=m[1m]&start=1&end=3&step=1",
            r#"invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"#,
        ),
        ("query=1&start=1&end=3&step=1&limit=x", r#"invalid parameter \"limit\": cannot parse \"x\" to a number"#),
    ] {
        world.check(&format!("/api/v1/query_range?{form}"), 400, &bad(message));
    }
}

#[test]
fn what_is_wrong_with_a_query_is_said_in_prometheus_words() {
    let mut world = World::scraping(PAGE);
    for (form, status, kind, message) in [
        (
            "",
            400,
            "bad_data",
            r#"invalid parameter \"query\": unknown position: parse error: no expression found in input"#,
        ),
        (
            "query=sum(up",
            400,
            "bad_data",
            r#"invalid parameter \"query\": 1:7: parse error: unclosed left parenthesis"#,
        ),
        (
            "query=1&time=abc",
            400,
            "bad_data",
            r#"invalid parameter \"time\": invalid time value for 'time': cannot parse \"abc\" to a valid timestamp"#,
        ),
        (
            "query=1&timeout=abc",
            400,
            "bad_data",
            r#"invalid parameter \"timeout\": cannot parse \"abc\" to a valid duration"#,
        ),
        (
            "query=1&lookback_delta=abc",
            400,
            "bad_data",
            r#"error parsing lookback delta duration: cannot parse \"abc\" to a valid duration"#,
        ),
        ("query=1&limit=-1", 400, "bad_data", r#"invalid parameter \"limit\": limit must be non-negative"#),
        ("query=1&timeout=0", 503, "timeout", "query timed out in expression evaluation"),
        (
            "query=m%20*%20on()%20m",
            422,
            "execution",
            r#"found duplicate series for the match group {} on the right hand-side of the operation"#,
        ),
    ] {
        let reply = world.get(&format!("/api/v1/query?{form}"));
        assert_eq!(reply.status, status, "{form}: {}", reply.body);
        let expected = format!(r#"{{"status":"error","errorType":"{kind}","error":"{message}"#);
        assert!(reply.body.starts_with(&expected), "{form}: {}", reply.body);
        assert_eq!(reply.header("Content-Type"), "application/json");
    }
}

#[test]
fn series_labels_and_values_are_sorted_limited_and_chosen_by_matchers() {
    let mut world = World::scraping(PAGE);
    let truncated =
        |data: &str| format!(r#"{{"status":"success","data":{data},"warnings":["results truncated due to limit"]}}"#);
    let all = r#"[{"__name__":"c_total","exported_instance":"own","instance":"h:1","job":"node"},{"__name__":"m","a":"big","instance":"h:1","job":"node"}]"#;
    assert_eq!(world.data("/api/v1/series?match[]=m{a=%22big%22}&match[]=c_total&match[]=m{a=%22big%22}"), all);
    let first = r#"[{"__name__":"c_total","exported_instance":"own","instance":"h:1","job":"node"}]"#;
    world.check("/api/v1/series?match[]=m&match[]=c_total&limit=1", 200, &truncated(first));
    assert_eq!(world.data("/api/v1/series?match[]=c_total&limit=1"), first);
    assert_eq!(world.data("/api/v1/series?match[]=m&start=5&end=3"), "[]");
    assert_eq!(world.data("/api/v1/series?match[]=m&start=5&end=6"), "[]");
    assert_eq!(world.data("/api/v1/labels?match[]=m"), r#"["__name__","a","instance","job"]"#);
    world.check("/api/v1/labels?match[]=m&limit=3", 200, &truncated(r#"["__name__","a","instance"]"#));
    assert_eq!(world.data("/api/v1/labels?match[]=m&limit=4"), r#"["__name__","a","instance","job"]"#);
    assert_eq!(world.ask(Method::Post, "/api/v1/labels", "match[]=nothing").body, r#"{"status":"success","data":[]}"#);
    let values = r#"["big","inf","x\\y\"z\n"]"#;
    for name in ["a", "U__a", "%61"] {
        assert_eq!(world.data(&format!("/api/v1/label/{name}/values")), values);
    }
    world.check("/api/v1/label/a/values?limit=2", 200, &truncated(r#"["big","inf"]"#));
    assert_eq!(world.data("/api/v1/label/a/values?match[]=c_total"), "[]");
    for (target, message) in [
        ("/api/v1/series", "no match[] parameter provided"),
        (
            "/api/v1/series?match[]={a=~%22.*%22}",
            r#"invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"#,
        ),
        (
            "/api/v1/labels?start=x",
            r#"invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp"#,
        ),
        ("/api/v1/label/%zz/values", r#"invalid URL escape in \"%zz\""#),
    ] {
        world.check(target, 400, &bad(message));
    }
}

#[test]
fn metadata_is_kept_and_bounded_as_asked() {
    // It was once kept in a table of no bytes, so that every answer was empty.
    let mut world = World::scraping(PAGE);
    let m = r#""m":[{"type":"gauge","unit":"","help":"Two \\ lines\nof help."}]"#;
    let c = r#""c_total":[{"type":"counter","unit":"","help":""}]"#;
    assert_eq!(world.data("/api/v1/metadata"), format!("{{{c},{m}}}"));
    assert_eq!(world.data("/api/v1/metadata?metric=m"), format!("{{{m}}}"));
    for (limit, expected) in [("-1", format!("{{{c},{m}}}")), ("0", "{}".into()), ("1", format!("{{{c}}}"))] {
        assert_eq!(world.data(&format!("/api/v1/metadata?limit={limit}")), expected, "{limit}");
    }
    world.check("/api/v1/metadata?limit=x", 400, &bad("limit must be a number"));
    let target = r#""target":{"instance":"h:1","job":"node"}"#;
    let row = format!(r#"[{{{target},"type":"gauge","help":"Two \\ lines\nof help.","unit":""}}]"#);
    assert_eq!(world.data("/api/v1/targets/metadata?metric=m&match_target={job=%22node%22}"), row);
    assert_eq!(world.data("/api/v1/targets/metadata?match_target={job=%22other%22}"), "[]");
    assert!(
        world
            .data("/api/v1/targets/metadata?limit=1")
            .starts_with(&format!(r#"[{{{target},"metric":"m","type":"gauge""#))
    );
}

#[test]
fn targets_are_told_by_pool_with_their_last_scrape() {
    let mut world = World::new(options(), settings(vec![job("node", &["h:1"]), job("down", &["localhost:2"])]));
    world.serve("http://h:1/metrics", PAGE);
    world.pass(2_000);
    let discovered = |address: &str, job: &str| {
        format!(
            r#""discoveredLabels":{{"__address__":"{address}","__metrics_path__":"/metrics","__scheme__":"http","__scrape_interval__":"1s","__scrape_timeout__":"1s","job":"{job}"}}"#
        )
    };
    let labels = |address: &str, job: &str| {
        format!(
            r#""labels":{{"instance":"{address}","job":"{job}"}},"scrapePool":"{job}","scrapeUrl":"http://{address}/metrics""#
        )
    };
    let data = world.data("/api/v1/targets");
    let down = format!(
        r#"{{"activeTargets":[{{{},{},"globalUrl":"http://box:2/metrics","lastError":"connect: connection refused","lastScrape":"2026-09-21T1"#,
        discovered("localhost:2", "down"),
        labels("localhost:2", "down")
    );
    assert!(data.starts_with(&down), "{data}");
    let up = format!(
        r#"{{{},{},"globalUrl":"http://h:1/metrics","lastError":"","lastScrape":"2026-09-21T1"#,
        discovered("h:1", "node"),
        labels("h:1", "node")
    );
    assert!(data.contains(&up), "{data}");
    let end = r#""lastScrapeDuration":0,"health":"up","scrapeInterval":"1s","scrapeTimeout":"1s"}],"droppedTargets":[],"droppedTargetCounts":{"down":0,"node":0}}"#;
    assert!(data.ends_with(end), "{data}");
    let none = |counts: &str| format!(r#"{{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{counts}}}"#);
    assert_eq!(world.data("/api/v1/targets?state=dropped"), none(r#"{"down":0,"node":0}"#));
    assert_eq!(world.data("/api/v1/targets?state=ACTIVE&scrapePool=other"), none("null"));
    assert_eq!(world.data("/api/v1/targets?scrapePool=node").matches("scrapePool").count(), 1);
    assert_eq!(world.data("/api/v1/scrape_pools"), r#"{"scrapePools":["down","node"]}"#);
}

fn with_rules() -> World {
    let mut settings = settings(vec![job("down", &["d:1"])]);
    let alert = |name: &str, expr: &str, for_ms| RuleSpec {
        kind: RuleKind::Alert {
            alert: name.into(),
            for_ms,
            keep_firing_for_ms: 60_000,
            annotations: vec![("summary".into(), "{{ $labels.instance }} is down".into())],
        },
        expr: expr.into(),
        labels: vec![("severity".into(), "page".into())],
    };
    let record = |name: &str| RuleSpec {
        kind: RuleKind::Record { record: name.into() },
        expr: "sum by (job) (up)".into(),
        labels: vec![("team".into(), "a".into())],
    };
    let group = |name: &str, file: &str, rules| GroupSpec {
        name: name.into(),
        file: file.into(),
        interval_ms: None,
        limit: 5,
        query_offset_ms: None,
        labels: Vec::new(),
        rules,
    };
    settings.rule_groups = vec![
        group("two", "b.yml", vec![record("second")]),
        group("one", "a.yml", vec![alert("Down", "up==0", 0), alert("Never", "up>5", 0), record("first")]),
        group("none", "a.yml", Vec::new()),
    ];
    settings.alertmanagers = vec![AlertmanagerSettings { url: "http://am:9093/prefix".into(), timeout_ms: 10_000 }];
    settings.external_labels = LabelSet::from_pairs([("site", "lab"), ("region", "eu")]);
    let mut world = World::new(options(), settings);
    world.pass(5_000);
    world
}

/// Times of evaluation depend on the schedule; everything else is literal.
fn without_times(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split("2026-09-21T").enumerate() {
        let part = if index == 0 { part } else { part.split_once('Z').map_or("", |(_, rest)| rest) };
        out.push_str(part);
        out.push_str("TIME");
    }
    out.trim_end_matches("TIME").into()
}

const DOWN: &str = r#"{"labels":{"alertname":"Down","instance":"d:1","job":"down","severity":"page"},"annotations":{"summary":"d:1 is down"},"state":"firing","activeAt":"TIME","value":"0e+00"}"#;

#[test]
fn rules_and_alerts_have_every_field_and_filter() {
    let mut world = with_rules();
    let end = r#""health":"ok","evaluationTime":0,"lastEvaluation":"TIME","type":"#;
    let alert = |name: &str, state: &str, query: &str, alerts: &str| {
        format!(
            r#"{{"state":"{state}","name":"{name}","query":"{query}","duration":0,"keepFiringFor":60,"labels":{{"severity":"page"}},"annotations":{{"summary":"{{{{ $labels.instance }}}} is down"}},"alerts":{alerts},{end}"alerting"}}"#
        )
    };
    let record = |name: &str| {
        format!(r#"{{"name":"{name}","query":"sum by (job) (up)","labels":{{"team":"a"}},{end}"recording"}}"#)
    };
    let group = |name: &str, file: &str, rules: &[String]| {
        let rules = rules.join(",");
        format!(
            r#"{{"name":"{name}","file":"{file}","rules":[{rules}],"interval":1,"limit":5,"evaluationTime":0,"lastEvaluation":"TIME"}}"#
        )
    };
    let groups = |groups: &[String]| format!(r#"{{"groups":[{}]}}"#, groups.join(","));
    let (down, never) =
        (alert("Down", "firing", "up == 0", &format!("[{DOWN}]")), alert("Never", "inactive", "up > 5", "[]"));
    let one = group("one", "a.yml", &[down.clone(), never.clone(), record("first")]);
    let two = group("two", "b.yml", &[record("second")]);
    let mut check = |query: &str, expected: String| {
        assert_eq!(without_times(&world.data(&format!("/api/v1/rules?{query}"))), expected, "{query}");
    };
    check("", groups(&[one.clone(), two.clone()]));
    check("type=alert", groups(&[group("one", "a.yml", &[down, never])]));
    let quiet = [alert("Down", "firing", "up == 0", "null"), alert("Never", "inactive", "up > 5", "null")];
    check("type=ALERT&exclude_alerts=true", groups(&[group("one", "a.yml", &quiet)]));
    check("rule_name[]=second&rule_name[]=first", groups(&[group("one", "a.yml", &[record("first")]), two.clone()]));
    check("rule_group[]=two", groups(core::slice::from_ref(&two)));
    check("file[]=b.yml&type=record", groups(core::slice::from_ref(&two)));
    check("match[]={team=%22a%22}&file[]=b.yml", groups(core::slice::from_ref(&two)));
    check("match[]={team=%22b%22}", groups(&[]));
    check("rule_name[]=unknown", groups(&[]));
    // Pages: the first names the second, which is the last.
    let first = world.data("/api/v1/rules?group_limit=1");
    let token = first.split_once(r#""groupNextToken":""#).map_or("", |(_, rest)| rest.trim_end_matches("\"}"));
    assert_eq!(without_times(&first), format!(r#"{{"groups":[{one}],"groupNextToken":"{token}"}}"#));
    let second = world.data(&format!("/api/v1/rules?group_limit=1&group_next_token={token}"));
    assert_eq!(without_times(&second), groups(&[two]));

    let alerts = world.data("/api/v1/alerts");
    assert_eq!(without_times(&alerts), format!(r#"{{"alerts":[{DOWN}]}}"#));
    assert_eq!(
        world.data("/api/v1/alertmanagers"),
        r#"{"activeAlertmanagers":[{"url":"http://am:9093/prefix/api/v2/alerts"}],"droppedAlertmanagers":[]}"#
    );
    assert!(world.posts.iter().any(|post| post.contains(r#""alertname":"Down""#)), "{:?}", world.posts);
    for (query, message) in [
        ("type=foo", r#"invalid parameter \"type\": not supported value \"foo\""#),
        (
            "exclude_alerts=foo",
            r#"invalid parameter \"exclude_alerts\": error converting exclude_alerts: \"foo\" is not true or false"#,
        ),
        (
            "group_next_token=1",
            r#"invalid parameter \"group_next_token\": group_limit needs to be present in order to paginate over the groups"#,
        ),
        (
            "group_limit=0",
            r#"invalid parameter \"group_limit\": group_limit needs to be a valid number, greater than 0"#,
        ),
    ] {
        world.check(&format!("/api/v1/rules?{query}"), 400, &bad(message));
    }
}

#[test]
fn federation_is_sorted_typed_escaped_and_carries_external_labels_behind() {
    let mut world = with_rules();
    world.serve("http://d:1/metrics", "z{b=\"q\\\"\\\\\\n\",region=\"own\"} 1e6\na 0.00001\n");
    world.pass(1_000);
    let t_ms = |world: &mut World, query: &str| {
        let data = world.data(&format!("/api/v1/query?query=timestamp({query})"));
        let text = data.rsplit('"').nth(1).expect("a value").to_string();
        (text.parse::<f64>().expect("a number") * 1000.0 + 0.5) as i64
    };
    let (scraped_ms, ruled_ms) = (t_ms(&mut world, "a"), t_ms(&mut world, "second"));
    let expected = format!(
        "# TYPE a untyped\na{{instance=\"d:1\",job=\"down\",region=\"eu\",site=\"lab\"}} 1e-05 {scraped_ms}\n\
         # TYPE second untyped\nsecond{{job=\"down\",team=\"a\",instance=\"\",region=\"eu\",site=\"lab\"}} 1 {ruled_ms}\n\
         # TYPE z untyped\nz{{b=\"q\\\"\\\\\\n\",instance=\"d:1\",job=\"down\",region=\"own\",site=\"lab\"}} 1e+06 {scraped_ms}\n"
    );
    // The last rule ran before or after the scrape; its value is what `up` was then.
    let reply = world.get("/federate?match[]=z&match[]={__name__=~%22a|second%22}&match[]=a");
    let body = reply.body.replace("\"lab\"} 0 ", "\"lab\"} 1 ");
    assert_eq!((reply.status, body.as_str()), (200, expected.as_str()));
    assert_eq!(reply.header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
    world.check("/federate", 200, "");
    let reply = world.get("/federate?match[]=up[");
    assert_eq!((reply.status, reply.header("Content-Type")), (400, "text/plain; charset=utf-8"));
    assert!(reply.body.starts_with("invalid parameter \"match[]\": 1:"), "{}", reply.body);
    // What ended is not federated, and neither is what is older than the look-back.
    world.serve("http://d:1/metrics", "z 1\n");
    world.pass(1_100);
    world.check("/federate?match[]=a", 200, "");
    assert!(world.get("/federate?match[]=z").body.starts_with("# TYPE z untyped\nz{instance"));
    world.now.wall_ms += 300_001;
    world.check("/federate?match[]=z", 200, "");
}

#[test]
fn the_status_pages_tell_about_this_process() {
    let mut world = World::scraping(PAGE);
    let version = r#"{"version":"3.5.3","revision":"holdfast","branch":"main","buildUser":"","buildDate":"","goVersion":"","holdfast":"0.1.0"}"#;
    assert_eq!(world.data("/api/v1/status/buildinfo"), version);
    world.check("/version", 200, &format!("{version}\n"));
    assert_eq!(world.data("/api/v1/status/flags"), r#"{"query.timeout":"2m"}"#);
    assert_eq!(world.data("/api/v1/status/config"), r#"{"yaml":""}"#);
    assert_eq!(world.data("/api/v1/status/walreplay"), r#"{"min":0,"max":0,"current":0}"#);
    assert_eq!(world.data("/api/v1/notifications"), "[]");
    assert_eq!(world.data("/api/v1/query_exemplars?query=m&start=1&end=2"), "[]");
    assert_eq!(world.get("/api/v1/query_exemplars?query=(").status, 400);
    let info = world.data("/api/v1/status/runtimeinfo");
    assert_eq!(
        without_times(&info),
        r#"{"startTime":"TIME","CWD":"","hostname":"box","serverTime":"TIME","reloadConfigSuccess":true,"lastConfigTime":"TIME","corruptionCount":0,"goroutineCount":1,"GOMAXPROCS":1,"GOMEMLIMIT":16777216,"GOGC":"","GODEBUG":"","storageRetention":"15d or 512MiB"}"#
    );
    let tsdb = world.data("/api/v1/status/tsdb?limit=2");
    let (head, lists) = tsdb.split_once(r#","seriesCountByMetricName":"#).expect("lists");
    assert!(head.starts_with(r#"{"headStats":{"numSeries":9,"numLabelPairs":13,"numSamples":"#), "{head}");
    assert!(head.contains(r#""minTime":17900000"#) && head.contains(r#""maxTime":17900000"#), "{head}");
    // `m` has three series; all nine have job and instance.
    assert_eq!(
        lists,
        r#"[{"name":"m","value":3},{"name":"c_total","value":1}],"labelValueCountByLabelName":[{"name":"__name__","value":7},{"name":"a","value":3}],"memoryInBytesByLabelName":[{"name":"__name__","value":203},{"name":"instance","value":117}],"seriesCountByLabelValuePair":[{"name":"instance=h:1","value":9},{"name":"job=node","value":9}]}"#
    );
    for limit in ["0", "-1", "x"] {
        let target = format!("/api/v1/status/tsdb?limit={limit}");
        world.check(&target, 400, &bad("limit must be a positive number"));
    }
    assert_eq!(world.get("/api/v1/status/tsdb?limit=100").status, 200);
    world.check("/api/v1/status/tsdb?limit=101", 400, &bad("limit must be at most 100"));
    let holdfast = world.data("/api/v1/status/holdfast");
    for field in [
        r#""version":"0.1.0","title":"Holdfast","hostname":"box","host":null,"started_ms":1790000000000,"now_ms":179000000"#,
        r#""memory":{"limit_bytes":16777216,"resident_bytes":0,"resident_peak_bytes":0,"regions":[{"name":"series","#,
        r#""disk":{"used_bytes":0,"quota_bytes":536870912,"oldest_ms":null}"#,
        r#""store":{"series":9,"series_max":"#,
        r#""forward":[],"losses":[],"notices":[]}"#,
    ] {
        assert!(holdfast.contains(field), "{field}: {holdfast}");
    }
}

#[test]
fn methods_paths_and_prefixes_are_answered_as_routed() {
    let mut options = options();
    options.route_prefix = "/prometheus".into();
    let mut world = World::new(options, settings(Vec::new()));
    world.check("/api/v1/labels", 404, "404 page not found\n");
    world.check("/prometheusx", 404, "404 page not found\n");
    world.check("/prometheus/api/v1/nothing", 404, "404 page not found\n");
    world.check("/prometheus/api/v1/labels", 200, r#"{"status":"success","data":[]}"#);
    world.check("/prometheus", 200, "/");
    world.check("/prometheus/graph?g0.expr=up", 200, "/graph");
    world.check("/prometheus/-/healthy", 200, "Holdfast is healthy.\n");
    world.check("/prometheus/-/ready", 200, "Holdfast is ready.\n");
    let refused = world.ask(Method::Post, "/prometheus/api/v1/targets", "");
    assert_eq!((refused.status, refused.body.as_str()), (405, "Method Not Allowed\n"));
    assert_eq!(refused.header("Allow"), "GET, HEAD, OPTIONS");
    assert_eq!(refused.header("Content-Type"), "text/plain; charset=utf-8");
    for method in [Method::Put, Method::Delete, Method::Other] {
        assert_eq!(world.ask(method, "/prometheus/api/v1/query", "query=1").status, 405);
    }
    let options: Reply = world.ask(Method::Options, "/prometheus/api/v1/query", "");
    assert_eq!((options.status, options.body.as_str()), (204, ""));
    assert_eq!(options.header("Access-Control-Allow-Origin"), "*");
    // The platform leaves the body of an answer to HEAD away; its length is that of GET's.
    let head = world.ask(Method::Head, "/prometheus/api/v1/query?query=1&time=1", "");
    assert_eq!(head.body, world.get("/prometheus/api/v1/query?query=1&time=1").body);
}

#[test]
fn a_reload_is_forbidden_without_the_flag_and_answered_when_it_is_done_with_it() {
    let mut world = World::new(options(), settings(Vec::new()));
    let refused = world.ask(Method::Post, "/-/reload", "");
    assert_eq!((refused.status, world.reloads), (403, 0));
    assert!(refused.body.starts_with("Lifecycle API is not enabled"));
    assert_eq!(world.get("/-/reload").status, 405);

    let mut options = options();
    options.enable_lifecycle = true;
    let mut world = World::new(options, settings(Vec::new()));
    let request = world.send(Method::Post, "/-/reload", "", "");
    world.drain();
    assert_eq!((world.reloads, world.replies.contains_key(&request.0)), (1, false));
    world.handle(Input::Settings(Box::new(settings(vec![job("node", &["h:1"])]))));
    world.drain();
    assert_eq!((world.replies[&request.0].status, world.replies[&request.0].body.as_str()), (200, ""));
    assert_eq!(world.data("/api/v1/scrape_pools"), r#"{"scrapePools":["node"]}"#);

    let request = world.send(Method::Put, "/-/reload", "", "");
    world.drain();
    world.handle(Input::SettingsRefused { errors: "prometheus.yml:1:1: no" });
    world.drain();
    let refused = &world.replies[&request.0];
    assert_eq!((refused.status, refused.body.as_str()), (500, "failed to reload config: prometheus.yml:1:1: no\n"));
    assert_eq!(world.data("/api/v1/scrape_pools"), r#"{"scrapePools":["node"]}"#);
    assert!(world.data("/api/v1/status/holdfast").contains("The last reload was refused"));
    assert!(world.get("/metrics").body.contains("\nholdfast_config_last_reload_successful 0\n"));
}

#[test]
fn every_metric_is_in_the_document_with_its_type_and_help() {
    let mut world = World::new(options(), settings(Vec::new()));
    let reply = world.get("/metrics");
    let document = include_str!("../../../docs/HTTP_API.md");
    let lines: Vec<&str> = reply.body.lines().collect();
    let mut count = 0;
    for pair in lines.windows(2) {
        let (Some(help), Some(kind)) = (pair[0].strip_prefix("# HELP "), pair[1].strip_prefix("# TYPE ")) else {
            continue;
        };
        let (name, help) = help.split_once(' ').expect("a name and a help");
        let kind = kind.rsplit(' ').next().expect("a type");
        let row = format!("| `{name}` | {kind} | {help} |");
        assert!(document.contains(&row), "docs/HTTP_API.md lacks this row:\n{row}");
        count += 1;
        // What promtool's `check metrics` asks for.
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
    }
    let rows =
        document.lines().filter(|line| line.starts_with("| `holdfast_") || line.starts_with("| `process_")).count();
    assert_eq!(rows, count, "docs/HTTP_API.md has rows of metrics that are gone");
    assert_eq!(START_WALL_MS, 1_790_000_000_000);
}
