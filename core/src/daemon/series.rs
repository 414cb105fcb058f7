//! What queries read from: series in RAM and in stored segments as one.
//!
//! Between being spilled and leaving RAM a row is in both, so samples are merged by time and of two at one instant one
//! stays. A stored unit that cannot be read is left out and counted; the answer is made of the rest.
//!
//! A selection is made and read in many bites, between which rows are stored, leave RAM and are dropped. So a series that
//! was found in RAM is known by where its rows are stored or will be: what leaves RAM meanwhile is found there.

use super::reader::Damage;
use crate::{
    labels::{LabelsBuf, LabelsRef, Matcher},
    promql::source::{NONE, Place, Progress, READ_MS_MIN, Selected, Selection, Snapshot, Source, SourceError},
    spill::{FormatError, LayoutCursor, LayoutHead, StripeCache, layout_pairs_read, pair_hash},
    store::{
        ColumnKind, STALE_NAN_BITS, Sample, SeriesId, Store,
        stored::{LayoutPart, PartPlace, SegmentBytes, SegmentMeta, Stored, StoredError},
    },
};
use alloc::{boxed::Box, format, vec::Vec};

/// What reading keeps from one bite to the next.
pub struct ReadCache {
    stripes: StripeCache,
    directories: Vec<Directory>,
    part: Option<CachedPart>,
    /// The index of a part that was looked at.
    pairs: Vec<u32>,
    /// Places of the series that is being read: layout's number and column.
    places: Vec<(u64, u32)>,
}

/// The segments of a layout in a range of time, oldest first.
struct Directory {
    layout: u64,
    start_ms: i64,
    end_ms: i64,
    /// `None`: they are more than are kept.
    segments: Option<Vec<SegmentMeta>>,
}

/// Segments that all directories together list: 36 KiB.
const DIRECTORY_SEGMENTS_MAX: usize = 512;
const DIRECTORIES_MAX: usize = 32;
/// Neighbours of fewer columns than this are likely to be in one stripe.
const NEAR_COLUMNS: u32 = 32;

