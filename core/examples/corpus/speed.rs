//! How fast rows are sealed and read, in samples a second of thread CPU time: other programs on the machine do not count.

use crate::{
    replay::{IDENTITY, in_order_of_time, new_spill, now, plan, put_row},
    series::Target,
};
use holdfast_core::{
    daemon::output::{OUTPUT_BYTES_MAX, Put},
    limits::RUN_ROWS_MAX,
    memory::Plan,
    spill::{Ager, Aging, SealReason, SegmentReader, SliceBytes, StripeCache},
    store::{Presence, Store, TimelineKey},
};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;

/// Millions of samples a second, one thread.
#[derive(Clone, Copy, Debug)]
pub struct Speeds {
    /// Rows put into the store, packed as they fill: labels to series, cells, chunks.
    pub put: f64,
    /// From chunks to segments.
    pub seal: f64,
    /// From packed segments to aged ones.
    pub age: f64,
    /// Segments decoded whole: packed, aged.
    pub scan_sealed: f64,
    pub scan_aged: f64,
    /// Segments read series by series, as a query does: packed, aged.
    pub scan_series: f64,
    pub scan_aged_series: f64,
    /// Chunks decoded whole.
    pub scan_packed: f64,
    /// Chunks read series by series, as a query does.
    pub scan_packed_series: f64,
}

/// What the daemon keeps of decoded stripes.
const STRIPES_BYTES: usize = 256 * 1024;
/// Each measurement goes on for so long.
const MEASURE_SECONDS: f64 = 0.5;

pub fn speeds(targets: &[Target]) -> Result<Speeds, String> {
    let rows = in_order_of_time(targets, 1);
    let samples: usize = rows.iter().map(|(_, row)| row.samples.len()).sum();
    let plan = plan(targets.iter().map(|target| target.series.len()).sum(), samples * 16 + (4 << 20))?;
    let mut slab = vec![0; plan.slab_bytes()];
    let put = per_second(|| {
        let mut store = Store::create(&mut slab, &plan, IDENTITY).map_err(|error| error.to_string())?;
        fill(&mut store, targets)?;
        Ok(samples)
    })?;
    let mut store = Store::create(&mut slab, &plan, IDENTITY).map_err(|error| error.to_string())?;
    fill(&mut store, targets)?;

    let mut out = vec![0; OUTPUT_BYTES_MAX];
    let mut segments = Vec::new();
    seal(&mut store, &plan, &mut out, &mut |put| {
        if let Put::Segment { bytes, .. } = put {
            segments.push(bytes.to_vec());
        }
    });
    let seal = per_second(|| {
        seal(&mut store, &plan, &mut out, &mut |put| {
            black_box(put);
        });
        Ok(samples)
    })?;

    let (mut ager, mut aged) = (Ager::default(), Vec::new());
    for segment in &segments {
        let made = ager.age(&mut SliceBytes(segment), &mut out).map_err(|error| error.to_string())?;
        let Aging::Aged { bytes } = made else { return Err(format!("a segment of the corpus does not age: {made:?}")) };
        aged.push(out[..bytes].to_vec());
    }
    let age = per_second(|| {
        for segment in &segments {
            black_box(ager.age(&mut SliceBytes(segment), &mut out)).map_err(|error| error.to_string())?;
        }
        Ok(samples)
    })?;
    let scan_sealed = scan_whole(&segments)?;
    let scan_aged = scan_whole(&aged)?;
    let scan_series = scan_by_series(&segments)?;
    let scan_aged_series = scan_by_series(&aged)?;
    let scan_packed = per_second(|| {
        let mut count = 0;
        for timeline in store.timelines() {
            let mut from = store.rows(timeline).start;
            while let Some(run) = store.layout_of_rows(timeline, from) {
                let rows = run.rows.start..run.rows.end.min(run.rows.start + RUN_ROWS_MAX as u64);
                from = rows.end;
                store.columns_read(timeline, rows, 0..run.columns, &mut |column| {
                    black_box(column.cells);
                    count += values_count(column.presence);
                    true
                });
            }
        }
        Ok(count)
    })?;
    let scan_packed_series = scan_packed_series(&store)?;
    Ok(Speeds {
        put,
        seal,
        age,
        scan_sealed,
        scan_aged,
        scan_series,
        scan_aged_series,
        scan_packed,
        scan_packed_series,
    })
}

