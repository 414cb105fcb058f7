//! The database's tables, and how its file is opened.

use super::super::DiskError;
use super::{JOURNAL_BYTES_MAX, mend::put_sums, sums::Sums};
use holdfast_core::spill::crc32;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

/// `PRAGMA user_version`. Raised when an older holdfast could not read what this one writes. Only numbers with an odd count of
/// set bits are versions (1, 2, 4, 7, 8, ...): one with a flipped bit is none.
pub const FORMAT_VERSION: i64 = 1;
const _: () = assert!(FORMAT_VERSION.count_ones() % 2 == 1);
/// `PRAGMA application_id`: "HFST".
pub const APPLICATION_ID: i64 = 0x4846_5354;

pub const CACHE_KIB: i64 = 512;
/// Where SQLite's file header has the two numbers above, as 32-bit big endian (sqlite.org/fileformat2.html, 1.3).
const HEADER_USER_VERSION: usize = 60;
const HEADER_APPLICATION_ID: usize = 68;
const HEADER_BYTES: usize = 100;
/// The database's b-trees. Their roots lie behind the first page and the first one of the pointer map, from the day on which
/// the tables were made: with `auto_vacuum` SQLite keeps roots at the file's beginning.
pub const ROOT_COUNT: u8 = 11;
pub const ROOT_FIRST: u8 = 3;
const LAST_ROOT: u8 = ROOT_FIRST + ROOT_COUNT - 1;

const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;

-- A run of a layout's columns. `part` ascends in the order of storing.
CREATE TABLE layouts (
  part INTEGER PRIMARY KEY, timeline INTEGER NOT NULL, layout INTEGER NOT NULL,
  column_from INTEGER NOT NULL, column_count INTEGER NOT NULL, bytes BLOB NOT NULL);
CREATE UNIQUE INDEX layouts_by_layout ON layouts (layout, column_from);
-- Within a timeline in the order of `part`, as every index is behind its own columns.
CREATE INDEX layouts_by_timeline ON layouts (timeline);

-- Timelines and layouts are 64-bit hashes and numbers, kept as signed integers of the same bits.
CREATE TABLE segments (
  sequence INTEGER PRIMARY KEY, timeline INTEGER NOT NULL, layout INTEGER NOT NULL,
  row_from INTEGER NOT NULL, row_count INTEGER NOT NULL, column_from INTEGER NOT NULL, column_count INTEGER NOT NULL,
  t_min INTEGER NOT NULL, t_max INTEGER NOT NULL, bytes BLOB NOT NULL);
CREATE INDEX segments_by_row ON segments (timeline, row_from, column_from, row_count);
CREATE INDEX segments_by_layout ON segments (layout, t_max, t_min, column_from, column_count);
CREATE INDEX segments_by_end ON segments (t_max);
CREATE INDEX segments_by_start ON segments (t_min);

CREATE TABLE state (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL);
INSERT INTO meta (key, value) VALUES ('store_uuid', randomblob(16));
";

/// Looks at the file's first bytes, without SQLite, which might already roll a journal back.
pub fn refuse_newer(path: &Path) -> Result<(), DiskError> {
    let failed = |source: io::Error| DiskError::File { path: path.to_path_buf(), source };
    let mut header = [0; HEADER_BYTES];
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(mut file) => match file.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(failed(error)),
            Ok(()) => {}
        },
    }
    let number =
        |at: usize| i64::from(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
    let found = number(HEADER_USER_VERSION);
    if header.starts_with(b"SQLite format 3\0")
        && number(HEADER_APPLICATION_ID) == APPLICATION_ID
        && found > FORMAT_VERSION
        && found.count_ones() % 2 == 1
    {
        return Err(DiskError::NewerVersion { path: path.to_path_buf(), found, known: FORMAT_VERSION });
    }
    Ok(())
}

/// What never changes in the file's header from the day on which the tables were made (sqlite.org/fileformat2.html, 1.3):
/// format, page size, versions for a rollback journal, fractions of a page; schema format, last root, encoding; our numbers.
const HEADER_CONSTANTS: [(usize, &[u8]); 5] = [
    (0, b"SQLite format 3\0\x10\0\x01\x01\0\x40\x20\x20"),
    (44, &[0, 0, 0, 4]),
    (52, &[0, 0, 0, LAST_ROOT]),
    (56, &[0, 0, 0, 1, 0, 0, 0, FORMAT_VERSION as u8, 0, 0, 0, 1]),
    (HEADER_APPLICATION_ID, &(APPLICATION_ID as u32).to_be_bytes()),
];

/// Turns a flipped bit in what never changes in the file's header back, before SQLite looks at it: it would refuse the file, or take
/// it for one that must not be written. True: there was one.
pub fn mend_header(path: &Path) -> io::Result<bool> {
    let mut header = [0; HEADER_BYTES];
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        result => result?,
    };
    match file.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        result => result?,
    }
    let found = |(at, expected): &(usize, &'static [u8])| header[*at..*at + expected.len()].to_vec();
    let flipped = |constant: &&(usize, &'static [u8])| {
        let pairs = found(constant).into_iter().zip(constant.1);
        pairs.map(|(found, expected)| (found ^ expected).count_ones()).sum::<u32>()
    };
    if HEADER_CONSTANTS.iter().map(|constant| flipped(&constant)).sum::<u32>() != 1 {
        return Ok(false);
    }
    if let Some((at, expected)) = HEADER_CONSTANTS.iter().find(|constant| flipped(constant) == 1) {
        file.write_all_at(expected, *at as u64)?;
        file.sync_all()?;
    }
    Ok(true)
}