impl ReadCache {
    /// Keeps decoded stripes of up to so many bytes; the rest is bounded by itself.
    pub fn new(stripes_bytes_max: usize) -> Self {
        Self {
            stripes: StripeCache::new(stripes_bytes_max),
            directories: Vec::new(),
            part: None,
            pairs: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Forgets everything: what is stored changes.
    pub fn clear(&mut self) {
        self.stripes.clear();
        self.directories = Vec::new();
        self.part = None;
    }

    /// The listed segments of a place's layout, unless they are too many.
    fn segments(&self, place: &StoredPlace<'_>) -> Option<&[SegmentMeta]> {
        let index = self.directory(place.layout, place.start_ms, place.end_ms)?;
        self.directories[index].segments.as_deref()
    }

    fn directory(&self, layout: u64, start_ms: i64, end_ms: i64) -> Option<usize> {
        self.directories.iter().position(|directory| {
            directory.layout == layout && directory.start_ms <= start_ms && directory.end_ms >= end_ms
        })
    }
}

/// The part of a stored layout that was looked at last.
struct CachedPart {
    bytes: Vec<u8>,
    cursor: Box<LayoutCursor>,
}

pub struct SeriesSource<'a, 'm> {
    store: &'a Store<'m>,
    stored: &'a mut dyn Stored,
    cache: &'a mut ReadCache,
    sequence_next: u64,
    damage: Damage,
}

impl<'a, 'm> SeriesSource<'a, 'm> {
    /// `sequence_next` is that of the segment to be sealed next.
    pub fn new(store: &'a Store<'m>, stored: &'a mut dyn Stored, cache: &'a mut ReadCache, sequence_next: u64) -> Self {
        Self { store, stored, cache, sequence_next, damage: Damage::default() }
    }

    /// What had to be left out.
    pub fn into_damage(self) -> Damage {
        self.damage
    }

    /// The series, if it is in RAM and still the one that was selected.
    fn in_ram(&self, selected: &Selected) -> Option<SeriesId> {
        let series = SeriesId(selected.series);
        let is_it = selected.series != NONE && self.store.series_labels_hash(series) == Some(selected.labels_hash);
        is_it.then_some(series)
    }

    /// Every series in RAM that matches.
    fn find(&self, selection: &mut Selection) -> Result<(), SourceError> {
        let lists = core::mem::take(&mut selection.matcher_lists);
        let (mut found, everything) = (Ok(()), [Vec::new()]);
        for list in if lists.is_empty() { &everything[..] } else { &lists } {
            self.store.series_select(list, &mut |series| {
                let labels_hash = self.store.series_labels_hash(series).unwrap_or_default();
                found = selection.add(Selected { labels_hash, series: series.0, place: Place::NOWHERE, more: NONE });
                found.is_ok()
            });
        }
        if lists.len() > 1 {
            selection.series.sort_unstable_by_key(|selected| selected.series);
            selection.series.dedup_by_key(|selected| selected.series);
        }
        selection.matcher_lists = lists;
        found
    }

    /// Keeps the series if it may have samples in the time range, with its places.
    fn look(&mut self, selection: &mut Selection, seen: usize, kept: usize) -> Result<bool, SourceError> {
        let selected = selection.series[seen];
        let Some(series) = self.in_ram(&selected) else { return Ok(false) };
        let (start_ms, end_ms) = (selection.start_ms, selection.end_ms);
        let range = self.store.series_time_range(series);
        let mut overlaps = range.is_some_and(|(t_min, t_max)| t_min <= end_ms && t_max >= start_ms);
        self.cache.places.clear();
        self.store.series_places(series, &mut |layout, column| self.cache.places.push((layout, column)));
        for index in 0..self.cache.places.len() {
            let (layout, _) = self.cache.places[index];
            let known = match selection.layout(layout) {
                Some(known) => known,
                None => {
                    let mut is_stored = false;
                    self.stored
                        .segments(layout, start_ms, end_ms, &mut |_, _| {
                            is_stored = true;
                            false
                        })
                        .map_err(stored_error)?;
                    selection.add_layout(layout, is_stored)?
                }
            };
            overlaps |= selection.layouts[known as usize].1;
        }
        if overlaps {
            selection.series[kept] = selected;
            for (layout, column) in &self.cache.places {
                if let Some(layout) = selection.layout(*layout) {
                    selection.add_place(kept, Place { layout, column: *column })?;
                }
            }
        }
        Ok(overlaps)
    }

    /// The next stored part that may have a series that matches, or how far it was looked for. Those of layouts that RAM
    /// has were dealt with: their series are in RAM.
    fn next_part(
        &mut self,
        selection: &Selection,
        after: Option<PartPlace>,
        count_max: &mut usize,
    ) -> Result<NextPart, SourceError> {
        let mut next = NextPart::None;
        let (store, pairs) = (self.store, &mut self.cache.pairs);
        let visit = &mut |place: PartPlace, overlaps: bool, bytes: &mut dyn SegmentBytes| {
            *count_max = count_max.saturating_sub(PART_COLUMNS);
            let is_wanted = overlaps
                && !store.layout_is_here(place.layout)
                // One that cannot be read is met again as a whole, and named then.
                && !matches!(layout_pairs_read(bytes, pairs), Ok(true) if !may_match(selection, pairs));
            next = if is_wanted { NextPart::Found(place) } else { NextPart::Behind(place) };
            !is_wanted && *count_max > 0
        };
        self.stored.layouts(selection.start_ms, selection.end_ms, after, visit).map_err(stored_error)?;
        if matches!(next, NextPart::Behind(_)) && *count_max > 0 {
            next = NextPart::None;
        }
        Ok(next)
    }

    /// Looks at up to `count_max` columns of a stored part, from `column` on; the next column, if there is one.
    fn look_at_part(
        &mut self,
        selection: &mut Selection,
        part: PartPlace,
        column: u32,
        count_max: &mut usize,
    ) -> Result<Option<u32>, SourceError> {
        let is_it = |found: PartPlace, _: u32| found == part;
        let Some(mut cached) = self.part(part.layout, &is_it)? else { return Ok(None) };
        if cached.cursor.column > column {
            cached.cursor.restart();
        }
        let looked = self.look_at_columns(selection, &mut cached, column, count_max);
        self.cache.part = Some(cached);
        looked
    }

    fn look_at_columns(
        &mut self,
        selection: &mut Selection,
        cached: &mut CachedPart,
        column: u32,
        count_max: &mut usize,
    ) -> Result<Option<u32>, SourceError> {
        let LayoutHead { layout, timeline, .. } = cached.cursor.head;
        loop {
            let (found, kind) = match cached.cursor.next(&cached.bytes) {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.damage.layout(layout, timeline, error);
                    return Ok(None);
                }
            };
            if found < column {
                continue;
            }
            *count_max = count_max.saturating_sub(1);
            if kind == ColumnKind::Float {
                match cached.cursor.labels() {
                    Ok(labels) if selection.matches(labels) => self.add_stored(selection, labels, layout, found)?,
                    Ok(_) => {}
                    Err(error) => {
                        self.damage.layout(layout, timeline, error);
                        return Ok(None);
                    }
                }
            }
            if *count_max == 0 {
                return Ok(Some(found + 1));
            }
        }
    }

    /// Adds a stored column to the series that has its labels, or a series.
    fn add_stored(
        &mut self,
        selection: &mut Selection,
        labels: LabelsRef<'_>,
        layout: u64,
        column: u32,
    ) -> Result<(), SourceError> {
        selection.index_all()?;
        let index = match selection.layout(layout) {
            Some(index) => index,
            None => selection.add_layout(layout, true)?,
        };
        let (place, labels_hash) = (Place { layout: index, column }, labels.stable_hash());
        let in_ram = self.store.series_find(labels);
        let mut failed = None;
        let mut other = LabelsBuf::default();
        let known = selection.find(labels_hash, |known| match (self.in_ram(known), in_ram) {
            (Some(known), Some(series)) => known == series,
            (Some(_), None) => false,
            (None, _) => {
                let fetched = self.labels_of(selection, known, &mut other).map(|_| ());
                failed = fetched.err();
                failed.is_none() && other.as_ref() == labels
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        match known {
            Some(known) => selection.add_place(known, place),
            None => {
                let series = in_ram.map_or(NONE, |series| series.0);
                selection.add(Selected { labels_hash, series, place, more: NONE })
            }
        }
    }

    /// The labels of a series, from RAM or from a stored layout, and what that cost.
    fn labels_of(
        &mut self,
        selection: &Selection,
        selected: &Selected,
        labels: &mut LabelsBuf,
    ) -> Result<usize, SourceError> {
        if let Some(series) = self.in_ram(selected)
            && labels.fill(|room| self.store.series_labels(series, room))
        {
            return Ok(0);
        }
        let mut cost = 0;
        for place in selection.places_of(selected) {
            let (layout, _) = selection.layouts[place.layout as usize];
            let has = |part: PartPlace, end: u32| (part.column_from..end).contains(&place.column);
            let Some(mut cached) = self.part(layout, &has)? else { continue };
            let LayoutHead { timeline, column_from, .. } = cached.cursor.head;
            let before = cached.cursor.column;
            cost += if before == column_from { PART_COST } else { 0 };
            let found = cached.labels(place.column, labels);
            let stepped = cached.cursor.column - if before < cached.cursor.column { before } else { column_from };
            cost += stepped as usize / COLUMNS_PER_COST;
            self.cache.part = Some(cached);
            match found {
                Ok(()) if labels.as_ref().stable_hash() == selected.labels_hash => return Ok(cost),
                Ok(()) => {}
                Err(error) => self.damage.layout(layout, timeline, error),
            }
        }
        Err(SourceError("a series was dropped from the store while it was being read; ask again".into()))
    }

    /// The first part of a stored layout for whose place and end `is_it` says so, taken out of the cache.
    fn part(&mut self, layout: u64, is_it: &dyn Fn(PartPlace, u32) -> bool) -> Result<Option<CachedPart>, SourceError> {
        let place = |head: &LayoutHead| PartPlace { layout: head.layout, column_from: head.column_from };
        let end = |head: &LayoutHead| head.column_from + head.column_count;
        if let Some(cached) = self.cache.part.take_if(|cached| {
            let head = &cached.cursor.head;
            head.layout == layout && is_it(place(head), end(head))
        }) {
            return Ok(Some(cached));
        }
        let (mut found, damage) = (None, &mut self.damage);
        let visit = &mut |part: LayoutPart<'_>| {
            if !is_it(PartPlace { layout, column_from: part.column_from }, part.column_from + part.column_count) {
                return true;
            }
            match LayoutCursor::new(part.bytes) {
                Ok(cursor) if is_it(place(&cursor.head), end(&cursor.head)) => {
                    found = Some(CachedPart { bytes: part.bytes.into(), cursor: Box::new(cursor) });
                }
                Ok(_) => {
                    let error = FormatError::Damaged { what: "layout part", field: "place" };
                    damage.layout(layout, part.timeline, error);
                }
                Err(error) => damage.layout(layout, part.timeline, error),
            }
            found.is_none()
        };
        self.stored.layout(layout, visit).map_err(stored_error)?;
        Ok(found)
    }
}

impl CachedPart {
    fn labels(&mut self, column: u32, labels: &mut LabelsBuf) -> Result<(), FormatError> {
        if self.cursor.column > column {
            self.cursor.restart();
        }
        while self.cursor.next(&self.bytes)?.is_some_and(|(found, _)| found < column) {}
        labels.set(self.cursor.labels()?);
        Ok(())
    }
}

/// Segments that one call reads at most; more are too much for a bite.
const SEGMENTS_PER_READ_MAX: usize = 32;
// What things cost, in samples read one after the other.
/// A series' pieces in RAM are looked through.
const RAM_COST: usize = 64;
/// A layout's segments are listed.
const LIST_COST: usize = 512;
/// A column is read from its segment.
const SEGMENT_COST: usize = 512;
/// A stripe is decoded.
const STRIPE_COST: usize = 1024;
/// A column is taken from a stripe that is kept.
const KEPT_COST: usize = 16;
/// A part of a layout is read.
const PART_COST: usize = 1024;
/// So many columns of it are stepped over for one.
const COLUMNS_PER_COST: usize = 2;

/// What looking for a part to read costs, in columns looked at.
const PART_COLUMNS: usize = 32;

enum NextPart {
    Found(PartPlace),
    /// The bite is used up; none was found up to this one.
    Behind(PartPlace),
    None,
}

/// Whether a part with these pairs may have a series that matches: of each matcher that wants one of a few values, it has to
/// have one.
fn may_match(selection: &Selection, pairs: &[u32]) -> bool {
    let has = |matcher: &Matcher| {
        // An empty value stands for no such label.
        let has_pair = |value: &str| value.is_empty() || pairs.binary_search(&pair_hash(&matcher.name, value)).is_ok();
        matcher.literals().is_none_or(|literals| literals.iter().any(|value| has_pair(value)))
    };
    selection.matcher_lists.is_empty() || selection.matcher_lists.iter().any(|list| list.iter().all(has))
}

/// Where samples are to be read, and when.
struct StoredPlace<'s> {
    layout: u64,
    column: u32,
    start_ms: i64,
    end_ms: i64,
    /// Series in neighbouring columns will be read as well.
    has_near: bool,
    snapshot: Option<&'s Snapshot>,
}

/// Whether the series read before or after this one lies in a neighbouring column.
fn has_near(selection: &Selection, index: usize) -> bool {
    let place = selection.series[index].place;
    let others = [index.checked_sub(1), index.checked_add(1)];
    others
        .into_iter()
        .flatten()
        .filter_map(|other| selection.series.get(other))
        .any(|other| other.place.layout == place.layout && other.place.column.abs_diff(place.column) < NEAR_COLUMNS)
}

impl SeriesSource<'_, '_> {
    /// Lists a layout's segments in the selection's range, if that is not done yet; what it cost.
    fn list(&mut self, layout: u64, (start_ms, end_ms): (i64, i64)) -> Result<usize, SourceError> {
        let cache = &mut *self.cache;
        if cache.directory(layout, start_ms, end_ms).is_some() {
            return Ok(0);
        }
        let mut segments = Vec::new();
        self.stored
            .segments(layout, start_ms, end_ms, &mut |meta, _| {
                segments.push(*meta);
                segments.len() <= DIRECTORY_SEGMENTS_MAX
            })
            .map_err(stored_error)?;
        let segments = Some(segments).filter(|segments| segments.len() <= DIRECTORY_SEGMENTS_MAX);
        cache.directories.push(Directory { layout, start_ms, end_ms, segments });
        let count = |directory: &Directory| directory.segments.as_ref().map_or(0, Vec::len);
        while cache.directories.len() > DIRECTORIES_MAX
            || cache.directories.iter().map(count).sum::<usize>() > DIRECTORY_SEGMENTS_MAX
        {
            cache.directories.remove(0);
        }
        Ok(LIST_COST)
    }

    /// The segments to be read for a place, as far as more than [`SEGMENTS_PER_READ_MAX`].
    fn segments_of(&mut self, place: &StoredPlace<'_>) -> Result<usize, SourceError> {
        if let Some(segments) = self.cache.segments(place) {
            return Ok(segments.iter().filter(|meta| place.is_in(meta)).count());
        }
        let mut count = 0;
        self.stored
            .segments(place.layout, place.start_ms, place.end_ms, &mut |meta, _| {
                count += usize::from(place.is_in(meta));
                count <= SEGMENTS_PER_READ_MAX
            })
            .map_err(stored_error)?;
        Ok(count)
    }

    /// Reads a place's segments; what it cost.
    fn read_place(&mut self, place: &StoredPlace<'_>, merge: &mut Merge<'_>) -> Result<usize, SourceError> {
        let Some(count) = self.cache.segments(place).map(<[_]>::len) else {
            let (stripes, damage, mut cost) = (&mut self.cache.stripes, &mut self.damage, LIST_COST);
            let read = self.stored.segments(place.layout, place.start_ms, place.end_ms, &mut |meta, bytes| {
                if place.is_in(meta) {
                    cost += SEGMENT_COST;
                    let (column, rows_max) = (place.column, place.rows_of(meta));
                    let read = stripes.series(bytes, column, rows_max, &mut |t_ms, bits| place.give(merge, t_ms, bits));
                    if let Err(error) = read {
                        damage.segment(meta, error);
                    }
                }
                true
            });
            return read.map_err(stored_error).map(|()| cost);
        };
        let mut cost = 0;
        for index in 0..count {
            let meta = self.cache.segments(place).map(|segments| segments[index]);
            if let Some(meta) = meta.filter(|meta| place.is_in(meta)) {
                cost += self.read_segment(place, &meta, merge)?;
            }
        }
        Ok(cost)
    }

    /// Reads one segment; what it cost.
    fn read_segment(
        &mut self,
        place: &StoredPlace<'_>,
        meta: &SegmentMeta,
        merge: &mut Merge<'_>,
    ) -> Result<usize, SourceError> {
        let (stripes, damage, mut cost) = (&mut self.cache.stripes, &mut self.damage, KEPT_COST);
        let rows_max = place.rows_of(meta);
        if stripes.column(meta.sequence, place.column).is_none() {
            cost += SEGMENT_COST;
            let keeps = place.has_near && stripes.has_room(place.layout, place.column);
            let visit = &mut |found: &SegmentMeta, bytes: &mut dyn SegmentBytes| {
                if found != meta {
                    // By a damaged number of its row, another one has taken its place.
                    damage.segment(meta, FormatError::Damaged { what: "segment", field: "place" });
                    return false;
                }
                // Damage elsewhere in the stripe may leave this column readable.
                cost += if keeps { STRIPE_COST } else { 0 };
                if keeps && stripes.keep(meta.sequence, place.column, bytes) == Ok(true) {
                    return false;
                }
                let column = place.column;
                let read = stripes.series(bytes, column, rows_max, &mut |t_ms, bits| place.give(merge, t_ms, bits));
                if let Err(error) = read {
                    damage.segment(meta, error);
                }
                false
            };
            self.stored.segment(meta.sequence, visit).map_err(stored_error)?;
        }
        let Some(kept) = self.cache.stripes.column(meta.sequence, place.column) else { return Ok(cost) };
        match kept.plain_instants_ms() {
            Some(instants_ms) => {
                let instants_ms = &instants_ms[..rows_max.min(instants_ms.len())];
                let from = instants_ms.partition_point(|t_ms| *t_ms < place.start_ms);
                let to = instants_ms.partition_point(|t_ms| *t_ms <= place.end_ms);
                merge.extend(&instants_ms[from..to.max(from)], kept.bits(from..to.max(from)));
            }
            None => kept.samples(rows_max, &mut |t_ms, bits| place.give(merge, t_ms, bits)),
        }
        Ok(cost)
    }
}

impl StoredPlace<'_> {
    fn is_in(&self, meta: &SegmentMeta) -> bool {
        (meta.column_from..meta.column_from + meta.column_count).contains(&self.column)
            && meta.t_min_ms <= self.end_ms
            && meta.t_max_ms >= self.start_ms
            && self.rows_of(meta) > 0
    }

    /// So many rows of a segment are to be read.
    fn rows_of(&self, meta: &SegmentMeta) -> usize {
        self.snapshot.map_or(meta.row_count as usize, |snapshot| snapshot.rows_of(meta) as usize)
    }

    fn give(&self, merge: &mut Merge<'_>, t_ms: i64, bits: u64) {
        if (self.start_ms..=self.end_ms).contains(&t_ms) {
            merge.push(t_ms, bits);
        }
    }
}

impl Source for SeriesSource<'_, '_> {
    fn snapshot(&self) -> Snapshot {
        let row_ends = self.store.timelines().map(|id| (self.store.timeline_key(id), self.store.rows(id).end));
        Snapshot::new(row_ends, self.sequence_next)
    }

