//! Recorded scrapes, and the small table of them that is checked in.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
};

/// What one target answered, scrape by scrape.
pub struct Recording {
    pub name: String,
    pub scrapes: Vec<Scrape>,
}

pub struct Scrape {
    /// When the scrape began, wall milliseconds.
    pub t_ms: i64,
    /// `None`: no answer, or one with a status other than 200.
    pub body: Option<Vec<u8>>,
}

/// i64 time in ms, u32 duration in µs, u16 status, u32 length of the body, all little-endian.
const RECORD_HEAD_BYTES: usize = 18;

/// Reads `NAME.rec.xz`. The program `xz` unpacks it: a crate that does would be compiled by everyone who runs the
/// tests, and only this tool, on the machines of developers, needs it.
pub fn read(path: &Path) -> Result<Recording, String> {
    let says = |what: &str| format!("{}: {what}", path.display());
    let file = File::open(path).map_err(|error| says(&error.to_string()))?;
    let mut command = Command::new("xz");
    command.args(["--decompress", "--stdout"]).stdin(file).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| says(&format!("xz: {error}; install xz-utils")))?;
    if !output.status.success() {
        return Err(says("xz cannot unpack it; copy the corpus again"));
    }
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = file_name.trim_end_matches(".rec.xz").to_owned();
    Ok(Recording { name, scrapes: records(&output.stdout).map_err(|what| says(&what))? })
}

/// The records of an unpacked file.
pub fn records(mut bytes: &[u8]) -> Result<Vec<Scrape>, String> {
    let mut scrapes = Vec::new();
    while !bytes.is_empty() {
        let torn = || format!("record {} is cut off; copy the corpus again", scrapes.len());
        let (head, rest) = bytes.split_at_checked(RECORD_HEAD_BYTES).ok_or_else(torn)?;
        let mut t_ms = [0; 8];
        t_ms.copy_from_slice(&head[..8]);
        let status = u16::from_le_bytes([head[12], head[13]]);
        let body_bytes = u32::from_le_bytes([head[14], head[15], head[16], head[17]]) as usize;
        let (body, rest) = rest.split_at_checked(body_bytes).ok_or_else(torn)?;
        bytes = rest;
        scrapes.push(Scrape { t_ms: i64::from_le_bytes(t_ms), body: (status == 200).then(|| body.to_vec()) });
    }
    Ok(scrapes)
}

/// Reads a table of scrapes: a line `at` with their times; then, in the order of the exposition, `TYPE` lines and series,
/// each with its value at each time, `-` where it was not there. Lines that begin with `#` say nothing.
pub fn table(name: &str, text: &str) -> Result<Recording, String> {
    let mut scrapes: Vec<Scrape> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let says = |what: &str| format!("{name}, line {}: {what}", index + 1);
        let mut words = line.split_whitespace();
        match words.next() {
            None | Some("#") => {}
            Some("at") => {
                for word in words {
                    let t_ms = word.parse().map_err(|_| says("a time is whole milliseconds"))?;
                    scrapes.push(Scrape { t_ms, body: Some(Vec::new()) });
                }
            }
            Some("TYPE") => {
                for scrape in &mut scrapes {
                    append(scrape, &format!("# {line}\n"));
                }
            }
            Some(series) => {
                let values: Vec<&str> = words.collect();
                if values.len() != scrapes.len() {
                    return Err(says(&format!("{} values for {} scrapes", values.len(), scrapes.len())));
                }
                for (scrape, value) in scrapes.iter_mut().zip(values) {
                    if value != "-" {
                        append(scrape, &format!("{series} {value}\n"));
                    }
                }
            }
        }
    }
    Ok(Recording { name: name.to_owned(), scrapes })
}

fn append(scrape: &mut Scrape, line: &str) {
    if let Some(body) = &mut scrape.body {
        body.extend_from_slice(line.as_bytes());
    }
}
