//! What the engine reads from: series by matchers, their labels one at a time, their samples series by series.
//!
//! A selection holds where its series lie and nothing of their labels, so that ten thousand series take a quarter of a
//! megabyte. It is made in bites and refers to nothing, so the store may change between any two calls.

use crate::{
    labels::{LabelSet, LabelsBuf, LabelsRef, Matcher},
    store::{
        Sample, TimelineKey,
        stored::{PartPlace, SegmentMeta},
    },
};
use alloc::{boxed::Box, rc::Rc, vec::Vec};
use core::{cmp::Ordering, fmt};
use hashbrown::HashTable;

/// In place of a series, a layout or a further place: there is none.
pub const NONE: u32 = u32::MAX;

/// One series of a selection. The source makes and reads these; the engine only carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Stable hash of the labels.
    pub labels_hash: u64,
    /// The series in RAM, as long as it is there and its labels' hash is the one above; or [`NONE`].
    pub series: u32,
    /// Where its column is or will be stored; of several places the newest.
    pub place: Place,
    /// The next of its places, an index into [`Selection::more`]; or [`NONE`].
    pub more: u32,
}

/// A column of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Index into [`Selection::layouts`]; [`NONE`]: nowhere.
    pub layout: u32,
    pub column: u32,
}

impl Place {
    pub const NOWHERE: Self = Self { layout: NONE, column: NONE };
}

/// How far a selection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is found yet.
    New,
    /// Of the series found in RAM these are looked at, and so many of them kept.
    Ram { seen: usize, kept: usize },
    /// Stored layouts are looked at: the part that is being read, and the next column in it.
    Stored { part: Option<PartPlace>, column: u32 },
    /// All series are found; they are put in the order of reading.
    Done,
}

/// The rows that were committed at one time. A query takes one with its first bite and reads nothing that came later, so that
/// no answer has a scrape in some series only. Nothing waits for it and nothing is kept for it: what is dropped meanwhile is
/// missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Of each timeline in RAM the row after its last one, by key.
    row_ends: Vec<(TimelineKey, u64)>,
    /// Segments from this one on were sealed later.
    sequence_next: u64,
}

impl Snapshot {
    pub fn new(row_ends: impl Iterator<Item = (TimelineKey, u64)>, sequence_next: u64) -> Self {
        let mut row_ends: Vec<_> = row_ends.collect();
        row_ends.sort_unstable();
        row_ends.shrink_to_fit();
        Self { row_ends, sequence_next }
    }

    /// Heap in use.
    pub fn bytes(&self) -> usize {
        self.row_ends.capacity() * size_of::<(TimelineKey, u64)>()
    }

    /// A timeline's rows in RAM before this one were there.
    pub fn row_end(&self, timeline: TimelineKey) -> u64 {
        self.find(timeline).unwrap_or(0)
    }

    /// So many of a segment's rows were there.
    pub fn rows_of(&self, segment: &SegmentMeta) -> u64 {
        let rows = u64::from(segment.row_count);
        match self.find(segment.timeline) {
            Some(row_end) => row_end.saturating_sub(segment.row_from).min(rows),
            // It had left RAM by then, or had not begun.
            None if segment.sequence < self.sequence_next => rows,
            None => 0,
        }
    }

    fn find(&self, timeline: TimelineKey) -> Option<u64> {
        let index = self.row_ends.binary_search_by_key(&timeline, |(key, _)| *key).ok()?;
        Some(self.row_ends[index].1)
    }
}

/// The series that match one of the lists of matchers (no list: all) and may have samples in `start_ms ..= end_ms`.
#[derive(Debug)]
pub struct Selection {
    pub matcher_lists: Vec<Vec<Matcher>>,
    pub start_ms: i64,
    pub end_ms: i64,
    /// What is read of them; `None`: all that there is then. Who takes the snapshot counts its heap.
    pub snapshot: Option<Rc<Snapshot>>,
    /// Heap that the selection may use.
    pub bytes_max: usize,
    pub progress: Progress,
    pub series: Vec<Selected>,
    pub more: Vec<(Place, u32)>,
    /// Numbers of layouts, and whether something stored of them is in the time range, as far as that was looked up.
    pub layouts: Vec<(u64, bool)>,
    /// Series by their labels' hash, once stored layouts are looked at.
    by_labels: HashTable<u32>,
}

impl Selection {
    pub fn new(matcher_lists: Vec<Vec<Matcher>>, start_ms: i64, end_ms: i64) -> Self {
        Self {
            matcher_lists,
            start_ms,
            end_ms,
            snapshot: None,
            bytes_max: 0,
            progress: Progress::New,
            series: Vec::new(),
            more: Vec::new(),
            layouts: Vec::new(),
            by_labels: HashTable::new(),
        }
    }

