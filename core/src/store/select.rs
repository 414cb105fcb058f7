//! Choosing series by their labels.
//!
//! Postings are chains in the slab: of a metric's name its series, and of a set of labels its series. A selection follows
//! those that its matchers allow and compares numbers; each name and each set is asked once, however many series have it,
//! and no label set is put together.

use super::{
    SeriesId, Store,
    records::{Kind, Parts},
    series::Chain,
    slab::NONE,
};
use crate::labels::Matcher;

/// Sets whose answers are remembered. Two that share a place are asked again and again, and nothing else happens.
const ANSWERS_COUNT: usize = 512;

/// Matchers of one selection, with what the slab knows their labels as.
struct Selection<'s, 'm> {
    store: &'s Store<'m>,
    matchers: &'s [Matcher],
    /// By set: its number and whether its labels match.
    answers: [(u32, bool); ANSWERS_COUNT],
}

impl Store<'_> {
    /// Every series in RAM that all matchers match, each once, in no order that means anything; `false` from the visitor
    /// stops. A label that a series lacks counts as an empty value. Takes 4 KiB of stack.
    pub fn series_select(&self, matchers: &[Matcher], visit: &mut dyn FnMut(SeriesId) -> bool) {
        let mut selection = Selection { store: self, matchers, answers: [(NONE, false); ANSWERS_COUNT] };
        selection.run(visit);
    }

    fn record_str(&self, record: u32) -> &str {
        core::str::from_utf8(self.record_text(record)).expect("texts are checked when made and at attach")
    }

    /// The value that a set has for a label, or the empty text.
    fn set_text(&self, set: u32, name: &str) -> &str {
        for index in 0..self.record_length(set) {
            let value = self.set_value(set, index);
            if self.record_text(self.value_name(value)) == name.as_bytes() {
                return self.record_str(value);
            }
        }
        ""
    }
}

impl Selection<'_, '_> {
    fn run(&mut self, visit: &mut dyn FnMut(SeriesId) -> bool) {
        let (store, matchers) = (self.store, self.matchers);
        let of_kind = |kind| matchers.iter().filter(move |matcher| Kind::of_label(matcher.name.as_bytes()) == kind);
        if let Some(names) = of_kind(Kind::Metric).find_map(Matcher::literals) {
            for (index, name) in names.iter().enumerate() {
                let metric = if names[..index].contains(name) { None } else { store.metric_find(name) };
                if metric.is_some_and(|metric| !self.chain(Chain::Metric, metric, visit)) {
                    return;
                }
            }
            return;
        }
        let needs_label = |matcher: &Matcher| !matcher.matches("");
        let start = match (of_kind(Kind::Metric).any(needs_label), of_kind(Kind::Own).any(needs_label)) {
            (true, _) => (Kind::Metric, Chain::Metric),
            (false, true) => (Kind::Own, Chain::Own),
            (false, false) => {
                for series in store.series_each() {
                    let parts = store.series_parts(series).expect("only series in use are given");
                    if self.matches(parts) && !visit(series) {
                        return;
                    }
                }
                return;
            }
        };
        store.records_visit(|record, kind| {
            kind != start.0 || !self.record_matches(record, kind) || self.chain(start.1, record, visit)
        });
    }

    /// The series of a chain that match; whether to go on.
    fn chain(&mut self, chain: Chain, record: u32, visit: &mut dyn FnMut(SeriesId) -> bool) -> bool {
        for series in self.store.chain_each(chain, record) {
            let parts = self.store.series_parts(series).expect("a chain has series in use");
            if self.matches(parts) && !visit(series) {
                return false;
            }
        }
        true
    }

    fn matches(&mut self, parts: Parts) -> bool {
        self.record_matches(parts.metric, Kind::Metric)
            && self.record_matches(parts.target, Kind::Target)
            && self.record_matches(parts.own, Kind::Own)
    }

    /// Whether all matchers of the labels that such a record may have match it.
    fn record_matches(&mut self, record: u32, kind: Kind) -> bool {
        let place = record as usize % ANSWERS_COUNT;
        if self.answers[place].0 == record {
            return self.answers[place].1;
        }
        let mut matchers = self.matchers.iter().filter(|matcher| Kind::of_label(matcher.name.as_bytes()) == kind);
        let answer = matchers.all(|matcher| {
            matcher.matches(match kind {
                Kind::Metric => self.store.record_str(record),
                _ => self.store.set_text(record, &matcher.name),
            })
        });
        self.answers[place] = (record, answer);
        answer
    }
}
