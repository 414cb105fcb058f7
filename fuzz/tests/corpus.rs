//! Every target on its seeds, on all their beginnings, and on mutations of them. `HOLDFAST_MUTATIONS` tells how many of each.

use holdfast_core::prng::Prng;
use holdfast_fuzz::TARGETS;
use std::{fs, path::Path};

/// What is really written: the golden files, and texts as they come over the network.
fn seeds() -> Vec<Vec<u8>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/spill");
    let files = fs::read_dir(fixtures).expect("the golden files");
    let mut paths: Vec<_> = files.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let mut seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("readable")).collect();
    assert!(seeds.len() >= 8, "{paths:?}");
    seeds.extend(
        [
            "# HELP a Help.\\n more\n# TYPE a counter\na{b=\"c\\\"\",d=\"\\n\"} 1.5e3 1790000000000\nb NaN\nc +Inf\n",
            "sum by (job) (rate(http_requests_total{code=~\"5..\",job!=\"a\"}[5m] offset 1h)) / on(job) group_left(x) up > bool 0.5",
            "histogram_quantile(0.9, sum by (le) (rate(x_bucket[1m:15s] @ end()))) or -2 ^ 3 and vector(1)",
            "",
        ]
        .map(|text| text.as_bytes().to_vec()),
    );
    // One series of one sample: labels, then value and time, as remote write 1.0 has them, and the same as Snappy's literal.
    let request = b"\x0a\x1f\x0a\x0d\x0a\x08__name__\x12\x01a\x12\x0e\x09\0\0\0\0\0\0\xf0\x3f\x10\xc0\xcf\x24".to_vec();
    let mut snappy = vec![request.len() as u8, (request.len() as u8 - 1) << 2];
    snappy.extend(&request);
    seeds.extend([request, snappy]);
    seeds
}

fn mutations(default: usize) -> usize {
    let Ok(text) = std::env::var("HOLDFAST_MUTATIONS") else { return default };
    text.parse().unwrap_or_else(|_| panic!("HOLDFAST_MUTATIONS={text}: give a number"))
}

/// A few bytes changed, cut out, doubled, or taken from another seed.
fn mutate(seed: &[u8], other: &[u8], prng: &mut Prng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=prng.below(4) {
        if bytes.is_empty() {
            return other.to_vec();
        }
        let at = prng.below(bytes.len() as u64) as usize;
        let end = at + prng.below((bytes.len() - at).min(64) as u64 + 1) as usize;
        match prng.below(6) {
            0 => bytes[at] ^= 1 << prng.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][prng.below(5) as usize],
            2 => drop(bytes.drain(at..end)),
            3 => bytes.extend_from_within(at..end),
            4 => bytes.truncate(at),
            _ => {
                let from = prng.below(other.len() as u64 + 1) as usize;
                bytes.splice(at..end, other[from..other.len().min(from + 64)].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn no_target_minds_any_bytes() {
    let seeds = seeds();
    for (name, check) in TARGETS {
        let mut prng = Prng::new(name.len() as u64);
        for seed in &seeds {
            check(seed);
            (0..seed.len().min(600)).for_each(|length| check(&seed[..length]));
            for _ in 0..mutations(100) {
                let other = &seeds[prng.below(seeds.len() as u64) as usize];
                check(&mutate(seed, other, &mut prng));
            }
        }
    }
}

#[test]
fn every_target_has_its_file_for_libfuzzer() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let manifest = include_str!("../Cargo.toml");
    for (name, _) in TARGETS {
        let text = fs::read_to_string(directory.join(format!("{name}.rs"))).expect("its file");
        assert!(text.contains(&format!("holdfast_fuzz::{name}(bytes)")), "{text}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
    }
    assert_eq!(fs::read_dir(directory).expect("readable").count(), TARGETS.len());
}
