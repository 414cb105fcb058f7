use super::*;
use crate::config::{Finding, check, load};
use std::fs;

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config")
}

/// Refuses expressions at the word BAD and templates with the word BROKEN.
pub(crate) fn reading() -> Reading<'static> {
    Reading {
        own_address: "127.0.0.1:9090",
        route_prefix: "",
        host_job: "node",
        host_name: "box",
        file_bytes_max: 0x4_0000,
        check_expression: &|text| text.find("BAD").map_or(Ok(()), |offset| Err((offset, "unexpected BAD".into()))),
        check_template: &|text| {
            if text.contains("BROKEN") { Err("function \"BROKEN\" not defined".into()) } else { Ok(()) }
        },
        environment: &|name| match name {
            "SITE" => Some("north".into()),
            "HOST" => Some("box".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        },
    }
}

/// Findings with the fixtures' folder left out, a line each.
pub(crate) fn shown(findings: &[Finding]) -> String {
    let folder = format!("{}/", fixtures().display());
    findings.iter().map(|finding| format!("{}\n", finding.to_string().replace(&folder, ""))).collect()
}

/// Every `.yml` of the folder gives exactly the lines of its `.errors`. With HOLDFAST_WRITE_FIXTURES set, what was found
/// is written there, to be read and committed.
pub(crate) fn check_folder(folder: &str, errors_of: impl Fn(&Path) -> Result<(), Refused>) {
    let (mut count, mut wrong) = (0, String::new());
    for entry in fs::read_dir(fixtures().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yml") {
            continue;
        }
        let found = errors_of(&path).map_or_else(|refused| shown(&refused.errors), |()| "accepted\n".into());
        let expected = fs::read_to_string(path.with_extension("errors")).unwrap_or_default();
        if found != expected {
            wrong += &format!("{}\nfound:\n{found}expected:\n{expected}", path.display());
        }
        if std::env::var_os("HOLDFAST_WRITE_FIXTURES").is_some() {
            fs::write(path.with_extension("errors"), found).unwrap();
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count > 5, "{count} files in {folder}");
}

#[test]
fn every_bad_file_gives_exactly_its_error_lines() {
    check_folder("bad", |path| load(path, &reading()).map(|_| ()));
}

fn load_good(name: &str) -> Loaded {
    load(&fixtures().join("good").join(name), &reading()).unwrap_or_else(|refused| panic!("{refused}"))
}

/// Writes the text as a prometheus.yml and reads it.
fn load_text(text: &str) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prometheus.yml");
    fs::write(&path, text).unwrap();
    let within = format!("{}/", folder.path().display());
    load(&path, &reading()).map_err(|refused| refused.to_string().replace(&within, ""))
}

fn notices_of(text: &str) -> Vec<String> {
    let notices = load_text(text).unwrap().notices;
    notices.iter().map(|notice| format!("{}:{}: {}", notice.line, notice.column, notice.message)).collect()
}

