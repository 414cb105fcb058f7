//! Label texts and label sets, each kept once, as records in the heap.
//!
//! ```text
//!   series ──► metric   "node_cpu_seconds_total"        its series ──► chain
//!          ──► own      the values  ───► value ──► name "mode"
//!          │            in order of      "idle"
//!          │            their names                     its series ──► chain
//!          └─► target   the same, of `instance` and `job`
//! ```
//!
//! A set is shared by all series that have it, a value by all sets that have it under one name: so a pair of name and
//! value is one number, and a series three. Each record counts what uses it, or has the first of its series in its place,
//! and goes when there is none left.
//!
//! A record, with numbers of `id_bytes`: next of its bucket, count of users or first series, kind and length u16 (3 and 13
//! bits), and then for a metric or a name its text, for a value its name's number and its text, for a set its values'
//! numbers. Authoritative are kind, length, numbers and texts; buckets, counts and the first series are made anew at
//! attach.

use super::{Store, slab::NONE};
use crate::{
    labels::{LABELS_BYTES_MAX, LabelsRef, NAME},
    prng::{mix, stable_hash},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The text of a metric's name; the empty one is that of series without a name.
    Metric,
    /// A label's name.
    Name,
    /// A value that a label has.
    Value,
    /// The labels of a series, without its metric's name and those of its target.
    Own,
    /// The labels that a target gives to its series.
    Target,
}

/// Labels that all series of a target share. Which ones these are saves bytes and changes nothing else: in a set of their
/// own they do not make every other set anew for every target.
const TARGET_LABELS: [&str; 2] = ["instance", "job"];

/// The shortest pair takes four bytes of the encoded set.
const VALUES_COUNT_MAX: usize = LABELS_BYTES_MAX / 4;
const LENGTH_BITS: u32 = 13;
const _: () = assert!(LABELS_BYTES_MAX < 1 << LENGTH_BITS);

type Values = heapless::Vec<u32, VALUES_COUNT_MAX>;

/// What a record is found by.
enum Key<'k> {
    Text(Kind, &'k [u8]),
    /// The number of its name, and the text.
    Value(u32, &'k [u8]),
    Set(Kind, &'k [u32]),
}

/// What a series is: three records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) metric: u32,
    pub(super) target: u32,
    pub(super) own: u32,
}

/// A walk through the pairs of a series in the order of their names.
pub(super) struct Pairs {
    parts: Parts,
    metric_done: bool,
    own_index: usize,
    target_index: usize,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Metric, Self::Name, Self::Value, Self::Own, Self::Target];

    /// The kind of the record in which a series has this label.
    pub(super) fn of_label(name: &[u8]) -> Self {
        match name {
            name if name == NAME.as_bytes() => Self::Metric,
            name if TARGET_LABELS.iter().any(|label| label.as_bytes() == name) => Self::Target,
            _ => Self::Own,
        }
    }

    /// Whether a record has the first of its series where others count their users.
    fn has_series(self) -> bool {
        matches!(self, Self::Metric | Self::Own)
    }
}

impl Pairs {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, metric_done: false, own_index: 0, target_index: 0 }
    }
}

