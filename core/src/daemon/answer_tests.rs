use crate::{
    daemon::{
        Input,
        answer::{ANSWERS_COUNT_MAX, PIECE_BYTES},
        input::Method,
        test_world::{World, job, options, settings},
    },
    promql::source::{Selection, Source, SourceError},
};
use alloc::{format, string::String, vec};

/// A page of `count` series of `m`.
fn page(count: usize) -> String {
    (0..count).map(|number| format!("m{{number=\"{number:04}\"}} {number}\n")).collect()
}

const RANGE: &str = "/api/v1/query_range?query=m&start=1790000003&end=1790000202&step=1";

#[test]
fn a_large_answer_comes_in_pieces_and_holds_one_at_a_time() {
    let mut world = World::scraping(&page(300));
    let request = world.send(Method::Get, RANGE, "", "");
    let mut body_bytes_max = 0;
    while world.perform_one().is_none() {
        let body = world.daemon.answers.working.iter().map(|answer| answer.body.capacity()).max();
        body_bytes_max = body_bytes_max.max(body.unwrap_or(0));
    }
    let reply = &world.replies[&request.0];
    assert!(reply.is_whole && reply.body.ends_with("]}]}}"));
    assert_eq!(reply.body.matches("\"metric\"").count(), 300);
    assert!(reply.body.len() > 50 * PIECE_BYTES, "{} bytes", reply.body.len());
    assert!(body_bytes_max < 3 * PIECE_BYTES, "{body_bytes_max} bytes");
}

#[test]
fn a_client_that_reads_slowly_stops_its_query_and_one_that_leaves_ends_it() {
    let mut world = World::scraping(&page(300));
    let request = world.send(Method::Get, RANGE, "", "");
    world.slow.push(request);
    world.drain();
    let first = world.replies[&request.0].clone();
    assert_eq!(first.piece_count, 1);
    world.drain();
    assert_eq!(world.replies[&request.0], first);
    world.handle(Input::RequestReady { request });
    world.drain();
    assert_eq!(world.replies[&request.0].piece_count, 2);
    assert!(world.daemon.answers.bytes() > 0);
    world.handle(Input::RequestGone { request });
    world.drain();
    assert_eq!((world.replies[&request.0].piece_count, world.daemon.answers.working.len()), (2, 0));
    assert_eq!(world.daemon.answers.bytes(), 0);
}

#[test]
fn an_error_before_the_head_is_an_answer_and_after_it_cuts_the_connection() {
    let mut world = World::scraping(&page(300));
    let (early, late) = (world.send(Method::Get, RANGE, "", ""), world.send(Method::Get, RANGE, "", ""));
    world.slow.extend([early, late]);
    world.handle(Input::RequestGone { request: early });
    world.drain();
    assert_eq!((world.replies[&late.0].status, world.replies[&late.0].piece_count), (200, 1));
    // The time for queries passes while the client of one is slow and the other has not begun.
    let early = world.send(Method::Get, &format!("{RANGE}&timeout=0"), "", "");
    world.now.mono_ms += 120_000;
    world.handle(Input::RequestReady { request: late });
    world.drain();
    // What was made before the time ran out is still given.
    while !world.replies[&late.0].is_cut {
        assert!(!world.replies[&late.0].is_whole);
        world.handle(Input::RequestReady { request: late });
        world.drain();
    }
    let reply = &world.replies[&early.0];
    let timeout = r#"{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}"#;
    assert_eq!((reply.status, reply.body.as_str(), reply.is_whole), (503, timeout, true));
    assert!(world.daemon.answers.working.is_empty());
    assert_eq!(world.daemon.answers.failed_count, 2);
}

#[test]
fn as_many_answers_as_there_are_places_are_made_and_one_more_is_refused() {
    let mut world = World::scraping(&page(1));
    let requests: vec::Vec<_> =
        (0..=ANSWERS_COUNT_MAX).map(|_| world.send(Method::Get, "/api/v1/query?query=m", "", "")).collect();
    world.drain();
    let (last, others) = requests.split_last().expect("some");
    assert!(others.iter().all(|request| world.replies[&request.0].status == 200));
    let refused = &world.replies[&last.0];
    assert_eq!(refused.status, 503);
    assert_eq!(
        refused.body,
        r#"{"status":"error","errorType":"unavailable","error":"too many requests are being answered; try again"}"#
    );
    assert!(world.get("/metrics").body.contains("\nholdfast_http_requests_refused_total 1\n"));
}

