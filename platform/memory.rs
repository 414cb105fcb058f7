//! Memory: the slab that outlives the process, the allocator with a cap, and what the kernel says we use.
//!
//! This is the one file with `unsafe`: mapping the slab, and standing in front of the system's allocator.

use holdfast_core::{daemon::input::Usage, limits::PANIC_STRIKES_COUNT, prng::stable_hash, store::STRIKES_AT};
use rustix::{
    fs::{FallocateFlags, OFlags, fallocate, statfs},
    mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap},
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering},
};

/// The bytes of the hot store, for as long as the process lives.
#[derive(Debug)]
pub struct Slab {
    pub bytes: &'static mut [u8],
    /// The bytes are a predecessor's (of the right size, but not otherwise checked). Else they are zero.
    pub is_predecessors: bool,
    /// The file, or why there is none: then a successor cannot attach.
    pub place: Place,
}

#[derive(Debug)]
pub enum Place {
    /// A file in RAM, locked by this process.
    File { path: PathBuf, lock: File },
    /// Gone with the process.
    Anonymous { notice: String },
}

/// Where the running process' slab counts its strikes.
static STRIKES: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// Counts a panic against the slab, if there is one.
fn strike() {
    let strikes = STRIKES.load(Ordering::SeqCst);
    if !strikes.is_null() {
        // SAFETY: the address is in a slab, which is never unmapped. Nobody else writes that byte meanwhile: the process
        // has one thread, which is here, and ends.
        unsafe { AtomicU8::from_ptr(strikes) }.fetch_add(PANIC_STRIKES_COUNT, Ordering::SeqCst);
    }
}

impl Slab {
    /// From now on a panic counts against this slab, so that one that makes its readers panic is soon given up.
    pub fn blame_for_panics(&mut self) {
        STRIKES.store(&raw mut self.bytes[STRIKES_AT], Ordering::SeqCst);
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            strike();
            hook(info);
        }));
    }

    pub fn attach_possible(&self) -> bool {
        matches!(self.place, Place::File { .. })
    }

    /// Finds or makes the slab of the store in `data_directory`. With `hot_path` it must lie there, on a tmpfs; without,
    /// the usual places are tried and in the end memory without a name is taken.
    ///
    /// `retire` is given a predecessor's slab of another size, once, before its memory is given back and the new one is
    /// made: the two are never there together.
    pub fn open(
        hot_path: Option<&Path>,
        data_directory: &Path,
        slab_bytes: usize,
        retire: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, SlabError> {
        let name = file_name(data_directory);
        if let Some(directory) = hot_path {
            return Self::in_directory(directory, &name, slab_bytes, retire);
        }
        let mut reasons = Vec::new();
        for directory in usual_directories() {
            match Self::in_directory(&directory, &name, slab_bytes, retire) {
                Err(error @ SlabError::InUse { .. }) => return Err(error),
                Err(error) => reasons.push(error.to_string()),
                found => return found,
            }
        }
        let notice = format!(
            "the hot store is in memory without a name, so a restart starts from the disk: {}",
            reasons.join("; ")
        );
        Self::anonymous(slab_bytes, notice)
    }

    fn in_directory(
        directory: &Path,
        name: &str,
        slab_bytes: usize,
        retire: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, SlabError> {
        let failed = |source: io::Error| SlabError::Directory { path: directory.to_path_buf(), source };
        let is_in_ram = is_tmpfs(nearest_existing(directory)).map_err(failed)?;
        if !is_in_ram {
            return Err(SlabError::NotInRam { path: directory.to_path_buf() });
        }
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        refuse_shared(directory)?;
        let path = directory.join(name);
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SlabError::InUse { path }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let found_bytes = lock.metadata().map_err(failed)?.len();
        let is_predecessors = found_bytes == slab_bytes as u64;
        if !is_predecessors
            && found_bytes > 0
            && let Ok(found_bytes) = usize::try_from(found_bytes)
        {
            with_mapped(&lock, found_bytes, retire).map_err(failed)?;
        }
        if !is_predecessors && let Err(source) = reserve(&lock, slab_bytes) {
            // Half a slab would only take memory away from others.
            let _ = fs::remove_file(&path);
            return Err(SlabError::NoRoom { path, slab_bytes, source });
        }
        let bytes = map_file(&lock, slab_bytes).map_err(failed)?;
        Ok(Self { bytes, is_predecessors, place: Place::File { path, lock } })
    }

    /// Memory that goes with the process.
    pub fn anonymous(slab_bytes: usize, notice: String) -> Result<Self, SlabError> {
        let bytes = map_anonymous(slab_bytes).map_err(|source| SlabError::NoMemory { slab_bytes, source })?;
        Ok(Self { bytes, is_predecessors: false, place: Place::Anonymous { notice } })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SlabError {
    #[error("{path}: {source}; give --storage.hot-path a directory on a tmpfs that can be written")]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not on a tmpfs, where the hot store would wear the disk; give --storage.hot-path a directory on one (/run and /dev/shm usually are)"
    )]
    NotInRam { path: PathBuf },
    #[error(
        "{path} can be written by other users; give --storage.hot-path a directory that only holdfast's user can write"
    )]
    Shared { path: PathBuf },
    #[error(
        "{path} is in use by another holdfast process; stop that one, or give this one its own --storage.tsdb.path"
    )]
    InUse { path: PathBuf },
    #[error("{path}: {slab_bytes} bytes do not fit there ({source}); make the tmpfs larger, or lower --memory.limit")]
    NoRoom { path: PathBuf, slab_bytes: usize, source: io::Error },
    #[error("{slab_bytes} bytes of memory cannot be had ({source}); lower --memory.limit")]
    NoMemory { slab_bytes: usize, source: io::Error },
}

