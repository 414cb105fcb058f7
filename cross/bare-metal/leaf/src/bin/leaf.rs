//! A leaf: keeps its sensors' rows in static memory while the node is away, goes on with them after a reset, and hands
//! them to the node once it is there.
//!
//! The first time it starts it finds no store, makes one, writes more rows than fit and resets the board. The second
//! time it attaches to what is still in memory, checks every row bit for bit, and hands all of them over the line; a row
//! counts as kept elsewhere only when the node has acknowledged it.
#![no_std]
#![no_main]

use core::fmt;
use cortex_m_rt::entry;
use holdfast_core::{
    labels::{LabelsError, LabelsRef},
    link::{LinkSender, PushError},
    memory::{BudgetError, Plan},
    store::{AttachError, Identity, Missing, PutOutcome, Refused, Store, StoreError, TimelineId, TimelineKey},
};
use holdfast_leaf::{Board, SensorLayout, exchange, say, with_slab};
use holdfast_sensors as sensors;

const SERIES_COUNT: u64 = 24;
/// Written while the node is away: more than the slab holds.
const ROW_COUNT: u32 = 2_500;
/// Written after the node has everything: they may push out what it has, and nothing else.
const ROW_COUNT_AFTER: u32 = 50;
/// Rows handed to the link at once. The store is the queue; the link keeps what is on its way.
const LINK_ROWS_COUNT: u32 = 8;
const LINK_BYTES: usize = 1024;
const SILENCE_MS_MAX: u64 = 60_000;
const LEAF: u64 = 0x1eaf;
const BOOTS_STATE: &str = "boots";

enum Failure {
    Budget(BudgetError),
    Store(StoreError),
    Attach(AttachError),
    Refused(Refused),
    Labels(LabelsError),
    Push(PushError),
    /// What was to be, and the two numbers that should be one.
    Differs {
        what: &'static str,
        found: u64,
        expected: u64,
    },
    /// Row and column.
    Value {
        row: u32,
        column: usize,
    },
    NodeSilent {
        rows_left: u64,
    },
}

#[entry]
fn main() -> ! {
    with_slab(run)
}

fn run(board: &mut Board, slab: &'static mut [u8]) -> Result<(), Failure> {
    let plan = Plan::for_series(slab.len(), SERIES_COUNT).map_err(Failure::Budget)?;
    let identity = Identity { store_uuid: *b"holdfast leaf 01", boot_id: *b"until power goes", log_generation: 0 };
    let (mut store, report) = match Store::attach(slab, &plan, &identity) {
        Ok(attached) => attached,
        Err((AttachError::NoStore, slab)) => {
            let mut store = Store::create(slab, &plan, identity).map_err(Failure::Store)?;
            store.state_put(BOOTS_STATE, &[1]).map_err(Failure::Refused)?;
            let timeline = store.timeline_open(TimelineKey(LEAF)).map_err(Failure::Refused)?;
            write_rows(&mut store, timeline, 0..ROW_COUNT)?;
            say(&mut board.uart, format_args!("new store, {ROW_COUNT} rows written, resetting"));
            cortex_m::peripheral::SCB::sys_reset();
        }
        Err((error, _)) => return Err(Failure::Attach(error)),
    };
    same("boots before this one", store.state_get(BOOTS_STATE).map_or(0, |boots| boots[0].into()), 1)?;
    same("series after the reset", report.series.into(), sensors::COLUMN_COUNT as u64)?;
    let timeline = store.timeline_open(TimelineKey(LEAF)).map_err(Failure::Refused)?;

    let rows = store.rows(timeline);
    same("row after the last", rows.end, ROW_COUNT.into())?;
    same("rows after the reset", report.rows, rows.end - rows.start)?;
    check_rows(&store, timeline)?;
    let counters = store.usage().counters;
    same("evicted rows", counters.evicted_rows, rows.start)?;
    same("evicted rows that the node never had", counters.evicted_unspilled_rows, rows.start)?;
    same("rows committed", counters.committed_rows, ROW_COUNT.into())?;
    if rows.start == 0 || rows.end - rows.start < 100 {
        return Err(Failure::Differs { what: "oldest row", found: rows.start, expected: u64::from(ROW_COUNT) - 100 });
    }
    say(
        &mut board.uart,
        format_args!("attached: rows {} to {} are whole, {} evicted", rows.start, rows.end - 1, rows.start),
    );

    let frames_repeated = hand_over(board, &mut store, timeline)?;
    say(&mut board.uart, format_args!("node has all of them, {frames_repeated} frames went twice"));

    write_rows(&mut store, timeline, ROW_COUNT..ROW_COUNT + ROW_COUNT_AFTER)?;
    check_rows(&store, timeline)?;
    let after = store.usage().counters;
    same("evicted rows that the node never had", after.evicted_unspilled_rows, counters.evicted_unspilled_rows)?;
    same("evicted rows afterwards", after.evicted_rows, store.rows(timeline).start)?;
    if after.evicted_rows == counters.evicted_rows {
        return Err(Failure::Differs {
            what: "evictions",
            found: after.evicted_rows,
            expected: after.evicted_rows + 1,
        });
    }
    Ok(())
}