    fn select(&mut self, selection: &mut Selection, count_max: usize) -> Result<bool, SourceError> {
        let mut count_max = count_max.max(1);
        loop {
            match selection.progress {
                Progress::New => {
                    self.find(selection)?;
                    selection.progress = Progress::Ram { seen: 0, kept: 0 };
                }
                Progress::Ram { mut seen, mut kept } => {
                    while count_max > 0 && seen < selection.series.len() {
                        kept += usize::from(self.look(selection, seen, kept)?);
                        seen += 1;
                        count_max -= 1;
                    }
                    selection.progress = Progress::Ram { seen, kept };
                    if seen < selection.series.len() {
                        return Ok(false);
                    }
                    selection.series.truncate(kept);
                    selection.progress = Progress::Stored { part: None, column: NONE };
                }
                Progress::Stored { part, column } => {
                    let (part, column) = match part.filter(|_| column != NONE) {
                        Some(part) => (part, column),
                        None => match self.next_part(selection, part, &mut count_max)? {
                            NextPart::Found(part) => (part, part.column_from),
                            NextPart::Behind(part) => {
                                selection.progress = Progress::Stored { part: Some(part), column: NONE };
                                return Ok(false);
                            }
                            NextPart::None => {
                                selection.finish();
                                return Ok(true);
                            }
                        },
                    };
                    let next = if count_max > 0 {
                        self.look_at_part(selection, part, column, &mut count_max)?
                    } else {
                        Some(column)
                    };
                    selection.progress = Progress::Stored { part: Some(part), column: next.unwrap_or(NONE) };
                    if count_max == 0 {
                        return Ok(false);
                    }
                }
                Progress::Done => return Ok(true),
            }
        }
    }

