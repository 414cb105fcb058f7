use super::*;
use crate::{
    labels::LabelsBuf,
    promql::source::{Selection, SourceError},
    rules::{RuleKind, RuleSpec},
    store::{STALE_NAN_BITS, Sample},
};
use alloc::collections::BTreeMap;

const MINUTE_MS: u64 = 60_000;
/// A wall clock far from 0, so that confusing it with the monotonic one is seen.
const START: Now = Now { mono_ms: 5_000, wall_ms: 1_700_000_000_000 };

/// Series in memory, and what the engine wrote, by timeline.
#[derive(Default)]
struct Memory {
    series: BTreeMap<LabelSet, Vec<Sample>>,
    rows: BTreeMap<String, Vec<LabelSet>>,
    fails: bool,
}

impl Memory {
    fn put(&mut self, pairs: &[(&str, &str)], t_ms: i64, value: f64) {
        let labels = LabelSet::from_pairs(pairs.iter().copied());
        self.series.entry(labels).or_default().push(Sample { t_ms, value });
    }

    /// As the store does: what was in the timeline's last row and is missing in this one is stale.
    fn store(&mut self, timeline_name: &str, t_ms: i64, samples: &[(LabelSet, u64)]) {
        let row: Vec<LabelSet> = samples.iter().map(|(labels, _)| labels.clone()).collect();
        for (labels, bits) in samples {
            let sample = Sample { t_ms, value: f64::from_bits(*bits) };
            self.series.entry(labels.clone()).or_default().push(sample);
        }
        for gone in self.rows.insert(timeline_name.into(), row.clone()).unwrap_or_default() {
            if !row.contains(&gone) {
                let sample = Sample { t_ms, value: f64::from_bits(STALE_NAN_BITS) };
                self.series.entry(gone).or_default().push(sample);
            }
        }
    }

    /// The series of this name whose newest sample is at `t_ms` and no stale marker, as `labels value`.
    fn at(&self, name: &str, t_ms: i64) -> Vec<String> {
        let newest = |samples: &Vec<Sample>| samples.last().copied().filter(|sample| sample.t_ms == t_ms);
        let named = self.series.iter().filter(|(labels, _)| labels.get("__name__") == Some(name));
        let shown = named.filter_map(|(labels, samples)| {
            let sample = newest(samples).filter(|sample| sample.value.to_bits() != STALE_NAN_BITS)?;
            Some(format!("{labels} {}", sample.value))
        });
        shown.collect()
    }
}

impl Source for Memory {
    fn select(&mut self, selection: &mut Selection, _: usize) -> Result<bool, SourceError> {
        if self.fails {
            return Err(SourceError("the disk is on fire".into()));
        }
        for (index, labels) in self.series.keys().enumerate() {
            if selection.matches(labels.as_ref()) {
                selection.add_index(index)?;
            }
        }
        selection.finish();
        Ok(true)
    }

    fn labels(&mut self, selection: &Selection, index: usize, labels: &mut LabelsBuf) -> Result<usize, SourceError> {
        let found = self.series.keys().nth(selection.series[index].series as usize);
        labels.set(found.expect("series are not taken away").as_ref());
        Ok(0)
    }

    fn read(
        &mut self,
        selection: &Selection,
        index: usize,
        start_ms: i64,
        end_ms: i64,
        samples: &mut Vec<Sample>,
    ) -> Result<Option<usize>, SourceError> {
        let found = self.series.values().nth(selection.series[index].series as usize).into_iter().flatten();
        samples.extend(found.filter(|sample| (start_ms..=end_ms).contains(&sample.t_ms)));
        Ok(Some(0))
    }
}

fn options() -> RuleOptions {
    RuleOptions {
        evaluation_interval_ms: MINUTE_MS,
        query_offset_ms: 0,
        query: QueryOptions { lookback_delta_ms: 300_000, samples_max: 1_000_000, bytes_max: 1 << 20 },
        external_labels: LabelSet::from_pairs([("site", "north"), ("job", "external")]),
        external_url: "http://box:9090".into(),
        for_outage_tolerance_ms: 60 * MINUTE_MS,
        for_grace_period_ms: 10 * MINUTE_MS,
    }
}

