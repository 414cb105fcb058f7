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

/// A long query was evaluated through a commit, and had the new scrape in the series that it came to later.
#[test]
fn a_query_that_is_stepped_through_a_commit_shows_none_of_the_new_scrape() {
    let page = |value: u32| (0..1_500).map(|index| format!("m{{i=\"{index}\"}} {value}\n")).collect::<String>();
    let mut world = World::scraping(&page(1));
    let scrapes = |world: &World| world.daemon.targets[0].target.status().counters.scrapes;
    let asks = [
        "/api/v1/query?query=count_values(\"v\",m)",
        "/api/v1/query?query=count_values(\"v\",m*(m==bool+m))",
        "/federate?match[]=m",
    ];
    for (index, ask) in asks.into_iter().enumerate() {
        let value = index as u32 + 1;
        world.serve("http://h:1/metrics", &page(value));
        world.pass(1_000);
        world.serve("http://h:1/metrics", &page(value + 1));
        // In the future, so that a sample's time alone keeps nothing out.
        world.now.wall_ms += 60_000;
        let request = world.send(Method::Get, ask, "", "");
        world.now.wall_ms -= 60_000;
        let before = scrapes(&world);
        for _ in 0..4 {
            assert_eq!(world.perform_one(), None, "{ask}: there is work left");
        }
        assert!(!world.replies.get(&request.0).is_some_and(|reply| reply.is_whole), "{ask}: it is not over yet");
        world.now.mono_ms += 1_000;
        world.now.wall_ms += 1_000;
        world.perform_one();
        assert_eq!(scrapes(&world), before + 1, "{ask}");
        world.drain();
        let body = world.replies.remove(&request.0).expect("an answer").body;
        let has = |value: u32| match ask.starts_with("/federate") {
            true => body.lines().filter(|line| line.contains(&format!("}} {value} "))).count() == 1_500,
            false => body.contains(&format!("\"v\":\"{value}\"")) && body.contains("\"1500\"]}]"),
        };
        assert!(has(value), "{ask}: {}", &body[..body.len().min(400)]);
        // And the next one has it.
        let body = world.get(ask).body;
        let next = format!("{}", value + 1);
        assert!(body.contains(&format!("\"v\":\"{next}\"")) || body.contains(&format!("}} {next} ")), "{ask}");
    }
}
