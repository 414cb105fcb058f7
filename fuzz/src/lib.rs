//! What reads foreign bytes, as one function each that takes any bytes and must neither panic nor run away.
//!
//! `fuzz_targets/` hands these to libFuzzer; `tests/corpus.rs` feeds them seeds and mutations on any toolchain.

use holdfast_core::{
    ledger::{LEDGER_KEYS, Ledger},
    notify::{Outbox, OutboxOptions},
    parse::{ExpositionSink, MetricKind, SampleLine, TextParser},
    promql,
    receive::{Inflater, Item, Reader},
    spill::{FRAME_BYTES_MAX, Recovery, Replay, SegmentReader, SliceBytes, SpillState, layout_part_read, log_owner},
    store::{
        ColumnKind, Identity, Plan, Presence, SlabHead, Store,
        codec::{self, StripeDecoder, aged},
        stored::NothingStored,
    },
};
use std::ops::ControlFlow;

/// A target's name, and what it does.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("columns", columns),
    ("aged_stripe", aged_stripe),
    ("instants", instants),
    ("segment", segment),
    ("layout_part", layout_part),
    ("log", log),
    ("states", states),
    ("slab", slab),
    ("remote_write", remote_write),
    ("exposition", exposition),
    ("promql_text", promql_text),
];

/// The first byte tells how many rows, the rest are columns one after the other.
pub fn columns(bytes: &[u8]) {
    let Some((rows, mut rest)) = bytes.split_first() else { return };
    let rows = usize::from(*rows);
    let (mut cells, mut presence) = (vec![0; rows], vec![Presence::Absent; rows]);
    let mut decoder = StripeDecoder::<{ codec::ROWS_MAX }>::new();
    while let Ok(used) = decoder.column(rest, rows, &mut cells, &mut presence) {
        if used == 0 || used > rest.len() {
            assert!(used <= rest.len(), "{used} bytes of {}", rest.len());
            break;
        }
        rest = &rest[used..];
    }
}

pub fn aged_stripe(bytes: &[u8]) {
    let Some((rows, rest)) = bytes.split_first() else { return };
    let rows = usize::from(*rows);
    let mut workspace = aged::Workspace::default();
    let (mut cells, mut presence) = (vec![0; rows], vec![Presence::Absent; rows]);
    let Ok(mut decoder) = aged::StripeDecoder::new(&mut workspace, rows, rest) else { return };
    for column in 0..16 {
        let kind = if column % 5 == 4 { ColumnKind::Age } else { ColumnKind::Float };
        if decoder.column(kind, &mut cells, &mut presence).is_err() {
            return;
        }
    }
}

pub fn instants(bytes: &[u8]) {
    let Some((rows, rest)) = bytes.split_first() else { return };
    let mut instants_ms = vec![0; usize::from(*rows)];
    if let Ok(used) = codec::decode_instants(rest, instants_ms.len(), &mut instants_ms) {
        assert!(used <= rest.len());
    }
}

pub fn segment(bytes: &[u8]) {
    let mut reader = SegmentReader::default();
    let Ok(head) = reader.open(&mut SliceBytes(bytes)) else { return };
    let _ = reader.columns(&mut SliceBytes(bytes), head.rows(), &mut |samples| {
        assert!(head.columns().contains(&samples.column));
        assert!(samples.rows.len() == samples.t_ms.len() && samples.rows.len() == samples.bits.len());
        true
    });
    let _ = reader.series(&mut SliceBytes(bytes), head.column_from, usize::MAX, &mut |_, _| {});
}

pub fn layout_part(bytes: &[u8]) {
    let mut given = 0;
    let read = layout_part_read(bytes, &mut |_, _, labels| {
        given += 1;
        labels.iter().count() < usize::MAX
    });
    if let Ok(head) = read {
        assert!(given <= head.column_count);
    }
}

