//! A daemon that is killed again and again, at any moment of its life, under a full load.
//!
//! Ten exporters serve a thousand series each, every second, and every value tells the number of its page. A thread
//! kills the daemon at a random moment between 0.05 and 3 s after its start, whatever it is doing then; it is started
//! again at once on the same data and the same hot state. Meanwhile it is asked. What must hold:
//!
//! - what an answer has shown is there after any kill, and so is every page that was served and taken;
//! - every sample of every series is read back once and is what was served, at one instant per page;
//! - a target is scraped at its place in the interval, from the first interval after the start on.
//!
//! `HOLDFAST_PEERS_KILLS` is how many kills (10), `HOLDFAST_PEERS_ATTACH_MS_MAX` how long going on with the predecessor's
//! store may take; without it, as in `tests/run`, no time is asserted (`bench/kills` gives 20, of a release build).

use crate::{
    api::{self, Vectors},
    programs::{Holdfast, HoldfastSettings, number_from, stable_port},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

const EXPORTERS: usize = 10;
const SERIES: usize = 1_000;
const INTERVAL_MS: i64 = 1_000;
/// How long a daemon lives.
const LIFE_MS: std::ops::Range<u64> = 50..3_000;
/// A page that was written to the socket this long before the kill was read and committed, however busy the machine is.
const TAKEN_AFTER_MS: i64 = 1_000;
/// Looked at again each time, behind what is new.
const LOOK_BACK_MS: i64 = 5_000;
/// A failed scrape has its due time, and the page was asked for at most this much later.
const FAILED_WITHIN_MS: i64 = 900;
/// A scrape that was due this long ago has ended.
const ON_ITS_WAY_MS: i64 = 1_200;
/// Between two questions.
const ASK_INTERVAL: Duration = Duration::from_millis(70);
/// Behind its place in the interval, a scrape still counts as on time.
const LATE_MS_MAX: i64 = 25;

#[test]
fn nothing_that_was_committed_is_missing_after_any_number_of_kills() {
    let kills = number_from("HOLDFAST_PEERS_KILLS", 10);
    // Times are for bench/kills and a quiet machine; what must hold on every machine is that nothing is missing.
    let attach_ms_max = number_from("HOLDFAST_PEERS_ATTACH_MS_MAX", 0) as f64;
    let fleet = Fleet::start();
    let mut node = Holdfast::start_with(HoldfastSettings {
        configuration: fleet.configuration(),
        port: Some(stable_port()),
        ..HoldfastSettings::default()
    });
    // Every target has been scraped once, so that each life has the whole load.
    thread::sleep(Duration::from_millis(3_000));
    let mut watch = Watch::new(&fleet);
    let mut seed = 1;
    for life in 0..kills {
        let killer = Killer::after(node.program.id(), random_ms(&mut seed, LIFE_MS));
        watch.live(node.port, life as usize, &killer);
        let killed_ms = killer.join();
        node.program.wait_killed();
        watch.killed(killed_ms);
        node.launch_again();
        watch.spawned_ms = api::now_ms();
    }
    // The last life goes on until everything has been read.
    watch.new_life();
    let mut read = watch.start_of_life(node.port, None);
    thread::sleep(Duration::from_millis(2_000));
    for exporter in 0..EXPORTERS {
        read = read.and_then(|()| watch.check_newest(node.port));
        read = read.and_then(|()| watch.check_all_series(node.port, exporter));
    }
    assert!(read.is_ok(), "nobody kills it any more, and it does not answer");
    node.program.kill();
    watch.killed(api::now_ms());
    // What a start says that could not go on with the store in memory.
    let log = node.program.log();
    let recovered: Vec<&str> = log.lines().filter(|line| line.contains("is not gone on with")).collect();
    assert_eq!(recovered, [""; 0], "{}", watch.told());
    let told = watch.told();
    println!("figure {}: {told}", thread::current().name().unwrap_or("main"));
    assert!(watch.lives_attached > 0 && watch.samples_checked > 0, "{told}");
    assert_eq!((watch.missing.len(), watch.wrong.len()), (0, 0), "{told}\n{:#?}\n{:#?}", watch.missing, watch.wrong);
    if attach_ms_max > 0.0 {
        let attach_ms = watch.attach_cpu_ms.iter().copied().fold(0.0, f64::max);
        assert!(attach_ms <= attach_ms_max, "{attach_ms} ms of the processor to attach, {attach_ms_max} allowed");
        assert_eq!(watch.skipped, [""; 0], "intervals without a scrape");
    }
}

// The fleet.

/// One page that an exporter was asked for.
#[derive(Clone, Copy, Debug)]
struct Page {
    asked_ms: i64,
    end: PageEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageEnd {
    /// Its connection is still there, or it was not yet seen to be gone.
    Open,
    /// The next page was asked for on the same connection, or it went long after the last byte of this one: whoever asked
    /// has read and committed it.
    Taken,
    /// The connection broke off before that. It may be there or not.
    Unknown,
}

/// Pages by number, from 1.
type Pages = Arc<Mutex<Vec<Page>>>;

struct Fleet {
    exporters: Vec<(u16, Pages)>,
}

impl Fleet {
    /// Serves until the test program ends.
    fn start() -> Self {
        let exporters = (0..EXPORTERS).map(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("the kernel has free ports");
            let port = listener.local_addr().expect("bound").port();
            let pages = Pages::default();
            let kept = Arc::clone(&pages);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let pages = Arc::clone(&kept);
                    // A connection that breaks off is a killed daemon's.
                    thread::spawn(move || drop(serve(&stream, &pages)));
                }
            });
            (port, pages)
        });
        Self { exporters: exporters.collect() }
    }

    fn configuration(&self) -> String {
        let targets: Vec<String> = self.exporters.iter().map(|(port, _)| format!("'127.0.0.1:{port}'")).collect();
        format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: fleet, static_configs: [{{targets: [{}]}}]}}]\n",
            targets.join(", ")
        )
    }

    fn pages(&self, exporter: usize) -> MutexGuard<'_, Vec<Page>> {
        self.exporters[exporter].1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers request after request on one connection.