#[test]
fn everything_that_is_supported_becomes_settings() {
    let Loaded { settings, notices } = load_good("full.yml");
    let labels = |pairs: &[(&str, &str)]| LabelSet::from_pairs(pairs.iter().copied());
    assert_eq!(
        settings.external_labels,
        labels(&[("host", "box"), ("price", "5$"), ("rack", "0x1F"), ("site", "north-1")])
    );
    assert_eq!((settings.evaluation_interval_ms, settings.rule_query_offset_ms), (90_000, 5_000));

    let names: Vec<_> = settings.scrape.iter().map(|job| (job.job_name.as_str(), job.kind)).collect();
    let http = JobKind::Http;
    assert_eq!(names, [("first", http), ("second", http), ("third job", http), ("node", JobKind::Host)]);
    let timings: Vec<_> = settings.scrape.iter().map(|job| (job.scrape_interval_ms, job.scrape_timeout_ms)).collect();
    assert_eq!(timings, [(15_000, 15_000), (15_000, 5_000), (30_000, 20_000), (30_000, 20_000)]);

    let [first, second, third, node] = &settings.scrape[..] else { panic!("four jobs") };
    assert_eq!(first.metrics_path, "/metrics");
    assert_eq!((first.honor_labels, first.honor_timestamps), (true, true));
    let params =
        vec![("collect[]".into(), vec!["cpu".into()]), ("module".into(), vec!["http_2xx".into(), "a b".into()])];
    assert_eq!(first.params, params);
    let limits = |job: &JobSettings| {
        (
            job.sample_limit,
            job.body_size_limit_bytes,
            job.label_limit,
            job.label_name_length_limit,
            job.label_value_length_limit,
        )
    };
    assert_eq!(limits(first), (5_000, 10 << 20, 64, 64, 1_000));
    let targets = |job: &JobSettings| -> Vec<_> {
        job.targets.iter().map(|target| (target.address.clone(), target.labels.clone())).collect()
    };
    let rack = labels(&[("rack", "12")]);
    let expected = [("localhost:9100", rack.clone()), ("[::1]:9100", rack), ("other", labels(&[]))];
    assert_eq!(targets(first), expected.map(|(address, labels)| (address.to_owned(), labels)));

    assert_eq!((second.params.clone(), targets(second)), (params, targets(first)));
    assert_eq!((second.honor_labels, second.honor_timestamps), (true, false));
    assert_eq!(second.metrics_path, "/probe%20me");
    assert_eq!(limits(second), (10, 10 << 20, 64, 64, 1_000));
    assert!(third.targets.is_empty());
    assert_eq!(targets(node), [("box".to_owned(), labels(&[]))]);

    let alertmanagers: Vec<_> = settings.alertmanagers.iter().map(|one| (one.url.as_str(), one.timeout_ms)).collect();
    assert_eq!(alertmanagers, [("http://a:9093/am", 3_000), ("http://b:9093/am", 3_000), ("http://c:9093", 10_000)]);

    let [upstream, other] = &settings.remote_writes[..] else { panic!("two upstreams") };
    assert_eq!(
        (upstream.name.as_str(), upstream.url.as_str()),
        ("upstream:9090/api/v1/write", "http://upstream:9090/api/v1/write?x=1")
    );
    assert_eq!(other.url, "http://other/");
    let tuning = |write: &RemoteWriteSettings| {
        (
            write.timeout_ms,
            write.samples_per_send_max,
            write.batch_deadline_ms,
            write.backoff_ms_min,
            write.backoff_ms_max,
            write.retry_on_429,
        )
    };
    assert_eq!(tuning(upstream), (30_000, 500, 1_000, 100, 60_000, true));
    assert_eq!((other.name.as_str(), tuning(other)), ("other", (7_000, 2_000, 5_000, 30, 5_000, false)));

    let groups: Vec<_> = settings.rule_groups.iter().map(|group| (group.name.as_str(), group.rules.len())).collect();
    assert_eq!(groups, [("one", 2), ("two", 0)]);
    assert_eq!(
        shown(&notices),
        "good/full.yml:63:7: remote_write[0].queue_config.capacity has no effect: the store is the queue\n"
    );
}

#[test]
fn an_empty_file_and_empty_sections_mean_the_defaults_of_prometheus() {
    for name in ["empty.yml", "nulls.yml"] {
        let Loaded { settings, notices } = load_good(name);
        let [node] = &settings.scrape[..] else { panic!("only the host's job") };
        assert_eq!((node.scrape_interval_ms, node.scrape_timeout_ms), (60_000, 10_000));
        assert_eq!((settings.evaluation_interval_ms, notices), (60_000, Vec::new()));
        assert!(
            settings.rule_groups.is_empty() && settings.alertmanagers.is_empty() && settings.remote_writes.is_empty()
        );
    }
}