/// A whole file of frames, in pieces, replayed into a small store.
pub fn log(bytes: &[u8]) {
    let Ok(plan) = Plan::for_slab(32 * 1024) else { unreachable!("a plan of 32 KiB") };
    let mut buf = vec![0; FRAME_BYTES_MAX];
    for generation in [None, log_owner(bytes).map(|(generation, _)| generation), Some(7)] {
        let mut recovery = Recovery::new(&mut buf, generation);
        let mut slab = vec![0; plan.slab_bytes()];
        let identity = Identity { store_uuid: *b"0123456789abcdef", boot_id: [1; 16], log_generation: 0 };
        let Ok(mut store) = Store::create(&mut slab, &plan, identity) else {
            unreachable!("a slab of the plan's size")
        };
        let mut replay = Replay::new(identity.store_uuid, 64 * 1024);
        for mut piece in bytes.chunks(1_021) {
            while !piece.is_empty() {
                piece = &piece[recovery.feed(piece)..];
                while let Ok(Some(frame)) = recovery.next_frame() {
                    replay.apply(frame, &mut store, &mut NothingStored).expect("nothing is stored, and that is read");
                }
            }
        }
        recovery.finish();
        replay.generation_ended(&mut store);
        replay.finish(&mut store);
    }
}

pub fn states(bytes: &[u8]) {
    let _ = SpillState::decode(bytes);
    for page in 0..LEDGER_KEYS.len() {
        let _ = Ledger::default().restore(page, bytes);
    }
    let _ = Outbox::new(OutboxOptions::default()).restore(bytes);
}

/// A slab of the size and plan that it says, or of a small one.
pub fn slab(bytes: &[u8]) {
    let head = SlabHead::read(bytes);
    let Ok(plan) = head.map_or_else(|_| Plan::for_slab(16 * 1024), |head| Ok(head.plan)) else { return };
    let identity = Identity { store_uuid: [7; 16], boot_id: [1; 16], log_generation: 0 };
    let mut bytes = bytes.to_vec();
    if let Ok((store, _)) = Store::attach(&mut bytes, &plan, &identity) {
        for timeline in store.timelines() {
            store.rows_read(timeline, store.rows(timeline), &mut |_| true);
        }
        store.state_visit(&mut |_, _| {});
    }
}

/// A body as it comes, and what is inflated of it.
pub fn remote_write(bytes: &[u8]) {
    read_request(bytes);
    let mut inflater = Inflater::default();
    let Ok(total) = inflater.begin(bytes) else { return };
    let mut inflated = Vec::new();
    while (inflated.len() as u64) < total.min(1 << 20) {
        if inflater.fill(bytes).is_err() || inflater.bytes().is_empty() {
            break;
        }
        inflated.extend_from_slice(inflater.bytes());
        inflater.take(inflater.bytes().len());
    }
    read_request(&inflated);
}

fn read_request(mut bytes: &[u8]) {
    let mut reader = Reader::new(bytes.len() as u64);
    while let Ok((used, item)) = reader.next(bytes) {
        if matches!(item, Item::End | Item::More) || used > bytes.len() {
            assert!(used <= bytes.len(), "{used} bytes of {}", bytes.len());
            break;
        }
        bytes = &bytes[used..];
    }
}

pub fn exposition(bytes: &[u8]) {
    struct Sink;
    impl ExpositionSink for Sink {
        fn sample(&mut self, _: SampleLine<'_>) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
        fn help(&mut self, _: &str, _: &str) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
        fn kind(&mut self, _: &str, _: MetricKind) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }
    for piece_bytes in [usize::MAX, 7] {
        let mut parser = TextParser::new();
        let fed = bytes.chunks(piece_bytes.min(bytes.len().max(1))).try_for_each(|piece| parser.feed(piece, &mut Sink));
        if fed.is_ok() {
            let _ = parser.finish(&mut Sink);
        }
    }
}

pub fn promql_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(expression) = promql::parse(text) {
        let written = expression.to_string();
        let again = promql::parse(&written).unwrap_or_else(|error| panic!("{written:?}: {error}"));
        assert_eq!(again.to_string(), written);
    }
    let _ = promql::parse_selector(text);
}
