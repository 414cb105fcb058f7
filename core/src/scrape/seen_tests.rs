//! Pages that change, scraped with and without the lines of the last page: what is stored and told is the same.

use super::{spec::tests, *};
use crate::{
    labels::LabelSet,
    prng::Prng,
    store::{Identity, Plan, Store},
    time::Now,
};
use proptest::prelude::*;
use std::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

const START: Now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };

/// A target with a store and with what all targets share.
struct Side<'m> {
    target: Target,
    store: Store<'m>,
    shared: Shared,
}

impl<'m> Side<'m> {
    fn new(slab: &'m mut [u8], spec: TargetSpec, seen_bytes: usize) -> Self {
        let plan = Plan::for_series(slab.len(), 200).unwrap();
        let identity = Identity { store_uuid: [1; 16], boot_id: [2; 16], log_generation: 0 };
        let store = Store::create(slab, &plan, identity).unwrap();
        let mut target = Target::new(spec, 0, START);
        target.scrape_at_once(START);
        Self { target, store, shared: Shared::new(2_000, seen_bytes, 99) }
    }

    /// `breaks_off`: the body ends without its end.
    fn scrape<'b>(&mut self, now: Now, pieces: impl Iterator<Item = &'b [u8]>, breaks_off: bool) {
        let Self { target, store, shared } = self;
        target.start(now).unwrap();
        target.head(now, 200, "text/plain", store, shared);
        for piece in pieces {
            target.body(now, piece, store, shared);
        }
        match breaks_off {
            true => target.failed(now, "unexpected EOF", store, shared),
            false => target.end(now, store, shared),
        };
    }

    /// Everything that the target tells and that is stored of it.
    fn told(&self) -> String {
        let metadata: Vec<_> = self.shared.metadata.entries(self.target.meta()).collect();
        let left_out_count = self.shared.metadata.left_out_count;
        format!("{:#?}\n{metadata:#?}\n{left_out_count}\n{:?}", self.target.status(), self.store.usage())
    }

    fn samples(&self) -> Vec<(String, Vec<(i64, u64)>)> {
        let mut all = Vec::new();
        self.store.series_visit(&mut |series, labels| {
            let mut samples = Vec::new();
            self.store.series_read(series, 0, i64::MAX, &mut |t_ms, bits| samples.push((t_ms, bits)));
            all.push((labels.to_string(), samples));
            true
        });
        all
    }
}

#[derive(Clone)]
enum Line {
    Text(String),
    /// What stands before the value, and behind it.
    Sample(String, &'static str),
}

/// A page that changes as exporters' pages do, and as they should not.
struct Page {
    lines: Vec<Line>,
    random: Prng,
}

impl Page {
    fn new(seed: u64) -> Self {
        let mut page = Self { lines: Vec::new(), random: Prng::new(seed) };
        for metric in 0..page.random.below(8) {
            page.family(metric);
        }
        page
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.random.below(from.len() as u64) as usize].clone()
    }

    fn comment(&mut self, metric: u64) -> Line {
        let (kind, help) = (self.kind(), self.pick(&["", "Things.", "A \\\\ b \\n c.", "ä"]));
        Line::Text(match self.random.below(4) {
            0 => format!("# HELP m{metric} {help}"),
            1 => format!("# TYPE m{metric} {kind}"),
            2 => format!("# about m{metric}"),
            _ => String::new(),
        })
    }

