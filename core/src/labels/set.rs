//! A label set as one run of bytes, the same in RAM, in the slab and on flash.
//!
//! Encoding: for each pair, in ascending order of name: name length (LEB128), name, value length (LEB128), value.
//! Names are unique and not empty, a value is never empty (an empty value means "no such label"), all is UTF-8.

#[cfg(feature = "alloc")]
use alloc::{boxed::Box, string::String, vec::Vec};
use core::{cmp::Ordering, fmt};

/// Longest encoded label set we accept. A longer one fails its scrape or request by name.
pub const LABELS_BYTES_MAX: usize = 4 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    #[error("the label set is longer than {LABELS_BYTES_MAX} bytes; shorten or drop labels")]
    TooLong,
    #[error("a label name occurs twice; each name may be given once")]
    DuplicateName,
    #[error("a label name is empty")]
    EmptyName,
    #[error("the encoded label set is broken")]
    Broken,
}

/// A borrowed label set: valid by construction.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LabelsRef<'a> {
    bytes: &'a [u8],
}

impl<'a> LabelsRef<'a> {
    pub const EMPTY: LabelsRef<'static> = LabelsRef { bytes: &[] };

    /// Checks bytes from outside (slab, flash, wire): order, uniqueness, lengths, UTF-8.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, LabelsError> {
        if bytes.len() > LABELS_BYTES_MAX {
            return Err(LabelsError::TooLong);
        }
        let (mut rest, mut previous) = (bytes, "");
        while !rest.is_empty() {
            let name = take_text(&mut rest).ok_or(LabelsError::Broken)?;
            let value = take_text(&mut rest).ok_or(LabelsError::Broken)?;
            if name.is_empty() || value.is_empty() || name <= previous {
                return Err(LabelsError::Broken);
            }
            previous = name;
        }
        Ok(Self { bytes })
    }

    /// The set of bytes that [`Self::as_bytes`] gave, or that are known to be one.
    pub(crate) fn of_bytes(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Pairs in ascending order of name.
    pub fn iter(self) -> LabelsIter<'a> {
        LabelsIter { rest: self.bytes }
    }

    /// The pairs of [`Self::iter`] as bytes: what they are was checked once, so comparing and hashing need not ask again
    /// whether they are text.
    pub(crate) fn byte_pairs(self) -> BytePairs<'a> {
        BytePairs { rest: self.bytes }
    }

    pub fn get(self, name: &str) -> Option<&'a str> {
        let (_, value) = self.byte_pairs().find(|(found, _)| *found == name.as_bytes())?;
        core::str::from_utf8(value).ok()
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn has(self, name: &str) -> bool {
        self.byte_pairs().any(|(found, _)| found == name.as_bytes())
    }

    /// The metric's name, or the empty text.
    pub fn metric_name(self) -> &'a str {
        self.get(super::NAME).unwrap_or("")
    }

    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    pub fn len(self) -> usize {
        self.byte_pairs().count()
    }

    /// A stable hash of the set: the same on every machine and in every version.
    pub fn stable_hash(self) -> u64 {
        crate::prng::stable_hash(self.bytes)
    }
}

/// By name, then value, pair for pair, as Prometheus orders series.
impl Ord for LabelsRef<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.byte_pairs().cmp(other.byte_pairs())
    }
}

impl PartialOrd for LabelsRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As PromQL writes a series: `name{label="value"}`.
impl fmt::Display for LabelsRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric_name())?;
        let mut others = self.iter().filter(|(name, _)| *name != super::NAME).peekable();
        if others.peek().is_none() && !self.metric_name().is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (index, (name, value)) in others.enumerate() {
            write!(f, "{}{name}={value:?}", if index > 0 { ", " } else { "" })?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for LabelsRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone)]
pub struct LabelsIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        Some((take_text(&mut self.rest)?, take_text(&mut self.rest)?))
    }
}

#[derive(Clone)]
pub(crate) struct BytePairs<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for BytePairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        Some((take_bytes(&mut self.rest)?, take_bytes(&mut self.rest)?))
    }
}

/// Writes a label set into a caller's buffer; pairs may come in any order.
pub struct LabelsWriter<'b> {
    buf: &'b mut [u8],
    used: usize,
}

impl<'b> LabelsWriter<'b> {
    pub fn new(buf: &'b mut [u8]) -> Self {
        Self { buf, used: 0 }
    }