#[test]
fn queries_take_turns_so_that_a_short_one_overtakes_a_long_one() {
    let mut world = World::scraping(&page(300));
    let long = world.send(Method::Get, RANGE, "", "");
    let short = world.send(Method::Get, "/api/v1/query?query=1", "", "");
    while !world.replies.get(&short.0).is_some_and(|reply| reply.is_whole) {
        assert!(world.perform_one().is_none(), "the short one is answered");
        assert!(!world.replies.get(&long.0).is_some_and(|reply| reply.is_whole), "the long one comes first");
    }
    world.drain();
    assert!(world.replies[&long.0].is_whole);
}

#[test]
fn all_answers_together_stay_within_the_memory_for_requests() {
    let mut options = options();
    options.query_bytes_max = 2 * 256 * 1024;
    let mut world = World::new(options, settings(vec![job("node", &["h:1"])]));
    world.serve("http://h:1/metrics", &page(300));
    world.pass(3_000);
    let bytes_max = world.daemon.answers.bytes_max();
    assert_eq!(bytes_max, 192 * 1024, "half of all, less a quarter for decoded stripes");
    let targets = [RANGE, "/api/v1/series?match[]=m", "/federate?match[]=m", "/api/v1/query?query=sort(m)"];
    let requests: vec::Vec<_> = (0..32).map(|turn| world.send(Method::Get, targets[turn % 4], "", "")).collect();
    let mut bytes_peak = 0;
    while world.perform_one().is_none() {
        let bytes = world.daemon.answers.bytes();
        bytes_peak = bytes_peak.max(bytes);
        assert!(bytes <= bytes_max, "{bytes} bytes");
    }
    assert!(bytes_peak > bytes_max / 2, "{bytes_peak} bytes");
    let status = |request: &crate::daemon::input::RequestId| world.replies[&request.0].status;
    assert!(requests.iter().all(|request| matches!(status(request), 200 | 422 | 503)));
    assert!(requests.iter().any(|request| status(request) == 200));
    assert!(requests.iter().any(|request| status(request) != 200));
    assert!(world.replies.values().all(|reply| reply.is_whole || reply.is_cut));
    // Alone, each fits.
    for target in targets {
        assert_eq!(world.get(target).status, 200, "{target}");
    }
    // One that does not fit even alone says what to do.
    let reply = world.get("/api/v1/query_range?query=quantile(0.5,m)&start=1790000003&end=1790010003&step=1");
    assert_eq!(reply.status, 422, "{}", reply.body.len());
    assert!(reply.body.contains("bytes of"), "{}", reply.body);
}

