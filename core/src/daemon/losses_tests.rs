use super::{
    Input,
    test_world::{START_WALL_MS, World, job, options, settings},
};
use crate::ledger::{Ledger, Loss, Reason};
use alloc::{format, string::String, vec};

fn ledger(world: &World) -> &Ledger {
    world.daemon.ledger()
}

#[test]
fn what_a_scrape_leaves_out_is_told_by_target_and_goes_on_as_one_loss() {
    let mut world = World::scraping("a 1\na 2\nold 1 5\n");
    let scrapes = world.daemon.targets[0].target.status().counters.scrapes;
    for reason in [Reason::Duplicate, Reason::OutOfBounds] {
        let entries: vec::Vec<_> = ledger(&world).entries(reason).collect();
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert_eq!((&*entries[0].subject, entries[0].count), ("http://h:1/metrics", scrapes));
        let (from_ms, to_ms) = entries[0].span_ms.unwrap();
        assert!(from_ms >= START_WALL_MS && to_ms >= from_ms + 2_000);
    }
    world.serve("http://h:1/metrics", "a 1\n");
    world.pass(5_000);
    assert_eq!(ledger(&world).count(Reason::Duplicate), scrapes, "nothing more");
}

#[test]
fn a_scrape_over_its_sample_limit_is_a_loss_of_all_its_samples() {
    let mut limited = job("node", &["h:1"]);
    limited.sample_limit = 2;
    let mut world = World::new(options(), settings(vec![limited]));
    world.serve("http://h:1/metrics", "a 1\nb 1\n");
    world.pass(3_000);
    assert_eq!(ledger(&world).count(Reason::SampleLimit), 0, "exactly the limit");
    world.serve("http://h:1/metrics", "a 1\nb 1\nc 1\n");
    world.pass(3_000);
    let (count, events) = (ledger(&world).count(Reason::SampleLimit), ledger(&world).events(Reason::SampleLimit));
    assert!(events >= 2 && count == 3 * events, "{count} in {events}");
}

#[test]
fn new_series_that_find_no_room_are_a_loss_of_their_target() {
    let page = |from: usize, to: usize| (from..to).map(|index| format!("m{index} 1\n")).collect::<String>();
    let mut world = World::scraping(&page(0, 20));
    assert_eq!(ledger(&world).count(Reason::SeriesRefused), 0);
    world.serve("http://h:1/metrics", &page(0, 20_000));
    world.pass(2_000);
    let store = world.daemon.store.usage().counters.refused_series;
    assert!(store > 0);
    assert_eq!(ledger(&world).count(Reason::SeriesRefused), store);
    assert_eq!(&*ledger(&world).entries(Reason::SeriesRefused).next().unwrap().subject, "http://h:1/metrics");
}

#[test]
fn the_api_the_page_and_the_metrics_tell_what_the_disk_dropped() {
    let mut world = World::scraping("a 1\n");
    let loss = Loss::new(Reason::Quota, "holdfast.db", 4_800).over(Some((START_WALL_MS - 60_000, START_WALL_MS - 1)));
    world.handle(Input::Lost(loss));
    let entry = "{\"subject\":\"holdfast.db\",\"count\":4800,\"events\":1,\"from\":\"2026-09-21T14:12:20.000Z\",\
                 \"to\":\"2026-09-21T14:13:19.999Z\",\"rows\":null,\"noted_first\":\"2026-09-21T14:13:24.000Z\",\
                 \"noted_last\":\"2026-09-21T14:13:24.000Z\",\"summed\":1}";
    let all = world.data("/api/v1/status/losses");
    assert!(all.contains(&format!("\"unit\":\"samples\",\"count\":4800,\"events\":1,\"losses\":[{entry}]")), "{all}");
    assert_eq!(all.matches("\"reason\":").count(), Reason::all().count());
    let page = world.data("/api/v1/status/holdfast");
    assert!(page.contains(&format!("\"newest\":{entry}}}]")), "{page}");
    let metrics = world.get("/metrics").body;
    assert!(metrics.contains("\nholdfast_losses_total{reason=\"quota\"} 4800\n"), "{metrics}");
    assert!(metrics.contains("\nholdfast_loss_events_total{reason=\"damage\"} 0\n"), "{metrics}");
}

#[test]
fn the_slab_has_a_loss_at_once() {
    let mut world = World::scraping("a 1\n");
    world.handle(Input::Lost(Loss::new(Reason::DatabaseSetAside, "holdfast.db.damaged", 0)));
    let (kept, errors) = super::losses::restore(&world.daemon.store);
    assert_eq!((kept.events(Reason::DatabaseSetAside), errors.len()), (1, 0));
}