    fn kind(&mut self) -> &'static str {
        self.pick(&["counter", "gauge", "histogram", "summary", "untyped"])
    }

    fn family(&mut self, metric: u64) {
        if self.random.chance(3, 4) {
            let help = Line::Text(format!("# HELP m{metric} Things."));
            let kind = format!("# TYPE m{metric} {}", self.kind());
            self.lines.extend([help, Line::Text(kind)]);
        }
        for _ in 0..self.random.below(6) {
            let line = self.sample(metric);
            self.lines.push(line);
        }
    }

    fn sample(&mut self, metric: u64) -> Line {
        let bound = self.random.below(6);
        let before = match self.random.below(12) {
            0 => format!("m{metric} "),
            1 => format!("  m{metric}\t "),
            2 => format!("m{metric}{{a=\"{bound}\"}}"),
            3 => format!("{{\"m{metric}\",a=\"q\"}} "),
            4 => format!("m{metric}{{a=\"x\ny\"}} "),
            5 => format!("m{metric}{{instance=\"i{bound}\",job=\"\"}} "),
            6 | 7 => format!("m{metric}{{le=\"{bound}\"}} "),
            8 => format!("m{metric}{{quantile=\"0.{bound}\"}} "),
            9 => format!("m{metric}{{a=\"\\\"{bound}\\\\\"}} "),
            _ => format!("m{metric}{{a=\"{bound}\",b=\"ä\"}} "),
        };
        let behind = self.pick(&["", "", "", "", "", "", "", " ", " 1700000000000", " 1", "\t1700000030000"]);
        Line::Sample(before, behind)
    }

    fn change(&mut self) {
        let at = self.random.below(self.lines.len() as u64 + 1) as usize;
        let metric = self.random.below(9);
        match self.random.below(9) {
            0 | 1 if at < self.lines.len() => {
                let end = at + 1 + self.random.below(4) as usize;
                self.lines.drain(at..end.min(self.lines.len()));
            }
            2 if at < self.lines.len() => {
                let line = self.lines.remove(at);
                let to = self.random.below(self.lines.len() as u64 + 1) as usize;
                self.lines.insert(to, line);
            }
            3 if at < self.lines.len() => self.lines.insert(at, self.lines[at].clone()),
            4 | 5 => {
                let line = self.comment(metric);
                self.lines.insert(at, line);
            }
            6 if at < self.lines.len() => {
                let line = match &self.lines[at] {
                    Line::Sample(before, _) => Line::Sample(before.clone(), self.pick(&["", " 1700000000000"])),
                    Line::Text(text) if text.contains("TYPE") => Line::Text(
                        text.rsplit_once(' ').map_or("", |(before, _)| before).to_string() + " " + self.kind(),
                    ),
                    Line::Text(_) => self.comment(metric),
                };
                self.lines[at] = line;
            }
            _ => {
                let line = self.sample(metric);
                self.lines.insert(at, line);
            }
        }
    }

    fn render(&mut self) -> Vec<u8> {
        let mut body = String::new();
        for line in self.lines.clone() {
            match line {
                Line::Text(text) => body += &text,
                Line::Sample(before, behind) => {
                    let number = self.random.below(100_000);
                    let value = match self.random.below(8) {
                        0 => format!("{}", number as f64 / 7.0),
                        1 => format!("{}.{}e+0{}", number % 10, number, number % 10),
                        2 => self.pick(&["NaN", "+Inf", "-inf", "-0", "1e400", "0x1p3"]).replace("1e400", "1e300"),
                        _ => number.to_string(),
                    };
                    body += &format!("{before}{}{behind}", value.replace("0x1p3", "8"));
                }
            }
            body.push('\n');
        }
        let spoil = self.pick(&[
            "a b c\n",
            "m1{a=\"1\n",
            "\0\n",
            "{} 1\n",
            "# TYPE m1 wrong\n",
            "m2{a=\"1\"} x\n",
            "m0 1 2 3\n",
            "m01\n",
        ]);
        if self.random.chance(1, 20) {
            let line = self.random.below(self.lines.len() as u64 + 1) as usize;
            let at = body.match_indices('\n').map(|(at, _)| at + 1).nth(line).unwrap_or(0);
            body.insert_str(at, spoil);
        }
        if self.random.chance(1, 4) && body.ends_with('\n') {
            body.pop();
        }
        body.into_bytes()
    }
}

