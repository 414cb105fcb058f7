//! A label set told against the one before: most pairs are the same, and most others have its names.
//!
//! Label sets as they lie in memory: for each pair *length*, name, *length*, value. docs/SPILL_FORMAT.md, "Layout parts".

use super::super::format::{put_length, take_length};
use crate::labels::{BytePairs, LabelsRef};

/// The pairs of a set that was a label set's, or was made here.
fn pairs(labels: &[u8]) -> BytePairs<'_> {
    LabelsRef::of_bytes(labels).byte_pairs()
}

/// Writes `labels` to the start of `out`; the length, or `None` where it does not fit.
pub(super) fn put(out: &mut [u8], before: &[u8], labels: &[u8]) -> Option<usize> {
    let mut out = Room { out, used: 0 };
    let count = pairs(labels).count();
    let has_same_names = pairs(labels).map(|(name, _)| name).eq(pairs(before).map(|(name, _)| name));
    match has_same_names {
        true => out.length(0)?,
        false => {
            out.length(count + 1)?;
            for (name, _) in pairs(labels) {
                let place = pairs(before).position(|(known, _)| known == name);
                out.length(place.map_or(0, |place| place + 1))?;
                if place.is_none() {
                    out.text(name)?;
                }
            }
        }
    }
    let value_before = |name: &[u8]| pairs(before).find(|(known, _)| *known == name).map(|(_, value)| value);
    let mut all = pairs(labels);
    for _ in 0..count.div_ceil(8) {
        let byte = (0..8).fold(0, |byte, bit| {
            let is_same = all.next().is_some_and(|(name, value)| value_before(name) == Some(value));
            byte | u8::from(is_same) << bit
        });
        out.bytes(&[byte])?;
    }
    for (name, value) in pairs(labels) {
        let known = value_before(name);
        if known == Some(value) {
            continue;
        }
        let shared = known.unwrap_or_default().iter().zip(value).take_while(|(a, b)| a == b).count();
        if known.is_some() {
            out.length(shared)?;
        }
        out.text(&value[shared..])?;
    }
    Some(out.used)
}

/// Reads what [`put`] wrote from the start of `rest`, which goes on behind it, into `labels`; the length there. `None`: no writer
/// writes this.
pub(super) fn take(rest: &mut &[u8], before: &[u8], labels: &mut [u8]) -> Option<usize> {
    let count = take_length(rest)?;
    let has_same_names = count == 0;
    let count = if has_same_names { pairs(before).count() } else { count - 1 };
    let mut names = Names { rest, before: pairs(before), count };
    // Once to see where they end, once more with their values.
    let mut behind = Names { rest: names.rest, before: pairs(before), count: names.count };
    while behind.count > 0 {
        behind.next(before, has_same_names)?;
    }
    let (same, mut values) = behind.rest.split_at_checked(names.count.div_ceil(8))?;
    let mut out = Room { out: labels, used: 0 };
    let mut at = 0;
    while names.count > 0 {
        let (name, known) = names.next(before, has_same_names)?;
        let is_same = same[at / 8] >> (at % 8) & 1 == 1;
        at += 1;
        let shared = match known {
            Some(known) if is_same => known,
            Some(known) => known.get(..take_length(&mut values)?)?,
            None => &[],
        };
        let own = if is_same { &[][..] } else { take_text(&mut values)? };
        if is_same && known.is_none() {
            return None;
        }
        out.text(name)?;
        out.length(shared.len() + own.len())?;
        out.bytes(shared)?;
        out.bytes(own)?;
    }
    *rest = values;
    Some(out.used)
}

/// The names of a set that is read, each with its value in the set before, if it has one there.
struct Names<'r, 'b> {
    rest: &'r [u8],
    before: BytePairs<'b>,
    /// So many come.
    count: usize,
}

