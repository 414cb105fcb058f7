//! Type and help of metrics, as targets tell them, for `/api/v1/metadata`.
//!
//! What several targets say alike is kept once; each target keeps a list of entries in the order of its exposition, so
//! that an unchanged target costs one comparison per metric and scrape, and none where its lines are those of the last
//! one. All entries together are bounded: what does
//! not fit is left out and counted.

use crate::{parse::MetricKind, prng};
use alloc::{boxed::Box, string::String, vec::Vec};
use hashbrown::HashTable;

/// Heap for all entries. Metadata of further metrics is left out (samples are not) and counted.
pub const METADATA_BYTES_MAX: usize = 256 * 1024;

/// Longest help text kept; a longer one is cut.
const HELP_BYTES_MAX: usize = 512;

/// Heap of one entry beside its text: table slots and the target's list.
const ENTRY_BYTES: usize = size_of::<Option<Entry>>() + 2 * size_of::<u32>();

/// The entries of all targets.
#[derive(Default)]
pub struct Metadata {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_text: HashTable<u32>,
    bytes: usize,
    bytes_max: usize,
    /// Entries that did not fit, one per target and scrape that told them anew.
    pub left_out_count: u64,
}

struct Entry {
    /// The metric's name, then its help.
    text: Box<str>,
    name_bytes: u32,
    kind: MetricKind,
    user_count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaEntry<'a> {
    pub metric: &'a str,
    pub kind: MetricKind,
    pub help: &'a str,
    /// The text format has none.
    pub unit: &'static str,
}

impl Entry {
    fn is(&self, metric: &str, kind: MetricKind, help: &str) -> bool {
        self.kind == kind && self.parts() == (metric, help)
    }

    fn parts(&self) -> (&str, &str) {
        self.text.split_at(self.name_bytes as usize)
    }

    fn hash(metric: &str, kind: MetricKind, help: &str) -> u64 {
        prng::mix(
            prng::stable_hash(metric.as_bytes()) ^ prng::stable_hash(help.as_bytes()).rotate_left(1) ^ kind as u64,
        )
    }
}

impl Metadata {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Heap in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What one target tells, in its order. A metric occurs twice only where its lines do not stand together.
    pub fn entries<'m>(&'m self, list: &'m MetaList) -> impl Iterator<Item = MetaEntry<'m>> {
        list.ids.iter().filter_map(|&id| {
            let entry = self.entries.get(id as usize)?.as_ref()?;
            let (metric, help) = entry.parts();
            Some(MetaEntry { metric, kind: entry.kind, help, unit: "" })
        })
    }

    fn take(&mut self, metric: &str, kind: MetricKind, help: &str) -> Option<u32> {
        let hash = Entry::hash(metric, kind, help);
        let entries = &mut self.entries;
        let same = |id: &u32| entries[*id as usize].as_ref().is_some_and(|entry| entry.is(metric, kind, help));
        if let Some(&id) = self.by_text.find(hash, same) {
            if let Some(entry) = &mut entries[id as usize] {
                entry.user_count += 1;
            }
            return Some(id);
        }
        let bytes = ENTRY_BYTES + metric.len() + help.len();
        if self.bytes + bytes > self.bytes_max {
            self.left_out_count += 1;
            return None;
        }
        let mut text = String::with_capacity(metric.len() + help.len());
        text.push_str(metric);
        text.push_str(help);
        let entry = Entry { text: text.into(), name_bytes: metric.len() as u32, kind, user_count: 1 };
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                entries.push(None);
                (entries.len() - 1) as u32
            }
        };
        entries[id as usize] = Some(entry);
        self.bytes += bytes;
        let hash_of = |entry: &Entry| {
            let (metric, help) = entry.parts();
            Entry::hash(metric, entry.kind, help)
        };
        self.by_text.insert_unique(hash, id, |id| entries[*id as usize].as_ref().map_or(0, hash_of));
        Some(id)
    }

    fn release(&mut self, id: u32) {
        let Some(entry) = &mut self.entries[id as usize] else { return };
        entry.user_count -= 1;
        if entry.user_count > 0 {
            return;
        }
        let (metric, help) = entry.parts();
        let hash = Entry::hash(metric, entry.kind, help);
        if let Ok(found) = self.by_text.find_entry(hash, |other| *other == id) {
            found.remove();
        }
        self.bytes -= ENTRY_BYTES + entry.text.len();
        self.entries[id as usize] = None;
        self.free.push(id);
    }
}

