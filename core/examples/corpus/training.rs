//! What aged stripes' contexts learn from recorded scrapes beforehand, and how much of it is true of others.

use crate::series::Target;
use holdfast_core::store::{
    ColumnKind, Presence,
    codec::aged::{self, CONTEXTS, Start, Training},
};
use std::fmt::{self, Write};

/// How often rows come, and how many of them a segment has.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A row is each so many'th scrape.
    pub step: usize,
    rows: usize,
    name: &'static str,
}

pub const AT_5_S: Pace = Pace { step: 1, rows: 240, name: "5 s" };
pub const AT_15_S: Pace = Pace { step: 3, rows: 112, name: "15 s" };
pub const PACES: [Pace; 2] = [AT_5_S, AT_15_S];

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Contexts that nothing has been learned of.
const UNDECIDED: Start = [2048 << 4; CONTEXTS];
/// Fewer decisions than this say little: the context starts undecided and learns fast.
const DECISIONS_FEW: u32 = 20;
/// As how many decisions a start counts at most: more would hold on to what is not true here.
const COUNT_MAX: u16 = 6;

/// A column of a stripe.
type Column = (Vec<u64>, Vec<Presence>);

/// The stripes of a target at one pace.
fn stripes(target: &Target, pace: Pace) -> Vec<Vec<Column>> {
    let all: Vec<_> = target.rows_stepped(pace.step).collect();
    let mut stripes = Vec::new();
    let mut seen_before = vec![false; target.series.len()];
    for rows in all.chunks(pace.rows) {
        // In the order of a layout: as they come.
        let mut order = Vec::new();
        let mut columns: Vec<Option<Column>> = vec![None; target.series.len()];
        for (at, row) in rows.iter().enumerate() {
            let mut seen = vec![false; target.series.len()];
            for sample in &row.samples {
                seen[sample.series] = true;
                let column = columns[sample.series].get_or_insert_with(|| {
                    order.push(sample.series);
                    (vec![0; rows.len()], vec![Presence::Absent; rows.len()])
                });
                (column.0[at], column.1[at]) = (sample.bits, Presence::Value);
            }
            for (series, _) in seen_before.iter().zip(&seen).enumerate().filter(|(_, (before, now))| **before && !**now)
            {
                if let Some(column) = &mut columns[series] {
                    column.1[at] = Presence::Stale;
                }
            }
            seen_before = seen;
        }
        let columns: Vec<Column> = order.iter().filter_map(|series| columns[*series].take()).collect();
        stripes.extend(columns.chunks(aged::STRIPE_COLUMNS as usize).map(<[_]>::to_vec));
    }
    stripes
}

/// Counts what is decided in these stripes.
fn count<'s>(start: &Start, stripes: impl IntoIterator<Item = &'s Vec<Column>>) -> Box<Training> {
    let mut training = Box::new(Training::new());
    for stripe in stripes {
        let columns = stripe.iter().map(|(cells, presence)| (ColumnKind::Float, &cells[..], &presence[..]));
        aged::measure(&mut training, start, columns);
    }
    training
}

/// The start that these decisions teach.
fn learn(trainings: &[&Training]) -> Start {
    core::array::from_fn(|context| {
        let [no, yes]: [u32; 2] =
            [0, 1].map(|decision| trainings.iter().map(|training| training.decisions[context][decision]).sum());
        let all: u32 = no + yes;
        let likely = (f64::from(yes) + 0.4) / (f64::from(all) + 0.8) * 4096.0;
        let count = match all {
            0..=DECISIONS_FEW => 1,
            _ if all <= 10 * DECISIONS_FEW => COUNT_MAX / 2,
            _ => COUNT_MAX,
        };
        (likely.round().clamp(2.0, 4094.0) as u16) << 4 | count
    })
}

/// The start that all these targets teach.
pub fn start_of(targets: &[Target]) -> Start {
    let taught = PACES
        .map(|pace| count(&UNDECIDED, &targets.iter().flat_map(|target| stripes(target, pace)).collect::<Vec<_>>()));
    learn(&[&taught[0], &taught[1]])
}

/// What a start is worth to a target at one pace, in bits without what ends a stripe.
pub struct Worth {
    pub samples: usize,
    pub undecided: f64,
    pub with_start: f64,
    /// Where contexts start as the *other* targets teach it.
    pub taught_by_others: f64,
}

/// By target.
pub fn worth(targets: &[Target], pace: Pace, start: &Start) -> Vec<Worth> {
    let of_targets = |pace| targets.iter().map(|target| stripes(target, pace)).collect::<Vec<_>>();
    // What is decided hardly depends on the start; which start, then, is no matter.
    let taught =
        PACES.map(|pace| of_targets(pace).iter().map(|stripes| count(&UNDECIDED, stripes)).collect::<Vec<_>>());
    let measured = of_targets(pace);
    let worth = measured.iter().enumerate().map(|(target, stripes)| {
        let others = taught.iter().flat_map(|of| of.iter().enumerate().filter(|(at, _)| *at != target));
        let others_start = learn(&others.map(|(_, training)| &**training).collect::<Vec<_>>());
        let states = stripes.iter().flatten().flat_map(|(_, presence)| presence);
        Worth {
            samples: states.filter(|state| **state == Presence::Value).count(),
            undecided: count(&UNDECIDED, stripes).bits(),
            with_start: count(start, stripes).bits(),
            taught_by_others: count(&others_start, stripes).bits(),
        }
    });
    worth.collect()
}

/// The start as a source file.
pub fn render(start: &Start) -> String {
    let mut text = String::from(
        "//! Where the contexts start. Part of the format; written by core/examples/corpus.rs with `--learn --write`.\n\n\
         use super::training::Start;\n\n#[rustfmt::skip]\npub const START: Start = [\n",
    );
    for line in start.chunks(16) {
        let numbers: Vec<String> = line.iter().map(|start| format!("{start:#06x}")).collect();
        _ = writeln!(text, "    {},", numbers.join(", "));
    }
    text + "];\n"
}