#[test]
fn the_dump_reads_back_as_the_same_configuration() {
    let first = load_good("full.yml").settings;
    let text = first.yaml.replace("rules/*.yml", &fixtures().join("good/rules/*.yml").display().to_string());
    let second = load_text(&text).unwrap_or_else(|error| panic!("{error}\n{text}")).settings;
    let comparable = |settings: &Settings| {
        let rules = settings.rule_groups.iter().map(|group| group.rules.clone()).collect::<Vec<_>>();
        format!(
            "{:?} {:?} {:?} {:?} {} {} {rules:?}",
            settings.scrape,
            settings.alertmanagers,
            settings.remote_writes,
            settings.external_labels,
            settings.evaluation_interval_ms,
            settings.rule_query_offset_ms
        )
    };
    assert_eq!(comparable(&first), comparable(&second));
    assert_eq!(text, second.yaml);
}

#[test]
fn secrets_are_not_in_the_dump() {
    let text =
        "scrape_configs:\n- job_name: a\n  params: {auth_token: [hush]}\nremote_write:\n- url: http://a/b?token=hush\n";
    let yaml = load_text(text).unwrap().settings.yaml;
    assert!(!yaml.contains("hush"), "{yaml}");
    assert_eq!(yaml.matches("<secret>").count(), 2, "{yaml}");
}

#[test]
fn without_a_file_this_process_and_its_host_are_scraped() {
    let Loaded { settings, notices } = built_in(&Reading { route_prefix: "/prefix", ..reading() });
    let [own, node] = &settings.scrape[..] else { panic!("two jobs") };
    assert_eq!(
        (own.job_name.as_str(), own.kind, own.metrics_path.as_str()),
        ("holdfast", JobKind::Http, "/prefix/metrics")
    );
    assert_eq!((own.scrape_interval_ms, own.scrape_timeout_ms), (15_000, 10_000));
    assert_eq!(own.targets[0].address, "127.0.0.1:9090");
    assert_eq!((node.job_name.as_str(), node.kind, node.scrape_interval_ms), ("node", JobKind::Host, 15_000));
    assert_eq!(node.targets[0].address, "box");
    assert!(notices.is_empty());
    assert!(load_text(&settings.yaml).is_ok(), "{}", settings.yaml);
    assert_eq!(built_in(&Reading { host_job: "", ..reading() }).settings.scrape.len(), 1);
}

#[test]
fn a_job_of_the_hosts_name_takes_its_place_with_a_notice() {
    let text = "scrape_configs:\n- job_name: node\n";
    let settings = load_text(text).unwrap().settings;
    assert_eq!(settings.scrape.iter().map(|job| job.kind).collect::<Vec<_>>(), [JobKind::Http]);
    let expected = "2:13: a job \"node\" is configured here, so the built-in host metrics are off; name them otherwise with --host.job";
    assert_eq!(notices_of(text), [expected]);
}

#[test]
fn a_timeout_follows_a_shorter_interval_unless_it_is_given() {
    let timings = |text: &str| {
        let settings = load_text(text).unwrap().settings;
        (settings.scrape[0].scrape_interval_ms, settings.scrape[0].scrape_timeout_ms)
    };
    assert_eq!(timings("scrape_configs: [{job_name: a, scrape_interval: 5s}]"), (5_000, 5_000));
    assert_eq!(timings("scrape_configs: [{job_name: a, scrape_interval: 10s}]"), (10_000, 10_000));
    assert_eq!(timings("scrape_configs: [{job_name: a, scrape_interval: 11s}]"), (11_000, 10_000));
    assert_eq!(timings("global: {scrape_interval: 4s}\nscrape_configs: [{job_name: a}]"), (4_000, 4_000));
    assert_eq!(
        timings("global: {scrape_timeout: 3s}\nscrape_configs: [{job_name: a, scrape_interval: 2s}]"),
        (2_000, 2_000)
    );
    assert_eq!(timings("scrape_configs: [{job_name: a, scrape_interval: 0s, scrape_timeout: null}]"), (60_000, 10_000));
}

