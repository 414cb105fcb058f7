use super::{
    super::test_world::{Reply, START_WALL_MS, World, job, options, settings},
    *,
};
use crate::{
    daemon::input::Method,
    receive::testing::{Pushed, TimeSeries, Unread, WriteRequest},
};
use alloc::{string::ToString, vec};

const T: i64 = START_WALL_MS;
const A: &[(&str, &str)] = &[("__name__", "a"), ("instance", "i"), ("job", "j")];
const B: &[(&str, &str)] = &[("__name__", "b"), ("instance", "i"), ("job", "j")];
const C: &[(&str, &str)] = &[("__name__", "c"), ("instance", "i"), ("job", "j")];
const OTHER: &[(&str, &str)] = &[("__name__", "a"), ("instance", "k"), ("job", "j")];

fn world() -> World {
    World::new(options(), settings(vec![]))
}

fn answer(world: &mut World, request: RequestId) -> Reply {
    world.drain();
    world.replies.remove(&request.0).expect("an answer")
}

fn post(world: &mut World, body: &[u8]) -> Reply {
    let request = world.push(body);
    answer(world, request)
}

fn push(world: &mut World, series: &[Pushed<'_>]) -> Reply {
    post(world, &WriteRequest::of(series).body())
}

#[track_caller]
fn push_well(world: &mut World, series: &[Pushed<'_>]) {
    let reply = push(world, series);
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
}

#[track_caller]
fn push_refused(world: &mut World, series: &[Pushed<'_>], text: &str) {
    let reply = push(world, series);
    assert_eq!((reply.status, reply.body.as_str()), (400, text));
}

/// What a range selector finds of a series: `[1.5,"2"],...`, with times in seconds.
fn samples(world: &mut World, selector: &str, at_ms: i64) -> String {
    let data = world.data(&format!("/api/v1/query?query={selector}[1d]&time={}", at_ms as f64 / 1000.0));
    let from = data.find("\"values\":[").map_or(data.len(), |at| at + 10);
    data[from..].trim_end_matches(['}', ']']).to_string() + if from < data.len() { "]" } else { "" }
}

/// Rows of the only timeline.
fn rows(world: &World) -> u64 {
    let store = &world.daemon.store;
    store.timelines().map(|timeline| store.rows(timeline)).map(|rows| rows.end - rows.start).sum()
}

#[test]
fn without_the_flag_the_path_says_what_is_missing() {
    let mut options = options();
    options.enable_remote_write_receiver = false;
    let mut world = World::new(options, settings(vec![]));
    let reply = push(&mut world, &[(A, &[(T, 1.0)])]);
    let text = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
    assert_eq!((reply.status, reply.body.as_str()), (404, text));
    let reply = world.ask(Method::Get, "/api/v1/write", "");
    assert_eq!((reply.status, reply.header("Allow")), (405, "OPTIONS, POST"));
}

#[test]
fn what_is_pushed_is_found_and_one_instant_is_one_row() {
    let mut world = world();
    push_well(&mut world, &[(A, &[(T, 1.0), (T + 1000, 2.0)]), (B, &[(T, -0.5)]), (OTHER, &[(T, 7.0)])]);
    assert_eq!(
        samples(&mut world, "a{instance=\"i\"}", T + 2000),
        format!("[{0},\"1\"],[{01},\"2\"]", T / 1000, T / 1000 + 1)
    );
    assert_eq!(samples(&mut world, "b", T + 2000), format!("[{},\"-0.5\"]", T / 1000));
    assert_eq!(samples(&mut world, "a{instance=\"k\"}", T + 2000), format!("[{},\"7\"]", T / 1000));
    assert_eq!(rows(&world), 3, "two instants of one pusher, one of the other");
    assert_eq!(world.daemon.receiver.pusher_count(), 2);
}

#[test]
fn parts_of_an_instant_share_a_row_however_they_are_spread_over_requests() {
    let mut world = world();
    for (series, t_ms) in [(A, T), (A, T + 1000), (B, T), (A, T + 2000), (B, T + 2000), (C, T + 1000), (C, T + 2000)] {
        push_well(&mut world, &[(series, &[(t_ms, 1.0)])]);
    }
    assert_eq!(rows(&world), 3);
    let times = |seconds: &[i64]| -> String {
        let pairs: Vec<String> = seconds.iter().map(|second| format!("[{},\"1\"]", T / 1000 + second)).collect();
        pairs.join(",")
    };
    assert_eq!(samples(&mut world, "a", T + 9000), times(&[0, 1, 2]));
    assert_eq!(samples(&mut world, "b", T + 9000), times(&[0, 2]));
    assert_eq!(samples(&mut world, "c", T + 9000), times(&[1, 2]));
}

/// A row that was read off for the log would not be read again: what comes after that must stand in a row of its own.
#[test]
fn what_comes_after_a_flush_stands_in_a_new_row_of_the_same_instant() {
    let mut world = world();
    push_well(&mut world, &[(A, &[(T, 1.0)])]);
    world.pass(31_000);
    push_well(&mut world, &[(B, &[(T, 2.0)])]);
    assert_eq!(rows(&world), 2);
    let timeline = world.daemon.store.timelines().next().unwrap();
    assert!(world.daemon.spill.rows_taken(&world.daemon.store, timeline) >= 1);
    assert_eq!(samples(&mut world, "a", T + 9000), format!("[{},\"1\"]", T / 1000));
    assert_eq!(samples(&mut world, "b", T + 9000), format!("[{},\"2\"]", T / 1000));
}

#[test]
fn late_samples_are_stored_and_found_in_their_place() {
    let mut world = world();
    let day_ms = 86_400_000;
    push_well(&mut world, &[(A, &[(T, 3.0)])]);
    push_well(&mut world, &[(A, &[(T - 13 * 3_600_000, 1.0)])]);
    push_well(&mut world, &[(A, &[(T - 60_000, 2.0), (T - 120_000, 1.5)]), (B, &[(0, 4.0)])]);
    let seconds = [(-13 * 3600, "1"), (-120, "1.5"), (-60, "2"), (0, "3")];
    let expected: Vec<String> = seconds.iter().map(|(s, value)| format!("[{},\"{value}\"]", T / 1000 + s)).collect();
    assert_eq!(samples(&mut world, "a", T), expected.join(","));
    assert_eq!(samples(&mut world, "b", day_ms / 2), "[0,\"4\"]");
}

#[test]
fn late_samples_are_found_in_their_place_when_their_rows_are_packed() {
    let mut world = world();
    for index in 0..100_i64 {
        // Every third one comes 40 instants late.
        let second = if index % 3 == 0 { index - 40 } else { index };
        push_well(&mut world, &[(A, &[(T + 1000 * second + (index % 3), index as f64)])]);
    }
    let text = samples(&mut world, "a", T + 200_000);
    let times: Vec<f64> = text
        .split("],[")
        .map(|pair| pair.trim_matches(['[', ']']).split(',').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(times.len(), 100);
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn the_same_sample_again_is_taken_silently_and_another_value_is_refused_by_name() {
    let mut world = world();
    push_well(&mut world, &[(A, &[(T, 1.0)])]);
    push_well(&mut world, &[(A, &[(T, 1.0)])]);
    assert_eq!((rows(&world), world.daemon.receiver.tally.stored), (1, 1));
    let text = "duplicate sample for timestamp 1790000000000; overrides not allowed: existing 1, new value 2: \
        a{instance=\"i\", job=\"j\"} at 2026-09-21T14:13:20Z; 1 of 2 samples are refused, the rest is stored\n";
    push_refused(&mut world, &[(A, &[(T, 2.0)]), (B, &[(T, 2.0)])], text);
    assert_eq!(samples(&mut world, "a", T), format!("[{},\"1\"]", T / 1000));
    assert_eq!(samples(&mut world, "b", T), format!("[{},\"2\"]", T / 1000));
}

#[test]
fn a_sample_sent_again_is_known_when_its_row_is_packed() {
    let mut world = world();
    let instants: Vec<(i64, f64)> = (0..50).map(|index| (T + index * 1000, index as f64)).collect();
    push_well(&mut world, &[(A, &instants)]);
    push_well(&mut world, &[(A, &instants)]);
    assert_eq!(rows(&world), 50);
    let reply = push(&mut world, &[(A, &[(T, 9.0)])]);
    assert!(reply.status == 400 && reply.body.contains("existing 0, new value 9"), "{}", reply.body);
}

#[test]
fn stale_markers_end_a_series() {
    let mut world = world();
    push_well(&mut world, &[(A, &[(T, 1.0)])]);
    let stale = f64::from_bits(crate::store::STALE_NAN_BITS);
    push_well(&mut world, &[(A, &[(T + 1000, stale)])]);
    assert_eq!(
        world.data(&format!("/api/v1/query?query=a&time={}", T / 1000 + 1)),
        r#"{"resultType":"vector","result":[]}"#
    );
    assert!(world.data(&format!("/api/v1/query?query=a&time={}", T / 1000)).contains("\"a\""));
}

#[test]
fn the_future_is_taken_up_to_ten_minutes_ahead() {
    let mut world = world();
    push_well(&mut world, &[(A, &[(T + RECEIVE_AHEAD_MS_MAX, 1.0)])]);
    let text = "out of bounds: timestamp is too far in the future: a{instance=\"i\", job=\"j\"} at \
        2026-09-21T14:23:20.001Z; 1 of 1 samples are refused, the rest is stored\n";
    push_refused(&mut world, &[(A, &[(T + RECEIVE_AHEAD_MS_MAX + 1, 1.0)])], text);
    push_well(&mut world, &[(A, &[(EARLIEST_MS, 1.0)])]);
    for t_ms in [EARLIEST_MS - 1, i64::MIN] {
        let reply = push(&mut world, &[(A, &[(t_ms, 1.0)])]);
        assert!(reply.status == 400 && reply.body.starts_with("out of bounds: a{"), "{}", reply.body);
    }
    // A box without a clock takes what it is sent.
    world.now.wall_ms = 0;
    push_well(&mut world, &[(A, &[(T + 2 * RECEIVE_AHEAD_MS_MAX, 1.0)])]);
}

#[test]
fn native_histograms_are_refused_alone_and_exemplars_passed_over() {
    let mut world = world();
    let mut request = WriteRequest::of(&[(A, &[(T, 1.0)]), (B, &[])]);
    request.timeseries[0].exemplars = vec![Unread::default(); 2];
    request.timeseries[1].histograms = vec![Unread { text: "sums".into() }];
    request.metadata = vec![Unread::default(); 3];
    let reply = post(&mut world, &request.body());
    let text = "native histograms are not stored yet; send classic ones: b{instance=\"i\", job=\"j\"}; 1 of 2 samples are \
        refused, the rest is stored\n";
    assert_eq!((reply.status, reply.body.as_str()), (400, text));
    assert_eq!(samples(&mut world, "a", T), format!("[{},\"1\"]", T / 1000));
    let metrics = world.get("/metrics").body;
    for line in [
        "holdfast_receive_requests_total 1",
        "holdfast_receive_samples_stored_total 1",
        "holdfast_receive_exemplars_ignored_total 2",
        "holdfast_receive_metadata_ignored_total 3",
        "holdfast_receive_samples_refused_total{reason=\"native histogram\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn what_cannot_be_read_is_answered_400_and_too_much_413() {
    let mut world = world();
    assert_eq!(post(&mut world, b"hello").body, "snappy: corrupt input\n");
    let broken = snap::raw::Encoder::new().compress_vec(b"\x0a\xff\x01").unwrap();
    let reply = post(&mut world, &broken);
    let text = "the request is no prometheus.WriteRequest: a field is longer than what it stands in\n";
    assert_eq!((reply.status, reply.body.as_str()), (400, text));
    assert_eq!(post(&mut world, b"\xff\xff\xff\xff\x0f").status, 413);
    assert_eq!(push(&mut world, &[]).status, 204);
    let type_2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let request = world.send(Method::Post, "/api/v1/write", type_2, "");
    assert_eq!(answer(&mut world, request).status, 415);
}

#[test]
fn a_request_of_many_batches_is_stored_whole() {
    let mut world = world();
    let names: Vec<String> = (0..40).map(|index| format!("metric_{index}")).collect();
    let labels: Vec<[(&str, &str); 2]> = names.iter().map(|name| [("__name__", name.as_str()), ("job", "j")]).collect();
    let instants: Vec<(i64, f64)> = (0..200).map(|index| (T + index * 1000, index as f64)).collect();
    let series: Vec<Pushed<'_>> = labels.iter().map(|labels| (labels.as_slice(), instants.as_slice())).collect();
    push_well(&mut world, &series);
    assert_eq!(world.daemon.receiver.tally.stored, 8_000);
    for name in ["metric_0", "metric_20", "metric_39"] {
        assert_eq!(samples(&mut world, name, T + 300_000).matches("],[").count(), 199, "{name}");
    }
}

/// However little of a request is samples, a bite of it is short.
#[test]
fn a_long_request_of_nothing_is_read_in_bites() {
    let mut world = world();
    let request = WriteRequest { metadata: vec![Unread { text: "m".repeat(1_000) }; 6_000], ..WriteRequest::default() };
    let request_id = world.push(&request.body());
    let mut bites = 0;
    while world.replies.is_empty() {
        assert_eq!(world.perform_one(), None);
        bites += 1;
    }
    assert!(bites > 6_000_000 / crate::limits::RECEIVE_WINDOW_BYTES, "{bites}");
    assert_eq!(answer(&mut world, request_id).status, 204);
    assert_eq!(world.daemon.receiver.tally.metadata, 6_000);
}

#[test]
fn a_request_waits_for_its_turn_and_a_queue_that_is_full_says_so() {
    let mut world = world();
    // Bodies that do not compress.
    let value = |seed: u64| {
        let mut prng = crate::prng::Prng::new(seed);
        (0..3_000).map(|_| char::from(b' ' + (prng.next_u64() % 90) as u8)).collect::<String>()
    };
    let texts: Vec<String> = (0..40).map(value).collect();
    let labels: Vec<[(&str, &str); 2]> = texts.iter().map(|text| [("__name__", "a"), ("x", text.as_str())]).collect();
    let body = |t_ms: i64| {
        let sample = [(t_ms, 1.0)];
        let series: Vec<Pushed<'_>> = labels.iter().map(|labels| (labels.as_slice(), sample.as_slice())).collect();
        WriteRequest::of(&series).body()
    };
    assert!(2 * body(T).len() <= RECEIVE_QUEUE_BYTES_MAX && 3 * body(T).len() > RECEIVE_QUEUE_BYTES_MAX);
    let requests: Vec<RequestId> = (0..3).map(|index| world.push(&body(T + index))).collect();
    let statuses: Vec<u16> = requests.iter().map(|request| answer(&mut world, *request).status).collect();
    assert_eq!(statuses, [204, 204, 503]);
    assert_eq!(world.daemon.receiver.busy_count, 1);
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    let mut world = world();
    let (first, second) =
        (world.push(&WriteRequest::of(&[(A, &[(T, 1.0)])]).body()), WriteRequest::of(&[(B, &[(T, 1.0)])]));
    world.perform_one();
    let second = world.push(&second.body());
    world.handle(crate::daemon::Input::RequestGone { request: first });
    assert_eq!(answer(&mut world, second).status, 204);
    assert_eq!(samples(&mut world, "b", T), format!("[{},\"1\"]", T / 1000));
}

/// With a full region a new series is refused and named, and what is known goes on.
#[test]
fn new_series_are_refused_where_there_is_no_room_and_known_ones_go_on() {
    let mut world = World::new(options(), settings(vec![job("node", &["h:1"])]));
    world.serve("http://h:1/metrics", "scraped 1\n");
    world.pass(2_000);
    push_well(&mut world, &[(A, &[(T, 1.0)])]);
    let names: Vec<String> = (0..20_000).map(|index| format!("new_{index}")).collect();
    let labels: Vec<[(&str, &str); 2]> = names.iter().map(|name| [("__name__", name.as_str()), ("job", "j")]).collect();
    let sample = [(T + 1000, 1.0)];
    let mut series: Vec<Pushed<'_>> = labels.iter().map(|labels| (labels.as_slice(), sample.as_slice())).collect();
    series.push((A, &sample));
    let reply = push(&mut world, &series);
    assert_eq!(reply.status, 400);
    assert!(reply.body.starts_with("the region '"), "{}", reply.body);
    assert!(reply.body.contains("of 20001 samples are refused"), "{}", reply.body);
    assert_eq!(samples(&mut world, "a", T + 2000).matches("],[").count(), 1);
    world.pass(2_000);
    assert!(world.data("/api/v1/query?query=up").contains("\"1\""));
}

#[test]
fn pushers_take_at_most_half_of_the_timelines_and_quiet_ones_make_room() {
    let mut world = world();
    let pusher_count_max = world.daemon.pusher_count_max();
    let name = |index: usize| format!("instance_{index}");
    for index in 0..pusher_count_max {
        let labels = [("__name__", "a"), ("instance", &name(index) as &str)];
        push_well(&mut world, &[(&labels, &[(T, 1.0)])]);
    }
    let reply = push(&mut world, &[(A, &[(T, 1.0)])]);
    assert_eq!(reply.status, 400);
    assert!(
        reply.body.starts_with(&format!("{pusher_count_max} pairs of job and instance are pushing")),
        "{}",
        reply.body
    );
    world.pass(RECEIVE_QUIET_MS + 60_000);
    assert_eq!(world.daemon.receiver.pusher_count(), 0);
    let t_ms = world.now.wall_ms;
    push_well(&mut world, &[(A, &[(t_ms, 1.0)])]);
    // Row numbers go on where a quiet pusher's ended.
    let labels = [("__name__", "a"), ("instance", &name(0) as &str)];
    push_well(&mut world, &[(&labels, &[(t_ms, 2.0)])]);
    assert_eq!(samples(&mut world, "a{instance=\"instance_0\"}", t_ms).matches("],[").count(), 1);
}

#[test]
fn columns_that_are_seldom_pushed_keep_their_layout() {
    let mut world = world();
    for second in 0..300_i64 {
        push_well(&mut world, &[(A, &[(T + second * 1000, 1.0)])]);
        if second % 60 == 0 {
            push_well(&mut world, &[(B, &[(T + second * 1000, 1.0)]), (C, &[(T + second * 1000, 1.0)])]);
        }
        if second % 100 == 0 {
            world.pass(1);
        }
    }
    let store = &world.daemon.store;
    let timeline = store.timelines().next().unwrap();
    let mut layouts: Vec<u64> = Vec::new();
    let mut row = store.rows(timeline).start;
    while let Some(run) = store.layout_of_rows(timeline, row) {
        layouts.push(run.layout);
        row = run.rows.end;
    }
    layouts.dedup();
    assert_eq!(layouts.len(), 1, "{layouts:?}");
}

#[test]
fn columns_that_are_pushed_no_more_leave_the_layout_in_the_end() {
    let mut world = world();
    push_well(&mut world, &[(A, &[(T, 1.0)]), (B, &[(T, 1.0)]), (C, &[(T, 1.0)])]);
    let instants: Vec<(i64, f64)> = (1..2_200).map(|index| (T + index * 100, 1.0)).collect();
    push_well(&mut world, &[(A, &instants)]);
    let timeline = world.daemon.store.timelines().next().unwrap();
    assert_eq!(world.daemon.store.timeline_columns(timeline), 1);
}

#[test]
fn a_pusher_goes_on_in_the_slab_that_its_killed_server_left() {
    let mut world = world();
    push_well(&mut world, &[(A, &[(T, 1.0)])]);
    let pushers = world.daemon.receiver.pusher_count();
    world.daemon.receiver.pushers.clear();
    world.daemon.adopt_timelines(world.now);
    assert_eq!(world.daemon.receiver.pusher_count(), pushers);
    push_well(&mut world, &[(B, &[(T, 1.0)])]);
    assert_eq!(rows(&world), 1);
}

#[test]
fn a_series_without_samples_is_nothing() {
    let mut world = world();
    let request = WriteRequest { timeseries: vec![TimeSeries::default()], ..WriteRequest::default() };
    assert_eq!(post(&mut world, &request.body()).status, 204);
    assert_eq!((rows(&world), world.daemon.receiver.tally.samples), (0, 0));
}

/// After a power cut nobody knows whose a recovered timeline was; one that is nobody's must not stay for ever.
#[test]
fn a_timeline_that_turns_out_to_be_nobodys_is_closed_and_others_are_not() {
    let mut world = World::new(options(), settings(vec![job("node", &["h:1"])]));
    world.serve("http://h:1/metrics", "scraped 1\n");
    world.pass(2_000);
    let nobodys = world.daemon.store.timeline_open(TimelineKey(7)).unwrap();
    let rules = world.daemon.store.timeline_open(TimelineKey(8)).unwrap();
    world.daemon.adopt_timelines(world.now);
    world.pass(RECEIVE_QUIET_MS / 2);
    world.daemon.store.row_begin(rules, 1).unwrap();
    world.daemon.store.row_commit(rules, Missing::Stale);
    world.pass(RECEIVE_QUIET_MS / 2 + 60_000);
    let store = &world.daemon.store;
    assert!(!store.timeline_is_open(nobodys) && store.timeline_is_open(rules));
    assert!(world.data("/api/v1/query?query=up").contains("\"1\""));
}

#[test]
fn refused_samples_are_in_the_ledger() {
    let mut world = world();
    push(&mut world, &[(A, &[(T + 2 * RECEIVE_AHEAD_MS_MAX, 1.0), (T + 3 * RECEIVE_AHEAD_MS_MAX, 1.0), (T, 1.0)])]);
    assert_eq!(world.daemon.ledger().count(Reason::PushRefused), 2);
    let losses = world.data("/api/v1/status/losses");
    assert!(losses.contains("out of bounds: timestamp is too far in the future: a{"), "{losses}");
}