fn scan_packed_series(store: &Store<'_>) -> Result<f64, String> {
    let mut ids = Vec::new();
    store.series_visit(&mut |series, _| {
        ids.push(series);
        true
    });
    per_second(|| {
        let (mut count, mut sum) = (0, 0_u64);
        for series in &ids {
            store.series_read(*series, i64::MIN, i64::MAX, &mut |t_ms, bits| {
                sum = sum.wrapping_add(bits ^ t_ms as u64);
                count += 1;
            });
        }
        black_box(sum);
        Ok(count)
    })
}

fn scan_whole(segments: &[Vec<u8>]) -> Result<f64, String> {
    let mut reader = SegmentReader::default();
    per_second(|| {
        let mut count = 0;
        for segment in segments {
            let read = reader.cells(&mut SliceBytes(segment), &mut |_, unit| {
                black_box(&unit.cells);
                count += values_count(&unit.presence);
            });
            read.map_err(|error| error.to_string())?;
        }
        Ok(count)
    })
}

fn scan_by_series(segments: &[Vec<u8>]) -> Result<f64, String> {
    let mut heads = Vec::new();
    for segment in segments {
        heads.push(SegmentReader::head(&mut SliceBytes(segment)).map_err(|error| error.to_string())?);
    }
    let mut columns: Vec<(u64, u32)> =
        heads.iter().flat_map(|head| head.columns().map(|column| (head.layout, column))).collect();
    columns.sort_unstable();
    columns.dedup();
    per_second(|| {
        // Each series over all its segments, neighbours one after the other.
        let mut count = 0;
        let (mut cache, mut samples) = (StripeCache::new(STRIPES_BYTES), Vec::new());
        for (layout, column) in columns.iter().copied() {
            samples.clear();
            for (sequence, segment) in segments.iter().enumerate() {
                let head = &heads[sequence];
                if head.layout != layout || !head.columns().contains(&column) {
                    continue;
                }
                let (sequence, bytes) = (sequence as u64, &mut SliceBytes(segment));
                if cache.column(sequence, column).is_none()
                    && !(cache.has_room(layout, column)
                        && cache.keep(sequence, column, bytes).map_err(|error| error.to_string())?)
                {
                    cache
                        .series(bytes, column, usize::MAX, &mut |t_ms, bits| samples.push((t_ms, bits)))
                        .map_err(|error| error.to_string())?;
                }
                match cache.column(sequence, column).map(|kept| (kept.plain_instants_ms().map(<[i64]>::len), kept)) {
                    Some((Some(rows), kept)) => {
                        let instants_ms = kept.plain_instants_ms().unwrap_or_default();
                        samples.extend(instants_ms.iter().copied().zip(kept.bits(0..rows)));
                    }
                    Some((None, kept)) => kept.samples(usize::MAX, &mut |t_ms, bits| samples.push((t_ms, bits))),
                    None => {}
                }
            }
            count += samples.len();
            black_box(&samples);
        }
        Ok(count)
    })
}

fn fill(store: &mut Store<'_>, targets: &[Target]) -> Result<(), String> {
    let mut timelines = Vec::new();
    for target in 0..targets.len() as u64 {
        timelines.push(store.timeline_open(TimelineKey(target + 1)).map_err(|refused| refused.to_string())?);
    }
    for (target, row) in in_order_of_time(targets, 1) {
        put_row(store, timelines[target], row, |index| Some(&targets[target].series[index].labels))?;
    }
    Ok(())
}

/// Everything, into a database that fails in the end, so that the store is as it was.
fn seal(store: &mut Store<'_>, plan: &Plan, out: &mut [u8], take: &mut dyn FnMut(Put<'_>)) {
    let mut spill = new_spill(plan);
    while let Some(put) = spill.seal_next(store, now(0), SealReason::Stop, out) {
        take(put);
    }
    spill.commit(store, 1);
    spill.committed(store, 1, false);
}

fn values_count(presence: &[Presence]) -> usize {
    presence.iter().filter(|state| **state == Presence::Value).count()
}

/// Repeats what tells how many samples it went through.
fn per_second(mut once: impl FnMut() -> Result<usize, String>) -> Result<f64, String> {
    once()?;
    let start = thread_seconds();
    let mut samples = 0;
    loop {
        samples += once()?;
        let seconds = thread_seconds() - start;
        if seconds >= MEASURE_SECONDS {
            return Ok(samples as f64 / seconds / 1e6);
        }
    }
}

pub fn thread_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