#[test]
fn dollar_signs_are_expanded_as_prometheus_expands_them() {
    let empty = |name: &str| format!("the environment variable {name} is empty; set it where the process is started");
    let bad = |text: &str| {
        format!("{text:?} has a `${{` without name or `}}`, which is left out; write $$ for a dollar sign")
    };
    for (text, expected, notice) in [
        ("$SITE", "north", None),
        ("${SITE}x", "northx", None),
        ("a$SITE-b", "anorth-b", None),
        ("$", "$", None),
        ("a$", "a$", None),
        ("$.a", "$.a", None),
        ("$$SITE", "$SITE", None),
        ("${$}", "$", None),
        ("$SITEX", "", Some(empty("SITEX"))),
        ("${EMPTY}", "", Some(empty("EMPTY"))),
        ("$1x", "x", Some(empty("1"))),
        ("a${}b", "ab", Some(bad("a${}b"))),
        ("a${b", "ab", Some(bad("a${b"))),
        ("ü$ü", "ü$ü", None),
    ] {
        let notices = std::cell::RefCell::new(Vec::new());
        let expanded = expand_environment(text, reading().environment, |notice| notices.borrow_mut().push(notice));
        assert_eq!(expanded, expected, "{text}");
        assert_eq!(notices.into_inner(), notice.into_iter().collect::<Vec<_>>(), "{text}");
    }
}

#[test]
fn what_is_accepted_and_should_be_known_is_a_notice() {
    let identity = "1:15: remote_write without global.external_labels: the series of several hosts would collide upstream; \
        add a label whose value differs by host, like `instance_host: ${HOSTNAME}`";
    assert_eq!(notices_of("remote_write: [{url: 'http://a/b'}]"), [identity]);
    assert!(notices_of("global: {external_labels: {a: b}}\nremote_write: [{url: 'http://a/b'}]").is_empty());
    assert_eq!(
        notices_of(
            "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: [a:1, 'a:0', a:1, 'a b', '::1']\n    labels: {__x: y}\n"
        ),
        [
            "4:20: \"a:0\" is not host:port, so it can never be reached; correct it",
            "4:27: the target \"a:1\" is listed twice with the same labels; once counts",
            "4:32: \"a b\" is not host:port, so it can never be reached; correct it",
            "4:39: \"::1\" is not host:port, so it can never be reached; correct it",
            "5:14: the label __x has no effect: names with `__` are for relabelling",
        ]
    );
    assert_eq!(notices_of("rule_files: ['none*.yml']"), ["1:14: \"none*.yml\" matches no file; no rules come from it"]);
    assert_eq!(notices_of("runtime: {gogc: 75}"), ["1:1: runtime has no effect: there is no Go runtime to tune"]);
}

#[test]
fn aliases_and_merges_are_followed_and_what_stands_in_the_mapping_wins() {
    let text = "scrape_configs:\n- &a\n  job_name: a\n  sample_limit: 1\n- &b {job_name: b, sample_limit: 2, label_limit: 2}\n\
        - {job_name: c, <<: [*a, *b]}\n- {<<: *b, job_name: d, label_limit: 3}\n";
    let settings = load_text(text).unwrap().settings;
    let limits: Vec<_> =
        settings.scrape[..4].iter().map(|job| (job.job_name.as_str(), job.sample_limit, job.label_limit)).collect();
    assert_eq!(limits, [("a", 1, 0), ("b", 2, 2), ("c", 1, 2), ("d", 2, 3)]);
    // Prometheus hides nothing behind quotes either: a quoted << is just a key.
    assert!(
        load_text("scrape_configs: [{job_name: a, '<<': {}}]")
            .unwrap_err()
            .contains("scrape_configs[0].<< is not a known key")
    );
}

