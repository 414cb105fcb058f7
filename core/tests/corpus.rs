//! The codecs' sizes on a fixture, against the figures that docs/CODEC.md has; and the measuring itself.

// The example uses all of them.
#[allow(dead_code)]
#[path = "../examples/corpus/corner.rs"]
mod corner;
#[path = "../examples/corpus/fixture.rs"]
#[allow(dead_code)]
mod fixture;
#[path = "../examples/corpus/recording.rs"]
#[allow(dead_code)]
mod recording;
#[path = "../examples/corpus/replay.rs"]
#[allow(dead_code)]
mod replay;
#[path = "../examples/corpus/series.rs"]
#[allow(dead_code)]
mod series;

use holdfast_core::{parse::MetricKind, store::STALE_NAN_BITS};
use series::{Class, Target};

const PAGE: &str = include_str!("../../docs/CODEC.md");
/// A codec may be this much worse than the page says: a figure there has three places.
const WORSE_MAX: f64 = 0.01;
/// One that is this much better has earned a new page.
const BETTER_MAX: f64 = 0.05;

#[test]
fn the_fixture_takes_what_the_page_says() {
    let on_page = rows_of_page(PAGE);
    let measured = fixture::rows(&fixture::measure().unwrap());
    assert_eq!(on_page.len(), Class::ALL.len() + 2, "every class, what they share, and all: {on_page:?}");
    for ((name, expected), (measured_name, is)) in on_page.iter().zip(measured) {
        assert_eq!(name, measured_name);
        for ((what, expected), is) in ["packed", "sealed", "aged", "log"].iter().zip(expected).zip(is) {
            if let Err(words) = check(*expected, is) {
                panic!("{name}, {what}: {expected} on the page, {is:.4} measured: {words}");
            }
        }
    }
}

#[test]
fn a_codec_that_gets_worse_is_noticed_and_one_that_gets_better_asks_for_a_new_page() {
    assert_eq!(check(0.500, 0.505), Ok(()));
    assert!(check(0.500, 0.507).unwrap_err().contains("got worse"));
    assert_eq!(check(0.500, 0.476), Ok(()));
    assert!(check(0.500, 0.474).unwrap_err().contains("--write"));
    // What rounding to three places may hide is no change.
    assert_eq!(check(0.018, 0.0185), Ok(()));
}

/// Bytes per sample, as they were and as they are.
fn check(expected: f64, is: f64) -> Result<(), String> {
    const ROUNDING: f64 = 0.000_6;
    if is > expected * (1.0 + WORSE_MAX) + ROUNDING {
        Err(String::from("the codec got worse; mend it, or say why in the commit and write the page again"))
    } else if is < expected * (1.0 - BETTER_MAX) - ROUNDING {
        Err(String::from("the codec got better; write the page again: the example `corpus` with --write"))
    } else {
        Ok(())
    }
}

/// The fixture's figures as the page has them.
fn rows_of_page(page: &str) -> Vec<(String, [f64; 4])> {
    let section = page.split_once(fixture::HEADING).map_or("", |(_, section)| section);
    let mut rows = Vec::new();
    for line in section.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", name, packed, sealed, aged, log, ""] = cells[..]
            && let [Ok(packed), Ok(sealed), Ok(aged), Ok(log)] = [packed, sealed, aged, log].map(str::parse)
        {
            rows.push((name.to_owned(), [packed, sealed, aged, log]));
        }
    }
    rows
}

#[test]
fn every_byte_is_counted_once() {
    let figures = fixture::measure().unwrap();
    let target = Target::parse(&recording::table("made-up", fixture::TEXT).unwrap()).unwrap();
    let samples: usize = target.rows.iter().map(|row| row.samples.len()).sum();
    assert_eq!(figures.series as usize, target.series.len());
    for kept in [figures.packed, figures.sealed, figures.aged, figures.log] {
        assert_eq!(kept.all().samples, samples as u64, "48 rows are three chunks, one segment, eight frames");
    }
    // One segment: header (96), instants, and 16 bytes for each 32 columns (docs/SPILL_FORMAT.md).
    let directory = 16 * figures.series.div_ceil(32);
    let instants = figures.sealed.shared_bytes - 96 - directory;
    assert!((10..=100).contains(&instants), "{instants} bytes for 48 instants");
}

#[test]
fn the_fixture_has_samples_of_every_class() {
    let target = Target::parse(&recording::table("made-up", fixture::TEXT).unwrap()).unwrap();
    for class in Class::ALL {
        assert!(target.series.iter().any(|series| series.class == class), "{}", class.text());
    }
}

#[test]
fn corner_values_and_clocks_that_go_back_come_back_to_the_bit() {
    let text = r#"{"labels": {"case": "nan"}, "samples": [[1, "7ff0000000000002"], [2, "7ff8000000000123"], [3, "8000000000000000"]]}
{"labels": {"case": "back"}, "samples": [[9000, "3ff0000000000000"], [-9223372036854775808, "3ff0000000000000"], [8000, "4000000000000000"]]}"#;
    let targets = corner::read(text).unwrap();
    assert_eq!(targets[0].rows[2].samples[0].bits, (-0.0_f64).to_bits());
    assert_eq!(targets[1].rows[1].t_ms, i64::MIN);
    for target in targets {
        replay::replay(&[target], 1).unwrap();
    }
    let error = corner::read("{\"labels\": {}}").err().unwrap();
    assert!(error.contains("line 1"), "{error}");
}