fn serve(mut stream: &TcpStream, pages: &Pages) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    // The newest page of this connection, and when its last byte was given to the kernel.
    let mut newest: Option<(usize, i64)> = None;
    let ended = |newest: Option<(usize, i64)>, is_followed: bool| {
        let Some((number, served_ms)) = newest else { return };
        let is_taken = is_followed || api::now_ms() - served_ms >= TAKEN_AFTER_MS;
        let mut pages = pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages[number - 1].end = if is_taken { PageEnd::Taken } else { PageEnd::Unknown };
    };
    loop {
        // The first line of a request, then its headers, up to an empty line.
        let mut head_bytes = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                ended(newest, false);
                return Ok(());
            }
            head_bytes += line.len();
            if line == "\r\n" {
                break;
            }
        }
        assert!(head_bytes > 2, "a request has a first line");
        ended(newest.take(), true);
        let number = {
            let mut pages = pages.lock().unwrap_or_else(PoisonError::into_inner);
            pages.push(Page { asked_ms: api::now_ms(), end: PageEnd::Open });
            pages.len()
        };
        let body = page_text(number);
        let type_and_length =
            format!("Content-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n", body.len());
        let is_written = stream.write_all(format!("HTTP/1.1 200 OK\r\n{type_and_length}{body}").as_bytes());
        newest = Some((number, api::now_ms()));
        if is_written.is_err() {
            ended(newest, false);
            return is_written;
        }
    }
}

fn page_text(number: usize) -> String {
    let mut text = String::with_capacity(40 * SERIES);
    text.push_str("# TYPE fleet_total counter\n");
    for series in 0..SERIES {
        writeln!(text, "fleet_total{{series=\"{series}\"}} {}", value_of(number, series)).expect("a String grows");
    }
    text
}

/// Of another kind for every series: integers, decimals, large steps. Every one tells its page.
fn value_of(number: usize, series: usize) -> f64 {
    let (number, series_value) = (number as f64, series as f64);
    match series % 4 {
        0 => number,
        1 => number * 1_000.0 + series_value,
        2 => number * 0.25 + series_value,
        _ => number * 1e9 + 7.0,
    }
}

fn page_of(value: f64, series: usize) -> Option<usize> {
    let number = match series % 4 {
        0 => value,
        1 => (value - series as f64) / 1_000.0,
        2 => (value - series as f64) * 4.0,
        _ => (value - 7.0) / 1e9,
    };
    (number >= 1.0 && value_of(number as usize, series) == value).then_some(number as usize)
}

// The killer.

struct Killer {
    thread: thread::JoinHandle<i64>,
    is_done: Arc<AtomicBool>,
}

impl Killer {
    fn after(process: u32, life_ms: u64) -> Self {
        let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process id");
        let is_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&is_done);
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(life_ms));
            // The child is waited for only after this, so its number is its own.
            kill_process(process, Signal::KILL).expect("our child takes signals");
            done.store(true, Ordering::SeqCst);
            api::now_ms()
        });
        Self { thread, is_done }
    }

    fn join(self) -> i64 {
        self.thread.join().expect("the killer does not panic")
    }
}

