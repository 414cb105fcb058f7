//! Puts segments together.

use super::{
    super::{
        crc::crc32,
        format::{ClockEpoch, SEGMENT_BYTES_MAX, put, put_length, u32_at},
    },
    ENTRY_BYTES, HEADER_BYTES,
    head::{SegmentForm, SegmentHead},
};
use crate::store::{
    ColumnKind, Presence, TimelineKey,
    codec::{self, ROWS_MAX, StripeEncoder},
};
use core::ops::Range;

/// What a segment is made of; its cells come from [`Columns`].
#[derive(Clone, Debug)]
pub struct SegmentSpec<'a> {
    pub timeline: TimelineKey,
    pub layout: u64,
    pub row_from: u64,
    /// One per row, at least 1 and at most [`ROWS_MAX`].
    pub instants_ms: &'a [i64],
    /// Columns wanted; a segment ends earlier when its bytes do not suffice.
    pub columns: Range<u32>,
    pub epoch: ClockEpoch,
    /// Columns per stripe.
    pub stripe_columns: u32,
}

/// Given kind, cells and presence of one column; returns `false` to stop.
pub type ColumnVisit<'v> = dyn FnMut(ColumnKind, &[u64], &[Presence]) -> bool + 'v;

/// Where a segment's cells come from.
pub trait Columns {
    /// The column of the ages that belong to this column's values.
    fn age(&self, column: u32) -> Option<u32>;
    /// Gives each column's cells and presence over all rows of the segment, in order. `false` from the visitor stops.
    fn read(&self, columns: Range<u32>, visit: &mut ColumnVisit<'_>);
}

/// A segment that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub bytes: usize,
    /// The column behind the last one that fitted.
    pub column_end: u32,
    pub t_min_ms: i64,
    pub t_max_ms: i64,
}

/// Writes a segment at the start of `out`, with as many of the wanted columns as fit. `None`: not even the first stripe
/// does.
///
/// # Panics
///
/// Without rows or columns, or with more than [`ROWS_MAX`] rows: the caller lost track.
pub fn encode_segment(spec: &SegmentSpec<'_>, source: &dyn Columns, out: &mut [u8]) -> Option<Encoded> {
    let rows = spec.instants_ms.len();
    assert!((1..=ROWS_MAX).contains(&rows), "a segment of {rows} rows");
    assert!(!spec.columns.is_empty(), "a segment without columns");
    let wanted = (spec.columns.end - spec.columns.start) as usize;
    let mut assembly = Assembly::new(spec.instants_ms, wanted.div_ceil(spec.stripe_columns as usize), out)?;
    let mut t_min_ms = spec.instants_ms.iter().copied().min().unwrap_or(0);
    let mut t_max_ms = spec.instants_ms.iter().copied().max().unwrap_or(0);
    let mut column = spec.columns.start;
    let mut encoder = StripeEncoder::new();
    while column < spec.columns.end {
        let end = spec.columns.end.min(column.saturating_add(spec.stripe_columns));
        let (mut used, mut fits, mut here) = (0, true, column);
        encoder.begin();
        source.read(column..end, &mut |kind, cells, presence| {
            let ages = source.age(here).filter(|_| kind == ColumnKind::Float);
            let room = &mut assembly.room()[used..];
            match put_column(&mut encoder, room, kind, cells, presence, ages.map(|ages| (source, ages))) {
                Some(bytes) => used += bytes,
                None => fits = false,
            }
            if let Some(ages) = ages {
                source.read(ages..ages + 1, &mut |_, cells, presence| {
                    for ((instant, age), state) in spec.instants_ms.iter().zip(cells).zip(presence) {
                        if *state == Presence::Value {
                            let t_ms = instant.wrapping_sub(*age as i64);
                            t_min_ms = t_min_ms.min(t_ms);
                            t_max_ms = t_max_ms.max(t_ms);
                        }
                    }
                    true
                });
            }
            here += 1;
            fits
        });
        if !fits {
            break;
        }
        assembly.stripe(column, used);
        column = end;
    }
    if column == spec.columns.start {
        return None;
    }
    let bytes = assembly.finish(SegmentHead {
        timeline: spec.timeline,
        layout: spec.layout,
        row_from: spec.row_from,
        row_count: rows as u32,
        column_from: spec.columns.start,
        column_count: column - spec.columns.start,
        epoch: spec.epoch,
        form: SegmentForm::Packed,
        t_min_ms,
        t_max_ms,
        bytes: 0,
        instants_bytes: 0,
        stripe_count: 0,
        extra_count: 0,
        index_crc: 0,
    });
    Some(Encoded { bytes, column_end: column, t_min_ms, t_max_ms })
}