/// One store, one slab: the name holds a hash of the data directory's true path.
fn file_name(data_directory: &Path) -> String {
    let canonical = fs::canonicalize(data_directory).unwrap_or_else(|_| data_directory.to_path_buf());
    format!("slab-{:016x}", stable_hash(canonical.as_os_str().as_bytes()))
}

fn usual_directories() -> Vec<PathBuf> {
    let mut directories = vec![PathBuf::from("/run/holdfast")];
    if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        directories.push(PathBuf::from(runtime).join("holdfast"));
    }
    directories.push(PathBuf::from(format!("/dev/shm/holdfast-{}", rustix::process::geteuid().as_raw())));
    directories
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"))
}

fn is_tmpfs(path: &Path) -> io::Result<bool> {
    /// `TMPFS_MAGIC`, linux/magic.h.
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    Ok(statfs(path)?.f_type as u64 == TMPFS_MAGIC)
}

/// In /dev/shm anyone may have made a directory of our name before us.
fn refuse_shared(directory: &Path) -> Result<(), SlabError> {
    let failed = |source: io::Error| SlabError::Directory { path: directory.to_path_buf(), source };
    let metadata = fs::symlink_metadata(directory).map_err(failed)?;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
    if metadata.is_dir() && is_ours { Ok(()) } else { Err(SlabError::Shared { path: directory.to_path_buf() }) }
}

/// All pages now, so that a full tmpfs is an error here and not a bus error later.
fn reserve(file: &File, slab_bytes: usize) -> io::Result<()> {
    file.set_len(0)?;
    fallocate(file, FallocateFlags::empty(), 0, slab_bytes as u64)?;
    Ok(())
}

fn map_file(file: &File, slab_bytes: usize) -> io::Result<&'static mut [u8]> {
    if slab_bytes == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing. It has `slab_bytes` readable and
    // writable bytes, all backed by the file, whose length was set or checked just before; every bit pattern is a
    // valid u8. It is never unmapped, hence 'static. It is the only one: the lock on the open file lives as long as the
    // mapping, a second opening fails at the lock, and directory and mode keep other users out.
    unsafe {
        let address =
            mmap(std::ptr::null_mut(), slab_bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)?;
        Ok(std::slice::from_raw_parts_mut(address.cast(), slab_bytes))
    }
}

