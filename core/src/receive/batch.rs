//! Samples of a request on their way into rows: a bounded number at a time, by pusher and instant.
//!
//! What pushes is known by its `job` and `instance`: each such pair has a timeline of its own, whose rows are the
//! instants it sends. A request names series after series, each with its samples; rows want instant after instant. So
//! samples are gathered here until there is no room for more, sorted, and written.

use super::tally::Cause;
use crate::{
    labels::{LABELS_BYTES_MAX, LabelsError, LabelsRef, LabelsWriter},
    limits::{RECEIVE_BATCH_LABELS_BYTES, RECEIVE_BATCH_SAMPLES_MAX},
    prng,
    store::TimelineKey,
};
use alloc::{boxed::Box, vec, vec::Vec};

/// One (job, instance) pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pusher(pub u64);

impl Pusher {
    /// A missing label counts as an empty one.
    pub fn of(labels: LabelsRef<'_>) -> Self {
        let part = |name| prng::stable_hash(labels.get(name).unwrap_or_default().as_bytes());
        let seed = prng::stable_hash(b"pushed by job and instance");
        Self(prng::mix(prng::mix(seed ^ part("job")) ^ part("instance")))
    }

    pub fn timeline_key(self) -> TimelineKey {
        TimelineKey(self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSample {
    pub pusher: Pusher,
    pub t_ms: i64,
    pub bits: u64,
    series: u16,
    /// Which of the batch's samples it was: of two at one instant, the one sent first comes first.
    order: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Room {
    Taken,
    /// The batch must be written first; then the sample is to be given again.
    Full,
}

struct BatchSeries {
    labels_from: u32,
    labels_bytes: u16,
}

pub struct Batch {
    labels: Vec<u8>,
    series: Vec<BatchSeries>,
    samples: Vec<BatchSample>,
    /// The labels of the series that is being read.
    open: Box<[u8]>,
    open_bytes: usize,
    open_error: Option<Cause>,
    open_pusher: Pusher,
    /// Its place among the batch's series, once it has a sample in there.
    open_series: Option<u16>,
}

const _: () = assert!(RECEIVE_BATCH_SAMPLES_MAX < u16::MAX as usize);
const _: () = assert!(LABELS_BYTES_MAX <= u16::MAX as usize && LABELS_BYTES_MAX <= RECEIVE_BATCH_LABELS_BYTES);

impl Default for Batch {
    fn default() -> Self {
        Self {
            labels: Vec::new(),
            series: Vec::new(),
            samples: Vec::new(),
            open: Box::default(),
            open_bytes: 0,
            open_error: None,
            open_pusher: Pusher(0),
            open_series: None,
        }
    }
}

impl Batch {
    /// The series being read, for naming a sample of it.
    pub fn open_labels(&self) -> LabelsRef<'_> {
        LabelsRef::decode(&self.open[..self.open_bytes]).unwrap_or(LabelsRef::EMPTY)
    }

    /// A series begins.
    pub fn begin(&mut self) {
        if self.open.is_empty() {
            self.open = vec![0; LABELS_BYTES_MAX].into_boxed_slice();
        }
        (self.open_bytes, self.open_error, self.open_series) = (0, None, None);
    }

    pub fn label(&mut self, name: &[u8], value: &[u8]) {
        let (Ok(name), Ok(value)) = (core::str::from_utf8(name), core::str::from_utf8(value)) else {
            return self.refuse(Cause::NotUtf8);
        };
        let mut writer = LabelsWriter::go_on(&mut self.open, self.open_bytes);
        let pushed = writer.push(name, value);
        self.open_bytes = writer.bytes();
        if let Err(error) = pushed {
            self.refuse(Cause::Labels(error));
        }
    }

    pub fn label_too_long(&mut self) {
        self.refuse(Cause::Labels(LabelsError::TooLong));
    }

    fn refuse(&mut self, cause: Cause) {
        self.open_error.get_or_insert(cause);
    }

    /// A sample of the series begun last.
    ///
    /// # Errors
    ///
    /// The series cannot be stored at all.
    pub fn sample(&mut self, t_ms: i64, bits: u64) -> Result<Room, Cause> {
        if let Some(cause) = self.open_error {
            return Err(cause);
        }
        if self.samples.len() == RECEIVE_BATCH_SAMPLES_MAX {
            return Ok(Room::Full);
        }
        let series = match self.open_series {
            Some(series) => series,
            None => {
                let open = self.open_labels();
                if open.metric_name().is_empty() {
                    self.refuse(Cause::NoName);
                    return Err(Cause::NoName);
                }
                let pusher = Pusher::of(open);
                if self.labels.len() + self.open_bytes > RECEIVE_BATCH_LABELS_BYTES {
                    return Ok(Room::Full);
                }
                self.reserve();
                let (labels_from, labels_bytes) = (self.labels.len() as u32, self.open_bytes as u16);
                self.labels.extend_from_slice(&self.open[..self.open_bytes]);
                self.series.push(BatchSeries { labels_from, labels_bytes });
                let series = self.series.len() as u16 - 1;
                (self.open_pusher, self.open_series) = (pusher, Some(series));
                series
            }
        };
        let order = self.samples.len() as u16;
        self.samples.push(BatchSample { pusher: self.open_pusher, t_ms, bits, series, order });
        Ok(Room::Taken)
    }

    /// All memory at once, so that it is as much as the budget says.
    fn reserve(&mut self) {
        self.labels.reserve_exact(RECEIVE_BATCH_LABELS_BYTES - self.labels.len());
        self.series.reserve_exact(RECEIVE_BATCH_SAMPLES_MAX - self.series.len());
        self.samples.reserve_exact(RECEIVE_BATCH_SAMPLES_MAX - self.samples.len());
    }

    /// By pusher, instant, and order of sending.
    pub fn sort(&mut self) {
        self.samples.sort_unstable_by_key(|sample| (sample.pusher, sample.t_ms, sample.order));
    }

    pub fn samples(&self) -> &[BatchSample] {
        &self.samples
    }

    pub fn labels(&self, sample: &BatchSample) -> LabelsRef<'_> {
        let BatchSeries { labels_from, labels_bytes } = self.series[usize::from(sample.series)];
        let from = labels_from as usize;
        let labels = LabelsRef::decode(&self.labels[from..from + usize::from(labels_bytes)]);
        labels.expect("the batch has its labels from a writer of label sets")
    }

    /// Written; the series being read goes on.
    pub fn clear(&mut self) {
        self.labels.clear();
        self.series.clear();
        self.samples.clear();
        self.open_series = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::LabelSet;

    /// Labels and instants.
    type Series<'a> = (&'a [(&'a str, &'a str)], &'a [i64]);

    fn batch_of(series: &[Series<'_>]) -> Batch {
        let mut batch = Batch::default();
        for (labels, instants) in series {
            batch.begin();
            labels.iter().for_each(|(name, value)| batch.label(name.as_bytes(), value.as_bytes()));
            for t_ms in *instants {
                assert_eq!(batch.sample(*t_ms, 1), Ok(Room::Taken));
            }
        }
        batch
    }

    #[test]
    fn a_pusher_is_a_pair_of_job_and_instance_and_a_missing_label_is_an_empty_one() {
        let pusher = |pairs: &[(&str, &str)]| Pusher::of(LabelSet::from_pairs(pairs.iter().copied()).as_ref());
        let one = pusher(&[("__name__", "a"), ("instance", "i"), ("job", "j")]);
        assert_eq!(one, pusher(&[("__name__", "b"), ("instance", "i"), ("job", "j"), ("x", "y")]));
        assert_eq!(pusher(&[("__name__", "a"), ("job", "j")]), pusher(&[("job", "j"), ("instance", "")]));
        let others = [&[("instance", "j"), ("job", "i")][..], &[("job", "j")], &[("instance", "i")], &[("job", "ji")]];
        for other in others {
            assert_ne!(one, pusher(other), "{other:?}");
        }
    }

    #[test]
    fn samples_come_by_pusher_then_instant_then_as_they_were_sent() {
        let (a, b) = ([("__name__", "a"), ("job", "1")], [("job", "1"), ("__name__", "b")]);
        let mut batch = batch_of(&[(&a, &[3, 1]), (&[("__name__", "c")], &[2]), (&b, &[1, 3])]);
        batch.sort();
        let mut names = [("a", 1), ("b", 1), ("a", 3), ("b", 3)].to_vec();
        let first = Pusher::of(LabelSet::from_pairs(a).as_ref()) < Pusher::of(LabelsRef::EMPTY);
        names.insert(if first { 4 } else { 0 }, ("c", 2));
        let found: Vec<_> =
            batch.samples().iter().map(|sample| (batch.labels(sample).metric_name(), sample.t_ms)).collect();
        assert_eq!(found, names);
    }

    #[test]
    fn a_full_batch_goes_on_with_the_open_series_once_it_is_written() {
        let mut batch = batch_of(&[(&[("__name__", "a")], &[])]);
        for t_ms in 0..RECEIVE_BATCH_SAMPLES_MAX as i64 {
            assert_eq!(batch.sample(t_ms, 0), Ok(Room::Taken));
        }
        assert_eq!(batch.sample(7, 0), Ok(Room::Full));
        batch.clear();
        assert_eq!(batch.sample(7, 0), Ok(Room::Taken));
        assert_eq!(batch.labels(&batch.samples()[0]).metric_name(), "a");
    }

    #[test]
    fn labels_fill_a_batch_too() {
        let mut batch = Batch::default();
        let long = "x".repeat(LABELS_BYTES_MAX - 100);
        let (mut count, mut room) = (0, Room::Taken);
        while room == Room::Taken {
            batch.begin();
            batch.label(b"__name__", b"a");
            batch.label(b"long", long.as_bytes());
            room = batch.sample(1, 1).unwrap();
            count += usize::from(room == Room::Taken);
        }
        assert_eq!(count, batch.samples().len());
        assert_eq!(count, RECEIVE_BATCH_LABELS_BYTES / batch.labels(&batch.samples()[0]).as_bytes().len());
    }

    #[test]
    fn what_cannot_be_a_series_is_refused_with_its_reason() {
        let refused = |labels: &[(&[u8], &[u8])]| {
            let mut batch = Batch::default();
            batch.begin();
            labels.iter().for_each(|(name, value)| batch.label(name, value));
            batch.sample(1, 1)
        };
        assert_eq!(refused(&[(b"job", b"x")]), Err(Cause::NoName));
        assert_eq!(refused(&[]), Err(Cause::NoName));
        assert_eq!(refused(&[(b"__name__", b"")]), Err(Cause::NoName));
        assert_eq!(refused(&[(b"__name__", b"\xff")]), Err(Cause::NotUtf8));
        assert_eq!(refused(&[(b"__name__", b"a"), (b"", b"x")]), Err(Cause::Labels(LabelsError::EmptyName)));
        let twice: &[(&[u8], &[u8])] = &[(b"__name__", b"a"), (b"x", b"1"), (b"x", b"2")];
        assert_eq!(refused(twice), Err(Cause::Labels(LabelsError::DuplicateName)));
        let long = [b'x'; LABELS_BYTES_MAX];
        assert_eq!(refused(&[(b"__name__", b"a"), (b"x", &long)]), Err(Cause::Labels(LabelsError::TooLong)));
        assert_eq!(refused(&[(b"__name__", "ä.b".as_bytes()), (b"x", b"")]), Ok(Room::Taken));
    }
}