    pub fn matches(&self, labels: LabelsRef<'_>) -> bool {
        let all = |list: &Vec<Matcher>| list.iter().all(|matcher| matcher.matches_labels(labels));
        self.matcher_lists.is_empty() || self.matcher_lists.iter().any(all)
    }

    /// Heap in use.
    pub fn bytes(&self) -> usize {
        self.series.capacity() * size_of::<Selected>()
            + self.more.capacity() * size_of::<(Place, u32)>()
            + self.layouts.capacity() * size_of::<(u64, bool)>()
            + table_bytes(self.by_labels.capacity())
    }

    /// A series that is known under one number alone: for sources that hold their series in a list.
    pub fn add_index(&mut self, index: usize) -> Result<(), SourceError> {
        let selected = Selected { labels_hash: index as u64, series: index as u32, place: Place::NOWHERE, more: NONE };
        self.add(selected)
    }

    pub fn add(&mut self, selected: Selected) -> Result<(), SourceError> {
        if self.series.len() == self.series.capacity() {
            let capacity = grown(self.series.capacity());
            self.fits((capacity - self.series.capacity()) * size_of::<Selected>())?;
            self.series.reserve_exact(capacity - self.series.len());
        }
        let index = self.series.len() as u32;
        self.series.push(selected);
        if self.by_labels.capacity() > 0 { self.index(index) } else { Ok(()) }
    }

    /// The series with labels of this hash for which `is_it` says so, once [`Self::index_all`] was called.
    pub fn find(&self, labels_hash: u64, mut is_it: impl FnMut(&Selected) -> bool) -> Option<usize> {
        let of = |index: &u32| &self.series[*index as usize];
        let found = self.by_labels.find(labels_hash, |index| of(index).labels_hash == labels_hash && is_it(of(index)));
        found.map(|index| *index as usize)
    }

    /// From now on series can be found by their labels.
    pub fn index_all(&mut self) -> Result<(), SourceError> {
        if self.by_labels.capacity() == 0 {
            for index in 0..self.series.len() as u32 {
                self.index(index)?;
            }
        }
        Ok(())
    }

    fn index(&mut self, index: u32) -> Result<(), SourceError> {
        let series = &self.series;
        let hash = |index: &u32| series[*index as usize].labels_hash;
        if self.by_labels.len() == self.by_labels.capacity() {
            let capacity = grown(self.by_labels.capacity());
            let bytes = table_bytes(capacity);
            if self.bytes() + bytes > self.bytes_max {
                return Err(self.too_large());
            }
            self.by_labels.reserve(capacity - self.by_labels.len(), hash);
        }
        self.by_labels.insert_unique(hash(&index), index, hash);
        Ok(())
    }

    /// The index of a layout's number in [`Self::layouts`].
    pub fn layout(&self, number: u64) -> Option<u32> {
        // Places come layout by layout.
        self.layouts.iter().rposition(|(known, _)| *known == number).map(|index| index as u32)
    }

    pub fn add_layout(&mut self, number: u64, overlaps: bool) -> Result<u32, SourceError> {
        if self.layouts.len() == self.layouts.capacity() {
            let capacity = grown(self.layouts.capacity());
            self.fits((capacity - self.layouts.capacity()) * size_of::<(u64, bool)>())?;
            self.layouts.reserve_exact(capacity - self.layouts.len());
        }
        self.layouts.push((number, overlaps));
        Ok(self.layouts.len() as u32 - 1)
    }

    /// Gives a series a further place.
    pub fn add_place(&mut self, index: usize, place: Place) -> Result<(), SourceError> {
        if self.places(index).any(|known| known == place) {
            return Ok(());
        }
        if self.series[index].place == Place::NOWHERE {
            self.series[index].place = place;
            return Ok(());
        }
        if self.more.len() == self.more.capacity() {
            let capacity = grown(self.more.capacity());
            self.fits((capacity - self.more.capacity()) * size_of::<(Place, u32)>())?;
            self.more.reserve_exact(capacity - self.more.len());
        }
        self.more.push((place, self.series[index].more));
        self.series[index].more = self.more.len() as u32 - 1;
        Ok(())
    }

    /// A series' places.
    pub fn places(&self, index: usize) -> impl Iterator<Item = Place> {
        self.places_of(&self.series[index])
    }

    pub fn places_of(&self, selected: &Selected) -> impl Iterator<Item = Place> {
        let more =
            core::iter::successors(self.more.get(selected.more as usize), |(_, next)| self.more.get(*next as usize));
        let first = Some(selected.place).filter(|place| *place != Place::NOWHERE);
        first.into_iter().chain(more.map(|(place, _)| *place))
    }

    /// Ends the search: what only it needed is freed, and the series come in the order in which they are stored.
    pub fn finish(&mut self) {
        self.by_labels = HashTable::new();
        self.series.shrink_to_fit();
        self.series.sort_unstable_by_key(|selected| (selected.place, selected.series));
        self.progress = Progress::Done;
    }

