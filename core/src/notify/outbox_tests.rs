use super::*;
use alloc::format;

const NOW: Now = Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 };

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: NOW.wall_ms + mono_ms as i64 }
}

fn options() -> OutboxOptions {
    OutboxOptions { queue_count_max: 5, batch_count_max: 2, ..OutboxOptions::default() }
}

/// The alert `name` of the episode that started at `starts_at_ms`.
fn alert(name: &str, starts_at_ms: i64, resolved: bool) -> AlertMessage {
    AlertMessage {
        labels: LabelSet::from_pairs([("alertname", name)]),
        annotations: [("text".into(), "t".into())].into(),
        starts_at_ms,
        ends_at_ms: starts_at_ms + 1,
        resolved,
        repeated: false,
        generator_url: "http://x".into(),
    }
}

fn waiting(outbox: &Outbox) -> Vec<String> {
    let shown = outbox.waiting.iter().map(|alert| {
        let state = if alert.resolved { "resolved" } else { "firing" };
        format!("{} {} {state}", alert.labels.get("alertname").unwrap(), alert.starts_at_ms)
    });
    shown.collect()
}

/// The names in the next POST, in order.
fn post(outbox: &mut Outbox, now: Now) -> Option<Vec<String>> {
    let mut body = String::new();
    let post = outbox.next_post(now, &mut body)?;
    let names: Vec<String> =
        body.split("\"alertname\":\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default().into()).collect();
    assert_eq!(post.alert_count, names.len(), "{body}");
    Some(names)
}

#[test]
fn alerts_go_in_order_in_batches_one_post_at_a_time() {
    let mut outbox = Outbox::new(options());
    assert_eq!((outbox.next_due_mono_ms(), post(&mut outbox, NOW)), (None, None));
    outbox.push(&["a", "b", "c"].map(|name| alert(name, 1, false)));
    assert!(outbox.next_due_mono_ms().is_some_and(|due_ms| due_ms <= NOW.mono_ms));
    assert_eq!(post(&mut outbox, NOW).unwrap(), ["a", "b"]);
    assert_eq!((outbox.next_due_mono_ms(), post(&mut outbox, NOW)), (None, None), "one is in flight");
    outbox.answered(NOW, 200, None);
    assert_eq!(post(&mut outbox, NOW).unwrap(), ["c"]);
    outbox.answered(NOW, 200, None);
    assert_eq!((outbox.waiting_count(), outbox.counters().sent_count), (0, 3));
    assert_eq!(outbox.waiting_bytes, 0);
}

#[test]
fn while_an_alert_waits_its_newest_state_takes_its_place() {
    let mut outbox = Outbox::new(options());
    outbox.push(&[alert("a", 1, false), alert("b", 1, false), alert("a", 1, true)]);
    assert_eq!(waiting(&outbox), ["a 1 resolved", "b 1 firing"]);
    // It fires again: that is another episode, and both are told.
    outbox.push(&[alert("a", 2, false)]);
    assert_eq!(waiting(&outbox), ["a 1 resolved", "b 1 firing", "a 2 firing"]);
}

#[test]
fn what_happens_while_a_post_is_in_flight_is_told_behind_it() {
    let mut outbox = Outbox::new(options());
    outbox.push(&[alert("a", 1, false)]);
    post(&mut outbox, NOW).unwrap();
    outbox.push(&[alert("a", 1, true)]);
    assert_eq!(waiting(&outbox), ["a 1 firing", "a 1 resolved"]);
    outbox.answered(NOW, 200, None);
    assert_eq!(waiting(&outbox), ["a 1 resolved"]);

    // Had it failed, the newer state would have taken the place of the older.
    outbox.push(&[alert("b", 1, false)]);
    post(&mut outbox, NOW).unwrap();
    outbox.push(&[alert("b", 1, true)]);
    outbox.failed(NOW);
    assert_eq!(waiting(&outbox), ["a 1 resolved", "b 1 resolved"]);
    let bytes: usize = outbox.waiting.iter().map(alert_bytes).sum();
    assert_eq!(outbox.waiting_bytes, bytes);
}

#[test]
fn a_full_queue_drops_its_oldest_but_not_what_is_in_flight() {
    let mut outbox = Outbox::new(options());
    outbox.push(&["a", "b", "c", "d", "e"].map(|name| alert(name, 1, false)));
    assert_eq!(outbox.counters().dropped_count, 0);
    outbox.push(&[alert("f", 1, false)]);
    assert_eq!(waiting(&outbox)[0], "b 1 firing");
    assert_eq!(post(&mut outbox, NOW).unwrap(), ["b", "c"]);
    outbox.push(&[alert("g", 1, false)]);
    assert_eq!(waiting(&outbox), ["b 1 firing", "c 1 firing", "e 1 firing", "f 1 firing", "g 1 firing"]);
    assert_eq!(outbox.counters().dropped_count, 2);
}

#[test]
fn bytes_are_bounded_too() {
    let one_bytes = alert_bytes(&alert("a", 1, false));
    let mut outbox = Outbox::new(OutboxOptions { queue_bytes_max: 2 * one_bytes, ..options() });
    outbox.push(&["a", "b"].map(|name| alert(name, 1, false)));
    assert_eq!((outbox.waiting_count(), outbox.counters().dropped_count), (2, 0));
    outbox.push(&[alert("c", 1, false)]);
    assert_eq!(waiting(&outbox), ["b 1 firing", "c 1 firing"]);

    // A body holds what fits.
    let frame_bytes = one_bytes + ALERT_FRAME_BYTES;
    for (batch_bytes_max, names) in [(2 * frame_bytes, &["b", "c"][..]), (2 * frame_bytes - 1, &["b"])] {
        outbox.options.batch_bytes_max = batch_bytes_max;
        assert_eq!(post(&mut outbox, NOW).unwrap(), names);
        outbox.failed(NOW);
        outbox.retry_mono_ms = 0;
    }
}

#[test]
fn failures_are_tried_again_after_a_growing_pause_and_refusals_are_dropped_and_counted() {
    let mut outbox = Outbox::new(options());
    outbox.push(&[alert("a", 1, false)]);
    let mut now = NOW;
    for failure in 0..4 {
        assert_eq!(post(&mut outbox, now).unwrap(), ["a"]);
        match failure {
            0 => outbox.failed(now),
            1 => outbox.answered(now, 503, None),
            2 => outbox.answered(now, 404, None),
            _ => outbox.answered(now, 429, Some(90_000)),
        }
        let due_ms = outbox.next_due_mono_ms().expect("it still waits");
        let step_ms = 1_000 << failure;
        let wait_ms = due_ms - now.mono_ms;
        assert!(if failure == 3 { wait_ms == 90_000 } else { (step_ms / 2..=step_ms).contains(&wait_ms) }, "{wait_ms}");
        assert_eq!(post(&mut outbox, at(due_ms - 1)), None);
        now = at(due_ms);
    }
    assert_eq!(post(&mut outbox, now).unwrap(), ["a"]);
    outbox.answered(now, 400, None);
    let wanted = OutboxCounters { sent_count: 0, dropped_count: 0, refused_count: 1, failed_post_count: 4 };
    assert_eq!((outbox.counters(), outbox.waiting_count()), (wanted, 0));
}

#[test]
fn what_was_not_acknowledged_is_told_after_a_restart_in_the_same_order() {
    let mut outbox = Outbox::new(options());
    outbox.push(&[alert("a", 1, false), alert("b", 1, true)]);
    assert!(outbox.changed());
    let saved = outbox.save();
    assert!(!outbox.changed());
    post(&mut outbox, NOW).unwrap();
    assert_eq!(outbox.save(), saved, "what is in flight is not told yet");

    let mut next = Outbox::new(options());
    next.push(&[alert("c", 1, false), alert("a", 1, true)]);
    next.restore(&saved).unwrap();
    assert_eq!(waiting(&next), ["a 1 resolved", "b 1 resolved", "c 1 firing"]);

    outbox.answered(NOW, 202, None);
    assert!(outbox.changed());
    let mut empty = Outbox::new(options());
    empty.restore(&outbox.save()).unwrap();
    assert_eq!(empty.waiting_count(), 0);
}

#[test]
fn repetitions_are_told_but_not_saved() {
    let repeated = |name: &str| AlertMessage { repeated: true, ..alert(name, 1, false) };
    let mut outbox = Outbox::new(options());
    let empty = outbox.save();
    outbox.push(&[repeated("a")]);
    assert!(!outbox.changed());
    assert_eq!(outbox.save(), empty);
    assert_eq!(post(&mut outbox, NOW).unwrap(), ["a"]);
    outbox.answered(NOW, 200, None);
    assert!(!outbox.changed());

    // A repetition of what still waits for its first time does not make it less.
    outbox.push(&[alert("b", 1, false)]);
    let saved = outbox.save();
    outbox.push(&[repeated("b")]);
    assert_eq!((outbox.changed(), outbox.save()), (false, saved));
    // And what is told for the first time in place of a repetition is saved.
    outbox.push(&[repeated("c"), alert("c", 1, true)]);
    assert!(outbox.changed());
    let mut next = Outbox::new(options());
    next.restore(&outbox.save()).unwrap();
    assert_eq!(waiting(&next), ["b 1 firing", "c 1 resolved"]);
}

#[test]
fn broken_and_newer_states_are_refused_by_name() {
    let mut outbox = Outbox::new(options());
    outbox.push(&[alert("a", 1, false)]);
    let saved = outbox.save();
    let mut other = Outbox::new(options());
    for cut in 0..saved.len() {
        assert_eq!(other.restore(&saved[..cut]), Err(OutboxError::Broken), "{cut} bytes");
    }
    let mut newer = saved.clone();
    newer[0] = 2;
    assert_eq!(other.restore(&newer), Err(OutboxError::Version { found: 2, known: 1 }));
    assert_eq!(other.waiting_count(), 0);
    assert_eq!(other.restore(&saved), Ok(()));
}

#[test]
fn an_alert_that_is_too_long_for_a_message_is_told_without_its_annotations() {
    // Two annotations of 64 KiB, or one of control characters, did not fit into the daemon's buffer and ended it, again
    // after each start.
    for text in ["x".repeat(200_000), "\u{1}".repeat(60_000), "\"\n".repeat(60_000)] {
        let mut outbox = Outbox::new(options());
        let long = AlertMessage { annotations: [("text".into(), text.as_str().into())].into(), ..alert("a", 1, false) };
        let expr = AlertMessage { generator_url: text.as_str().into(), ..alert("c", 1, false) };
        let labels = LabelSet::from_pairs([("alertname", "d"), ("long", &*text)]);
        outbox.push(&[long, alert("b", 1, false), expr, AlertMessage { labels, ..alert("d", 1, false) }]);
        assert_eq!((waiting(&outbox).len(), outbox.counters().dropped_count), (3, 1));
        let mut body = String::new();
        while outbox.next_post(NOW, &mut body).is_some() {
            assert!(body.len() <= OutboxOptions::default().batch_bytes_max, "{} bytes", body.len());
            assert!(body.contains("left out") || body.contains("\"b\""), "{body}");
            outbox.answered(NOW, 200, None);
            body.clear();
        }
        assert_eq!(waiting(&outbox).len(), 0);
    }
}