/// What one target tells.
#[derive(Default)]
pub struct MetaList {
    ids: Vec<u32>,
    /// The metric whose lines are being read.
    pending: Pending,
    text: PendingText,
    /// Where in `ids` the metric whose lines are being read is expected.
    at: usize,
    /// Whether lines that come as in the last whole scrape say the same, so that they need not be read.
    repeatable: bool,
    /// This scrape's lines did not come as the last one's, so that they are read from here on.
    is_out_of_step: bool,
    /// A metric of this scrape left no entry, or told something twice.
    is_odd: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Pending {
    #[default]
    None,
    /// The metric at `at`; of which these lines came, unread.
    Known { help: bool, kind: bool },
    /// What `text` says.
    Read,
}

#[derive(Default)]
struct PendingText {
    metric: String,
    kind: MetricKind,
    help: String,
    has_help: bool,
    has_kind: bool,
}

impl MetaList {
    /// Whether a line need not be read when it is the next one of the last scrape.
    pub(super) fn is_in_step(&self) -> bool {
        self.repeatable && !self.is_out_of_step
    }

    /// Lines of the last scrape did not come.
    pub(super) fn lose_step(&mut self) {
        self.is_out_of_step = true;
    }

    /// A line that the last scrape had at this place; `starts` as [`Self::help`] gave it then. Only while
    /// [`Self::is_in_step`].
    pub(super) fn repeated(&mut self, starts: bool, is_help: bool) {
        if starts {
            self.at += usize::from(self.pending != Pending::None);
            self.pending = Pending::Known { help: false, kind: false };
        }
        if let Pending::Known { help, kind } = &mut self.pending {
            *(if is_help { help } else { kind }) = true;
        }
    }

    /// Whether it is the first line that says something of its metric.
    pub(super) fn help(&mut self, metric: &str, text: &str, all: &mut Metadata) -> bool {
        let starts = self.go_to(metric, all);
        self.is_odd |= self.text.has_help;
        self.text.has_help = true;
        self.text.help.clear();
        self.text.help.push_str(&text[..text.floor_char_boundary(HELP_BYTES_MAX)]);
        starts
    }

    /// As [`Self::help`].
    pub(super) fn kind(&mut self, metric: &str, kind: MetricKind, all: &mut Metadata) -> bool {
        let starts = self.go_to(metric, all);
        self.is_odd |= self.text.has_kind;
        self.text.has_kind = true;
        self.text.kind = kind;
        starts
    }

    /// The scrape is over; after a whole one, what it did not tell any more is forgotten.
    pub(super) fn end(&mut self, whole: bool, all: &mut Metadata) {
        self.put_pending(all);
        if whole {
            self.ids.drain(self.at..).for_each(|id| all.release(id));
        }
        if whole {
            self.repeatable = !self.is_odd;
        } else if self.is_out_of_step {
            self.repeatable = false;
        }
        self.start_again();
    }

    /// The target is gone.
    pub(super) fn clear(&mut self, all: &mut Metadata) {
        self.start_again();
        self.ids.drain(..).for_each(|id| all.release(id));
        self.repeatable = false;
    }

    fn start_again(&mut self) {
        self.pending = Pending::None;
        (self.at, self.is_out_of_step, self.is_odd) = (0, false, false);
    }

    fn go_to(&mut self, metric: &str, all: &mut Metadata) -> bool {
        self.read_pending(all);
        self.is_out_of_step = true;
        let starts = self.pending == Pending::None || self.text.metric != metric;
        if starts {
            self.put_pending(all);
            self.pending = Pending::Read;
            let PendingText { metric: pending, kind, help, has_help, has_kind } = &mut self.text;
            pending.clear();
            pending.push_str(metric);
            help.clear();
            (*kind, *has_help, *has_kind) = (MetricKind::Unknown, false, false);
        }
        starts
    }

    /// What came unread is as if it had been read.
    fn read_pending(&mut self, all: &Metadata) {
        let Pending::Known { help: has_help, kind: has_kind } = self.pending else { return };
        let entry = self.ids.get(self.at).and_then(|&id| all.entries[id as usize].as_ref());
        let entry = entry.expect("lines are passed over only while their metric's entry is at its place");
        let (metric, help) = entry.parts();
        self.text.metric.clear();
        self.text.metric.push_str(metric);
        self.text.help.clear();
        self.text.help.push_str(if has_help { help } else { "" });
        self.text.kind = if has_kind { entry.kind } else { MetricKind::Unknown };
        (self.text.has_help, self.text.has_kind) = (has_help, has_kind);
        self.pending = Pending::Read;
        self.is_out_of_step = true;
    }