#[test]
fn one_bit_that_differs_or_a_sample_that_is_missing_is_noticed() {
    let nan = 0x7ff8_0000_0000_0001;
    let samples = [(0, 5_000, nan), (1, 10_000, STALE_NAN_BITS)];
    assert_eq!(replay::same_samples(&samples, &samples), Ok(()));
    for other in [(0, 5_000, nan + 1), (0, 5_001, nan), (1, 5_000, nan)] {
        assert!(replay::same_samples(&samples, &[other, samples[1]]).unwrap_err().contains("were"));
    }
    assert_eq!(replay::same_samples(&samples, &samples[..1]).unwrap_err(), "2 samples went in and 1 came back");
    assert!(replay::same_samples(&samples[..1], &samples).is_err());
}

#[test]
fn a_series_class_follows_its_type_and_its_values() {
    let class = |metric, kind, values: &[f64]| Class::of(metric, kind, values.iter().map(|value| value.to_bits()));
    use MetricKind::{Counter, Gauge, Histogram, Summary, Unknown};
    assert_eq!(class("a", Counter, &[3.0, 3.0]), Class::Constant);
    assert_eq!(class("a", Counter, &[0.0, -0.0]), Class::IntegerCounter, "-0 is another value to the bit");
    assert_eq!(class("a", Counter, &[3.0, 4.5]), Class::FloatCounter);
    assert_eq!(class("a", Gauge, &[3.0, f64::NAN]), Class::IntegerGauge);
    assert_eq!(class("a", Unknown, &[3.0, 9_007_199_254_740_991.0]), Class::IntegerGauge);
    assert_eq!(
        class("a", Unknown, &[3.0, 9_007_199_254_740_992.0]),
        Class::FloatGauge,
        "no whole numbers are certain there"
    );
    assert_eq!(class("a_bucket", Histogram, &[3.0, 4.0]), Class::Histogram);
    assert_eq!(class("a_count", Histogram, &[3.0, 4.0]), Class::Histogram);
    assert_eq!(class("a_sum", Histogram, &[3.0, 4.0]), Class::HistogramSum);
    assert_eq!(class("a_sum", Summary, &[3.0, 4.5]), Class::Summary);
}

#[test]
fn records_are_read_and_a_torn_one_is_named() {
    let record = |t_ms: i64, status: u16, body: &[u8]| {
        let mut bytes = t_ms.to_le_bytes().to_vec();
        bytes.extend(77_u32.to_le_bytes());
        bytes.extend(status.to_le_bytes());
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes
    };
    let bytes = [record(-1, 200, b"a 1\n"), record(5_000, 503, b"sorry"), record(10_000, 0, b"")].concat();
    let scrapes = recording::records(&bytes).unwrap();
    let read: Vec<_> = scrapes.iter().map(|scrape| (scrape.t_ms, scrape.body.as_deref())).collect();
    assert_eq!(read, [(-1, Some(&b"a 1\n"[..])), (5_000, None), (10_000, None)]);
    for torn in [1, 17] {
        let error = recording::records(&bytes[..bytes.len() - torn]).err().unwrap();
        assert!(error.contains("record 2 is cut off"), "{error}");
    }
}

#[test]
fn a_series_that_goes_and_one_that_is_given_twice_are_told_as_the_store_tells_them() {
    let recording = recording::table("t", "at 0 5000 10000\nTYPE a gauge\na 1 - 3\na 2 9 4\nb 1 - 1\n").unwrap();
    let target = Target::parse(&recording).unwrap();
    let samples: Vec<Vec<(usize, u64)>> =
        target.rows.iter().map(|row| row.samples.iter().map(|sample| (sample.series, sample.bits)).collect()).collect();
    let [one, three, nine] = [1.0_f64, 3.0, 9.0].map(f64::to_bits);
    assert_eq!(samples, [vec![(0, one), (1, one)], vec![(0, nine)], vec![(0, three), (1, one)]]);
    // `b` ends at the second row and comes back: the replay compares its stale marker too.
    let figures = replay::replay(&[target], 1).unwrap();
    assert_eq!(figures[0].sealed.all().samples, 5);
    let error = recording::table("t", "at 0 5000\na 1\n").err().unwrap();
    assert_eq!(error, "t, line 2: 1 values for 2 scrapes");
}

#[test]
fn ages_are_counted_with_the_values_they_belong_to() {
    let recording = recording::table("t", "at 0 5000 10000 15000\nTYPE a gauge\na 1 2 3 5\nb 7 7 7 7\n").unwrap();
    let without = Target::parse(&recording).unwrap();
    let mut with = Target::parse(&recording).unwrap();
    for (row, age_ms) in with.rows.iter_mut().zip([100, -250, 99_999, 0]) {
        row.samples[0].age_ms = Some(age_ms);
    }
    let [without, with] = [without, with].map(|target| replay::replay(&[target], 1).unwrap().remove(0));
    let class = Class::IntegerGauge as usize;
    for (without, with) in [(without.packed, with.packed), (without.sealed, with.sealed), (without.log, with.log)] {
        assert_eq!(without.all().samples, with.all().samples);
        assert!(with.classes[class].bytes > without.classes[class].bytes + 4);
        assert_eq!(with.classes[Class::Constant as usize], without.classes[Class::Constant as usize]);
    }
}