fn random_ms(seed: &mut u64, range: std::ops::Range<u64>) -> u64 {
    *seed += 1;
    range.start + holdfast_core::prng::mix(*seed) % (range.end - range.start)
}

// What is known, and what was found wrong.

/// The daemon was killed while it was asked.
struct Killed;

struct Watch<'f> {
    fleet: &'f Fleet,
    spawned_ms: i64,
    /// By exporter: the instants and pages that an answer has shown, or that were served and taken.
    committed: Vec<BTreeMap<i64, usize>>,
    /// Pages below this were looked at, by exporter.
    looked_at: Vec<usize>,
    /// Pages of which it is not yet known how they ended, by exporter.
    undecided: Vec<Vec<usize>>,
    /// Pages that were taken though no answer has shown them yet; their instants are not known.
    taken: Vec<Vec<usize>>,
    /// Every sample up to this instant was read back, by exporter.
    checked_ms: Vec<i64>,
    lives: u64,
    lives_attached: u64,
    ready_ms: Vec<i64>,
    attach_ms: Vec<f64>,
    /// What the same took of the processor, whatever else ran on the machine.
    attach_cpu_ms: Vec<f64>,
    late_ms: Vec<i64>,
    missing: Vec<String>,
    wrong: Vec<String>,
    skipped: Vec<String>,
    samples_checked: u64,
    timed_out: u64,
    /// When this life was first seen to be ready, and when the newest samples were last looked at.
    ready_at_ms: Option<i64>,
    looked_ms: i64,
}

impl<'f> Watch<'f> {
    fn new(fleet: &'f Fleet) -> Self {
        let now_ms = api::now_ms();
        Self {
            fleet,
            spawned_ms: now_ms,
            committed: vec![BTreeMap::new(); EXPORTERS],
            looked_at: vec![0; EXPORTERS],
            undecided: vec![Vec::new(); EXPORTERS],
            taken: vec![Vec::new(); EXPORTERS],
            checked_ms: vec![now_ms - 10_000; EXPORTERS],
            lives: 0,
            lives_attached: 0,
            ready_ms: Vec::new(),
            attach_ms: Vec::new(),
            attach_cpu_ms: Vec::new(),
            late_ms: Vec::new(),
            missing: Vec::new(),
            wrong: Vec::new(),
            skipped: Vec::new(),
            samples_checked: 0,
            timed_out: 0,
            ready_at_ms: None,
            looked_ms: now_ms,
        }
    }

    fn new_life(&mut self) {
        self.lives += 1;
        self.ready_at_ms = None;
    }

    /// Asks until the daemon is dead.
    fn live(&mut self, port: u16, life: usize, killer: &Killer) {
        self.new_life();
        let mut ask = || -> Result<(), Killed> {
            self.start_of_life(port, Some(killer))?;
            self.check_all_series(port, life % EXPORTERS)?;
            loop {
                self.check_newest(port)?;
                thread::sleep(ASK_INTERVAL);
            }
        };
        // Whatever it was being asked then, the life is over.
        let _killed = ask();
    }

    /// Waits until it is ready, and holds it to what is known.
    fn start_of_life(&mut self, port: u16, killer: Option<&Killer>) -> Result<(), Killed> {
        // A daemon that is starting refuses connections as a dead one does.
        while api::get(port, "/-/ready").ok().is_none_or(|answer| answer.status != 200) {
            if killer.is_some_and(|killer| killer.is_done.load(Ordering::SeqCst)) {
                return Err(Killed);
            }
            thread::sleep(Duration::from_millis(2));
        }
        if self.ready_at_ms.is_none() {
            let now_ms = api::now_ms();
            self.ready_at_ms = Some(now_ms);
            if self.lives > 1 {
                let attach_seconds = metric(port, "holdfast_attach_seconds")?;
                let attach_cpu_seconds = metric(port, "holdfast_attach_cpu_seconds")?;
                self.ready_ms.push(now_ms - self.spawned_ms);
                if attach_seconds > 0.0 {
                    self.lives_attached += 1;
                    self.attach_ms.push(attach_seconds * 1_000.0);
                    self.attach_cpu_ms.push(attach_cpu_seconds * 1_000.0);
                }
            }
        }
        self.check_newest(port)
    }

