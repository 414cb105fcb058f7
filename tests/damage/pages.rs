//! Where in an SQLite file the things lie that have no checksum of ours: headers of pages, entries of indexes, heads of rows.
//!
//! After sqlite.org/fileformat2.html: 1.3 (file header), 1.6 (b-tree pages), 2.1 (records). Pages that are overflow of blobs, free,
//! or not reached from the schema are left out.

use std::ops::Range;

const PAGE_BYTES: usize = 4096;
const FILE_HEADER_BYTES: usize = 100;
/// Of the schema's record: a b-tree's name, and the page of its root.
const SCHEMA_NAME: usize = 1;
const SCHEMA_ROOT: usize = 3;

/// A b-tree of the file: a table, or an index (a table without rowid is one as well).
pub struct Tree {
    pub name: String,
    pub pages: Vec<Page>,
}

pub struct Page {
    pub is_index: bool,
    /// The page's header with the cells' places.
    pub head: Range<usize>,
    pub cells: Vec<Cell>,
}

pub struct Cell {
    /// Child page, lengths and row number, before the record.
    pub head: Range<usize>,
    /// The record, if there is one; what overflows is not part of it.
    pub record: Option<Record>,
}

pub struct Record {
    /// Of each value its type's bytes, and its own, which may be none.
    pub values: Vec<(Range<usize>, Range<usize>)>,
    pub bytes: Range<usize>,
}

/// The schema and every b-tree that it names.
pub fn trees(file: &[u8]) -> Vec<Tree> {
    let mut found = vec![tree(file, "sqlite_schema".to_owned(), 1)];
    let named: Vec<(String, usize)> = found[0]
        .pages
        .iter()
        .flat_map(|page| &page.cells)
        .filter_map(|cell| cell.record.as_ref())
        .map(|record| {
            let bytes = |value: usize| &file[record.values[value].1.clone()];
            (String::from_utf8_lossy(bytes(SCHEMA_NAME)).into_owned(), number(bytes(SCHEMA_ROOT)))
        })
        .collect();
    found.extend(named.into_iter().map(|(name, root)| tree(file, name, root)));
    found
}

/// Every byte that is the file's header, a page's head, an index's entry, or of a row all but its blob; and the pointer map.
pub fn unchecked_bytes(file: &[u8]) -> Vec<usize> {
    let mut bytes: Vec<usize> = (0..FILE_HEADER_BYTES).collect();
    // Five bytes for each page behind the map's own.
    let mapped = file.len() / PAGE_BYTES - 2;
    bytes.extend(PAGE_BYTES..PAGE_BYTES + (5 * mapped).min(PAGE_BYTES));
    for page in trees(file).iter().flat_map(|tree| &tree.pages) {
        bytes.extend(page.head.clone());
        for cell in &page.cells {
            bytes.extend(cell.head.clone());
            let Some(record) = &cell.record else { continue };
            let blob = record.values.iter().map(|(_, value)| value).find(|value| value.len() > 200);
            let end = if page.is_index { record.bytes.end } else { blob.map_or(record.bytes.end, |blob| blob.start) };
            bytes.extend(record.bytes.start..end);
        }
    }
    bytes.sort_unstable();
    bytes.dedup();
    bytes
}

fn tree(file: &[u8], name: String, root: usize) -> Tree {
    let (mut pages, mut left) = (Vec::new(), vec![root]);
    while let Some(number) = left.pop() {
        pages.push(page(file, number, &mut left));
    }
    Tree { name, pages }
}

fn page(file: &[u8], page_number: usize, children: &mut Vec<usize>) -> Page {
    let from = (page_number - 1) * PAGE_BYTES;
    let head = if page_number == 1 { from + FILE_HEADER_BYTES } else { from };
    let (is_index, is_leaf) = match file[head] {
        2 => (true, false),
        5 => (false, false),
        10 => (true, true),
        13 => (false, true),
        kind => panic!("page {page_number} has kind {kind}"),
    };
    let cell_count = number(&file[head + 3..head + 5]);
    let head_bytes = if is_leaf { 8 } else { 12 };
    if !is_leaf {
        children.push(number(&file[head + 8..head + 12]));
    }
    let places = head + head_bytes..head + head_bytes + 2 * cell_count;
    let cells = file[places.clone()].chunks_exact(2).map(|place| {
        let start = from + number(place);
        let mut at = start;
        if !is_leaf {
            children.push(number(&file[at..at + 4]));
            at += 4;
        }
        let payload = (is_leaf || is_index).then(|| varint(file, &mut at));
        if !is_index {
            varint(file, &mut at);
        }
        let record = payload.map(|payload| record(file, at, payload, is_index));
        Cell { head: start..at, record }
    });
    Page { is_index, cells: cells.collect(), head: head..places.end }
}

fn record(file: &[u8], from: usize, payload: usize, is_index: bool) -> Record {
    let end = from + local_bytes(payload, is_index);
    let mut at = from;
    let head_end = from + varint(file, &mut at);
    let (mut values, mut value) = (Vec::new(), head_end);
    while at < head_end {
        let kind_from = at;
        let kind = varint(file, &mut at);
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            _ => (kind - 12) / 2,
        };
        values.push((kind_from..at, value.min(end)..(value + length).min(end)));
        value += length;
    }
    Record { values, bytes: from..end }
}

/// What of a payload lies in the page itself.
fn local_bytes(payload: usize, is_index: bool) -> usize {
    let usable = PAGE_BYTES;
    let max = if is_index { (usable - 12) * 64 / 255 - 23 } else { usable - 35 };
    let min = (usable - 12) * 32 / 255 - 23;
    if payload <= max {
        return payload;
    }
    let local = min + (payload - min) % (usable - 4);
    if local <= max { local } else { min }
}

fn varint(file: &[u8], at: &mut usize) -> usize {
    let mut value = 0;
    for index in 0..9 {
        let byte = usize::from(file[*at]);
        *at += 1;
        if index == 8 {
            return value << 8 | byte;
        }
        value = value << 7 | byte & 0x7f;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}
