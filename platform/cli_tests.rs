use super::*;
use std::fs;

fn run(arguments: &[&str]) -> Result<Flags, Exit> {
    match parse(["holdfast"].iter().chain(arguments), "holdfast 1") {
        Ok(Command::Run(flags)) => Ok(*flags),
        Ok(other) => panic!("{other:?}"),
        Err(exit) => Err(exit),
    }
}

fn error(arguments: &[&str]) -> String {
    let exit = run(arguments).expect_err("an error");
    assert_eq!(exit.code, 2);
    exit.text
}

#[test]
fn without_arguments_everything_is_at_its_default() {
    let flags = run(&[]).unwrap();
    assert_eq!((flags.config_file, flags.hot_path, flags.host_name), (None, None, None));
    assert_eq!(flags.storage_path, Path::new("./data"));
    assert_eq!((flags.retention_ms, flags.retention_bytes), (None, None));
    assert_eq!(flags.listen_addresses, ["127.0.0.1:9090"]);
    assert_eq!((flags.memory_limit_bytes, flags.flush_interval_ms), (16 << 20, 30_000));
    assert_eq!(
        (flags.lookback_delta_ms, flags.query_timeout_ms, flags.query_samples_max),
        (300_000, 120_000, 50_000_000)
    );
    assert_eq!(
        (flags.for_outage_tolerance_ms, flags.for_grace_period_ms, flags.resend_delay_ms),
        (3_600_000, 600_000, 60_000)
    );
    assert_eq!((flags.log_level, flags.log_format, flags.enable_lifecycle), (Level::Info, LogFormat::Logfmt, false));
    assert_eq!((flags.host_job.as_str(), flags.procfs.as_path()), ("node", Path::new("/proc")));
    assert_eq!((flags.route_prefix.as_str(), flags.external_url), ("", None));
    assert!(flags.notices.is_empty());
}

#[test]
fn both_spellings_of_a_value_and_of_a_switch_are_read() {
    let flags =
        run(&["--config.file=a.yml", "--storage.tsdb.path", "b", "--web.enable-lifecycle", "--host.job="]).unwrap();
    assert_eq!((flags.config_file, flags.storage_path), (Some("a.yml".into()), "b".into()));
    assert!(flags.enable_lifecycle && flags.host_job.is_empty());
    assert!(!run(&["--web.enable-lifecycle", "--no-web.enable-lifecycle"]).unwrap().enable_lifecycle);
    assert!(run(&["--no-web.enable-lifecycle", "--web.enable-lifecycle"]).unwrap().enable_lifecycle);
    assert!(!run(&["--no-web.enable-lifecycle"]).unwrap().enable_lifecycle);
    assert!(!run(&[]).unwrap().enable_remote_write_receiver);
    assert!(run(&["--web.enable-remote-write-receiver"]).unwrap().enable_remote_write_receiver);
    let value = |flags: &Flags, name: &str| flags.values.iter().find(|(own, _)| own == name).unwrap().1.clone();
    let flags = run(&["--no-web.enable-lifecycle", "--query.timeout=1m"]).unwrap();
    assert_eq!((value(&flags, "web.enable-lifecycle"), value(&flags, "query.timeout")), ("false".into(), "1m".into()));
    assert_eq!(value(&flags, "memory.limit"), "16MiB");
}

#[test]
fn addresses_to_listen_on_are_checked_and_told_apart() {
    let flags =
        run(&["--web.listen-address=:9091", "--web.listen-address=[::1]:9092", "--web.listen-address=localhost:1"])
            .unwrap();
    assert_eq!(flags.listen_addresses, [":9091", "[::1]:9092", "localhost:1"]);
    assert_eq!(flags.own_address(), "127.0.0.1:9091");
    assert_eq!(flags.open_addresses().collect::<Vec<_>>(), [":9091"]);
    assert_eq!(run(&["--web.listen-address=[::]:80"]).unwrap().own_address(), "[::1]:80");
    assert_eq!(run(&[]).unwrap().open_addresses().count(), 0);
    for text in ["9090", "a:", "a:65536", "::1:9090", "a b:1", "http://a:1", "[x]:1", "a:+1"] {
        let expected =
            format!("--web.listen-address: {text:?} is not host:port; write it like 127.0.0.1:9090 or :9090");
        assert_eq!(error(&["--web.listen-address", text]), expected);
    }
    assert_eq!(
        error(&["--web.listen-address=a:1", "--web.listen-address=a:1"]),
        "--web.listen-address: a:1 is given twice; keep one"
    );
}

