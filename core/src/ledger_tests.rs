use super::*;
use crate::{memory::Budget, prng::Prng};
use alloc::format;
use proptest::prelude::*;

const T_MS: i64 = 1_790_000_000_000;
const MINUTE_MS: i64 = 60_000;

fn loss(reason: Reason, subject: &str, count: u64, t_ms: i64) -> Loss<'_> {
    Loss::new(reason, subject, count).over(Some((t_ms, t_ms + 10)))
}

fn only(ledger: &Ledger, reason: Reason) -> Entry {
    let mut entries = ledger.entries(reason);
    let (one, more) = (entries.next().cloned(), entries.next());
    assert!(more.is_none(), "{more:?}");
    one.expect("an entry")
}

/// As a restart does it.
fn reopened(ledger: &mut Ledger) -> Ledger {
    let mut found = Ledger::default();
    for page in 0..PAGES_COUNT {
        let bytes = ledger.save(page);
        if !bytes.is_empty() {
            found.restore(page, &bytes).unwrap();
        }
    }
    found
}

#[test]
fn every_reason_has_one_row_one_name_and_one_page() {
    for reason in Reason::all() {
        assert_eq!(TABLE.iter().filter(|row| row.reason == reason || row.name == reason.name()).count(), 1);
        assert_eq!(Reason::from_number(reason as u8), Some(reason));
        assert!(reason.page() < PAGES_COUNT);
    }
    assert_eq!((Reason::from_number(0), Reason::from_number(19)), (None, None));
}

#[test]
fn every_reason_is_in_the_document() {
    let document = include_str!("../../docs/HTTP_API.md");
    for reason in Reason::all() {
        let row = format!("| `{}` | {} |", reason.name(), reason.help());
        assert!(document.contains(&row), "docs/HTTP_API.md lacks: {row}");
    }
}

#[test]
fn a_loss_comes_back_after_a_restart_with_its_range() {
    let mut ledger = Ledger::default();
    let noted = ledger.note(T_MS, &loss(Reason::Evicted, "timeline 7", 128, T_MS - 5_000).of_rows(10..26));
    assert_eq!(noted, Noted { page: 0, is_new: true });
    let found = reopened(&mut ledger);
    assert_eq!(
        only(&found, Reason::Evicted),
        Entry {
            reason: Reason::Evicted,
            subject: "timeline 7".into(),
            span_ms: Some((T_MS - 5_000, T_MS - 4_990)),
            rows: Some(10..26),
            count: 128,
            events: 1,
            noted_ms: (T_MS, T_MS),
            summed: 1,
        }
    );
    assert_eq!((found.count(Reason::Evicted), found.count(Reason::Quota)), (128, 0));
}

#[test]
fn a_loss_that_goes_on_is_one_entry_until_ten_minutes_pass_without_it() {
    let mut ledger = Ledger::default();
    for minute in [0, 10, 20] {
        ledger.note(T_MS + minute * MINUTE_MS, &loss(Reason::SeriesRefused, "http://a", 5, T_MS + minute * MINUTE_MS));
    }
    let entry = only(&ledger, Reason::SeriesRefused);
    assert_eq!((entry.count, entry.events, entry.summed), (15, 3, 1));
    assert_eq!(entry.span_ms, Some((T_MS, T_MS + 20 * MINUTE_MS + 10)));
    let later_ms = T_MS + 30 * MINUTE_MS + 1;
    assert!(ledger.note(later_ms, &loss(Reason::SeriesRefused, "http://a", 1, later_ms)).is_new);
    assert!(ledger.note(later_ms, &loss(Reason::SeriesRefused, "http://b", 1, later_ms)).is_new);
    assert!(ledger.note(later_ms, &loss(Reason::Duplicate, "http://a", 1, later_ms)).is_new);
    assert_eq!(ledger.entries(Reason::SeriesRefused).count(), 3);
}

#[test]
fn rows_that_do_not_touch_are_entries_of_their_own() {
    let mut ledger = Ledger::default();
    let mut note = |rows: Range<u64>| ledger.note(T_MS, &Loss::new(Reason::Evicted, "t", 1).of_rows(rows)).is_new;
    assert!(note(10..20));
    assert!(!note(20..30));
    assert!(note(31..32));
    assert_eq!(
        ledger.entries(Reason::Evicted).map(|entry| entry.rows.clone()).collect::<Vec<_>>(),
        [Some(10..30), Some(31..32)]
    );
}