    fn fits(&self, more_bytes: usize) -> Result<(), SourceError> {
        if self.bytes() + more_bytes > self.bytes_max { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> SourceError {
        SourceError(
            alloc::format!(
                "the series selected need more than {} bytes of query memory; narrow the selector or the time range, or \
                 raise --memory.limit",
                self.bytes_max
            )
            .into(),
        )
    }
}

/// The next capacity of a list that is full.
fn grown(capacity: usize) -> usize {
    (capacity + capacity / 2).max(16)
}

/// Heap of a hash table of this many numbers: the next power of two above 8/7, a byte more each.
fn table_bytes(capacity: usize) -> usize {
    if capacity == 0 { 0 } else { (capacity * 8 / 7).next_power_of_two() * (size_of::<u32>() + 1) + 16 }
}

/// Why reading failed; becomes the API's `execution` error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError(pub Box<str>);

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub trait Source {
    /// The rows that there are now. A source that does not change has nothing to tell apart.
    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }

    /// Goes on with a selection, looking at about `count_max` label sets; true when it is done. Each label set comes once.
    /// Fails when the series need more heap than the selection's bound.
    fn select(&mut self, selection: &mut Selection, count_max: usize) -> Result<bool, SourceError>;

    /// The labels of one of its series. Returns what that cost beyond [`LABELS_COST`].
    fn labels(&mut self, selection: &Selection, index: usize, labels: &mut LabelsBuf) -> Result<usize, SourceError>;

    /// Appends the samples of one of its series in `start_ms ..= end_ms`, ascending, one per timestamp, stale markers
    /// included. Returns what that cost besides the samples; or `None`, and appends nothing, when that much time is too
    /// much for one bite: ask for less. A time of [`READ_MS_MIN`] is never too much.
    fn read(
        &mut self,
        selection: &Selection,
        index: usize,
        start_ms: i64,
        end_ms: i64,
        samples: &mut Vec<Sample>,
    ) -> Result<Option<usize>, SourceError>;

    /// As [`Self::read`], however much it is.
    fn read_all(
        &mut self,
        selection: &Selection,
        index: usize,
        start_ms: i64,
        end_ms: i64,
        samples: &mut Vec<Sample>,
    ) -> Result<(), SourceError> {
        let (mut from_ms, mut slice_ms) = (start_ms, end_ms.saturating_sub(start_ms).max(READ_MS_MIN));
        while from_ms <= end_ms {
            let to_ms = from_ms.saturating_add(slice_ms).min(end_ms);
            match self.read(selection, index, from_ms, to_ms, samples)? {
                Some(_) if to_ms == i64::MAX => return Ok(()),
                Some(_) => (from_ms, slice_ms) = (to_ms + 1, slice_ms.saturating_mul(2)),
                None => slice_ms = (slice_ms / 2).max(READ_MS_MIN),
            }
        }
        Ok(())
    }
}

/// See [`Source::read`].
pub const READ_MS_MIN: i64 = 1_000;

/// Puts a selection in the order of its labels, in bites: a heap sort, since that needs no memory of its own. Where it
/// fits, the labels are held together meanwhile; else they are fetched for each comparison.
pub struct LabelSort {
    compare: fn(LabelsRef<'_>, LabelsRef<'_>) -> Ordering,
    /// Series by their place in the heap.
    order: Vec<u32>,
    /// All labels, and where each begins; the last number is where they end.
    held: Option<(Vec<u8>, Vec<u32>)>,
    /// Series whose sifting made the heap, then those that were taken from it.
    done_count: usize,
    is_heap: bool,
    left: LabelsBuf,
    right: LabelsBuf,
}

/// What fetching labels costs at least, in samples read.
pub const LABELS_COST: usize = 16;

impl LabelSort {
    /// `compare` orders two label sets.
    pub fn new(compare: fn(LabelsRef<'_>, LabelsRef<'_>) -> Ordering) -> Self {
        Self {
            compare,
            order: Vec::new(),
            held: Some((Vec::new(), Vec::new())),
            done_count: 0,
            is_heap: false,
            left: LabelsBuf::default(),
            right: LabelsBuf::default(),
        }
    }

    /// Heap in use.
    pub fn bytes(&self) -> usize {
        let held =
            self.held.as_ref().map_or(0, |(bytes, begin)| bytes.capacity() + begin.capacity() * size_of::<u32>());
        self.order.capacity() * size_of::<u32>() + held
    }

