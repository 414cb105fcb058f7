//! Both sides over a line that loses, damages and delays.

use super::*;
use crate::{
    labels::{LabelSet, LabelsRef},
    prng::Prng,
};
use std::{collections::BTreeMap, vec::Vec};

struct TwoLayouts(Vec<LabelSet>);

impl Layouts for TwoLayouts {
    fn column_count(&self, layout: u32) -> u16 {
        if layout == 7 || layout == 8 { self.0.len() as u16 } else { 0 }
    }
    fn labels(&self, _: u32, column: u16) -> Option<LabelsRef<'_>> {
        self.0.get(usize::from(column)).map(LabelSet::as_ref)
    }
}

fn layouts() -> TwoLayouts {
    let names = ["temperature_celsius", "humidity_ratio", "battery_volts"];
    TwoLayouts(names.iter().map(|name| LabelSet::from_pairs([("__name__", *name), ("site", "7")])).collect())
}

/// Layout, age and cells.
type TakenRow = (u32, u64, Vec<(u16, u64)>);

#[derive(Default)]
struct Node {
    columns: BTreeMap<(u32, u16), LabelSet>,
    width: BTreeMap<u32, u16>,
    rows: Vec<TakenRow>,
    lost: u32,
    /// Refuses every row while set.
    full: bool,
}

impl LinkSink for Node {
    fn layout_column_count(&self, _: u64, layout: u32) -> Option<u16> {
        let width = *self.width.get(&layout)?;
        (0..width).all(|column| self.columns.contains_key(&(layout, column))).then_some(width)
    }
    fn layout_column(&mut self, _: u64, layout: u32, column: u16, column_count: u16, labels: LabelsRef<'_>) {
        self.width.insert(layout, column_count);
        self.columns.insert((layout, column), labels.into());
    }
    fn row(&mut self, _: u64, layout: u32, age_ms: u64, cells: Cells<'_>) -> Result<(), NotTaken> {
        if self.full {
            return Err(NotTaken);
        }
        self.rows.push((layout, age_ms, cells.iter().collect()));
        Ok(())
    }
    fn lost(&mut self, _: u64, row_count: u32) {
        self.lost += row_count;
    }
}

/// A line that loses or damages one byte in `one_in`, or none when that is 0.
struct Line {
    prng: Prng,
    one_in: u64,
}

impl Line {
    fn carry(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for &byte in bytes {
            if self.one_in == 0 || !self.prng.chance(1, self.one_in) {
                out.push(byte);
            } else if self.prng.chance(1, 2) {
                out.push(byte ^ 1 << self.prng.below(8));
            }
        }
        out
    }
}

fn exchange<const BYTES: usize>(
    leaf: &mut LinkSender<BYTES>,
    node: &mut LinkReceiver,
    sink: &mut Node,
    line: &mut Line,
    now_ms: u64,
) {
    let mut out = [0; WIRE_BYTES_MAX];
    while let Some(frame) = leaf.next_frame(now_ms, &layouts(), &mut out).unwrap() {
        node.received(&line.carry(frame), sink);
    }
    while let Some(frame) = node.next_frame(&mut out).unwrap() {
        leaf.received(&line.carry(frame));
    }
}

fn values(number: u64) -> [Option<u64>; 3] {
    [Some(number), number.is_multiple_of(2).then_some(number * 10), Some(0)]
}

fn cells(number: u64) -> Vec<(u16, u64)> {
    values(number).iter().enumerate().filter_map(|(column, value)| Some((column as u16, (*value)?))).collect()
}