/// Opens the database, making its tables when it is empty: for `store_uuid`, or one made at random. The connection, and the
/// store's UUID.
pub fn open(
    path: &Path,
    heap_bytes_max: u64,
    store_uuid: Option<[u8; 16]>,
) -> Result<(Connection, [u8; 16]), DiskError> {
    let failed = |source| DiskError::Database { path: path.to_path_buf(), source };
    let connection = connect(path, heap_bytes_max).map_err(failed)?;
    let table_count: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if table_count == 0 {
        create(&connection, store_uuid).map_err(failed)?;
    } else if pragma_i64(&connection, "application_id").map_err(failed)? != APPLICATION_ID
        && !is_of_log(&connection, store_uuid)
    {
        return Err(DiskError::Foreign {
            path: path.to_path_buf(),
            found: "an SQLite database of other tables".to_owned(),
            owner: "another program",
        });
    }
    if pragma_i64(&connection, "user_version").map_err(failed)? != FORMAT_VERSION
        && let Err(error) = connection.pragma_update(None, "user_version", FORMAT_VERSION)
    {
        log::warn!("the database's version number is damaged and could not be written: {error}");
    }
    let found = connection
        .query_row("SELECT value FROM meta WHERE key = 'store_uuid'", [], |row| row.get(0))
        .optional()
        .map_err(failed)?
        .ok_or_else(|| {
            failed(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                Some("no store_uuid".to_owned()),
            ))
        })?;
    let store_uuid = checked_uuid(&connection, found, store_uuid).map_err(failed)?;
    Ok((connection, store_uuid))
}

/// A file with a flipped bit in its application's number is still ours when it has the UUID of the log beside it.
fn is_of_log(connection: &Connection, of_log: Option<[u8; 16]>) -> bool {
    let found = connection.query_row("SELECT value FROM meta WHERE key = 'store_uuid'", [], |row| row.get(0)).ok();
    if found.is_none() || found != of_log {
        return false;
    }
    if let Err(error) = connection.pragma_update(None, "application_id", APPLICATION_ID) {
        log::warn!("the database's application number is damaged and could not be written: {error}");
    }
    true
}

/// A flipped bit in the UUID would make slab and log another store's. Where its checksum does not match, the log, whose
/// frames have theirs, says whose it is.
fn checked_uuid(connection: &Connection, found: [u8; 16], of_log: Option<[u8; 16]>) -> rusqlite::Result<[u8; 16]> {
    let known: Option<i64> =
        connection.query_row("SELECT value FROM meta WHERE key = 'store_uuid_crc'", [], |row| row.get(0)).optional()?;
    let store_uuid = match known {
        Some(crc) if crc == i64::from(crc32(&found)) => return Ok(found),
        Some(_) => of_log.unwrap_or(found),
        None => found,
    };
    if store_uuid != found {
        log::error!("the database's store UUID does not match its checksum; the log's is taken");
    }
    let crc = i64::from(crc32(&store_uuid));
    let written =
        connection.execute("UPDATE meta SET value = ?1 WHERE key = 'store_uuid'", [store_uuid]).and_then(|_| {
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('store_uuid_crc', ?1)", [crc])
        });
    if let Err(error) = written {
        // A full disk, say: the next start writes it.
        log::warn!("the store UUID's checksum could not be written: {error}");
    }
    Ok(store_uuid)
}

/// Opens a database without the right to change it.
pub fn open_to_read(path: &Path) -> Result<(Connection, [u8; 16]), DiskError> {
    let failed = |source| DiskError::Database { path: path.to_path_buf(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(failed)?;
    let store_uuid = connection
        .query_row("SELECT value FROM meta WHERE key = 'store_uuid'", [], |row| row.get(0))
        .map_err(failed)?;
    Ok((connection, store_uuid))
}

/// States every setting that matters, rather than trusting how SQLite was built.
fn connect(path: &Path, heap_bytes_max: u64) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.set_prepared_statement_cache_capacity(24);
    let set = |name: &str, value: &dyn rusqlite::ToSql| connection.pragma_update(None, name, value);
    // One for the whole process, and it can only be lowered: a statement fails rather than use more.
    set("hard_heap_limit", &i64::try_from(heap_bytes_max).unwrap_or(i64::MAX))?;
    set("page_size", &4096_i64)?;
    set("auto_vacuum", &"INCREMENTAL")?;
    set("locking_mode", &"EXCLUSIVE")?;
    // Keeps the journal's space, so that deleting still works on a full disk.
    set("journal_mode", &"PERSIST")?;
    set("journal_size_limit", &(JOURNAL_BYTES_MAX as i64))?;
    set("synchronous", &"FULL")?;
    set("cache_size", &-CACHE_KIB)?;
    set("mmap_size", &0_i64)?;
    set("temp_store", &"MEMORY")?;
    set("trusted_schema", &"OFF")?;
    set("cell_size_check", &"ON")?;
    Ok(connection)
}

fn create(connection: &Connection, store_uuid: Option<[u8; 16]>) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT_VERSION}; {TABLES}"
    ))?;
    if let Some(uuid) = store_uuid {
        connection.execute("UPDATE meta SET value = ?1 WHERE key = 'store_uuid'", [uuid])?;
    }
    put_sums(connection, &Sums::default())?;
    connection.execute_batch("COMMIT")
}

fn pragma_i64(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}
