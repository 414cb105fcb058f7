//! Choosing series by their labels.

use super::{SeriesId, Store};
use crate::labels::Matcher;
use alloc::{boxed::Box, collections::BTreeSet};

impl Store<'_> {
    /// Every series in RAM that all matchers match, each once, in no order that means anything; `false` from the visitor
    /// stops. A label that a series lacks counts as an empty value.
    pub fn series_select(&self, matchers: &[Matcher], visit: &mut dyn FnMut(SeriesId) -> bool) {
        self.series_visit(&mut |series, labels| {
            !matchers.iter().all(|matcher| matcher.matches_labels(labels)) || visit(series)
        });
    }

    /// Every label name of the series in RAM, each once, in no order that means anything; `false` from the visitor stops.
    pub fn label_names(&self, visit: &mut dyn FnMut(&str) -> bool) {
        let mut names: BTreeSet<Box<str>> = BTreeSet::new();
        self.series_visit(&mut |_, labels| {
            for (name, _) in labels.iter() {
                if !names.contains(name) {
                    names.insert(name.into());
                }
            }
            true
        });
        let _ = names.iter().all(|name| visit(name));
    }

    /// Every value of a label of the series in RAM, each once, in no order that means anything; `false` from the visitor
    /// stops.
    pub fn label_values(&self, name: &str, visit: &mut dyn FnMut(&str) -> bool) {
        let mut values: BTreeSet<Box<str>> = BTreeSet::new();
        self.series_visit(&mut |_, labels| {
            let value = labels.get(name).filter(|value| !values.contains(*value));
            values.extend(value.map(Box::from));
            true
        });
        let _ = values.iter().all(|value| visit(value));
    }
}