/// A segment that is being put together: instants, then stripes as they come, then directory and header.
pub struct Assembly<'b> {
    out: &'b mut [u8],
    instants_bytes: usize,
    /// Where the stripes begin, and where the next one does.
    stripes_at: usize,
    at: usize,
    stripe_count: usize,
}

impl<'b> Assembly<'b> {
    /// `None`: not even what comes before the stripes fits.
    pub fn new(instants_ms: &[i64], stripes_max: usize, out: &'b mut [u8]) -> Option<Self> {
        let capacity = out.len().min(SEGMENT_BYTES_MAX);
        let out = &mut out[..capacity];
        let instants_bytes = codec::encode_instants(instants_ms, out.get_mut(HEADER_BYTES..)?).ok()?;
        let stripes_at = HEADER_BYTES + instants_bytes + ENTRY_BYTES * stripes_max;
        (stripes_at <= capacity).then_some(Self { out, instants_bytes, stripes_at, at: stripes_at, stripe_count: 0 })
    }

    /// Where the next stripe's bytes go.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.out[self.at..]
    }

    /// The next stripe is there, from this column on.
    pub fn stripe(&mut self, column: u32, bytes: usize) {
        let entry = HEADER_BYTES + self.instants_bytes + ENTRY_BYTES * self.stripe_count;
        let crc = crc32(&self.out[self.at..self.at + bytes]);
        for (field, value) in [column, self.at as u32, bytes as u32, crc].into_iter().enumerate() {
            put(self.out, entry + 4 * field, &value.to_le_bytes());
        }
        self.at += bytes;
        self.stripe_count += 1;
    }

    /// Completes the segment and the fields of `head` that tell how long its parts are. Returns the length.
    pub fn finish(self, head: SegmentHead) -> usize {
        let Self { out, instants_bytes, stripes_at, at, stripe_count } = self;
        let directory_at = HEADER_BYTES + instants_bytes;
        let directory_end = directory_at + ENTRY_BYTES * stripe_count;
        // Fewer stripes than room was left for: they move down to the directory's end.
        let moved = stripes_at - directory_end;
        out.copy_within(stripes_at..at, directory_end);
        for stripe in 0..stripe_count {
            let offset_at = directory_at + ENTRY_BYTES * stripe + 4;
            let offset = u32_at(out, offset_at) - moved as u32;
            put(out, offset_at, &offset.to_le_bytes());
        }
        let bytes = at - moved;
        let index_crc = crc32(&out[HEADER_BYTES..directory_end]);
        let head = SegmentHead {
            bytes: bytes as u32,
            instants_bytes: instants_bytes as u32,
            stripe_count: stripe_count as u32,
            index_crc,
            ..head
        };
        head.put(out);
        bytes
    }
}

/// Length, then the column, then its ages; `None` when that does not fit.
fn put_column(
    encoder: &mut StripeEncoder<ROWS_MAX>,
    room: &mut [u8],
    kind: ColumnKind,
    cells: &[u64],
    presence: &[Presence],
    ages: Option<(&dyn Columns, u32)>,
) -> Option<usize> {
    let body = room.get_mut(1..)?;
    let mut used = match kind {
        ColumnKind::Float => encoder.column(kind, cells, presence, body).ok()?,
        ColumnKind::Age => 0,
    };
    if let Some((source, ages)) = ages {
        let mut age_bytes = None;
        source.read(ages..ages + 1, &mut |kind, cells, presence| {
            age_bytes = encoder.column(kind, cells, presence, &mut body[used..]).ok();
            true
        });
        used += age_bytes?;
    }
    if used < 0x80 {
        room[0] = used as u8;
        return Some(1 + used);
    }
    // A length of two bytes: no column reaches the 16 KiB that would need three.
    if room.len() < used + 2 {
        return None;
    }
    room.copy_within(1..=used, 2);
    put_length(room, used).map(|length_bytes| length_bytes + used)
}