    /// One bite of about `bite_left` samples' work, using at most `bytes_max` of heap; true when the selection is in order.
    pub fn step(
        &mut self,
        source: &mut dyn Source,
        selection: &mut Selection,
        bytes_max: usize,
        bite_left: &mut i64,
    ) -> Result<bool, SourceError> {
        let count = selection.series.len();
        if self.order.is_empty() && count > 0 {
            if count * size_of::<u32>() > bytes_max {
                return Err(selection.too_large());
            }
            self.order.reserve_exact(count);
            self.order.extend(0..count as u32);
        }
        if !self.hold(source, selection, bytes_max, bite_left)? {
            return Ok(false);
        }
        while !self.is_heap || self.done_count < count {
            if *bite_left <= 0 {
                return Ok(false);
            }
            if !self.is_heap {
                // From the last parent down to the root.
                if self.done_count < count / 2 {
                    self.sift(source, selection, count / 2 - 1 - self.done_count, count, bite_left)?;
                    self.done_count += 1;
                } else {
                    (self.is_heap, self.done_count) = (true, 0);
                }
                continue;
            }
            let last = count - 1 - self.done_count;
            self.order.swap(0, last);
            self.sift(source, selection, 0, last, bite_left)?;
            self.done_count += 1;
        }
        self.held = None;
        arrange(&mut selection.series, &mut self.order);
        self.order = Vec::new();
        Ok(true)
    }

    /// Fetches all labels once, if they fit; true when that is done or given up.
    fn hold(
        &mut self,
        source: &mut dyn Source,
        selection: &Selection,
        bytes_max: usize,
        bite_left: &mut i64,
    ) -> Result<bool, SourceError> {
        let count = selection.series.len();
        let order_bytes = count * size_of::<u32>();
        let Some((bytes, begin)) = &mut self.held else { return Ok(true) };
        if begin.is_empty() {
            if 2 * order_bytes + size_of::<u32>() > bytes_max {
                self.held = None;
                return Ok(true);
            }
            begin.reserve_exact(count + 1);
            begin.push(0);
        }
        while begin.len() <= count {
            if *bite_left <= 0 {
                return Ok(false);
            }
            let more = source.labels(selection, begin.len() - 1, &mut self.left)?;
            *bite_left -= (LABELS_COST + more) as i64;
            let labels = self.left.as_ref().as_bytes();
            if bytes.len() + labels.len() > bytes.capacity() {
                let capacity = grown(bytes.capacity()).max(bytes.len() + labels.len());
                // While it grows there are two of it.
                if 2 * order_bytes + bytes.capacity() + capacity > bytes_max {
                    self.held = None;
                    return Ok(true);
                }
                bytes.reserve_exact(capacity - bytes.len());
            }
            bytes.extend_from_slice(labels);
            begin.push(bytes.len() as u32);
        }
        Ok(true)
    }

    /// Moves the series at `parent` down to where it belongs among the first `end`.
    fn sift(
        &mut self,
        source: &mut dyn Source,
        selection: &Selection,
        mut parent: usize,
        end: usize,
        bite_left: &mut i64,
    ) -> Result<(), SourceError> {
        loop {
            let mut child = 2 * parent + 1;
            if child >= end {
                return Ok(());
            }
            if child + 1 < end && self.is_less(source, selection, child, child + 1, bite_left)? {
                child += 1;
            }
            if !self.is_less(source, selection, parent, child, bite_left)? {
                return Ok(());
            }
            self.order.swap(parent, child);
            parent = child;
        }
    }

    fn is_less(
        &mut self,
        source: &mut dyn Source,
        selection: &Selection,
        a: usize,
        b: usize,
        bite_left: &mut i64,
    ) -> Result<bool, SourceError> {
        let (a, b) = (self.order[a] as usize, self.order[b] as usize);
        if let Some((bytes, begin)) = &self.held {
            *bite_left -= 2;
            let held = |index: usize| LabelsRef::of_bytes(&bytes[begin[index] as usize..begin[index + 1] as usize]);
            return Ok((self.compare)(held(a), held(b)).is_lt());
        }
        let more = source.labels(selection, a, &mut self.left)? + source.labels(selection, b, &mut self.right)?;
        *bite_left -= (2 * LABELS_COST + more) as i64;
        Ok((self.compare)(self.left.as_ref(), self.right.as_ref()).is_lt())
    }
}

/// Puts `list[order[i]]` at `i`, in place; `order` is used up.
fn arrange(list: &mut [Selected], order: &mut [u32]) {
    for start in 0..list.len() {
        let (first, mut at) = (list[start], start);
        loop {
            let from = core::mem::replace(&mut order[at], at as u32) as usize;
            if from == start || from == at {
                list[at] = first;
                break;
            }
            list[at] = list[from];
            at = from;
        }
    }
}

/// The labels of a series as an owned set.
pub fn labels_of(source: &mut dyn Source, selection: &Selection, index: usize) -> Result<LabelSet, SourceError> {
    let mut labels = LabelsBuf::default();
    source.labels(selection, index, &mut labels)?;
    Ok(labels.as_ref().into())
}
