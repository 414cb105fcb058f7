use super::{
    Input, Options,
    input::Method,
    test_world::{World, job, options, settings},
};
use crate::rules::{GroupSpec, RuleKind, RuleSpec};
use alloc::{boxed::Box, format, string::String, vec, vec::Vec};

fn rules_that_never_end(count: usize) -> GroupSpec {
    let rule = |index: usize| RuleSpec {
        kind: RuleKind::Record { record: format!("r{index}") },
        expr: "m + 1".into(),
        labels: Vec::new(),
    };
    GroupSpec {
        name: "g".into(),
        file: "rules.yml".into(),
        interval_ms: None,
        limit: 0,
        query_offset_ms: None,
        labels: Vec::new(),
        rules: (0..count).map(rule).collect(),
    }
}

#[test]
fn requests_are_answered_while_rules_are_due_at_every_turn() {
    let mut settings = settings(vec![job("node", &["h:1"])]);
    settings.rule_groups.push(rules_that_never_end(200));
    let mut world = World::new(options(), settings);
    world.serve("http://h:1/metrics", "m 1\n");
    world.pass(3_000);
    let evaluated = |world: &World| world.daemon.rules.groups()[0].evaluated_count();
    let before = evaluated(&world);
    while world.daemon.rules.next_due_mono_ms() > Some(world.now.mono_ms) {
        world.now.mono_ms += 1;
        world.now.wall_ms += 1;
    }
    let request = world.send(Method::Get, "/api/v1/query?query=m", "", "");
    let mut turns = 0;
    while !world.replies.get(&request.0).is_some_and(|reply| reply.is_whole) {
        assert_eq!(world.perform_one(), None, "there is work left");
        turns += 1;
    }
    assert!(turns < 30, "{turns} turns");
    assert_eq!(evaluated(&world), before, "the rules are still at work");
    world.drain();
    assert_eq!(evaluated(&world), before + 1);
}

#[test]
fn a_client_that_leaves_before_its_reload_is_done_gets_no_answer() {
    let options = Options { enable_lifecycle: true, ..options() };
    let mut world = World::new(options, settings(Vec::new()));
    let left = world.send(Method::Post, "/-/reload", "", "");
    let stays = world.send(Method::Post, "/-/reload", "", "");
    world.drain();
    assert_eq!(world.reloads, 2);
    world.handle(Input::RequestGone { request: left });
    world.handle(Input::Settings(Box::new(settings(Vec::new()))));
    world.drain();
    assert_eq!(world.replies.keys().collect::<Vec<_>>(), [&stays.0]);
    assert_eq!((world.replies[&stays.0].status, &world.replies[&stays.0].body), (200, &String::new()));
}