fn group(name: &str, rules: Vec<RuleSpec>) -> GroupSpec {
    GroupSpec {
        name: name.into(),
        file: "rules.yml".into(),
        interval_ms: None,
        limit: 0,
        query_offset_ms: None,
        labels: Vec::new(),
        rules,
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn record(name: &str, expr: &str) -> RuleSpec {
    RuleSpec { kind: RuleKind::Record { record: name.into() }, expr: expr.into(), labels: Vec::new() }
}

fn alert(name: &str, expr: &str, for_ms: u64, keep_firing_for_ms: u64) -> RuleSpec {
    let kind = RuleKind::Alert { alert: name.into(), for_ms, keep_firing_for_ms, annotations: Vec::new() };
    RuleSpec { kind, expr: expr.into(), labels: Vec::new() }
}

fn engine(groups: Vec<GroupSpec>, now: Now) -> Engine {
    Engine::new(groups, options(), now).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The time at which the engine wants to run next.
fn due(engine: &Engine, now: Now) -> Now {
    later(now, engine.next_due_mono_ms().expect("there are groups").saturating_sub(now.mono_ms))
}

fn later(now: Now, ms: u64) -> Now {
    Now { mono_ms: now.mono_ms + ms, wall_ms: now.wall_ms + ms as i64 }
}

/// Runs until nothing is due; gives the timestamps of the rows written.
fn run(engine: &mut Engine, memory: &mut Memory, now: Now) -> Vec<i64> {
    let mut written = Vec::new();
    for _ in 0..10_000 {
        match engine.advance(now, memory, 10) {
            Advance::Idle => return written,
            Advance::More | Advance::GroupDone => {}
            Advance::Write { timeline_name, t_ms, samples } => {
                memory.store(timeline_name, t_ms, samples);
                written.push(t_ms);
            }
        }
    }
    panic!("the engine never comes to rest");
}

/// What promtool 3.5.3 gives for ALERTS, minute by minute, for these values of x.
#[test]
fn alerts_pass_through_their_states_as_in_the_real_program() {
    let values = "0111010000111110110000";
    let table = [
        ("Plain", 0, 0, "-fff-f----fffff-ff----", "- 1 1 1 - 5 - - - - 10 10 10 10 10 - 16 16 - - - -"),
        ("Held", 2, 0, "-ppf-p----ppfff-pp----", "- 1 1 1 - 5 - - - - 10 10 10 10 10 - 16 16 - - - -"),
        ("Kept", 0, 2, "-fffffff--ffffffffff--", "- 1 1 1 1 1 1 1 - - 10 10 10 10 10 10 10 10 10 10 - -"),
        ("Both", 1, 1, "-pfffff---pffffffff---", "- 1 1 1 1 1 1 - - - 10 10 10 10 10 10 10 10 10 - - -"),
    ];
    let rules = table.map(|(name, hold, keep, ..)| alert(name, "x == 1", hold * MINUTE_MS, keep * MINUTE_MS));
    let mut engine = engine(alloc::vec![group("g", rules.into())], START);
    let (mut memory, mut now) = (Memory::default(), START);
    let first_ms = due(&engine, now).wall_ms;
    let mut found = table.map(|_| (String::new(), Vec::new()));
    for value in values.chars() {
        now = due(&engine, now);
        memory.put(&[("__name__", "x")], now.wall_ms, f64::from(value.to_digit(10).unwrap()));
        run(&mut engine, &mut memory, now);
        for ((name, ..), (states, since)) in table.iter().zip(&mut found) {
            let mine = |line: &&String| line.contains(&format!("alertname={name:?}"));
            let (alerts, for_states) = (memory.at("ALERTS", now.wall_ms), memory.at("ALERTS_FOR_STATE", now.wall_ms));
            let state = alerts.iter().find(mine).map_or("-", |line| {
                assert!(line.ends_with(" 1"), "{line}");
                if line.contains("alertstate=\"firing\"") { "f" } else { "p" }
            });
            states.push_str(state);
            since.push(for_states.iter().find(mine).map_or("-".into(), |line| {
                let seconds: i64 = line.rsplit(' ').next().unwrap().parse().unwrap();
                format!("{}", (seconds - first_ms / 1000) / 60)
            }));
        }
    }
    for ((name, _, _, states, since), found) in table.iter().zip(found) {
        assert_eq!((found.0.as_str(), found.1.join(" ").as_str()), (*states, *since), "{name}");
    }
}

#[test]
fn a_rule_sees_what_the_rule_before_it_wrote() {
    let rules = alloc::vec![record("a", "x + 1"), record("b", "a * 10"), record("c", "sum(b) by (zone)")];
    let mut engine = engine(alloc::vec![group("g", rules)], START);
    let mut memory = Memory::default();
    let now = due(&engine, START);
    memory.put(&[("__name__", "x"), ("zone", "z")], now.wall_ms, 2.0);
    assert_eq!(run(&mut engine, &mut memory, now), [now.wall_ms; 3]);
    assert_eq!(memory.at("a", now.wall_ms), [r#"a{zone="z"} 3"#]);
    assert_eq!(memory.at("b", now.wall_ms), [r#"b{zone="z"} 30"#]);
    assert_eq!(memory.at("c", now.wall_ms), [r#"c{zone="z"} 30"#]);
    let group = &engine.groups()[0];
    assert_eq!((group.evaluated_count(), group.last_evaluation_ms()), (1, Some(now.wall_ms)));
    assert!(group.rules().iter().all(|rule| rule.health() == Health::Ok && rule.last_error().is_empty()));
}

#[test]
fn a_recording_rules_labels_win_and_empty_ones_drop() {
    let mut rule = record("r", "x");
    rule.labels = pairs(&[("zone", ""), ("job", "mine"), ("new", "n")]);
    let mut spec = group("g", alloc::vec![rule]);
    spec.labels = pairs(&[("new", "from the group"), ("team", "t")]);
    let mut engine = engine(alloc::vec![spec], START);
    let mut memory = Memory::default();
    let now = due(&engine, START);
    memory.put(&[("__name__", "x"), ("zone", "z"), ("job", "theirs")], now.wall_ms, 2.0);
    run(&mut engine, &mut memory, now);
    assert_eq!(memory.at("r", now.wall_ms), [r#"r{job="mine", new="n", team="t"} 2"#]);
}

#[test]
fn equal_label_sets_and_too_many_series_fail_the_rule_alone() {
    let mut twins = record("twins", "x");
    twins.labels = pairs(&[("id", "same")]);
    let mut alert_twins = alert("Twins", "x", 0, 0);
    alert_twins.labels = pairs(&[("id", "same")]);
    let mut spec = group(
        "g",
        alloc::vec![twins, alert_twins, record("many", "x"), alert("Many", "x", 0, 0), record("one", "sum(x)")],
    );
    spec.limit = 1;
    let mut engine = engine(alloc::vec![spec], START);
    let mut memory = Memory::default();
    let now = due(&engine, START);
    memory.put(&[("__name__", "x"), ("id", "a")], now.wall_ms, 1.0);
    memory.put(&[("__name__", "x"), ("id", "b")], now.wall_ms, 2.0);
    run(&mut engine, &mut memory, now);
    let errors: Vec<&str> = engine.groups()[0].rules().iter().map(Rule::last_error).collect();
    assert_eq!(
        errors,
        [
            "vector contains metrics with the same labelset after applying rule labels",
            "vector contains metrics with the same labelset after applying alert labels",
            "exceeded limit of 1 with 2 series",
            "exceeded limit of 1 with 2 alerts",
            "",
        ]
    );
    assert_eq!(memory.at("one", now.wall_ms), ["one 3"]);
    assert_eq!(engine.groups()[0].rules()[3].active_alerts().count(), 0);
    assert_eq!(engine.groups()[0].rules().iter().map(Rule::failed_count).sum::<u64>(), 4);
}

#[test]
fn a_broken_source_is_the_rules_last_error_and_heals() {
    let mut engine = engine(alloc::vec![group("g", alloc::vec![alert("A", "x > 0", 0, 0)])], START);
    let mut memory = Memory { fails: true, ..Memory::default() };
    let now = due(&engine, START);
    memory.put(&[("__name__", "x")], now.wall_ms, 1.0);
    assert_eq!(run(&mut engine, &mut memory, now), []);
    let rule = &engine.groups()[0].rules()[0];
    assert_eq!(rule.health(), Health::Err);
    assert!(rule.last_error().contains("the disk is on fire"), "{}", rule.last_error());
    assert_eq!(engine.alerts_due(now, MINUTE_MS), []);
    memory.fails = false;
    let now = due(&engine, now);
    run(&mut engine, &mut memory, now);
    assert_eq!(engine.groups()[0].rules()[0].health(), Health::Ok);
    assert_eq!(engine.alerts_due(now, MINUTE_MS).len(), 1);
}

#[test]
fn an_empty_row_is_written_once_after_the_last_series_went_away() {
    let mut engine = engine(alloc::vec![group("g", alloc::vec![record("r", "x")])], START);
    let (mut memory, mut now) = (Memory::default(), START);
    let mut written = Vec::new();
    for present in [false, false, true, true, false, false] {
        now = due(&engine, now);
        if present {
            memory.put(&[("__name__", "x")], now.wall_ms, 1.0);
        } else {
            memory.put(&[("__name__", "x")], now.wall_ms, f64::from_bits(STALE_NAN_BITS));
        }
        written.push(run(&mut engine, &mut memory, now).len());
    }
    // The first row is written although empty: what the process before this one wrote may have to end.
    assert_eq!(written, [1, 0, 1, 1, 1, 0]);
}

#[test]
fn samples_and_queries_move_by_the_query_offset() {
    let mut spec = group("g", alloc::vec![record("r", "x"), record("t", "time()")]);
    spec.query_offset_ms = Some(30_000);
    let mut engine = engine(alloc::vec![spec], START);
    let mut memory = Memory::default();
    let now = due(&engine, START);
    memory.put(&[("__name__", "x")], now.wall_ms - 30_000, 1.0);
    memory.put(&[("__name__", "x")], now.wall_ms - 29_999, 2.0);
    assert_eq!(run(&mut engine, &mut memory, now), [now.wall_ms - 30_000; 2]);
    assert_eq!(memory.at("r", now.wall_ms - 30_000), ["r 1"]);
    assert_eq!(memory.at("t", now.wall_ms - 30_000), [format!("t {}", crate::time::seconds(now.wall_ms - 30_000))]);
}

#[test]
fn groups_are_spread_and_keep_their_slots_over_restarts() {
    let groups = || (0..20).map(|index| group(&format!("g{index}"), Vec::new())).collect::<Vec<_>>();
    let slots = |now: Now| {
        let engine = engine(groups(), now);
        engine.groups.iter().map(|group| group.slot).collect::<Vec<_>>()
    };
    let first = slots(START);
    assert!(first.iter().all(|slot| slot.mono_ms > 5_000 && slot.mono_ms <= 5_000 + MINUTE_MS as i64));
    let mut shifts: Vec<i64> = first.iter().map(|slot| slot.wall_ms % MINUTE_MS as i64).collect();
    let again: Vec<i64> = slots(Now { mono_ms: 77, wall_ms: START.wall_ms + 123_456_789 })
        .iter()
        .map(|slot| slot.wall_ms % MINUTE_MS as i64)
        .collect();
    assert_eq!(shifts, again);
    shifts.sort_unstable();
    shifts.dedup();
    assert_eq!(shifts.len(), 20);
}

#[test]
fn a_slot_is_due_at_its_millisecond_and_missed_ones_are_counted() {
    let mut engine = engine(alloc::vec![group("g", alloc::vec![record("r", "vector(1)")])], START);
    let mut memory = Memory::default();
    let first = due(&engine, START);
    let early = Now { mono_ms: first.mono_ms - 1, wall_ms: first.wall_ms - 1 };
    assert_eq!(engine.advance(early, &mut memory, 10), Advance::Idle);
    assert_eq!(run(&mut engine, &mut memory, first), [first.wall_ms]);
    // Held up until a millisecond before the third slot from here: one evaluation, for the second.
    let held = later(first, 3 * MINUTE_MS - 1);
    assert_eq!(run(&mut engine, &mut memory, held), [first.wall_ms + 2 * MINUTE_MS as i64]);
    assert_eq!(engine.groups()[0].missed_count(), 1);
    assert_eq!(due(&engine, held), later(first, 3 * MINUTE_MS));
}

#[test]
fn a_jump_of_the_wall_clock_neither_stops_rules_nor_shortens_for() {
    let mut engine = engine(alloc::vec![group("g", alloc::vec![alert("A", "vector(1)", 3 * MINUTE_MS, 0)])], START);
    let (mut memory, mut now) = (Memory::default(), START);
    let mut states = Vec::new();
    for minute in 0..6 {
        now = due(&engine, now);
        if minute == 2 {
            now.wall_ms += 400 * 24 * 60 * MINUTE_MS as i64;
        }
        let written = run(&mut engine, &mut memory, now);
        assert!((now.wall_ms - written[0]).abs() < MINUTE_MS as i64, "rows are at the clock's slots");
        states.push(engine.groups()[0].rules()[0].state_text());
    }
    // Minutes 0 and 1 by the old clock, 2 right after the jump, and from there on the new clock's slots.
    assert_eq!(states[..3], ["pending"; 3]);
    assert_eq!(states[4..], ["firing"; 2]);
}

#[test]
fn firing_alerts_are_told_at_once_then_by_the_resend_delay_and_resolved_ones_for_a_quarter_of_an_hour() {
    let mut rule = alert("A", "x == 1", 0, 0);
    rule.labels = pairs(&[("severity", "page")]);
    let mut engine = engine(alloc::vec![group("g", alloc::vec![rule])], START);
    let (mut memory, mut now) = (Memory::default(), START);
    let mut told = Vec::new();
    for minute in 0..26 {
        now = due(&engine, now);
        memory.put(&[("__name__", "x"), ("instance", "a")], now.wall_ms, if minute < 6 { 1.0 } else { 0.0 });
        run(&mut engine, &mut memory, now);
        for message in engine.alerts_due(now, MINUTE_MS) {
            let ends_in = (message.ends_at_ms - now.wall_ms) / MINUTE_MS as i64;
            assert_eq!(message.starts_at_ms, now.wall_ms - minute * MINUTE_MS as i64);
            let shown = format!("{}", message.labels);
            assert_eq!(shown, r#"{alertname="A", instance="a", job="external", severity="page", site="north"}"#);
            assert_eq!(&*message.generator_url, "http://box:9090/graph?g0.expr=x+%3D%3D+1&g0.tab=1");
            assert_eq!(message.repeated, minute != 0 && minute != 6, "{minute}");
            told.push((minute, message.resolved, ends_in));
        }
        assert_eq!(engine.alerts_due(now, MINUTE_MS), [], "once per evaluation");
    }
    // As in Prometheus an alert is told again only when more than the delay has passed: here every second minute.
    let wanted = [
        (0, false, 4),
        (2, false, 4),
        (4, false, 4),
        (6, true, 0),
        (8, true, -2),
        (10, true, -4),
        (12, true, -6),
        (14, true, -8),
        (16, true, -10),
        (18, true, -12),
        (20, true, -14),
    ];
    assert_eq!(told, wanted);
}

#[test]
fn templates_see_labels_value_and_queries_and_errors_become_text() {
    let mut rule = alert("A", "x > 1", 0, 0);
    rule.labels = pairs(&[("who", "{{ $labels.instance }}"), ("none", "{{ $labels.missing }}"), ("job", "")]);
    rule.kind = RuleKind::Alert {
        alert: "A".into(),
        for_ms: 0,
        keep_firing_for_ms: 0,
        annotations: pairs(&[
            ("summary", "{{ $value | humanize }} at {{ $externalURL }} in {{ $externalLabels.site }}"),
            ("queried", "{{ query \"y\" | first | value }}"),
            ("broken", "{{ title $value }}"),
            ("refused", "{{ query \"sum(\" }}"),
            ("empty", ""),
        ]),
    };
    let mut engine = engine(alloc::vec![group("g", alloc::vec![rule])], START);
    let mut memory = Memory::default();
    let now = due(&engine, START);
    memory.put(&[("__name__", "x"), ("instance", "a"), ("job", "j")], now.wall_ms, 12_345.0);
    memory.put(&[("__name__", "y")], now.wall_ms, 7.0);
    run(&mut engine, &mut memory, now);
    let alert = engine.groups()[0].rules()[0].active_alerts().next().expect("an alert");
    assert_eq!(format!("{}", alert.labels), r#"{alertname="A", instance="a", who="a"}"#);
    let annotation = |name: &str| alert.annotations.iter().find(|(known, _)| **known == *name).unwrap().1.to_string();
    assert_eq!(annotation("summary"), "12.35k at http://box:9090 in north");
    assert_eq!(annotation("queried"), "7");
    assert_eq!(annotation("empty"), "");
    assert!(annotation("broken").starts_with("<error expanding template: error executing template __alert_A: "));
    assert!(annotation("refused").contains("error calling query: 1:5: parse error: "), "{}", annotation("refused"));
    // Prometheus' own series keep the raw text of a label that expands to nothing.
    let wanted = r#"ALERTS{alertname="A", alertstate="firing", instance="a", none="{{ $labels.missing }}", who="a"} 1"#;
    assert_eq!(memory.at("ALERTS", now.wall_ms), [wanted]);
}

#[test]
fn a_result_that_is_no_vector_is_refused() {
    let mut engine = engine(alloc::vec![group("g", alloc::vec![record("s", "\"text\""), record("n", "1 + 1")])], START);
    let mut memory = Memory::default();
    let now = due(&engine, START);
    run(&mut engine, &mut memory, now);
    assert_eq!(engine.groups()[0].rules()[0].last_error(), "rule result is not a vector or scalar");
    assert_eq!(memory.at("n", now.wall_ms), ["n 2"]);
}

#[test]
fn every_error_of_all_groups_is_told_together() {
    let mut bad_template = alert("T", "up", 0, 0);
    bad_template.labels = pairs(&[("a", "{{ nope }}"), ("__name__", "x")]);
    let mut zero = group("zero", Vec::new());
    zero.interval_ms = Some(0);
    let specs = alloc::vec![
        group("g", alloc::vec![record("r", "sum("), bad_template, record("", "up")]),
        group("g", Vec::new()),
        zero,
    ];
    let errors = match Engine::new(specs, options(), START) {
        Err(errors) => errors,
        Ok(_) => panic!("must be refused"),
    };
    let texts: Vec<String> = errors.iter().map(|error| format!("{error}")).collect();
    for part in [
        r#"rules.yml: group "g", rule "r": could not parse expression: 1:5: parse error: "#,
        r#"rule "T": a label is empty or __name__"#,
        r#"rule "T", label "a": template does not parse: template: __alert_T:1: function "nope" not defined"#,
        r#"rule "": the rule has no name"#,
        r#"group "g" occurs twice"#,
        r#"group "zero" has the interval 0"#,
    ] {
        assert!(texts.iter().any(|text| text.contains(part)), "{part} is not in {texts:#?}");
    }
    assert_eq!(texts.len(), 6, "{texts:#?}");
}

#[test]
fn a_reload_keeps_what_is_the_same_and_ends_what_is_gone() {
    let rules = || alloc::vec![alert("A", "x == 1", 5 * MINUTE_MS, 0), record("r", "x"), record("gone", "x")];
    let mut engine = engine(alloc::vec![group("g", rules()), group("left", alloc::vec![record("l", "x")])], START);
    let (mut memory, mut now) = (Memory::default(), START);
    memory.put(&[("__name__", "x")], now.wall_ms, 1.0);
    for _ in 0..4 {
        now = due(&engine, now);
        run(&mut engine, &mut memory, now);
    }
    let active_at_ms = engine.groups()[0].rules()[0].active_alerts().next().expect("pending").active_at_ms;

    // Another expression of the same alert keeps it pending since when it was; a rule and a group go.
    let mut changed = rules();
    changed[0].expr = "x >= 1".into();
    changed.pop();
    engine.reload(alloc::vec![group("g", changed)], options(), now).unwrap();
    assert_eq!(engine.groups()[0].rules()[0].active_alerts().next().expect("pending").active_at_ms, active_at_ms);
    assert!(engine.changed());
    let now_ms = now.wall_ms + 1;
    run(&mut engine, &mut memory, later(now, 1));
    for name in ["gone", "l"] {
        let last = memory.series[&LabelSet::from_pairs([("__name__", name)])].last().copied().unwrap();
        assert_eq!((last.t_ms, last.value.to_bits()), (now_ms, STALE_NAN_BITS), "{name} has ended");
    }

    // What does not parse leaves everything as it was.
    let bad = alloc::vec![group("g", alloc::vec![record("r", "(")])];
    assert!(engine.reload(bad, options(), now).is_err());
    assert_eq!(engine.groups()[0].rules().len(), 2);

    // Other labels make another alert.
    let mut relabelled = rules();
    relabelled[0].labels = pairs(&[("severity", "page")]);
    engine.reload(alloc::vec![group("g", relabelled)], options(), now).unwrap();
    assert_eq!(engine.groups()[0].rules()[0].active_alerts().count(), 0);
}

#[test]
fn a_reload_in_the_middle_of_an_unchanged_group_does_not_stop_it() {
    let specs = || alloc::vec![group("g", alloc::vec![record("a", "x"), record("b", "x")])];
    let mut engine = engine(specs(), START);
    let mut memory = Memory::default();
    let now = due(&engine, START);
    memory.put(&[("__name__", "x")], now.wall_ms, 1.0);
    while !matches!(engine.advance(now, &mut memory, 10), Advance::Write { .. }) {}
    let mut more = specs();
    more.insert(0, group("first", Vec::new()));
    engine.reload(more, options(), now).unwrap();
    assert_eq!(run(&mut engine, &mut memory, now), [now.wall_ms], "only the second rule was left");
    assert_eq!(engine.groups()[1].evaluated_count(), 1);
}

/// Runs `before_min` minutes, saves, dies, starts `outage_min` later and runs `after_min` minutes; gives the states of
/// the alert, minute by minute from the restart on, and the engine.
fn restarted(hold_min: u64, before_min: u64, outage_min: u64, after_min: u64) -> (String, Engine, Now) {
    let specs = || alloc::vec![group("g", alloc::vec![alert("A", "vector(1)", hold_min * MINUTE_MS, 0)])];
    let (mut memory, mut now) = (Memory::default(), START);
    let mut first = engine(specs(), now);
    for _ in 0..before_min {
        now = due(&first, now);
        run(&mut first, &mut memory, now);
    }
    let saved = first.save(now);
    // Another monotonic clock, near its start.
    now = Now { mono_ms: 100, wall_ms: now.wall_ms + (outage_min * MINUTE_MS) as i64 };
    let mut second = engine(specs(), now);
    second.restore(&saved, None, now).unwrap();
    let mut states = String::new();
    for _ in 0..after_min {
        now = due(&second, now);
        run(&mut second, &mut memory, now);
        states.push_str(&second.groups()[0].rules()[0].state_text()[..1]);
    }
    (states, second, now)
}

#[test]
fn a_pending_alert_goes_on_after_a_restart_where_it_was() {
    // 20 of 30 minutes are held at the 21st evaluation; a grace of 10 minutes changes nothing.
    assert_eq!(restarted(30, 21, 5, 12).0, "pppppppppfff");
    // 28 of 30 minutes: at least the grace period is waited.
    assert_eq!(restarted(30, 29, 5, 12).0, "pppppppppfff");
    // The outage was too long by a minute: from the start.
    assert_eq!(restarted(30, 21, 60, 12).0, "pppppppppfff");
    assert_eq!(restarted(30, 21, 61, 12).0, "pppppppppppp");
    // A `for` below the grace period starts over rather than waiting for the grace period.
    assert_eq!(restarted(9, 5, 5, 12).0, "pppppppppfff");
    let (_, engine, now) = restarted(30, 21, 5, 1);
    let alert = engine.groups()[0].rules()[0].active_alerts().next().expect("pending");
    // The outage is no time held: activeAt has moved by it.
    assert_eq!(alert.active_at_ms, now.wall_ms - 21 * MINUTE_MS as i64);
}

#[test]
fn a_firing_alert_keeps_its_start_over_a_restart_and_is_told_again() {
    let (states, mut engine, now) = restarted(2, 10, 30, 3);
    assert_eq!(states, "fff");
    let told = engine.alerts_due(now, MINUTE_MS);
    assert_eq!(told.len(), 1);
    // Fired at the third of ten evaluations; then 7 minutes, the outage and 3 minutes.
    assert_eq!(told[0].starts_at_ms, now.wall_ms - (7 + 30 + 3) * MINUTE_MS as i64);
}

/// An alert that had fired for longer than the tolerated outage began anew after any restart, however short: the state is
/// saved when it changes, and that was taken for the time at which the process ended (simulator, seed 68).
#[test]
fn how_long_nothing_changed_is_no_outage() {
    let specs = || alloc::vec![group("g", alloc::vec![alert("A", "vector(1)", 0, 0)])];
    let (mut first, mut memory) = (engine(specs(), START), Memory::default());
    let mut now = due(&first, START);
    run(&mut first, &mut memory, now);
    assert_eq!(first.alive(now), None, "nothing is saved yet");
    let (saved, saved_at) = (first.save(now), now);
    for _ in 0..90 {
        now = due(&first, now);
        run(&mut first, &mut memory, now);
    }
    let alive = first.alive(now).unwrap();
    let restart = |alive: Option<&[u8]>, outage_min: u64| {
        let then = Now { mono_ms: 5, wall_ms: now.wall_ms + (outage_min * MINUTE_MS) as i64 };
        let mut second = engine(specs(), then);
        second.restore(&saved, alive, then).unwrap();
        let starts = second.groups()[0].rules()[0].active_alerts().map(|alert| alert.fired_at_ms).next();
        starts.flatten()
    };
    assert_eq!(restart(Some(&alive), 1), Some(saved_at.wall_ms));
    assert_eq!(restart(Some(&alive), 60), Some(saved_at.wall_ms));
    assert_eq!(restart(Some(&alive), 61), None, "that outage was too long");
    assert_eq!(restart(None, 1), None, "91 minutes since the save");
    // What belongs to another state, or is broken, says nothing.
    assert_eq!(restart(Some(&alive_of_another_state(now)), 1), None);
    assert_eq!(restart(Some(&alive[..3]), 1), None);
}

fn alive_of_another_state(now: Now) -> Vec<u8> {
    super::state::alive(Now { wall_ms: now.wall_ms - 7, ..now }, now)
}

#[test]
fn an_alert_that_ended_during_the_outage_is_told_as_resolved() {
    let specs = || alloc::vec![group("g", alloc::vec![alert("A", "x == 1", 0, 0)])];
    let mut memory = Memory::default();
    let mut first = engine(specs(), START);
    let now = due(&first, START);
    memory.put(&[("__name__", "x")], now.wall_ms, 1.0);
    run(&mut first, &mut memory, now);
    assert!(first.changed());
    let saved = first.save(now);
    assert!(!first.changed());

    let now = Now { mono_ms: 0, wall_ms: now.wall_ms + 10 * MINUTE_MS as i64 };
    let mut second = engine(specs(), now);
    second.restore(&saved, None, now).unwrap();
    memory.put(&[("__name__", "x")], now.wall_ms, 0.0);
    let now = due(&second, now);
    run(&mut second, &mut memory, now);
    let told = second.alerts_due(now, MINUTE_MS);
    assert_eq!((told.len(), told[0].resolved, told[0].ends_at_ms), (1, true, now.wall_ms));
}

#[test]
fn broken_and_foreign_state_is_refused_by_name() {
    let mut engine = engine(alloc::vec![group("g", alloc::vec![alert("A", "vector(1)", 0, 0)])], START);
    let mut memory = Memory::default();
    let now = due(&engine, START);
    run(&mut engine, &mut memory, now);
    let saved = engine.save(now);
    for cut in 0..saved.len() {
        assert_eq!(engine.restore(&saved[..cut], None, now), Err(StateError::Broken), "{cut} bytes");
    }
    let mut newer = saved.clone();
    newer[0] = 2;
    assert_eq!(engine.restore(&newer, None, now), Err(StateError::Version { found: 2, known: 1 }));
    assert_eq!(engine.groups()[0].rules()[0].active_alerts().count(), 1, "and nothing is changed");
    assert_eq!(engine.restore(&saved, None, now), Ok(()));
}

#[test]
fn a_bite_is_bounded_whatever_the_rule_reads() {
    let mut engine = engine(alloc::vec![group("g", alloc::vec![record("r", "x")])], START);
    let mut memory = Memory::default();
    let now = due(&engine, START);
    for index in 0..1_000 {
        memory.put(&[("__name__", "x"), ("id", &format!("{index}"))], now.wall_ms, 1.0);
    }
    let mut more_count = 0;
    loop {
        match engine.advance(now, &mut memory, 10) {
            Advance::More => more_count += 1,
            Advance::Write { samples, .. } => {
                assert_eq!(samples.len(), 1_000);
                assert!(samples.windows(2).all(|pair| pair[0].0 < pair[1].0), "in the order of labels");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(more_count >= 1_000 / SERIES_PER_BITE_MAX, "{more_count} bites");
}

#[test]
fn alerts_that_need_too_much_memory_together_fail_the_rule_that_adds_them() {
    let wordy = |name: &str| {
        let annotations = pairs(&[("text", "{{ printf \"%1000d\" 1 }}")]);
        let kind = RuleKind::Alert { alert: name.into(), for_ms: 0, keep_firing_for_ms: 0, annotations };
        RuleSpec { kind, expr: "x".into(), labels: Vec::new() }
    };
    let mut memory = Memory::default();
    let fill = |memory: &mut Memory, now: Now| {
        for index in 0..10 {
            memory.put(&[("__name__", "x"), ("id", &format!("{index}"))], now.wall_ms, 1.0);
        }
    };
    for (bytes_max, wanted) in [(32 * 1024, ["firing", "firing"]), (16 * 1024, ["firing", "inactive"])] {
        let mut tight = options();
        tight.query.bytes_max = bytes_max;
        let specs = alloc::vec![group("g", alloc::vec![wordy("A"), wordy("B")])];
        let mut engine = Engine::new(specs, tight, START).unwrap();
        let now = due(&engine, START);
        fill(&mut memory, now);
        run(&mut engine, &mut memory, now);
        let rules = engine.groups()[0].rules();
        assert_eq!([rules[0].state_text(), rules[1].state_text()], wanted, "{}", rules[1].last_error());
        if wanted[1] == "inactive" {
            assert!(rules[1].last_error().contains("bytes of memory"), "{}", rules[1].last_error());
        }
    }
}

#[test]
fn alerts_that_come_and_go_under_new_labels_do_not_pile_up() {
    let mut tight = options();
    tight.query.bytes_max = 8 * 1024;
    let mut engine = Engine::new(alloc::vec![group("g", alloc::vec![alert("A", "x", 0, 0)])], tight, START).unwrap();
    let (mut memory, mut now) = (Memory::default(), START);
    let (mut resolved_count, mut kept_count_max) = (0, 0);
    for minute in 0..100 {
        now = due(&engine, now);
        memory.series.clear();
        memory.put(&[("__name__", "x"), ("id", &format!("{minute}{}", "x".repeat(1_000)))], now.wall_ms, 1.0);
        run(&mut engine, &mut memory, now);
        resolved_count +=
            engine.alerts_due(now, MINUTE_MS).iter().filter(|alert| alert.resolved && !alert.repeated).count();
        let rule = &engine.groups()[0].rules()[0];
        assert_eq!(rule.last_error(), "");
        kept_count_max = kept_count_max.max(rule.alerts.len());
    }
    assert_eq!(resolved_count, 99, "each was told as resolved once");
    assert!((2..=8).contains(&kept_count_max), "{kept_count_max}");
}

#[test]
fn a_result_larger_than_the_querys_memory_fails_the_rule() {
    let mut small = options();
    small.query.bytes_max = 48 * 1024;
    let specs = alloc::vec![group("g", alloc::vec![record("r", "x")])];
    let mut engine = Engine::new(specs, small, START).unwrap();
    let mut memory = Memory::default();
    let now = due(&engine, START);
    for index in 0..1_000 {
        memory.put(&[("__name__", "x"), ("id", &format!("{index:060}"))], now.wall_ms, 1.0);
    }
    assert_eq!(run(&mut engine, &mut memory, now), []);
    let error = engine.groups()[0].rules()[0].last_error();
    assert!(error.contains("bytes of memory"), "{error}");
}