impl<'r, 'b> Names<'r, 'b> {
    fn next<'n>(&mut self, before: &'b [u8], are_same: bool) -> Option<(&'n [u8], Option<&'b [u8]>)>
    where
        'r: 'n,
        'b: 'n,
    {
        self.count -= 1;
        if are_same {
            return self.before.next().map(|(name, value)| (name, Some(value)));
        }
        match take_length(&mut self.rest)? {
            0 => Some((take_text(&mut self.rest)?, None)),
            place => pairs(before).nth(place - 1).map(|(name, value)| (name, Some(value))),
        }
    }
}

fn take_text<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = take_length(rest)?;
    let (text, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(text)
}

/// What is written, as long as it fits.
struct Room<'o> {
    out: &'o mut [u8],
    used: usize,
}

impl Room<'_> {
    fn length(&mut self, length: usize) -> Option<()> {
        self.used += put_length(self.out.get_mut(self.used..)?, length)?;
        Some(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.used.checked_add(bytes.len())?;
        self.out.get_mut(self.used..end)?.copy_from_slice(bytes);
        self.used = end;
        Some(())
    }

    fn text(&mut self, text: &[u8]) -> Option<()> {
        self.length(text.len())?;
        self.bytes(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{labels::LabelSet, prng::Prng};
    use alloc::{format, vec, vec::Vec};

    fn told(before: &LabelSet, labels: &LabelSet) -> Vec<u8> {
        let mut out = vec![0; 4_096];
        let used = put(&mut out, before.as_ref().as_bytes(), labels.as_ref().as_bytes()).expect("it fits");
        out.truncate(used);
        out
    }

    fn taken(bytes: &[u8], before: &LabelSet) -> Option<Vec<u8>> {
        let (mut rest, mut labels) = (bytes, vec![0; 4_096]);
        let used = take(&mut rest, before.as_ref().as_bytes(), &mut labels)?;
        labels.truncate(used);
        rest.is_empty().then_some(labels)
    }

    #[test]
    fn what_is_the_same_takes_bits_and_what_differs_its_own_letters() {
        let before = LabelSet::from_pairs([("__name__", "requests_total"), ("code", "200"), ("job", "web")]);
        let other_code = LabelSet::from_pairs([("__name__", "requests_total"), ("code", "204"), ("job", "web")]);
        assert_eq!(told(&before, &other_code), [0, 0b101, 2, 1, b'4']);
        assert_eq!(told(&before, &before), [0, 0b111]);
        let other_names = LabelSet::from_pairs([("__name__", "request_bytes"), ("job", "web"), ("z", "1")]);
        let expected = [&[4, 1, 3, 0, 1, b'z', 0b010, 7, 6][..], b"_bytes", &[1, b'1']].concat();
        assert_eq!(told(&before, &other_names), expected);
        for labels in [&before, &other_code, &other_names, &LabelSet::default()] {
            for before in [&before, &other_names, &LabelSet::default()] {
                assert_eq!(taken(&told(before, labels), before).as_deref(), Some(labels.as_ref().as_bytes()));
            }
        }
    }

    #[test]
    fn random_sets_come_back_and_random_bytes_never_panic() {
        let mut prng = Prng::new(3);
        let mut before = LabelSet::default();
        for _ in 0..5_000 {
            let mut pairs = Vec::new();
            for name in 0..12 {
                if prng.chance(1, 2) {
                    let value = 1 + prng.next_u64() % [2, 300, u64::MAX][name % 3];
                    pairs.push((format!("n{name:02}"), format!("{value}")));
                }
            }
            let labels = LabelSet::from_pairs(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            let mut bytes = told(&before, &labels);
            assert_eq!(taken(&bytes, &before).as_deref(), Some(labels.as_ref().as_bytes()));
            let cut = put(&mut vec![0; bytes.len() - 1], before.as_ref().as_bytes(), labels.as_ref().as_bytes());
            assert_eq!(cut, None);
            let (at, bit) = (prng.below(bytes.len() as u64) as usize, prng.below(8));
            bytes[at] ^= 1 << bit;
            let _damaged = taken(&bytes, &before);
            let _cut = taken(&bytes[..at], &before);
            before = labels;
        }
    }
}