#[test]
fn a_full_page_sums_its_oldest_up_and_forgets_no_count() {
    let mut ledger = Ledger::default();
    for index in 0..1_000 {
        let subject = format!("segment {index}");
        ledger.note(T_MS + index, &loss(Reason::Damage, &subject, 3, T_MS - index).of_rows(0..1));
        ledger.note(T_MS + index, &loss(Reason::LogTorn, "tail-0.log", 0, T_MS));
        for page in 0..PAGES_COUNT {
            assert!(ledger.save(page).len() <= LEDGER_PAGE_BYTES_MAX);
        }
    }
    let found = reopened(&mut ledger);
    assert_eq!((found.count(Reason::Damage), found.events(Reason::Damage)), (3_000, 1_000));
    assert_eq!(found.events(Reason::LogTorn), 1_000);
    let entries: Vec<&Entry> = found.entries(Reason::Damage).collect();
    assert!(entries.len() > 5, "{entries:?}");
    assert_eq!((&*entries[0].subject, &entries[0].rows), ("", &None));
    assert_eq!(entries.iter().map(|entry| entry.summed).sum::<u32>(), 1_000);
    assert_eq!(entries[0].span_ms.map(|(from_ms, _)| from_ms), Some(T_MS + 1 - i64::from(entries[0].summed)));
    assert_eq!(&*entries.last().unwrap().subject, "segment 999");
}

#[test]
fn one_entry_of_each_reason_and_any_size_fits_a_page() {
    let mut ledger = Ledger::default();
    let subject = "x".repeat(500);
    for reason in Reason::all() {
        for index in 0..3 {
            let loss = Loss::new(reason, &subject, u64::MAX)
                .over(Some((i64::MIN, i64::MAX)))
                .of_rows(u64::MAX - 1 - 2 * index..u64::MAX - 2 * index);
            ledger.note(if index == 0 { i64::MIN } else { i64::MAX }, &loss);
        }
    }
    for page in 0..PAGES_COUNT {
        assert!(ledger.save(page).len() <= LEDGER_PAGE_BYTES_MAX);
    }
    for reason in Reason::all() {
        assert_eq!((ledger.count(reason), ledger.events(reason)), (u64::MAX, 3));
        assert!(ledger.entries(reason).all(|entry| entry.subject.len() <= LEDGER_SUBJECT_BYTES_MAX));
    }
}

#[test]
fn what_was_noted_before_the_saved_pages_came_stays() {
    let mut before = Ledger::default();
    before.note(T_MS, &loss(Reason::Quota, "disk", 7, T_MS));
    let mut after = Ledger::default();
    after.note(T_MS + 1, &loss(Reason::Quota, "other", 1, T_MS));
    after.restore(Reason::Quota.page(), &before.save(Reason::Quota.page())).unwrap();
    assert_eq!(after.count(Reason::Quota), 8);
    assert_eq!(after.entries(Reason::Quota).map(|entry| &*entry.subject).collect::<Vec<_>>(), ["disk", "other"]);
}

#[test]
fn foreign_pages_are_told_and_change_nothing() {
    let mut ledger = Ledger::default();
    ledger.note(T_MS, &loss(Reason::Quota, "disk", 7, T_MS));
    let bytes = ledger.save(1);
    assert_eq!(ledger.restore(0, &bytes), Err(LedgerError::Damaged), "of another page");
    assert_eq!(ledger.restore(1, &[]), Err(LedgerError::Damaged));
    assert_eq!(ledger.restore(1, &bytes[..bytes.len() - 1]), Err(LedgerError::Damaged));
    assert_eq!(ledger.restore(1, &[2]), Err(LedgerError::OtherVersion { found: 2 }));
    assert_eq!(ledger.count(Reason::Quota), 7);
}

#[test]
fn a_daemons_smallest_slots_of_state_hold_every_page() {
    let plan = Budget::for_limit(crate::limits::MEMORY_LIMIT_BYTES_MIN, Default::default()).unwrap().plan();
    assert!(plan.state[0].bytes_each as usize >= LEDGER_PAGE_BYTES_MAX && plan.state[0].count as usize > PAGES_COUNT);
}

proptest! {
    #[test]
    fn any_bytes_are_a_page_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), page in 0..PAGES_COUNT) {
        let mut ledger = Ledger::default();
        let _ = ledger.restore(page, &bytes);
        let mut versioned = vec![SAVED_VERSION];
        versioned.extend(&bytes);
        if ledger.restore(page, &versioned).is_ok() {
            prop_assert!(ledger.save(page).len() <= LEDGER_PAGE_BYTES_MAX);
        }
    }

    #[test]
    fn counts_are_those_of_an_unbounded_list(seed in any::<u64>()) {
        let (mut ledger, mut prng) = (Ledger::default(), Prng::new(seed));
        let reasons: Vec<Reason> = Reason::all().collect();
        let mut model = vec![(0_u64, 0_u64); reasons.len()];
        let mut now_ms = T_MS;
        for _ in 0..300 {
            let index = prng.below(reasons.len() as u64) as usize;
            let (count, subject) = (prng.below(1_000), format!("http://target-{}:9100/metrics", prng.below(20)));
            now_ms += prng.below(1_000_000) as i64;
            ledger.note(now_ms, &loss(reasons[index], &subject, count, now_ms));
            model[index] = (model[index].0 + count, model[index].1 + 1);
            if prng.chance(1, 20) {
                ledger = reopened(&mut ledger);
            }
        }
        for (reason, expected) in reasons.iter().zip(model) {
            prop_assert_eq!((ledger.count(*reason), ledger.events(*reason)), expected);
        }
    }
}