    /// Goes on with what another writer left in the first `used` bytes.
    pub fn go_on(buf: &'b mut [u8], used: usize) -> Self {
        Self { buf, used }
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> usize {
        self.used
    }

    /// Adds a pair, keeping the order. An empty value adds nothing.
    pub fn push(&mut self, name: &str, value: &str) -> Result<(), LabelsError> {
        if name.is_empty() {
            return Err(LabelsError::EmptyName);
        }
        if value.is_empty() {
            return Ok(());
        }
        let (at, found) = find(&self.buf[..self.used], name);
        if found.is_some() {
            return Err(LabelsError::DuplicateName);
        }
        let added = text_bytes(name) + text_bytes(value);
        if self.used + added > self.buf.len().min(LABELS_BYTES_MAX) {
            return Err(LabelsError::TooLong);
        }
        self.buf.copy_within(at..self.used, at + added);
        let end = put_text(self.buf, at, name);
        put_text(self.buf, end, value);
        self.used += added;
        Ok(())
    }

    pub fn finish(self) -> LabelsRef<'b> {
        let Self { buf, used } = self;
        LabelsRef { bytes: &buf[..used] }
    }
}

/// Where `name` stands or would stand in the encoded set, and the end of its pair when it is there.
fn find(bytes: &[u8], name: &str) -> (usize, Option<usize>) {
    let mut rest = bytes;
    loop {
        let at = bytes.len() - rest.len();
        let (Some(found), Some(_)) = (take_bytes(&mut rest), take_bytes(&mut rest)) else { return (at, None) };
        match found.cmp(name.as_bytes()) {
            Ordering::Less => {}
            Ordering::Equal => return (at, Some(bytes.len() - rest.len())),
            Ordering::Greater => return (at, None),
        }
    }
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    core::str::from_utf8(take_bytes(rest)?).ok()
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 14 {
            return None;
        }
    }
    let (text, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(text)
}

fn text_bytes(text: &str) -> usize {
    text.len() + if text.len() < 0x80 { 1 } else { 2 } + usize::from(text.len() >= 0x4000)
}

fn put_text(buf: &mut [u8], mut at: usize, text: &str) -> usize {
    let mut length = text.len();
    while length >= 0x80 {
        buf[at] = length as u8 | 0x80;
        length >>= 7;
        at += 1;
    }
    buf[at] = length as u8;
    at += 1;
    buf[at..at + text.len()].copy_from_slice(text.as_bytes());
    at + text.len()
}

/// An owned label set.
#[cfg(feature = "alloc")]
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct LabelSet {
    bytes: Box<[u8]>,
}

#[cfg(feature = "alloc")]
impl LabelSet {
    pub fn as_ref(&self) -> LabelsRef<'_> {
        LabelsRef { bytes: &self.bytes }
    }

    pub fn iter(&self) -> LabelsIter<'_> {
        self.as_ref().iter()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.as_ref().get(name)
    }

    /// Pairs in any order; of a name given twice the later wins; empty values are left out.
    pub fn from_pairs<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder.build()
    }

    /// Bytes on the heap, for a query's meter.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(feature = "alloc")]
impl From<LabelsRef<'_>> for LabelSet {
    fn from(labels: LabelsRef<'_>) -> Self {
        Self { bytes: labels.bytes.into() }
    }
}

#[cfg(feature = "alloc")]
impl Ord for LabelSet {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_ref().cmp(&other.as_ref())
    }
}

#[cfg(feature = "alloc")]
impl PartialOrd for LabelSet {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(feature = "alloc")]
impl fmt::Display for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_ref(), f)
    }
}

#[cfg(feature = "alloc")]
impl fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_ref(), f)
    }
}

/// Room for one label set after another, for who looks at many and keeps none.
#[cfg(feature = "alloc")]
#[derive(Default)]
pub struct LabelsBuf {
    bytes: Vec<u8>,
    used: usize,
}

#[cfg(feature = "alloc")]
impl LabelsBuf {
    pub fn as_ref(&self) -> LabelsRef<'_> {
        LabelsRef { bytes: &self.bytes[..self.used] }
    }

    pub fn set(&mut self, labels: LabelsRef<'_>) {
        if self.bytes.len() < labels.bytes.len() {
            self.bytes.resize(labels.bytes.len(), 0);
        }
        self.bytes[..labels.bytes.len()].copy_from_slice(labels.bytes);
        self.used = labels.bytes.len();
    }

    /// Takes the label set that `write` puts at the start of [`LABELS_BYTES_MAX`] bytes; false, and none, when it puts none.
    pub fn fill(&mut self, write: impl for<'b> FnOnce(&'b mut [u8]) -> Option<LabelsRef<'b>>) -> bool {
        if self.bytes.len() < LABELS_BYTES_MAX {
            self.bytes.resize(LABELS_BYTES_MAX, 0);
        }
        let written = write(&mut self.bytes[..LABELS_BYTES_MAX]).map(|labels| labels.bytes.len());
        self.used = written.unwrap_or(0);
        written.is_some()
    }

    pub fn remove(&mut self, name: &str) {
        if let (at, Some(end)) = find(&self.bytes[..self.used], name) {
            self.bytes.copy_within(end..self.used, at);
            self.used -= end - at;
        }
    }
}

/// Changes a label set pair by pair.
#[cfg(feature = "alloc")]
#[derive(Clone, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