/// Lends a file's bytes for one call.
fn with_mapped(file: &File, bytes: usize, work: &mut dyn FnMut(&mut [u8])) -> io::Result<()> {
    // SAFETY: as in `map_file`. The slice is lent for the call only, and unmapped once nobody has it any more.
    unsafe {
        let address = mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)?;
        work(std::slice::from_raw_parts_mut(address.cast(), bytes));
        munmap(address, bytes)?;
    }
    Ok(())
}

fn map_anonymous(slab_bytes: usize) -> io::Result<&'static mut [u8]> {
    if slab_bytes == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: as above; the pages are private to this process and zero.
    unsafe {
        let address =
            mmap_anonymous(std::ptr::null_mut(), slab_bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?;
        Ok(std::slice::from_raw_parts_mut(address.cast(), slab_bytes))
    }
}

/// Every allocation of this program, but for SQLite's, which has a limit of its own.
#[global_allocator]
pub static ALLOCATOR: CappedAllocator = CappedAllocator::new();

/// The system's allocator behind a counter and a cap: the last line of the budget. At the cap an allocation fails, which
/// ends the process unless the caller can do without (`try_reserve`).
pub struct CappedAllocator {
    live_bytes: AtomicUsize,
    live_bytes_peak: AtomicUsize,
    limit_bytes: AtomicUsize,
}

impl CappedAllocator {
    /// Without a cap until [`CappedAllocator::set_limit`].
    pub const fn new() -> Self {
        Self {
            live_bytes: AtomicUsize::new(0),
            live_bytes_peak: AtomicUsize::new(0),
            limit_bytes: AtomicUsize::new(usize::MAX),
        }
    }