#[test]
fn a_file_that_is_too_long_too_deep_or_too_wide_is_refused_whole() {
    let longest = format!("#{}", "x".repeat(reading().file_bytes_max as usize - 1));
    assert!(load_text(&longest).is_ok());
    assert_eq!(
        load_text(&(longest + "x")).unwrap_err(),
        "prometheus.yml: is longer than 256 KiB; shorten it or raise --memory.limit"
    );

    let nested = |levels: usize| format!("global: {}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(load_text(&nested(32)).unwrap_err().starts_with("prometheus.yml:1:9: global must be a mapping"));
    assert!(load_text(&nested(33)).unwrap_err().contains("nested deeper than 32 levels"));
    // So deep that the scanner gives up before we do.
    assert!(load_text(&nested(100_000)).unwrap_err().starts_with("prometheus.yml:1:264: not valid YAML: "));

    let wide = |count: usize| format!("rule_files: [{}]", "'', ".repeat(count));
    assert!(load_text(&wide(16_382)).unwrap_err().contains("an entry of rule_files is empty"));
    assert!(load_text(&wide(16_383)).unwrap_err().contains("more than 16384 values"));

    // Ten lines that would be written out as ten thousand million values.
    let bomb: String =
        (1..10).map(|level| format!("l{level}: &l{level} [{}]\n", format!("*l{}, ", level - 1).repeat(10))).collect();
    assert!(
        load_text(&format!("l0: &l0 [x]\n{bomb}"))
            .unwrap_err()
            .contains("more than 16384 values (aliases written out)")
    );
}

#[test]
fn urls_are_bounded_so_that_the_core_has_room_for_them() {
    // A `params` of 120 kB went through, and the first scrape ended the process.
    let scrape = |key: &str, value: &str| {
        format!("scrape_configs:\n- job_name: a\n  {key}: {value}\n  static_configs: [{{targets: ['h:1']}}]\n")
    };
    let params = |length: usize| scrape("params", &format!("{{x: [{}]}}", "v".repeat(length)));
    let path = |length: usize| scrape("metrics_path", &format!("/{}", "p".repeat(length - 1)));
    let prefix = |length: usize| {
        let prefix = "p".repeat(length - 1);
        format!("alerting:\n  alertmanagers:\n  - path_prefix: /{prefix}\n    static_configs: [{{targets: ['h:1']}}]\n")
    };
    let upstream = |length: usize| format!("remote_write:\n- url: http://h/{}\n", "w".repeat(length - 9));
    for (texts, message) in [
        ([params(PARAMS_BYTES_MAX - 1), params(PARAMS_BYTES_MAX)], "params has 16385 bytes; a URL takes at most 16384"),
        ([path(URL_BYTES_MAX), path(URL_BYTES_MAX + 1)], "metrics_path has 4097 bytes; shorten it to 4096"),
        ([prefix(URL_BYTES_MAX), prefix(URL_BYTES_MAX + 1)], "path_prefix has 4097 bytes; shorten it to 4096"),
        ([upstream(URL_BYTES_MAX), upstream(URL_BYTES_MAX + 1)], "url has 4097 bytes; shorten it to 4096"),
    ] {
        assert!(load_text(&texts[0]).is_ok(), "{message}");
        let errors = load_text(&texts[1]).err().unwrap_or_default();
        assert!(errors.contains(message), "{errors}");
    }
}

#[test]
fn rule_files_are_bounded_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prometheus.yml");
    fs::write(&path, "rule_files: ['*.rules']").unwrap();
    for (name, length) in [("a.rules", 0x4_0000), ("b.rules", 0x4_0000), ("c.rules", 0)] {
        fs::write(folder.path().join(name), "#".repeat(length)).unwrap();
    }
    assert!(load(&path, &reading()).is_ok());
    fs::write(folder.path().join("c.rules"), "#").unwrap();
    let error = load(&path, &reading()).unwrap_err().to_string();
    assert!(
        error.ends_with(": the rule files have 513 KiB, the most is 512 KiB; shorten them or raise --memory.limit"),
        "{error}"
    );

    fs::write(folder.path().join("a.rules"), "").unwrap();
    (3..256).for_each(|index| fs::write(folder.path().join(format!("{index}.rules")), "").unwrap());
    assert!(load(&path, &reading()).is_ok());
    fs::write(folder.path().join("d.rules"), "").unwrap();
    let error = load(&path, &reading()).unwrap_err().to_string();
    assert!(error.ends_with(": rule_files match 257 files, the most is 256; join some of them"), "{error}");
}

#[test]
fn the_longest_file_follows_the_memory_limit_within_bounds() {
    let sizes = [1, 4 << 20, (4 << 20) + 64, 16 << 20, 64 << 20, (64 << 20) + 64, u64::MAX];
    assert_eq!(
        sizes.map(crate::config::file_bytes_max),
        [65_536, 65_536, 65_537, 262_144, 1_048_576, 1_048_576, 1_048_576]
    );
}