/// Cut somewhere, many times or never.
fn pieces<'b>(body: &'b [u8], random: &mut Prng) -> Vec<&'b [u8]> {
    let (mut rest, mut pieces) = (body, Vec::new());
    let bytes_max = [1, 7, 60, 400, 100_000][random.below(5) as usize];
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((1 + random.below(bytes_max) as usize).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

fn compare(seed: u64) -> usize {
    let mut random = Prng::new(seed);
    let mut job = tests::job();
    job.honor_labels = random.chance(1, 2);
    job.honor_timestamps = random.chance(3, 4);
    job.sample_limit = [0, 0, 20][random.below(3) as usize];
    job.label_limit = [0, 0, 4][random.below(3) as usize];
    let spec = TargetSpec::new(&job, &tests::target(&[("zone", "z")]));
    let seen_bytes = [100_000, 100_000, 600][random.below(3) as usize];
    let (mut one, mut two) = (vec![0; 200 * 1024], vec![0; 200 * 1024]);
    let mut with = Side::new(&mut one, spec.clone(), seen_bytes);
    let mut without = Side::new(&mut two, spec, 0);
    let (mut page, mut now) = (Page::new(random.next_u64()), START);
    for scrape in 0..60 {
        let wait_ms = with.target.due_mono_ms().saturating_sub(now.mono_ms);
        now = Now { mono_ms: now.mono_ms + wait_ms, wall_ms: now.wall_ms + wait_ms as i64 };
        if random.chance(1, 2) {
            (0..1 + random.below(4)).for_each(|_| page.change());
        }
        let (mut body, breaks_off) = (page.render(), random.chance(1, 20));
        if breaks_off {
            body.truncate(random.below(body.len() as u64 + 1) as usize);
        }
        with.scrape(now, pieces(&body, &mut random).into_iter(), breaks_off);
        without.scrape(now, core::iter::once(body.as_slice()), breaks_off);
        let text = String::from_utf8_lossy(&body);
        assert_eq!(with.told(), without.told(), "seed {seed}, scrape {scrape}:\n{text}");
        assert!(with.shared.seen.bytes() <= seen_bytes);
        assert_eq!(without.shared.seen.bytes(), 0);
    }
    assert_eq!(with.samples(), without.samples(), "seed {seed}");
    with.shared.seen.bytes()
}

#[test]
fn some_pages_are_known_at_their_end() {
    assert!((0..20).map(compare).filter(|bytes| *bytes > 0).count() > 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_is_stored_and_told_does_not_depend_on_lines_seen(seed: u64) {
        compare(seed);
    }
}

#[test]
fn a_target_without_room_is_scraped_all_the_same_and_comes_back_when_there_is_room() {
    let (mut slab, spec) = (vec![0; 200 * 1024], TargetSpec::new(&tests::job(), &tests::target(&[])));
    let mut side = Side::new(&mut slab, spec, 40 * 12);
    let long: String = (0..60).map(|index| format!("m{index} 1\n")).collect();
    let mut now = START;
    let mut scrape = |side: &mut Side<'_>, body: &str| {
        let wait_ms = side.target.due_mono_ms().saturating_sub(now.mono_ms);
        now = Now { mono_ms: now.mono_ms + wait_ms, wall_ms: now.wall_ms + wait_ms as i64 };
        side.scrape(now, core::iter::once(body.as_bytes()), false);
        (side.shared.seen.bytes(), side.target.status().counters.samples)
    };
    assert_eq!(scrape(&mut side, &long), (0, 65));
    assert_eq!(scrape(&mut side, &long), (0, 130));
    assert_eq!(scrape(&mut side, "m1 1\nm2 2\n"), (0, 137), "its last page was too long");
    assert_eq!(scrape(&mut side, "m1 1\nm2 2\n").0, 32 * 12, "the next list is as long as the shortest");
    let labels = LabelSet::from_pairs([("__name__", "m2"), ("instance", "h:9100"), ("job", "node")]);
    let series = side.store.series_find(labels.as_ref()).unwrap();
    let mut values = Vec::new();
    side.store.series_read(series, 0, i64::MAX, &mut |_, bits| values.push(f64::from_bits(bits)));
    assert_eq!(values, [1.0, 1.0, 2.0, 2.0]);
}