    pub fn set_limit(&self, limit_bytes: usize) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
    }

    /// Bytes asked for and not given back: now, and at most so far.
    pub fn live_bytes(&self) -> (usize, usize) {
        (self.live_bytes.load(Ordering::Relaxed), self.live_bytes_peak.load(Ordering::Relaxed))
    }

    fn charge(&self, bytes: usize) -> bool {
        let live = self.live_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if live > self.limit_bytes.load(Ordering::Relaxed) {
            self.refund(bytes);
            return false;
        }
        self.live_bytes_peak.fetch_max(live, Ordering::Relaxed);
        true
    }

    fn refund(&self, bytes: usize) {
        self.live_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for CappedAllocator {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: every call is passed to the system's allocator unchanged, with the caller's own guarantees, or fails by null,
// which the contract allows; counting does not allocate.
unsafe impl GlobalAlloc for CappedAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !self.charge(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's layout, as its contract has it.
        let pointer = unsafe { System.alloc(layout) };
        if pointer.is_null() {
            self.refund(layout.size());
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` through us, with this layout.
        unsafe { System.dealloc(pointer, layout) };
        self.refund(layout.size());
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !self.charge(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's layout, as its contract has it.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        if pointer.is_null() {
            self.refund(layout.size());
        }
        pointer
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        let grown_bytes = new_bytes.saturating_sub(layout.size());
        if !self.charge(grown_bytes) {
            return std::ptr::null_mut();
        }
        // SAFETY: the pointer came from `System` through us, with this layout; the size is the caller's.
        let moved = unsafe { System.realloc(pointer, layout, new_bytes) };
        if moved.is_null() {
            self.refund(grown_bytes);
        } else {
            self.refund(layout.size().saturating_sub(new_bytes));
        }
        moved
    }
}

/// The kernel's number of this boot; a slab of an earlier one cannot be there any more, but a copy could.
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    parse_uuid(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "boot_id is not a UUID"))
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u32> = text.trim().chars().filter(|&c| c != '-').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let mut uuid = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (pair[0] * 16 + pair[1]) as u8;
    }
    Some(uuid)
}

/// The host's name, as `uname -n` gives it.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What the kernel says this process uses. A figure that it does not tell (a kernel without I/O accounting, say) is 0.
/// `disk_bytes` and `connections` are the caller's to fill in.
pub fn process_usage() -> Usage {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let status = read("status");
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    Usage {
        resident_bytes: field(&status, "VmRSS:") * 1024,
        resident_bytes_peak: field(&status, "VmHWM:") * 1024,
        cpu_ms: cpu_ticks(&read("stat")) * 1000 / ticks_per_second,
        written_bytes: field(&read("io"), "write_bytes:"),
        // The listing itself holds one.
        open_files: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1)) as u32,
        ..Usage::default()
    }
}

/// The first number after `name` at a line's beginning.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// User and system time: fields 14 and 15, counted behind the name in parentheses, which may hold anything (proc(5)).
fn cpu_ticks(stat: &str) -> u64 {
    let Some((_, behind_name)) = stat.rsplit_once(')') else { return 0 };
    behind_name.split_whitespace().skip(11).take(2).filter_map(|number| number.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLAB_BYTES: usize = 64 * 1024;

    fn nothing(_: &mut [u8]) {
        unreachable!("there is no predecessor of another size");
    }

    /// A directory of our own on the tmpfs that every Linux machine has.
    fn tmpfs_directory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").expect("/dev/shm can be written")
    }

    /// The mapping itself keeps the lock while this process lives, so the predecessor here is a copy of its file.
    #[test]
    fn a_successor_finds_the_bytes_of_its_predecessor() {
        let hot = tmpfs_directory();
        let (data, copy) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        let first = Slab::open(Some(hot.path()), data.path(), SLAB_BYTES, &mut nothing).expect("made");
        assert!(!first.is_predecessors && first.attach_possible());
        assert!(first.bytes.iter().all(|&byte| byte == 0));
        first.bytes[..4].copy_from_slice(b"held");
        first.bytes[SLAB_BYTES - 1] = 7;
        let Place::File { path, .. } = &first.place else { panic!("a file") };
        fs::copy(path, hot.path().join(file_name(copy.path()))).expect("copied");
        let second = Slab::open(Some(hot.path()), copy.path(), SLAB_BYTES, &mut nothing).expect("found");
        assert!(second.is_predecessors);
        assert_eq!((&second.bytes[..4], second.bytes[SLAB_BYTES - 1]), (&b"held"[..], 7));
    }

    #[test]
    fn a_panic_counts_against_the_slab() {
        let (hot, data) = (tmpfs_directory(), tempfile::tempdir().expect("made"));
        let mut slab = Slab::open(Some(hot.path()), data.path(), SLAB_BYTES, &mut |_| {}).expect("made");
        slab.blame_for_panics();
        // Tests unwind, so that the hook is all there is.
        assert!(std::panic::catch_unwind(|| panic!("meant to panic")).is_err());
        assert!(slab.bytes[STRIKES_AT] >= PANIC_STRIKES_COUNT);
        STRIKES.store(std::ptr::null_mut(), Ordering::SeqCst);
    }

    #[test]
    fn another_size_is_retired_and_starts_from_zeros() {
        let (hot, data) = (tmpfs_directory(), tempfile::tempdir().expect("made"));
        fs::write(hot.path().join(file_name(data.path())), vec![1; SLAB_BYTES + 1]).expect("written");
        let mut retired = Vec::new();
        let slab = Slab::open(Some(hot.path()), data.path(), SLAB_BYTES, &mut |old| retired.push(old.to_vec()));
        let slab = slab.expect("made anew");
        assert_eq!(retired, [vec![1; SLAB_BYTES + 1]]);
        assert!(!slab.is_predecessors && slab.bytes.iter().all(|&byte| byte == 0));
        assert_eq!(slab.bytes.len(), SLAB_BYTES);
    }

    #[test]
    fn two_stores_have_two_slabs_and_one_store_has_one_owner() {
        let (hot, one, two) =
            (tmpfs_directory(), tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        let _first = Slab::open(Some(hot.path()), one.path(), SLAB_BYTES, &mut nothing).expect("made");
        let _second = Slab::open(Some(hot.path()), two.path(), SLAB_BYTES, &mut nothing).expect("made beside it");
        let detour = one.path().join("../").join(one.path().file_name().expect("named"));
        let error = Slab::open(Some(hot.path()), &detour, SLAB_BYTES, &mut nothing).expect_err("held");
        assert!(matches!(error, SlabError::InUse { .. }), "{error}");
    }

    #[test]
    fn a_place_that_is_no_ram_or_is_shared_is_refused_with_advice() {
        let data = tempfile::tempdir().expect("made");
        let error =
            Slab::open(Some(Path::new("/proc/holdfast")), data.path(), SLAB_BYTES, &mut nothing).expect_err("no tmpfs");
        assert!(matches!(error, SlabError::NotInRam { .. }), "{error}");
        assert!(error.to_string().contains("--storage.hot-path"));
        let error =
            Slab::open(Some(Path::new("/dev/shm")), data.path(), SLAB_BYTES, &mut nothing).expect_err("anyone's");
        assert!(matches!(error, SlabError::Shared { .. }), "{error}");
    }

    /// A 32-bit address space ends before the tmpfs does.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_slab_that_does_not_fit_leaves_nothing_behind() {
        let (hot, data) = (tmpfs_directory(), tempfile::tempdir().expect("made"));
        let error = Slab::open(Some(hot.path()), data.path(), 1 << 46, &mut nothing).expect_err("64 TiB");
        assert!(matches!(error, SlabError::NoRoom { .. }), "{error}");
        assert_eq!(fs::read_dir(hot.path()).expect("there").count(), 0);
    }

    #[test]
    fn memory_without_a_name_works_and_says_that_nobody_can_attach() {
        let slab = Slab::anonymous(SLAB_BYTES, "a test".to_owned()).expect("mapped");
        assert!(!slab.attach_possible() && !slab.is_predecessors);
        assert!(slab.bytes.len() == SLAB_BYTES && slab.bytes.iter().all(|&byte| byte == 0));
        assert!(matches!(Slab::anonymous(0, String::new()), Err(SlabError::NoMemory { .. })));
    }

    #[test]
    fn the_allocator_refuses_what_would_pass_the_cap_and_takes_it_after_something_is_freed() {
        let allocator = CappedAllocator::new();
        allocator.set_limit(1_000);
        let (large, small) = (Layout::array::<u8>(900).expect("valid"), Layout::array::<u8>(101).expect("valid"));
        // SAFETY: sizes are not zero, and each pointer is given back with the layout it has at that moment.
        unsafe {
            let first = allocator.alloc(large);
            assert!(!first.is_null());
            assert!(allocator.alloc(small).is_null());
            assert!(allocator.realloc(first, large, 1_001).is_null());
            let grown = allocator.realloc(first, large, 1_000);
            assert!(!grown.is_null());
            let shrunk = allocator.realloc(grown, Layout::array::<u8>(1_000).expect("valid"), 899);
            let second = allocator.alloc_zeroed(small);
            assert!(!second.is_null());
            assert_eq!(allocator.live_bytes(), (1_000, 1_000));
            allocator.dealloc(second, small);
            allocator.dealloc(shrunk, Layout::array::<u8>(899).expect("valid"));
        }
        assert_eq!(allocator.live_bytes(), (0, 1_000));
    }

    #[test]
    fn the_kernels_figures_are_read() {
        let usage = process_usage();
        assert!(usage.resident_bytes > 100_000 && usage.resident_bytes_peak >= usage.resident_bytes);
        assert!(usage.open_files >= 3);
        assert_eq!(field("VmRSS:\t  1234 kB\n", "VmRSS:"), 1234);
        assert_eq!(field("VmRSS:\n", "VmRSS:"), 0);
        assert_eq!(cpu_ticks("7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 100 23 0 0"), 123);
        assert_eq!(cpu_ticks("nonsense"), 0);
    }

    #[test]
    fn the_boot_id_is_the_same_twice_and_nonsense_is_none() {
        assert_eq!(boot_id().expect("readable"), boot_id().expect("readable"));
        assert_eq!(parse_uuid("00112233-4455-6677-8899-aabbccddeeff\n").map(|uuid| uuid[15]), Some(0xff));
        assert_eq!(parse_uuid("00112233-4455-6677-8899-aabbccddeef"), None);
        assert_eq!(parse_uuid("é0112233-4455-6677-8899-aabbccddeef"), None);
    }
}