    /// One series of every exporter: what is committed is there, and what is there was served.
    fn check_newest(&mut self, port: u16) -> Result<(), Killed> {
        let now_ms = api::now_ms();
        let asked_ms = |exporter: usize, page: &usize| self.fleet.pages(exporter)[page - 1].asked_ms;
        let taken = self.taken.iter().enumerate();
        let taken_ms = taken.flat_map(|(exporter, pages)| pages.iter().map(move |page| asked_ms(exporter, page)));
        let from_ms = taken_ms.chain([self.looked_ms]).min().unwrap_or(now_ms) - LOOK_BACK_MS;
        let found = ask(port, &format!("fleet_total{{series=\"0\"}}[{}ms]", now_ms - from_ms), now_ms)?;
        let failed = ask(port, &format!("up{{job=\"fleet\"}}[{}ms]", now_ms - from_ms), now_ms)?;
        for exporter in 0..EXPORTERS {
            let instance = self.instance(exporter);
            let samples = found.iter().find(|(labels, _)| labels["instance"] == instance);
            let samples = samples.map_or(&[][..], |(_, samples)| samples);
            let found: BTreeMap<i64, usize> = self.pages_of(exporter, 0, samples);
            for (t_ms, page) in self.committed[exporter].range(from_ms + 1..=now_ms) {
                if found.get(t_ms) != Some(page) {
                    self.missing.push(format!("page {page} of {instance}, which was there at {t_ms}"));
                }
            }
            for page in std::mem::take(&mut self.taken[exporter]) {
                let asked_ms = self.fleet.pages(exporter)[page - 1].asked_ms;
                let has_failed = failed.iter().any(|(labels, samples)| {
                    labels["instance"] == instance
                        && samples.iter().any(|(t_ms, up)| up == "0" && (asked_ms - t_ms).abs() <= FAILED_WITHIN_MS)
                });
                if has_failed {
                    // The machine was so busy that the scrape ran out of its second.
                    self.timed_out += 1;
                } else if !found.values().any(|number| *number == page) {
                    self.missing.push(format!("page {page} of {instance}, which was served and taken"));
                }
            }
            self.committed[exporter].extend(found);
        }
        self.looked_ms = now_ms;
        Ok(())
    }

    /// Every series of one exporter, from where the last such look ended.
    fn check_all_series(&mut self, port: u16, exporter: usize) -> Result<(), Killed> {
        // A scrape that is on its way meanwhile may be seen in some series and not in others: an answer is made in bites.
        let now_ms = api::now_ms() - ON_ITS_WAY_MS;
        let from_ms = self.checked_ms[exporter];
        let instance = self.instance(exporter);
        let expression = format!("fleet_total{{instance=\"{instance}\"}}[{}ms]", now_ms - from_ms);
        let found = ask(port, &expression, now_ms)?;
        let expected: Vec<(i64, usize)> =
            self.committed[exporter].range(from_ms + 1..=now_ms).map(|(t_ms, page)| (*t_ms, *page)).collect();
        if found.len() != SERIES && !expected.is_empty() {
            self.wrong.push(format!("{instance} has {} series", found.len()));
        }
        // What came in since the newest look is as good, if all series agree on it.
        let mut newest = None;
        for (labels, samples) in &found {
            let series: usize = labels["series"].parse().expect("the exporter's own number");
            let samples: Vec<_> = self.pages_of(exporter, series, samples).into_iter().collect();
            self.samples_checked += samples.len() as u64;
            if !samples.starts_with(&expected) || newest.get_or_insert(samples.clone()) != &samples {
                self.wrong.push(format!("{labels:?} is {samples:?}, and {expected:?} is committed"));
            }
        }
        self.checked_ms[exporter] = expected.last().map_or(from_ms, |(t_ms, _)| *t_ms);
        Ok(())
    }

    /// Instants and pages of one series' samples; what was never served is wrong.
    fn pages_of(&mut self, exporter: usize, series: usize, samples: &[(i64, String)]) -> BTreeMap<i64, usize> {
        let mut pages = BTreeMap::new();
        for (t_ms, text) in samples {
            let page = text.parse().ok().and_then(|value| page_of(value, series));
            let asked_ms = page.and_then(|page| Some(self.fleet.pages(exporter).get(page - 1)?.asked_ms));
            match (page, asked_ms) {
                (Some(page), Some(asked_ms)) if (asked_ms - t_ms).abs() < INTERVAL_MS => {
                    if pages.values().any(|known| *known == page) {
                        self.wrong.push(format!("exporter {exporter}, series {series}: page {page} twice"));
                    }
                    pages.insert(*t_ms, page);
                }
                _ => {
                    self.wrong.push(format!("exporter {exporter}, series {series}: {text} at {t_ms} was never served"))
                }
            }
        }
        pages
    }