#[cfg(feature = "alloc")]
impl LabelsBuilder {
    pub fn from_labels(labels: LabelsRef<'_>) -> Self {
        Self { pairs: labels.iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Sets or replaces; an empty value deletes.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.iter().position(|(n, _)| n == name) {
            Some(index) if value.is_empty() => {
                self.pairs.remove(index);
            }
            Some(index) => self.pairs[index].1 = value.into(),
            None if value.is_empty() => {}
            None => self.pairs.push((name.into(), value.into())),
        }
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|(n, _)| n != name);
        self
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.pairs.retain(|(name, value)| keep(name, value));
        self
    }

    /// The set so far. Not bounded by [`LABELS_BYTES_MAX`]: what is stored is checked by the store.
    pub fn build(&mut self) -> LabelSet {
        self.pairs.sort_unstable();
        let mut bytes = alloc::vec![0; self.pairs.iter().map(|(n, v)| text_bytes(n) + text_bytes(v)).sum()];
        let mut at = 0;
        for (name, value) in &self.pairs {
            at = put_text(&mut bytes, at, name);
            at = put_text(&mut bytes, at, value);
        }
        LabelSet { bytes: bytes.into() }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_out_in_order_of_name_whatever_order_they_went_in() {
        let mut buf = [0; 64];
        let mut writer = LabelsWriter::new(&mut buf);
        for (name, value) in [("job", "node"), ("__name__", "up"), ("zone", ""), ("instance", "a:1")] {
            writer.push(name, value).unwrap();
        }
        assert_eq!(writer.push("job", "x"), Err(LabelsError::DuplicateName));
        assert_eq!(writer.push("", "x"), Err(LabelsError::EmptyName));
        let labels = writer.finish();
        assert_eq!(alloc::format!("{labels}"), r#"up{instance="a:1", job="node"}"#);
        assert_eq!(LabelsRef::decode(labels.as_bytes()), Ok(labels));
        let owned = LabelSet::from_pairs([("job", "node"), ("instance", "a:1"), ("__name__", "up")]);
        assert_eq!(owned.as_ref(), labels);
        assert_eq!((labels.get("job"), labels.get("jo"), labels.len()), (Some("node"), None, 3));
    }

    #[test]
    fn a_buffer_that_is_one_byte_short_refuses_and_keeps_what_it_had() {
        let mut buf = [0; 8];
        let mut writer = LabelsWriter::new(&mut buf);
        writer.push("a", "bc").unwrap();
        assert_eq!(writer.push("d", "ef"), Err(LabelsError::TooLong));
        assert_eq!(writer.finish().get("a"), Some("bc"));
    }

    #[test]
    fn values_around_the_length_byte_edges_survive() {
        for length in [1, 127, 128, 129, 16_383, 16_384, 16_385] {
            let value = "v".repeat(length);
            let set = LabelSet::from_pairs([("a", value.as_str()), ("b", "c")]);
            assert_eq!((set.get("a"), set.get("b")), (Some(value.as_str()), Some("c")), "{length}");
        }
    }

    #[test]
    fn foreign_bytes_are_checked() {
        for bytes in [
            &[1][..],
            &[1, b'a'],
            &[1, b'a', 0],
            &[0, 1, b'a'],
            &[1, b'a', 2, b'b'],
            &[1, 0xff, 1, b'a'],
            &[1, b'b', 1, b'x', 1, b'a', 1, b'x'],
            &[1, b'a', 1, b'x', 1, b'a', 1, b'x'],
            &[0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(LabelsRef::decode(bytes), Err(LabelsError::Broken), "{bytes:?}");
        }
        assert_eq!(LabelsRef::decode(&[]), Ok(LabelsRef::EMPTY));
    }

    #[test]
    fn a_buffer_holds_one_set_after_another_and_takes_names_off() {
        let (long, short) = (LabelSet::from_pairs([("a", "1"), ("b", "22"), ("c", "3")]), LabelSet::default());
        let mut buf = LabelsBuf::default();
        assert!(buf.as_ref().is_empty());
        buf.set(long.as_ref());
        for (name, left) in
            [("x", "{a=\"1\", b=\"22\", c=\"3\"}"), ("b", "{a=\"1\", c=\"3\"}"), ("c", "{a=\"1\"}"), ("a", "{}")]
        {
            buf.remove(name);
            assert_eq!(alloc::format!("{}", buf.as_ref()), left, "without {name}");
        }
        assert!(buf.fill(|room| {
            let mut writer = LabelsWriter::new(room);
            writer.push("job", "node").unwrap();
            Some(writer.finish())
        }));
        assert_eq!(buf.as_ref().get("job"), Some("node"));
        assert!(!buf.fill(|_| None));
        assert_eq!(buf.as_ref(), short.as_ref());
    }

    #[test]
    fn order_is_by_pairs_and_not_by_encoded_bytes() {
        let (short, long) = (LabelSet::from_pairs([("aa", "z")]), LabelSet::from_pairs([("b", "a")]));
        assert!(short < long);
    }
}