    fn labels(&mut self, selection: &Selection, index: usize, labels: &mut LabelsBuf) -> Result<usize, SourceError> {
        self.labels_of(selection, &selection.series[index], labels)
    }

    fn read(
        &mut self,
        selection: &Selection,
        index: usize,
        start_ms: i64,
        end_ms: i64,
        samples: &mut Vec<Sample>,
    ) -> Result<Option<usize>, SourceError> {
        let (selected, snapshot) = (&selection.series[index], selection.snapshot.as_deref());
        let series = self.in_ram(selected);
        let (places, mut merge) = (&mut self.cache.places, Merge::new(samples));
        places.clear();
        places.extend(selection.places(index).map(|place| (selection.layouts[place.layout as usize].0, place.column)));
        if let Some(series) = series {
            // It may have got a new layout since it was selected.
            self.store.series_places(series, &mut |layout, column| {
                if !places.contains(&(layout, column)) {
                    places.push((layout, column));
                }
            });
        }
        // Older layouts have smaller numbers, and of two samples at one instant the later one stays.
        places.sort_unstable();
        let (has_near, mut cost, mut segment_count) = (has_near(selection, index), RAM_COST, 0);
        let is_short = end_ms.saturating_sub(start_ms) <= READ_MS_MIN;
        for at in 0..self.cache.places.len() {
            let (layout, column) = self.cache.places[at];
            let place = StoredPlace { layout, column, start_ms, end_ms, has_near, snapshot };
            cost += self.list(layout, (selection.start_ms, selection.end_ms))?;
            segment_count += self.segments_of(&place)?;
            if segment_count > SEGMENTS_PER_READ_MAX && !is_short {
                return Ok(None);
            }
        }
        for at in 0..self.cache.places.len() {
            let (layout, column) = self.cache.places[at];
            let place = StoredPlace { layout, column, start_ms, end_ms, has_near, snapshot };
            cost += self.list(layout, (selection.start_ms, selection.end_ms))?;
            cost += self.read_place(&place, &mut merge)?;
        }
        if let Some(series) = series {
            let row_end =
                |timeline| snapshot.map_or(u64::MAX, |known| known.row_end(self.store.timeline_key(timeline)));
            let visit = &mut |t_ms, bits| merge.push(t_ms, bits);
            self.store.series_read_before(series, start_ms, end_ms, &row_end, visit);
        }
        merge.finish();
        Ok(Some(cost))
    }
}

/// Samples of one series that come part by part, older places first: of two at one instant the one that comes later
/// stays (after the clock went back that is the newer row), but a stale marker never takes a value's place, so that two
/// timelines of one series do not end each other.
struct Merge<'s> {
    samples: &'s mut Vec<Sample>,
    from: usize,
    is_sorted: bool,
}