    fn put_pending(&mut self, all: &mut Metadata) {
        match self.pending {
            Pending::None => return,
            Pending::Known { .. } if self.repeats_whole(all) => {
                self.at += 1;
                return;
            }
            Pending::Known { .. } => self.read_pending(all),
            Pending::Read => {}
        }
        if self.text.metric.is_empty() {
            self.is_odd = true;
            return;
        }
        let (metric, kind, help) = (self.text.metric.as_str(), self.text.kind, self.text.help.as_str());
        let known = self.ids.get(self.at).and_then(|&id| all.entries[id as usize].as_ref());
        if known.is_some_and(|entry| entry.is(metric, kind, help)) {
            self.at += 1;
            return;
        }
        let Some(id) = all.take(metric, kind, help) else {
            self.is_odd = true;
            return;
        };
        match self.ids.get_mut(self.at) {
            Some(old) => {
                let old = core::mem::replace(old, id);
                all.release(old);
            }
            None => self.ids.push(id),
        }
        self.at += 1;
    }

    /// Whether the lines that came unread are all that made the entry.
    fn repeats_whole(&self, all: &Metadata) -> bool {
        let Pending::Known { help, kind } = self.pending else { return false };
        let entry = self.ids.get(self.at).and_then(|&id| all.entries[id as usize].as_ref());
        entry.is_some_and(|entry| (help || entry.parts().1.is_empty()) && (kind || entry.kind == MetricKind::Unknown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(list: &MetaList, all: &Metadata) -> Vec<(String, &'static str, String)> {
        all.entries(list).map(|e| (e.metric.into(), e.kind.text(), e.help.into())).collect()
    }

    fn scrape(list: &mut MetaList, all: &mut Metadata, metrics: &[(&str, &str)]) {
        for (metric, help) in metrics {
            list.help(metric, help, all);
            list.kind(metric, MetricKind::Gauge, all);
        }
        list.end(true, all);
    }

    #[test]
    fn what_two_targets_tell_alike_is_kept_once_and_goes_with_the_last() {
        let (mut all, mut one, mut two) = (Metadata::new(10_000), MetaList::default(), MetaList::default());
        scrape(&mut one, &mut all, &[("a", "first"), ("b", "second")]);
        let bytes = all.bytes();
        scrape(&mut two, &mut all, &[("a", "first"), ("b", "second")]);
        assert_eq!((all.bytes(), told(&one, &all)), (bytes, told(&two, &all)));
        one.clear(&mut all);
        assert_eq!(told(&two, &all)[1], ("b".into(), "gauge", "second".into()));
        two.clear(&mut all);
        assert_eq!(all.bytes(), 0);
    }

    #[test]
    fn a_metric_that_is_told_no_more_is_forgotten_after_a_whole_scrape_only() {
        let (mut all, mut list) = (Metadata::new(10_000), MetaList::default());
        scrape(&mut list, &mut all, &[("a", "x"), ("b", "y"), ("c", "z")]);
        list.help("a", "x", &mut all);
        list.kind("a", MetricKind::Gauge, &mut all);
        list.end(false, &mut all);
        assert_eq!(told(&list, &all).len(), 3);
        scrape(&mut list, &mut all, &[("a", "x"), ("c", "changed")]);
        assert_eq!(told(&list, &all)[1], ("c".into(), "gauge", "changed".into()));
        assert_eq!(told(&list, &all).len(), 2);
    }

    #[test]
    fn the_bound_holds_and_what_does_not_fit_is_counted() {
        let one_bytes = ENTRY_BYTES + 2;
        let (mut all, mut list) = (Metadata::new(2 * one_bytes), MetaList::default());
        scrape(&mut list, &mut all, &[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!((told(&list, &all).len(), all.left_out_count, all.bytes()), (2, 1, 2 * one_bytes));
        scrape(&mut list, &mut all, &[("c", "3")]);
        assert_eq!((told(&list, &all).len(), all.bytes()), (0, 0), "room is made only for the next scrape");
        scrape(&mut list, &mut all, &[("c", "3")]);
        assert_eq!(told(&list, &all).len(), 1);
    }

    #[test]
    fn a_long_help_is_cut_at_a_character() {
        let (mut all, mut list) = (Metadata::new(10_000), MetaList::default());
        scrape(&mut list, &mut all, &[("a", &"ä".repeat(HELP_BYTES_MAX))]);
        assert_eq!(told(&list, &all)[0].2.len(), HELP_BYTES_MAX);
    }
}
