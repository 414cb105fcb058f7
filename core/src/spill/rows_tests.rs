use super::*;
use crate::spill::{
    frame::FRAME_BYTES_MAX,
    testing::{Grid, GridRows},
};
use alloc::vec;
use proptest::prelude::*;

const TIMELINE: TimelineKey = TimelineKey(9);

/// Row, time and bits, by column.
type Samples = Vec<Vec<(u64, i64, u64)>>;

fn add(writer: &mut RowsWriter<'_>, grid: &Grid, rows: Range<usize>, history_rows: usize) -> bool {
    let rows = rows.start - history_rows..rows.end;
    let spec = BlockSpec {
        timeline: TIMELINE,
        layout: 5,
        row_from: 1_000 + (rows.start + history_rows) as u64,
        column_count_total: grid.columns.len() as u32,
        columns: 0..grid.columns.len() as u32,
        columns_stored: 0,
        history_rows,
        instants_ms: &grid.instants_ms[rows.clone()],
    };
    writer.block(&spec, &GridRows { grid, rows })
}

/// One frame with one block.
fn frame(grid: &Grid, rows: Range<usize>, history_rows: usize) -> Vec<u8> {
    let mut out = vec![0; FRAME_BYTES_MAX];
    let mut writer = RowsWriter::new(&mut out);
    assert!(writer.is_empty() && add(&mut writer, grid, rows, history_rows));
    assert!(!writer.is_empty());
    let end = writer.finish();
    out.truncate(end);
    out
}

/// Reads a frame's blocks and gives the samples, as a grid tells them.
fn read(payload: &[u8], history: &mut History, columns: usize) -> Result<Samples, FormatError> {
    let mut samples = vec![Vec::new(); columns];
    let (mut reader, mut block) = (RowsReader::new(payload)?, Block::default());
    while let Some(head) = reader.head()? {
        reader.read(&head, Some(history), &mut block, &mut |_, _| ())?;
        history.keep(&head, &block);
        for (column, samples) in samples.iter_mut().enumerate() {
            samples.extend(block.samples(&head, column as u32));
        }
    }
    Ok(samples)
}

fn expected(grid: &Grid, rows: Range<usize>) -> Samples {
    let of = |column: usize| match grid.columns[column].kind {
        ColumnKind::Age => Vec::new(),
        ColumnKind::Float => {
            let wanted = |(row, _, _): &(u64, i64, u64)| rows.contains(&(*row as usize - 1_000));
            grid.samples(column, 1_000).into_iter().filter(wanted).collect()
        }
    };
    (0..grid.columns.len()).map(of).collect()
}

#[test]
fn blocks_of_a_chain_come_back_whatever_their_lengths() {
    for seed in 0..40 {
        let grid = Grid::random(seed, 30, 25);
        let mut history = History::new(TIMELINE);
        let (mut row, mut known) = (0, 0);
        for length in [3, 1, 1, 2, 7, 1, 12, 3] {
            let payload = frame(&grid, row..row + length, known);
            assert_eq!(read(&payload, &mut history, 25).unwrap(), expected(&grid, row..row + length), "seed {seed}");
            row += length;
            known = (length + known.min(1)).min(HISTORY_ROWS_MAX);
        }
    }
}

#[test]
fn a_block_whose_rows_before_are_not_there_or_are_others_is_not_told() {
    let (grid, other) = (Grid::random(1, 12, 9), Grid::random(2, 12, 9));
    let second = frame(&grid, 5..9, 2);
    let told = |history: &mut History| read(&second, history, 9);
    assert!(told(&mut History::new(TIMELINE)).is_err(), "none");
    let mut history = History::new(TIMELINE);
    read(&frame(&grid, 0..4, 0), &mut history, 9).unwrap();
    assert!(told(&mut history).is_err(), "a row is missing between them");
    let mut history = History::new(TIMELINE);
    read(&frame(&other, 0..5, 0), &mut history, 9).unwrap();
    assert!(told(&mut history).is_err(), "other rows of the same numbers");
    let mut history = History::new(TIMELINE);
    read(&frame(&grid, 0..5, 0), &mut history, 9).unwrap();
    assert_eq!(told(&mut history).unwrap(), expected(&grid, 5..9));
}

#[test]
fn a_block_that_does_not_fit_leaves_the_frame_as_it_was() {
    let mut noise = Grid::random(3, 250, 20);
    let mut prng = crate::prng::Prng::new(4);
    noise.columns.iter_mut().for_each(|column| column.cells.fill_with(|| prng.next_u64()));
    let mut out = vec![0; 30_000];
    let mut writer = RowsWriter::new(&mut out);
    let mut row = 0;
    while add(&mut writer, &noise, row..row + 25, row.min(HISTORY_ROWS_MAX)) {
        row += 25;
    }
    assert!((100..250).contains(&row), "{row} rows of noise in 30,000 bytes");
    let end = writer.finish();
    let found = read(&out[..end], &mut History::new(TIMELINE), 20).unwrap();
    assert_eq!(found, expected(&noise, 0..row));
}

#[test]
fn a_frame_takes_as_many_cells_as_one_bite_may_have() {
    let grid = Grid::random(5, 240, 60);
    let mut out = vec![0; FRAME_BYTES_MAX];
    let mut writer = RowsWriter::new(&mut out);
    assert_eq!(writer.cells_left(), BLOCK_CELLS_MAX);
    assert!(add(&mut writer, &grid, 0..240, 0));
    assert_eq!(writer.cells_left(), BLOCK_CELLS_MAX);
    assert!(add(&mut writer, &grid, 0..240, 0));
    assert_eq!(writer.cells_left(), FRAME_CELLS_MAX - 2 * 240 * 60);
    // So many small blocks that their heads fill the frame.
    let mut small = RowsWriter::new(&mut out);
    let mut count = 0;
    while small.cells_left() > 0 {
        assert!(add(&mut small, &grid, 0..1, 0));
        count += 1;
    }
    assert!(count > 20 && count * 60 < FRAME_CELLS_MAX, "{count}");
}

proptest! {
    #[test]
    fn damaged_payloads_never_panic(
        seed: u64,
        patches in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let grid = Grid::random(seed, 8, 12);
        let mut payload = frame(&grid, 2..8, 2);
        let mut first = History::new(TIMELINE);
        read(&frame(&grid, 0..2, 0), &mut first, 12).unwrap();
        for (at, value) in &patches {
            let at = at.index(payload.len());
            payload[at] = *value;
        }
        if patches.len() == 5 {
            payload.truncate(cut.index(payload.len()));
        }
        let _ = read_any(&payload, &first);
        let _ = read_any(&payload[..payload.len() / 2], &first);
    }
}

/// Without the expectation that columns and timelines are those that were written.
fn read_any(payload: &[u8], history: &History) -> Result<usize, FormatError> {
    let (mut reader, mut block, mut count) = (RowsReader::new(payload)?, Block::default(), 0);
    while let Some(head) = reader.head()? {
        reader.read(&head, Some(history), &mut block, &mut |_, _| ())?;
        if head.is_whole() {
            History::new(head.timeline).keep(&head, &block);
        }
        count += 1;
    }
    Ok(count)
}