#[test]
fn after_a_hundred_errors_the_rest_is_one_line() {
    let text = |count: usize| (0..count).map(|index| format!("unknown_{index}:\n")).collect::<String>();
    assert_eq!(load_text(&text(100)).unwrap_err().lines().count(), 100);
    let error = load_text(&text(500)).unwrap_err();
    assert_eq!(error.lines().count(), 101);
    assert!(
        error
            .ends_with("prometheus.yml: more than 100 things are wrong here; correct the ones above, then check again"),
        "{error}"
    );
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let missing = load(Path::new("/nonexistent/prometheus.yml"), &reading()).unwrap_err().to_string();
    let expected = "/nonexistent/prometheus.yml: cannot be read: No such file or directory (os error 2); check the path and its permissions";
    assert_eq!(missing, expected);
    assert!(load(&fixtures(), &reading()).unwrap_err().to_string().contains("cannot be read: Is a directory"));
}

#[test]
fn what_is_missing_at_the_end_is_placed_at_the_end() {
    let place = |text: &str| load_text(text).unwrap_err().split(": ").next().unwrap().to_owned();
    assert_eq!(place("{"), "prometheus.yml:1:2");
    assert_eq!(place("global: {\r\n  a"), "prometheus.yml:2:4");
}

#[test]
fn errors_of_the_file_and_of_its_rule_files_come_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prometheus.yml");
    fs::write(&path, "rule_files: [b.yml, '*.rules', b.yml]\nwrong: 1\n").unwrap();
    fs::write(folder.path().join("a.rules"), "groups: [{name: a, rules: [{alert: x, expr: BAD}]}]").unwrap();
    fs::write(folder.path().join("b.yml"), "group: []").unwrap();
    let refused =
        load(&path, &reading()).unwrap_err().to_string().replace(&format!("{}/", folder.path().display()), "");
    let expected = "prometheus.yml:2:1: wrong is not a known key; remove it or correct its spelling or indentation\n\
        b.yml:1:1: group is not a known key; did you mean groups?\n\
        a.rules:1:45: the expression is wrong: unexpected BAD";
    assert_eq!(refused, expected);

    let report = check::check_config(&path, &reading());
    assert_eq!(report.errors.replace(&format!("{}/", folder.path().display()), ""), format!("{expected}\n"));
    assert_eq!(report.code, 2);
}

#[test]
fn checks_print_as_promtool_does() {
    let within = format!("{}/", fixtures().display());
    let report = check::check_config(&fixtures().join("good/full.yml"), &reading());
    let expected = "Checking good/full.yml\n  \
        NOTICE: good/full.yml:63:7: remote_write[0].queue_config.capacity has no effect: the store is the queue\n  \
        SUCCESS: 2 rule files found\n SUCCESS: good/full.yml is valid prometheus config file syntax\n\n\
        Checking good/rules/a.yml\n  SUCCESS: 2 rules found\n\nChecking good/rules/empty.yml\n  SUCCESS: 0 rules found\n\n";
    assert_eq!((report.output.replace(&within, ""), report.errors.as_str(), report.code), (expected.into(), "", 0));

    let files = [fixtures().join("bad_rules/not_groups.yml"), fixtures().join("good/rules/a.yml")];
    let report = check::check_rules(&files, &reading());
    let expected = "Checking bad_rules/not_groups.yml\n  FAILED: 1 errors\n\nChecking good/rules/a.yml\n  SUCCESS: 2 rules found\n\n";
    assert_eq!((report.output.replace(&within, ""), report.code), (expected.into(), 2));
    assert_eq!(
        report.errors.replace(&within, ""),
        "bad_rules/not_groups.yml:1:1: group is not a known key; did you mean groups?\n"
    );
}