#[test]
fn the_external_url_gives_the_prefix_unless_that_is_given() {
    let prefixes = |arguments: &[&str]| {
        let flags = run(arguments).unwrap();
        (flags.external_url_or("box"), flags.route_prefix)
    };
    assert_eq!(prefixes(&[]), ("http://box:9090".into(), String::new()));
    assert_eq!(prefixes(&["--web.external-url=https://a/b/"]), ("https://a/b".into(), "/b".into()));
    assert_eq!(
        prefixes(&["--web.external-url=https://a/b", "--web.route-prefix=/"]),
        ("https://a/b".into(), String::new())
    );
    assert_eq!(prefixes(&["--web.route-prefix=c/d/"]).1, "/c/d");
    for url in ["a", "ftp://a", "http://", "http:///a", "'http://a'", "http://a?b"] {
        let expected = "--web.external-url: is not a URL; write it as http://host:port/path, without quotes or query";
        assert_eq!(error(&["--web.external-url", url]), expected, "{url}");
    }
    assert_eq!(error(&["--web.route-prefix=a b"]), "--web.route-prefix: must be a plain path like /prometheus");
}

#[test]
fn wrong_values_are_reported_all_at_once() {
    let text = error(&[
        "--query.timeout=5",
        "--query.lookback-delta=0s",
        "--memory.limit=16",
        "--web.max-connections=0",
        "--log.level=loud",
    ]);
    let expected = "--web.max-connections: \"0\" is not a whole number from 1 to 4294967295\n\
        --log.level: \"loud\" is none of info, debug, warn, error\n\
        --query.lookback-delta: must be longer than 0s\n\
        --query.timeout: \"5\" is not a duration; write whole numbers with units from large to small, like 15s, 1h30m or 250ms\n\
        --memory.limit: \"16\" is not a size; write a number with a unit, like 512MB or 16MiB (both are powers of 1024)";
    assert_eq!(text, expected);
}

#[test]
fn what_is_known_and_not_here_is_refused_or_noticed() {
    let text = error(&["--web.enable-admin-api"]);
    assert!(
        text.starts_with("--web.enable-admin-api: is refused: the admin API is not supported yet; remove the flag"),
        "{text}"
    );
    assert!(run(&["--no-web.enable-admin-api"]).is_ok());
    assert!(error(&["--web.cors.origin=.*"]).starts_with("--web.cors.origin: is refused: "));
    assert!(run(&["--web.config.file="]).is_ok());
    let flags = run(&["--web.console.templates=x", "--enable-feature=a", "--enable-feature=b", "--no-auto-gomaxprocs"])
        .unwrap();
    let expected = [
        "--auto-gomaxprocs has no effect: there is no Go runtime to tune",
        "--web.console.templates has no effect: console templates are not rendered",
        "--enable-feature has no effect: what is supported is always on",
    ];
    assert_eq!(flags.notices, expected);
    assert!(error(&["--web.enable-lifecycl"]).contains("--web.enable-lifecycle"));
    assert!(error(&["--query.timeout=1s", "--query.timeout=2s"]).contains("cannot be used multiple times"));
    assert!(error(&["-config.file=x"]).contains("unexpected argument"));
}

#[test]
fn the_file_of_our_own_flags_fills_in_what_the_command_line_leaves_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holdfast.yml");
    let argument = format!("--holdfast.config.file={}", path.display());
    fs::write(&path, "memory: {limit: 8MiB}\nhost:\n  job: box\n  name: here\n").unwrap();
    let flags = run(&[&argument, "--host.job=mine"]).unwrap();
    assert_eq!(
        (flags.memory_limit_bytes, flags.host_job.as_str(), flags.host_name.as_deref()),
        (8 << 20, "mine", Some("here"))
    );

    fs::write(&path, "memory:\n  limit: 8M\nstorage: {flush_interval: 0s}\n").unwrap();
    let text = error(&[&argument]).replace(&path.display().to_string(), "FILE");
    let expected = "FILE:2:10: memory.limit: \"8M\" is not a size; write a number with a unit, like 512MB or 16MiB (both are powers of 1024)\n\
        FILE:3:27: storage.flush_interval: must be longer than 0s";
    assert_eq!(text, expected);
    assert!(error(&["--holdfast.config.file=/nonexistent"]).starts_with("/nonexistent: cannot be read"));
}