impl<'s> Merge<'s> {
    fn new(samples: &'s mut Vec<Sample>) -> Self {
        let from = samples.len();
        Self { samples, from, is_sorted: true }
    }

    fn push(&mut self, t_ms: i64, bits: u64) {
        let sample = Sample { t_ms, value: f64::from_bits(bits) };
        let added = &mut self.samples[self.from..];
        if self.is_sorted && added.last().is_some_and(|last| last.t_ms >= t_ms) {
            // What is stored and still in RAM comes twice: no need to sort for that.
            match added.binary_search_by_key(&t_ms, |known| known.t_ms) {
                Ok(at) => return added[at] = later(added[at], sample),
                Err(_) => self.is_sorted = false,
            }
        }
        self.samples.push(sample);
    }

    /// Pushes samples whose instants ascend.
    fn extend(&mut self, t_ms: &[i64], bits: impl Iterator<Item = u64>) {
        let behind =
            self.samples[self.from..].last().is_none_or(|last| t_ms.first().is_none_or(|t_ms| last.t_ms < *t_ms));
        let samples = t_ms.iter().zip(bits);
        if self.is_sorted && behind {
            self.samples.extend(samples.map(|(t_ms, bits)| Sample { t_ms: *t_ms, value: f64::from_bits(bits) }));
        } else {
            samples.for_each(|(t_ms, bits)| self.push(*t_ms, bits));
        }
    }

    fn finish(self) {
        if self.is_sorted {
            return;
        }
        self.samples[self.from..].sort_by_key(|sample| sample.t_ms);
        let mut kept = self.from;
        for index in self.from..self.samples.len() {
            let sample = self.samples[index];
            if kept > self.from && self.samples[kept - 1].t_ms == sample.t_ms {
                self.samples[kept - 1] = later(self.samples[kept - 1], sample);
            } else {
                self.samples[kept] = sample;
                kept += 1;
            }
        }
        self.samples.truncate(kept);
    }
}

fn later(known: Sample, sample: Sample) -> Sample {
    if sample.value.to_bits() == STALE_NAN_BITS { known } else { sample }
}

fn stored_error(error: StoredError) -> SourceError {
    SourceError(format!("reading stored segments: {error}").into())
}

#[cfg(test)]
#[path = "series_tests.rs"]
pub(super) mod tests;