#[test]
fn numbers_and_truth_values_read_as_in_go_yaml() {
    let limit = |value: &str| {
        let loaded = load_text(&format!("scrape_configs: [{{job_name: a, sample_limit: {value}}}]"));
        loaded.map(|loaded| loaded.settings.scrape[0].sample_limit).ok()
    };
    for (text, expected) in [
        ("0", 0),
        ("7", 7),
        ("+7", 7),
        ("1_000", 1_000),
        ("0x1f", 31),
        ("0o17", 15),
        ("017", 15),
        ("0b101", 5),
        ("2.5e3", 2_500),
        ("~", 0),
        ("!!int 3", 3),
    ] {
        assert_eq!(limit(text), Some(expected), "{text}");
    }
    for text in
        ["-1", "1.5", "'1'", "!!str 1", "!!int x", "abc", "0x", "1e30", "nan", "99999999999999999999", "[1]", "08"]
    {
        assert_eq!(limit(text), None, "{text}");
    }
    let truth = |value: &str| {
        let loaded = load_text(&format!("scrape_configs: [{{job_name: a, honor_labels: {value}}}]"));
        loaded.map(|loaded| loaded.settings.scrape[0].honor_labels).ok()
    };
    for (text, expected) in [
        ("true", Some(true)),
        ("On", Some(true)),
        ("y", Some(true)),
        ("NO", Some(false)),
        ("off", Some(false)),
        ("null", Some(false)),
        ("tRUE", None),
        ("1", None),
        ("'yes'", None),
    ] {
        assert_eq!(truth(text), expected, "{text}");
    }
}

#[test]
fn the_example_files_are_accepted_as_they_are() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    for name in ["prometheus.yml", "gateway.yml", "board.yml"] {
        let reading = Reading { environment: &|_| Some("x".into()), ..reading() };
        let loaded = load(&configs.join(name), &reading).unwrap_or_else(|refused| panic!("{refused}"));
        assert_eq!(loaded.notices, Vec::new(), "{name}");
        assert_eq!(loaded.settings.rule_groups.len(), 2, "{name}");
    }
    let path = configs.join("holdfast.yml");
    let values = crate::config::holdfast::load(&path).unwrap_or_else(|refused| panic!("{refused}"));
    assert_eq!(values.len(), 6);
    for value in values {
        assert_eq!(value.value, value.flag.default, "the file says that its values are the defaults");
    }
}

proptest::proptest! {
    /// Whatever stands in a file, it is read or refused, with errors that have a place in it.
    #[test]
    fn no_text_makes_a_reader_fail(text in "[-a-z0-9:\\[\\]{},&*<!|>%'\"#?~\\\\$@ \t\r\n\\PC]{0,120}") {
        // YAML takes a lone carriage return for a line's end, too.
        let lines = 1 + text.matches(['\n', '\r']).count() as u32;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.yml");
        fs::write(&path, &text).unwrap();
        let refusals = [load(&path, &reading()).err(), rules::load(&path, &reading()).err(), crate::config::holdfast::load(&path).err()];
        for error in refusals.into_iter().flatten().flat_map(|refused| refused.errors) {
            assert!(error.line <= lines, "{error}");
            assert_eq!(error.line == 0, error.column == 0, "{error}");
        }
    }

    /// A good file with a few characters changed is mostly almost good, which reaches deeper than noise.
    #[test]
    fn no_slip_of_the_hand_makes_a_reader_fail(
        slips in proptest::collection::vec((0_usize..2_000, proptest::sample::select(b"-: \n[]{}&*'\"#~$09".to_vec())), 1..6),
    ) {
        for name in ["good/full.yml", "good/rules/a.yml"] {
            let mut bytes = fs::read(fixtures().join(name)).unwrap();
            for (at, byte) in &slips {
                let length = bytes.len();
                bytes[at % length] = *byte;
            }
            let text = String::from_utf8(bytes).unwrap();
            if let Ok(loaded) = load_text(&text) {
                // What is accepted is accepted again from its own dump.
                let dump = loaded.settings.yaml.replace("rules/*.yml", "none*.yml");
                assert!(dump.contains("rule_files") || load_text(&dump).is_ok(), "{text}\n{dump}");
            }
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("rules.yml");
            fs::write(&path, &text).unwrap();
            _ = rules::load(&path, &reading());
        }
    }
}