    fn instance(&self, exporter: usize) -> String {
        format!("127.0.0.1:{}", self.fleet.exporters[exporter].0)
    }

    /// A life has ended: what it was given, and when.
    fn killed(&mut self, killed_ms: i64) {
        for exporter in 0..EXPORTERS {
            let pages: Vec<Page> = self.fleet.pages(exporter).clone();
            let from = std::mem::replace(&mut self.looked_at[exporter], pages.len());
            let of_life = &pages[from..];
            self.undecided[exporter].extend(from + 1..=pages.len());
            self.undecided[exporter].retain(|number| {
                let end = pages[number - 1].end;
                if end == PageEnd::Taken {
                    self.taken[exporter].push(*number);
                }
                end == PageEnd::Open
            });
            self.on_time(exporter, of_life, killed_ms);
        }
    }

    /// Holds the scrapes of a life to their places.
    fn on_time(&mut self, exporter: usize, of_life: &[Page], killed_ms: i64) {
        let (Some(ready_ms), Some(place_ms)) = (self.ready_at_ms, self.place_ms(exporter)) else { return };
        if self.lives <= 1 {
            return;
        }
        let first_due_ms = ready_ms + (place_ms - ready_ms).rem_euclid(INTERVAL_MS);
        let first = of_life.iter().map(|page| page.asked_ms).find(|asked_ms| *asked_ms >= ready_ms);
        match first {
            Some(asked_ms) if asked_ms < first_due_ms + INTERVAL_MS / 2 => self.late_ms.push(asked_ms - first_due_ms),
            // It lived past its place by more than a busy machine holds up a process.
            _ if killed_ms > first_due_ms + INTERVAL_MS / 2 => self
                .skipped
                .push(format!("exporter {exporter}: due at {first_due_ms}, asked at {first:?}, killed at {killed_ms}")),
            _ => {}
        }
    }

    /// Where in the interval an exporter is scraped, by most of its samples: one that starts late has its own instant.
    fn place_ms(&self, exporter: usize) -> Option<i64> {
        let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
        for t_ms in self.committed[exporter].keys() {
            *counts.entry(t_ms.rem_euclid(INTERVAL_MS)).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(place_ms, _)| place_ms)
    }

    fn told(&self) -> String {
        let sorted = |figures: &[f64]| {
            let mut figures = figures.to_vec();
            figures.sort_by(f64::total_cmp);
            figures
        };
        let (attach_ms, attach_cpu_ms) = (sorted(&self.attach_ms), sorted(&self.attach_cpu_ms));
        let mut late_ms = self.late_ms.clone();
        late_ms.sort_unstable();
        let on_time = late_ms.iter().filter(|late_ms| **late_ms <= LATE_MS_MAX).count();
        let middle = |count: usize| count / 2;
        let scrapes: usize = self.looked_at.iter().sum();
        format!(
            "{} kills, {scrapes} pages served, {} samples read back, {} missing, {} wrong; {} scrapes timed out; {} of {} starts that were \
             asked had attached, in {:.1} ms (median) to {:.1} ms, of which they had the processor for {:.1} ms (median) to {:.1} ms; ready after at most {} ms; first scrapes on time: {on_time} \
             of {} (late by {} ms in the median, {} ms at most), {} skipped",
            self.lives - 1,
            self.samples_checked,
            self.missing.len(),
            self.wrong.len(),
            self.timed_out,
            self.lives_attached,
            self.ready_ms.len(),
            attach_ms.get(middle(attach_ms.len())).unwrap_or(&0.0),
            attach_ms.last().unwrap_or(&0.0),
            attach_cpu_ms.get(middle(attach_cpu_ms.len())).unwrap_or(&0.0),
            attach_cpu_ms.last().unwrap_or(&0.0),
            self.ready_ms.iter().max().unwrap_or(&0),
            late_ms.len(),
            late_ms.get(middle(late_ms.len())).unwrap_or(&0),
            late_ms.last().unwrap_or(&0),
            self.skipped.len(),
        )
    }
}

/// A query that may meet a daemon that is dying; an error in words is none of that.
fn ask(port: u16, expression: &str, time_ms: i64) -> Result<Vectors, Killed> {
    match api::query(port, expression, time_ms) {
        Ok(found) => Ok(found),
        Err(words) if words.starts_with('{') => panic!("{expression}: {words}"),
        Err(_) => Err(Killed),
    }
}

fn metric(port: u16, name: &str) -> Result<f64, Killed> {
    let answer = api::get(port, "/metrics").map_err(|_| Killed)?;
    let text = String::from_utf8_lossy(&answer.body);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.ok_or(Killed)
}