impl Store<'_> {
    pub(super) fn pairs_next(&self, pairs: &mut Pairs) -> Option<(&[u8], &[u8])> {
        let set_pair = |set, index| {
            (index < self.record_length(set)).then(|| {
                let value = self.set_value(set, index);
                (self.record_text(self.value_name(value)), self.record_text(value))
            })
        };
        let metric = self.record_text(pairs.parts.metric);
        let metric = (!pairs.metric_done && !metric.is_empty()).then_some((NAME.as_bytes(), metric));
        let own = set_pair(pairs.parts.own, pairs.own_index);
        let target = set_pair(pairs.parts.target, pairs.target_index);
        let least = [metric, own, target].into_iter().flatten().min_by_key(|(name, _)| *name);
        if least == metric {
            pairs.metric_done = true;
        } else if least == own {
            pairs.own_index += 1;
        } else {
            pairs.target_index += 1;
        }
        least
    }

    pub(super) fn parts_find(&self, labels: LabelsRef<'_>) -> Option<Parts> {
        let (mut own, mut target) = (Values::new(), heapless::Vec::<u32, { TARGET_LABELS.len() }>::new());
        let mut metric: &[u8] = &[];
        for (name, value) in labels.byte_pairs() {
            let value = match Kind::of_label(name) {
                Kind::Metric => {
                    metric = value;
                    continue;
                }
                kind => (kind, self.value_find(name, value)?),
            };
            let pushed = match value {
                (Kind::Target, value) => target.push(value),
                (_, value) => own.push(value),
            };
            pushed.ok()?;
        }
        Some(Parts {
            metric: self.record_find(&Key::Text(Kind::Metric, metric))?,
            target: self.record_find(&Key::Set(Kind::Target, &target))?,
            own: self.record_find(&Key::Set(Kind::Own, &own))?,
        })
    }

    /// Finds or makes the three records; whoever calls gives them a user or calls [`Self::parts_drop_unused`]. `None`
    /// when the heap has no room, with nothing kept.
    pub(super) fn parts_make(&mut self, labels: LabelsRef<'_>) -> Option<Parts> {
        let metric = self.record_obtain(&Key::Text(Kind::Metric, labels.metric_name().as_bytes()))?;
        let target = self.set_obtain(labels, Kind::Target);
        let own = target.and_then(|_| self.set_obtain(labels, Kind::Own));
        if let (Some(target), Some(own)) = (target, own) {
            return Some(Parts { metric, target, own });
        }
        self.record_drop_unused(metric);
        if let Some(target) = target {
            self.record_drop_unused(target);
        }
        None
    }

    /// Drops what nothing uses. Several series may go at once; what the first of them dropped is not dropped again.
    pub(super) fn parts_drop_unused(&mut self, parts: Parts) {
        for record in [parts.metric, parts.own, parts.target] {
            if self.granule_is_used(record) {
                self.record_drop_unused(record);
            }
        }
    }

    #[cfg(feature = "alloc")]
    pub(super) fn metric_find(&self, name: &str) -> Option<u32> {
        self.record_find(&Key::Text(Kind::Metric, name.as_bytes()))
    }

    fn value_find(&self, name: &[u8], value: &[u8]) -> Option<u32> {
        let name = self.record_find(&Key::Text(Kind::Name, name))?;
        self.record_find(&Key::Value(name, value))
    }

    fn set_obtain(&mut self, labels: LabelsRef<'_>, kind: Kind) -> Option<u32> {
        let mut values = Values::new();
        let mut complete = true;
        for (name, value) in labels.byte_pairs().filter(|(name, _)| Kind::of_label(name) == kind) {
            let value = self.value_obtain(name, value);
            complete = value.is_some_and(|value| values.push(value).is_ok());
            if !complete {
                break;
            }
        }
        let set = if complete { self.record_obtain(&Key::Set(kind, &values)) } else { None };
        if set.is_none() {
            for value in values {
                self.record_drop_unused(value);
            }
        }
        set
    }

    fn value_obtain(&mut self, name: &[u8], value: &[u8]) -> Option<u32> {
        let name = self.record_obtain(&Key::Text(Kind::Name, name))?;
        let value = self.record_obtain(&Key::Value(name, value));
        if value.is_none() {
            self.record_drop_unused(name);
        }
        value
    }

    fn record_find(&self, key: &Key<'_>) -> Option<u32> {
        let mut record = self.slab.id(self.record_bucket(self.key_hash(key)), self.map.id_bytes);
        while record != NONE {
            if self.record_is(record, key) {
                return Some(record);
            }
            record = self.record_next(record);
        }
        None
    }

    fn record_obtain(&mut self, key: &Key<'_>) -> Option<u32> {
        if let Some(record) = self.record_find(key) {
            return Some(record);
        }
        let (kind, length) = match key {
            Key::Text(kind, text) => (*kind, text.len()),
            Key::Value(_, text) => (Kind::Value, text.len()),
            Key::Set(kind, values) => (*kind, values.len()),
        };
        let record = self.heap_take(self.record_bytes(kind, length))?;
        let (at, id_bytes) = (self.map.record(record), self.map.id_bytes);
        let kind_length = (kind as u16) << LENGTH_BITS | length as u16;
        self.slab.put_bytes(at + self.kind_at(), &kind_length.to_le_bytes());
        self.record_set_head(record, if kind.has_series() { NONE } else { 0 });
        let body = at + self.body_at();
        match key {
            Key::Text(_, text) => self.slab.put_bytes(body, text),
            Key::Value(name, text) => {
                self.slab.put_id(body, id_bytes, *name);
                self.slab.put_bytes(body + id_bytes, text);
                self.record_count_users(*name, 1);
            }
            Key::Set(_, values) => {
                for (index, value) in values.iter().enumerate() {
                    self.slab.put_id(body + index * id_bytes, id_bytes, *value);
                    self.record_count_users(*value, 1);
                }
            }
        }
        self.record_index(record, self.key_hash(key));
        Some(record)
    }

    /// Takes a record that nothing uses out of the heap, and what only it used.
    fn record_drop_unused(&mut self, record: u32) {
        let kind = self.record_kind(record).expect("a record has a kind");
        if self.record_head(record) != if kind.has_series() { NONE } else { 0 } {
            return;
        }
        let id_bytes = self.map.id_bytes;
        let mut link = self.record_bucket(self.record_hash(record));
        while self.slab.id(link, id_bytes) != record {
            let next = self.slab.id(link, id_bytes);
            assert!(next != NONE, "record {record} is not in its bucket");
            link = self.map.record(next);
        }
        let next = self.record_next(record);
        self.slab.put_id(link, id_bytes, next);
        let length = self.record_length(record);
        match kind {
            Kind::Metric | Kind::Name => {}
            Kind::Value => self.record_release(self.value_name(record)),
            Kind::Own | Kind::Target => {
                for index in 0..length {
                    self.record_release(self.set_value(record, index));
                }
            }
        }
        self.heap_free(record, self.record_bytes(kind, length));
    }

    fn record_release(&mut self, record: u32) {
        self.record_count_users(record, -1);
        self.record_drop_unused(record);
    }

    pub(super) fn record_count_users(&mut self, record: u32, difference: i32) {
        let users = self.record_head(record).checked_add_signed(difference);
        self.record_set_head(record, users.expect("users are counted in and out"));
    }

    /// The first of a metric's or own set's series, or how many use any other record.
    pub(super) fn record_head(&self, record: u32) -> u32 {
        self.slab.id(self.record_head_at(record), self.map.id_bytes)
    }

    pub(super) fn record_head_at(&self, record: u32) -> usize {
        self.map.record(record) + self.map.id_bytes
    }

    pub(super) fn record_set_head(&mut self, record: u32, head: u32) {
        self.slab.put_id(self.record_head_at(record), self.map.id_bytes, head);
    }

    /// `None` only for a record that damage has made.
    pub(super) fn record_kind(&self, record: u32) -> Option<Kind> {
        Kind::ALL.get(usize::from(self.kind_length(record) >> LENGTH_BITS)).copied()
    }

    /// Bytes of the text, or count of the values.
    pub(super) fn record_length(&self, record: u32) -> usize {
        usize::from(self.kind_length(record) & ((1 << LENGTH_BITS) - 1))
    }

    /// The text of a metric, a name or a value.
    pub(super) fn record_text(&self, record: u32) -> &[u8] {
        let before = if self.record_kind(record) == Some(Kind::Value) { self.map.id_bytes } else { 0 };
        self.slab.bytes(self.map.record(record) + self.body_at() + before, self.record_length(record))
    }

    pub(super) fn value_name(&self, value: u32) -> u32 {
        self.slab.id(self.map.record(value) + self.body_at(), self.map.id_bytes)
    }

    pub(super) fn set_value(&self, set: u32, index: usize) -> u32 {
        self.slab.id(self.map.record(set) + self.body_at() + index * self.map.id_bytes, self.map.id_bytes)
    }

    /// Every record, bucket by bucket; `false` from the visitor stops. Returns whether it came to the end.
    #[cfg(feature = "alloc")]
    pub(super) fn records_visit(&self, mut visit: impl FnMut(u32, Kind) -> bool) -> bool {
        for bucket in self.map.record_buckets_each() {
            let mut record = self.slab.id(bucket, self.map.id_bytes);
            while record != NONE {
                if !visit(record, self.record_kind(record).expect("a record has a kind")) {
                    return false;
                }
                record = self.record_next(record);
            }
        }
        true
    }

    fn kind_length(&self, record: u32) -> u16 {
        self.slab.u16(self.map.record(record) + self.kind_at())
    }

    fn kind_at(&self) -> usize {
        2 * self.map.id_bytes
    }

    fn body_at(&self) -> usize {
        self.kind_at() + 2
    }

    fn record_bytes(&self, kind: Kind, length: usize) -> usize {
        let id_bytes = self.map.id_bytes;
        let body_bytes = match kind {
            Kind::Metric | Kind::Name => length,
            Kind::Value => id_bytes + length,
            Kind::Own | Kind::Target => id_bytes * length,
        };
        self.body_at() + body_bytes
    }

    fn record_next(&self, record: u32) -> u32 {
        self.slab.id(self.map.record(record), self.map.id_bytes)
    }

    fn record_index(&mut self, record: u32, hash: u64) {
        let (bucket, id_bytes) = (self.record_bucket(hash), self.map.id_bytes);
        let first = self.slab.id(bucket, id_bytes);
        self.slab.put_id(self.map.record(record), id_bytes, first);
        self.slab.put_id(bucket, id_bytes, record);
    }

    fn record_bucket(&self, hash: u64) -> usize {
        self.map.record_bucket(hash)
    }

    fn record_is(&self, record: u32, key: &Key<'_>) -> bool {
        let kind = self.record_kind(record);
        match key {
            Key::Text(of, text) => kind == Some(*of) && self.record_text(record) == *text,
            Key::Value(name, text) => {
                kind == Some(Kind::Value) && self.value_name(record) == *name && self.record_text(record) == *text
            }
            Key::Set(of, values) => {
                kind == Some(*of)
                    && self.record_length(record) == values.len()
                    && values.iter().enumerate().all(|(index, value)| self.set_value(record, index) == *value)
            }
        }
    }

    fn key_hash(&self, key: &Key<'_>) -> u64 {
        match key {
            Key::Text(kind, text) => self.text_hash(*kind as u64, text),
            Key::Value(name, text) => self.text_hash(Kind::Value as u64 | u64::from(*name) << 8, text),
            Key::Set(kind, values) => {
                values.iter().fold(self.set_hash_start(*kind), |hash, value| set_hash_add(hash, *value))
            }
        }
    }

    fn record_hash(&self, record: u32) -> u64 {
        let kind = self.record_kind(record).expect("a record has a kind");
        match kind {
            Kind::Metric | Kind::Name => self.key_hash(&Key::Text(kind, self.record_text(record))),
            Kind::Value => self.key_hash(&Key::Value(self.value_name(record), self.record_text(record))),
            Kind::Own | Kind::Target => (0..self.record_length(record))
                .fold(self.set_hash_start(kind), |hash, index| set_hash_add(hash, self.set_value(record, index))),
        }
    }

    /// Strangers name series; so that they cannot aim at one bucket, there is a seed in it.
    fn text_hash(&self, kind_and_name: u64, text: &[u8]) -> u64 {
        mix(stable_hash(text) ^ mix(kind_and_name ^ self.hash_seed))
    }

    fn set_hash_start(&self, kind: Kind) -> u64 {
        mix(self.hash_seed ^ kind as u64)
    }

    // Attach.

    /// Takes a record that a series names into bitmap and buckets, and what it names itself, unless it is there already.
    /// `None` when it is not of this kind, not whole, or lies in another.
    pub(super) fn record_restore(&mut self, record: u32, kind: Kind) -> Option<()> {
        let head_bytes = self.record_bytes(kind, 0);
        if !self.map.heap_holds(record, head_bytes) || self.record_kind(record) != Some(kind) {
            return None;
        }
        let length = self.record_length(record);
        let bytes = self.record_bytes(kind, length);
        if !self.map.heap_holds(record, bytes) {
            return None;
        }
        if self.granule_is_used(record) {
            return self.record_is_indexed(record).then_some(());
        }
        self.heap_restore(record, bytes)?;
        self.record_set_head(record, if kind.has_series() { NONE } else { 0 });
        match kind {
            Kind::Metric | Kind::Name => {}
            Kind::Value => self.record_use(self.value_name(record), Kind::Name)?,
            Kind::Own | Kind::Target => {
                for index in 0..length {
                    let value = self.set_value(record, index);
                    self.record_use(value, Kind::Value)?;
                    let name = self.record_text(self.value_name(value));
                    if Kind::of_label(name) != kind {
                        return None;
                    }
                }
            }
        }
        let hash = self.record_hash(record);
        if self.record_has_twin(record, hash) {
            return None;
        }
        self.record_index(record, hash);
        Some(())
    }

    fn record_use(&mut self, record: u32, kind: Kind) -> Option<()> {
        self.record_restore(record, kind)?;
        self.record_count_users(record, 1);
        Some(())
    }

    fn record_is_indexed(&self, record: u32) -> bool {
        let mut other = self.slab.id(self.record_bucket(self.record_hash(record)), self.map.id_bytes);
        while other != NONE && other != record {
            other = self.record_next(other);
        }
        other == record
    }

    /// Whether another record says the same; then one of the two would never be found.
    fn record_has_twin(&self, record: u32, hash: u64) -> bool {
        let mut other = self.slab.id(self.record_bucket(hash), self.map.id_bytes);
        while other != NONE {
            if self.kind_length(other) == self.kind_length(record)
                && self.record_body(other) == self.record_body(record)
            {
                return true;
            }
            other = self.record_next(other);
        }
        false
    }

    fn record_body(&self, record: u32) -> &[u8] {
        let kind = self.record_kind(record).expect("a record has a kind");
        let bytes = self.record_bytes(kind, self.record_length(record)) - self.body_at();
        self.slab.bytes(self.map.record(record) + self.body_at(), bytes)
    }
}

fn set_hash_add(hash: u64, value: u32) -> u64 {
    mix(hash ^ u64::from(value))
}