#[test]
fn every_row_arrives_once_and_in_order_over_a_bad_line() {
    for seed in 0..30 {
        let mut line = Line { prng: Prng::new(seed), one_in: 60 + 60 * (seed % 5) };
        let (mut leaf, mut node, mut sink) = (LinkSender::<8192>::new(99, 1), LinkReceiver::new(), Node::default());
        let mut now_ms = 0;
        for number in 0..60 {
            leaf.push_row(now_ms, 7 + (number / 30) as u32, &values(number)).unwrap();
            exchange(&mut leaf, &mut node, &mut sink, &mut line, now_ms);
            now_ms += 100;
        }
        for _ in 0..20_000 {
            if leaf.row_count() == 0 {
                break;
            }
            now_ms += 250;
            exchange(&mut leaf, &mut node, &mut sink, &mut line, now_ms);
        }
        assert_eq!((leaf.row_count(), leaf.counters.rows_lost, sink.lost), (0, 0, 0), "seed {seed}");
        let taken: Vec<_> = sink.rows.iter().map(|(_, _, cells)| cells.clone()).collect();
        assert_eq!(taken, (0..60).map(cells).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(sink.columns[&(7, 1)], layouts().0[1]);
        assert_eq!(leaf.counters.rows_acknowledged, 60);
    }
}

#[test]
fn a_full_ring_gives_up_its_oldest_rows_and_the_node_is_told_how_many() {
    let (mut leaf, mut node, mut sink) = (LinkSender::<128>::new(99, 1), LinkReceiver::new(), Node::default());
    let mut line = Line { prng: Prng::new(0), one_in: 0 };
    leaf.push_row(0, 7, &values(0)).unwrap();
    for now_ms in [0, 1_000, 3_000] {
        exchange(&mut leaf, &mut node, &mut sink, &mut line, now_ms);
    }
    assert_eq!((leaf.row_count(), sink.rows.len()), (0, 1));
    for number in 1..=10 {
        leaf.push_row(4_000, 7, &values(number)).unwrap();
    }
    let kept = u64::from(leaf.row_count());
    assert!((2..10).contains(&kept) && leaf.counters.rows_lost == 10 - kept as u32);
    exchange(&mut leaf, &mut node, &mut sink, &mut line, 5_000);
    assert_eq!((leaf.row_count(), u64::from(sink.lost)), (0, 10 - kept));
    let newest: Vec<_> = sink.rows[1..].iter().map(|(_, age_ms, cells)| (*age_ms, cells.clone())).collect();
    assert_eq!(newest, (11 - kept..=10).map(|number| (1_000, cells(number))).collect::<Vec<_>>());
}

#[test]
fn a_row_that_the_node_has_no_room_for_comes_again() {
    let (mut leaf, mut node, mut sink) = (LinkSender::<512>::new(99, 1), LinkReceiver::new(), Node::default());
    let mut line = Line { prng: Prng::new(0), one_in: 0 };
    sink.full = true;
    leaf.push_row(0, 7, &values(1)).unwrap();
    for now_ms in [0, 1_000, 5_000] {
        exchange(&mut leaf, &mut node, &mut sink, &mut line, now_ms);
    }
    assert_eq!((leaf.row_count(), sink.rows.len()), (1, 0));
    sink.full = false;
    exchange(&mut leaf, &mut node, &mut sink, &mut line, 60_000);
    assert_eq!((leaf.row_count(), sink.rows.len(), sink.rows[0].1), (0, 1, 60_000));
}

#[test]
fn a_restarted_node_takes_nothing_twice_and_a_restarted_leaf_begins_anew() {
    let (mut leaf, mut node, mut sink) = (LinkSender::<512>::new(99, 1), LinkReceiver::new(), Node::default());
    let mut line = Line { prng: Prng::new(0), one_in: 0 };
    leaf.push_row(0, 7, &values(1)).unwrap();
    exchange(&mut leaf, &mut node, &mut sink, &mut line, 0);
    // The row is asked for again with its layout known; the acknowledgement is lost with the node.
    let mut out = [0; WIRE_BYTES_MAX];
    let mut deaf = Vec::new();
    while let Some(frame) = leaf.next_frame(1_000, &layouts(), &mut out).unwrap() {
        deaf.extend_from_slice(frame);
    }
    node.received(&deaf, &mut sink);
    assert_eq!(sink.rows.len(), 1);
    let mut node = LinkReceiver::resume(node.place().unwrap());
    for now_ms in [5_000, 20_000] {
        exchange(&mut leaf, &mut node, &mut sink, &mut line, now_ms);
    }
    assert_eq!((leaf.row_count(), sink.rows.len(), node.rows_repeated), (0, 1, 1));
    let mut leaf = LinkSender::<512>::new(99, 2);
    leaf.push_row(0, 7, &values(5)).unwrap();
    exchange(&mut leaf, &mut node, &mut sink, &mut line, 10);
    assert_eq!((leaf.row_count(), sink.rows.len(), sink.lost), (0, 2, 0));
}

#[test]
fn rows_that_fit_nowhere_are_refused_when_pushed() {
    let mut leaf = LinkSender::<64>::new(1, 1);
    assert_eq!(leaf.push_row(0, 7, &[Some(1); 7]), Err(PushError::RingTooSmall { ring_bytes: 64 }));
    assert!(leaf.push_row(0, 7, &[Some(1); 6]).is_ok());
    assert!(matches!(leaf.push_row(0, 7, &[Some(1); 200]), Err(PushError::TooWide(_))));
}