fn write_rows(store: &mut Store<'_>, timeline: TimelineId, rows: core::ops::Range<u32>) -> Result<(), Failure> {
    let mut buf = [0; sensors::LABELS_BYTES_MAX];
    for row in rows {
        store.row_begin(timeline, instant_ms(row) as i64).map_err(Failure::Refused)?;
        for column in 0..sensors::COLUMN_COUNT {
            let labels = sensors::labels(column, &mut buf).map_err(Failure::Labels)?;
            let Some(bits) = sensors::reading(row, column) else { continue };
            let put = store.row_put(timeline, labels, bits, None).map_err(Failure::Refused)?;
            if matches!(put, PutOutcome::Duplicate { .. }) {
                return Err(Failure::Value { row, column });
            }
        }
        same("number of the row", store.row_commit(timeline, Missing::Stale).row, row.into())?;
    }
    Ok(())
}

/// Every value of every row in memory. Series by series: reading whole rows would take more stack than there is.
fn check_rows(store: &Store<'_>, timeline: TimelineId) -> Result<(), Failure> {
    let rows = store.rows(timeline);
    let mut buf = [0; sensors::LABELS_BYTES_MAX];
    for column in 0..sensors::COLUMN_COUNT {
        let labels = sensors::labels(column, &mut buf).map_err(Failure::Labels)?;
        let mut found_count = 0;
        let mut wrong = None;
        read_series(store, labels, i64::MIN, i64::MAX, &mut |t_ms, bits| {
            let row = (t_ms / sensors::INTERVAL_MS as i64) as u32;
            if !rows.contains(&row.into()) || sensors::kept(row, column) != Some(bits) {
                wrong = wrong.or(Some(row));
            }
            found_count += 1;
        });
        if let Some(row) = wrong {
            return Err(Failure::Value { row, column });
        }
        let expected = rows.clone().filter(|row| sensors::kept(*row as u32, column).is_some()).count();
        same("values of a column", found_count, expected as u64)?;
    }
    Ok(())
}

/// Returns how many frames were sent again.
fn hand_over(board: &mut Board, store: &mut Store<'_>, timeline: TimelineId) -> Result<u32, Failure> {
    let layout = SensorLayout::new().map_err(Failure::Labels)?;
    let session = 1 + store.state_get(BOOTS_STATE).map_or(0, |boots| u32::from(boots[0]));
    let mut link = LinkSender::<LINK_BYTES>::new(LEAF, session);
    let rows = store.rows(timeline);
    let mut handed = rows.start;
    let mut progress_ms = board.clock.elapsed_ms();
    while store.rows_spilled(timeline) < rows.end {
        while handed < rows.end && link.row_count() < LINK_ROWS_COUNT {
            let values = read_row(store, handed)?;
            link.push_row(instant_ms(handed as u32), layout.number(), &values).map_err(Failure::Push)?;
            handed += 1;
        }
        let elapsed_ms = board.clock.elapsed_ms();
        let Ok(()) = exchange(board, &mut link, &layout, instant_ms(rows.end as u32 - 1) + elapsed_ms);
        let acknowledged = handed - u64::from(link.row_count());
        if acknowledged > store.rows_spilled(timeline) {
            store.set_rows_spilled(timeline, acknowledged);
            progress_ms = elapsed_ms;
        }
        if elapsed_ms - progress_ms > SILENCE_MS_MAX {
            return Err(Failure::NodeSilent { rows_left: rows.end - acknowledged });
        }
    }
    same("rows the link gave up", link.counters.rows_lost.into(), 0)?;
    same("rows acknowledged", link.counters.rows_acknowledged.into(), rows.end - rows.start)?;
    Ok(link.counters.frames_repeated)
}

fn read_row(store: &Store<'_>, row: u64) -> Result<[Option<u64>; sensors::COLUMN_COUNT], Failure> {
    let mut values = [None; sensors::COLUMN_COUNT];
    let mut buf = [0; sensors::LABELS_BYTES_MAX];
    let t_ms = instant_ms(row as u32) as i64;
    for (column, value) in values.iter_mut().enumerate() {
        let labels = sensors::labels(column, &mut buf).map_err(Failure::Labels)?;
        read_series(store, labels, t_ms, t_ms, &mut |_, bits| *value = Some(bits));
    }
    Ok(values)
}

fn read_series(store: &Store<'_>, labels: LabelsRef<'_>, from_ms: i64, to_ms: i64, visit: &mut dyn FnMut(i64, u64)) {
    if let Some(series) = store.series_find(labels) {
        store.series_read(series, from_ms, to_ms, visit);
    }
}

fn instant_ms(row: u32) -> u64 {
    u64::from(row) * sensors::INTERVAL_MS
}

fn same(what: &'static str, found: u64, expected: u64) -> Result<(), Failure> {
    if found == expected { Ok(()) } else { Err(Failure::Differs { what, found, expected }) }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Attach(error) => error.fmt(f),
            Self::Refused(error) => error.fmt(f),
            Self::Labels(error) => error.fmt(f),
            Self::Push(error) => error.fmt(f),
            Self::Differs { what, found, expected } => write!(f, "{what}: {found}, expected {expected}"),
            Self::Value { row, column } => write!(f, "row {row}, column {column}: not the value that was written"),
            Self::NodeSilent { rows_left } => write!(f, "the node is silent, {rows_left} rows are left"),
        }
    }
}