#[test]
fn a_matrix_that_does_not_come_in_order_is_sorted_or_says_that_it_is_not() {
    let query = "/api/v1/query_range?query=-m%20or%20a&start=1790000003&end=1790000003&step=1";
    let mut world = World::scraping("m{x=\"2\"} 2\nm{x=\"1\"} 1\na{x=\"0\"} 0\n");
    let point = |value: &str| format!(r#""values":[[1790000003,"{value}"]]"#);
    let row = |name: &str, x: &str, value: &str| {
        format!(r#"{{"metric":{{{name}"instance":"h:1","job":"node","x":"{x}"}},{}}}"#, point(value))
    };
    let rows = [row(r#""__name__":"a","#, "0", "0"), row("", "1", "-1"), row("", "2", "-2")];
    let expected = format!(r#"{{"resultType":"matrix","result":[{}]}}"#, rows.join(","));
    assert_eq!(world.data(query), expected);
    // `limit` takes the first of the sorted ones.
    let expected =
        format!(r#"{{"resultType":"matrix","result":[{}]}},"warnings":["results truncated due to limit"]"#, rows[0]);
    assert_eq!(world.data(&format!("{query}&limit=1")), expected);
    assert_eq!(world.data(&format!("{query}&limit=3")), world.data(query));
}

#[test]
fn a_store_too_large_to_be_counted_says_so_instead_of_giving_lists() {
    let mut options = options();
    options.query_bytes_max = 2 * 32 * 1024;
    let mut world = World::new(options, settings(vec![job("node", &["h:1"])]));
    world.serve("http://h:1/metrics", &page(300));
    world.pass(3_000);
    let reply = world.get("/api/v1/status/tsdb");
    assert!(reply.body.starts_with(r#"{"status":"success","data":{"headStats":{"numSeries":305,"#), "{}", reply.body);
    assert!(
        reply.body.contains(r#""seriesCountByLabelValuePair":[]},"warnings":["the lists are empty: "#),
        "{}",
        reply.body
    );
}

#[test]
fn a_matrix_too_large_to_be_sorted_comes_unsorted_and_says_so() {
    let mut options = options();
    options.query_bytes_max = 2 * 384 * 1024;
    let mut world = World::new(options, settings(vec![job("node", &["h:1"])]));
    world.serve("http://h:1/metrics", &format!("{}a 1\n", page(300)));
    world.pass(3_000);
    let query = |end: u32| format!("/api/v1/query_range?query=m%20or%20a&start=1790000003&end={end}&step=1");
    let (small, large) = (world.get(&query(1_790_000_003)), world.get(&query(1_790_000_103)));
    let is_sorted = |body: &str| body.find(r#""__name__":"a""#) < body.find(r#""__name__":"m""#);
    let info = r#""infos":["the series are not in order of their labels: "#;
    assert!(is_sorted(&small.body) && !small.body.contains(info));
    assert!(!is_sorted(&large.body) && large.body.contains(info), "{} {}", large.status, &large.body[..200]);
    for reply in [small, large] {
        assert_eq!((reply.status, reply.body.matches("\"metric\"").count()), (200, 301));
    }
}

#[test]
fn a_source_that_fails_in_the_middle_cuts_the_answer() {
    // Covered for queries by time running out; `Source` is what a disk's failure comes through.
    struct Failing;
    impl Source for Failing {
        fn select(&mut self, _: &mut Selection, _: usize) -> Result<bool, SourceError> {
            Err(SourceError("the disk does not answer".into()))
        }
        fn labels(&mut self, _: &Selection, _: usize, _: &mut crate::labels::LabelsBuf) -> Result<usize, SourceError> {
            Err(SourceError("the disk does not answer".into()))
        }
        fn read(
            &mut self,
            _: &Selection,
            _: usize,
            _: i64,
            _: i64,
            _: &mut vec::Vec<crate::store::Sample>,
        ) -> Result<Option<usize>, SourceError> {
            Err(SourceError("the disk does not answer".into()))
        }
    }
    let mut answers = super::Answers::new(1 << 20, 20);
    let request = crate::daemon::input::RequestId(1);
    let federate = super::Federate {
        matcher_lists: vec![crate::promql::parse_selector("m").expect("a selector")],
        now_ms: 0,
        lookback_ms: 1,
        external_labels: crate::labels::LabelSet::default(),
    };
    answers.add(super::Answer::federate(request, federate));
    let now = crate::time::Now { mono_ms: 0, wall_ms: 0 };
    let mut buf = vec![0; 1024];
    assert!(matches!(answers.step(now, &mut Failing, &mut buf), super::Step::Worked));
    let super::Step::Head { status, headers, .. } = answers.step(now, &mut Failing, &mut buf) else {
        panic!("no head")
    };
    assert_eq!((status, headers), (422, super::TEXT));
    let super::Step::Piece { bytes, last, broken, .. } = answers.step(now, &mut Failing, &mut buf) else {
        panic!("no piece")
    };
    assert_eq!((bytes, last, broken), (&b"the disk does not answer\n"[..], true, false));
}

#[test]
fn a_query_beyond_the_number_that_may_run_waits_for_one_to_end() {
    let mut world = World::scraping(&page(300));
    world.daemon.answers.query_count_max = 1;
    let (first, second) = (world.send(Method::Get, RANGE, "", ""), world.send(Method::Get, RANGE, "", ""));
    world.slow.extend([first, second]);
    world.drain();
    let pieces = |world: &World, request: crate::daemon::input::RequestId| {
        world.replies.get(&request.0).map_or(0, |reply| reply.piece_count)
    };
    assert_eq!((pieces(&world, first), pieces(&world, second)), (1, 0));
    world.handle(Input::RequestGone { request: first });
    world.drain();
    assert_eq!((pieces(&world, first), pieces(&world, second)), (1, 1));
}