#[test]
fn subcommands_are_read_with_their_arguments() {
    let command = |arguments: &[&str]| parse(["holdfast"].iter().chain(arguments), "holdfast 1");
    assert_eq!(command(&["check", "config", "a.yml"]), Ok(Command::CheckConfig { file: "a.yml".into() }));
    assert_eq!(command(&["check", "rules", "a", "b"]), Ok(Command::CheckRules { files: vec!["a".into(), "b".into()] }));
    assert_eq!(command(&["version"]), Ok(Command::Version));
    let asked = |when| Ok(Command::Query(query::Query { url: "http://a".into(), expression: "-up".into(), when }));
    assert_eq!(command(&["query", "instant", "http://a", "--", "-up"]), asked(query::When::Instant { time: None }));
    let when = query::When::Range { start: Some("1".into()), end: Some("2".into()), step: Some("3s".into()) };
    assert_eq!(
        command(&["query", "range", "http://a", "--start=1", "--end", "2", "--step=3s", "--", "-up"]),
        asked(when)
    );
    match command(&["budget", "--memory.limit=12MiB", "--series=5000", "--interval=1m", "--sample-bytes=0.5"]) {
        Ok(Command::Budget(question)) => {
            assert_eq!(question.flags.memory_limit_bytes, 12 << 20);
            assert_eq!((question.series_count, question.sample_millibytes), (Some(5_000), Some(500)));
            assert_eq!(
                (question.interval_ms, question.timelines_count, question.label_millibytes),
                (60_000, None, None)
            );
        }
        other => panic!("{other:?}"),
    }
    for arguments in [
        &["check"][..],
        &["check", "rules"],
        &["query", "instant", "http://a"],
        &["what"],
        &["--memory.limit=1MB", "version"],
        &["budget", "--series=0"],
        &["budget", "--series=-1"],
        &["budget", "--targets=ten"],
        &["budget", "--interval=0s"],
        &["budget", "--interval=15"],
        &["budget", "--sample-bytes=0"],
        &["budget", "--label-bytes=4097"],
        &["budget", "--label-bytes=NaN"],
    ] {
        assert_eq!(command(arguments).map_err(|exit| exit.code), Err(2), "{arguments:?}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = run(&["--help"]).unwrap_err();
    assert_eq!(help.code, 0);
    assert!(
        help.text.contains("--memory.limit")
            && help.text.contains("[default: 16MiB]")
            && !help.text.contains("--agent")
    );
    assert_eq!(run(&["--version"]).unwrap_err(), Exit { code: 0, text: "holdfast 1".into() });
}

#[test]
fn every_default_passes_its_own_check_and_every_row_is_explained() {
    run(&[]).unwrap();
    for flag in FLAGS {
        match flag.effect {
            Effect::Honoured => assert!(!flag.help.is_empty(), "{}", flag.name),
            Effect::Ignored(text) | Effect::Refused(text) => {
                assert!(!text.is_empty() && !text.ends_with('.'), "{}", flag.name)
            }
        }
        assert_eq!(FLAGS.iter().filter(|other| other.name == flag.name).count(), 1, "{}", flag.name);
    }
}

#[test]
fn the_table_has_exactly_the_flags_of_prometheus_and_ours() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/config/prometheus-3.5.3-flags.txt");
    let mut expected: Vec<String> = fs::read_to_string(fixture).unwrap().lines().map(str::to_owned).collect();
    let mut found: Vec<String> =
        FLAGS.iter().filter(|flag| flag.origin == Origin::Prometheus).map(|flag| flag.name.into()).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_reader_that_has_gone_has_read_enough_and_a_full_disk_is_an_error() {
    struct Ends(io::ErrorKind);
    impl Write for Ends {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert!(tell(&mut Ends(io::ErrorKind::BrokenPipe), "a table").is_ok());
    assert!(tell(&mut Ends(io::ErrorKind::StorageFull), "a table").is_err());
    let mut told = Vec::new();
    assert!(tell(&mut told, "a table").is_ok() && told == b"a table");
}
