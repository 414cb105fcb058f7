//! A plain HTTP client, and answers of the query API in a form that can be compared.

use serde_json::Value as Json;
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// One request on one connection. The body is read to its end.
pub fn get(port: u16, path_and_query: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path_and_query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let head_bytes =
        bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(|| wrong("no end of the head"))? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_bytes]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| wrong("no status"))?;
    let body = &bytes[head_bytes..];
    let body = match head.contains("\r\ntransfer-encoding: chunked\r\n") {
        true => unchunked(body).ok_or_else(|| wrong("the chunked body breaks off"))?,
        false => body.to_vec(),
    };
    Ok(Answer { status, head, body })
}

/// RFC 9112, section 7.1, without extensions and trailers.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_bytes = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(str::from_utf8(&rest[..line_bytes]).ok()?.trim(), 16).ok()?;
        rest = &rest[line_bytes + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}

pub fn get_json(port: u16, path_and_query: &str) -> Json {
    let answer = get(port, path_and_query).unwrap_or_else(|error| panic!("{path_and_query}: {error}"));
    serde_json::from_slice(&answer.body)
        .unwrap_or_else(|error| panic!("{path_and_query}: {error}: {}", String::from_utf8_lossy(&answer.body)))
}

/// Labels to `(instant in ms, value as written)`. A scalar has no labels.
pub type Vectors = BTreeMap<Labels, Vec<(i64, String)>>;
pub type Labels = BTreeMap<String, String>;

/// An instant query at `time_ms`.
pub fn query(port: u16, expression: &str, time_ms: i64) -> Result<Vectors, String> {
    vectors(port, &format!("/api/v1/query?query={}&time={}", encode(expression), seconds(time_ms)))
}

/// A range query with a step of whole milliseconds.
pub fn query_range(
    port: u16,
    expression: &str,
    (start_ms, end_ms, step_ms): (i64, i64, i64),
) -> Result<Vectors, String> {
    let range = format!("start={}&end={}&step={}", seconds(start_ms), seconds(end_ms), seconds(step_ms));
    vectors(port, &format!("/api/v1/query_range?query={}&{range}", encode(expression)))
}

/// The value of an instant query with exactly one result, now.
pub fn value(port: u16, expression: &str) -> Option<f64> {
    let result = query(port, expression, now_ms()).ok()?;
    let (_, samples) = result.into_iter().next()?;
    samples.first()?.1.parse().ok()
}

fn vectors(port: u16, path_and_query: &str) -> Result<Vectors, String> {
    let answer = get(port, path_and_query).map_err(|error| format!("{path_and_query}: {error}"))?;
    let answer: Json = serde_json::from_slice(&answer.body)
        .map_err(|error| format!("{path_and_query}: {error}: {}", String::from_utf8_lossy(&answer.body)))?;
    if answer["status"] != "success" {
        return Err(answer.to_string());
    }
    let result = &answer["data"]["result"];
    if matches!(answer["data"]["resultType"].as_str(), Some("scalar" | "string")) {
        return Ok(Vectors::from([(Labels::new(), vec![sample(result)])]));
    }
    let mut vectors = Vectors::new();
    for series in result.as_array().ok_or("result is no list")? {
        let labels: Labels =
            serde_json::from_value(series["metric"].clone()).map_err(|error| format!("metric: {error}"))?;
        let samples = match series["values"].as_array() {
            Some(values) => values.iter().map(sample).collect(),
            None => vec![sample(&series["value"])],
        };
        if vectors.insert(labels.clone(), samples).is_some() {
            return Err(format!("{labels:?} stands twice in one answer"));
        }
    }
    Ok(vectors)
}

fn sample(pair: &Json) -> (i64, String) {
    let time_ms = (pair[0].as_f64().unwrap_or_else(|| panic!("no instant in {pair}")) * 1000.0).round();
    (time_ms as i64, pair[1].as_str().unwrap_or_else(|| panic!("no value in {pair}")).to_owned())
}

/// The same series without some labels: what a path has added.
pub fn without(vectors: &Vectors, names: &[&str]) -> Vectors {
    let mut stripped = Vectors::new();
    for (labels, samples) in vectors {
        let labels: Labels = labels.iter().filter(|(name, _)| !names.contains(&name.as_str())).map(clone).collect();
        let previous = stripped.insert(labels.clone(), samples.clone());
        assert!(previous.is_none(), "without {names:?}, two series are {labels:?}");
    }
    stripped
}

fn clone((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

/// In what two answers differ, at most ten lines; empty when they are the same in label sets, instants and values.
/// `is_close` compares two values.
pub fn differences(ours: &Vectors, theirs: &Vectors, is_close: impl Fn(f64, f64) -> bool) -> Vec<String> {
    let mut lines = Vec::new();
    for labels in theirs.keys().filter(|labels| !ours.contains_key(*labels)) {
        lines.push(format!("missing: {labels:?}"));
    }
    for (labels, our_samples) in ours {
        let Some(their_samples) = theirs.get(labels) else {
            lines.push(format!("too much: {labels:?}"));
            continue;
        };
        let instants = |samples: &[(i64, String)]| samples.iter().map(|(time_ms, _)| *time_ms).collect::<Vec<_>>();
        if instants(our_samples) != instants(their_samples) {
            lines.push(format!("{labels:?}: instants\n  {our_samples:?}\n  {their_samples:?}"));
        } else if let Some((ours, theirs)) = our_samples.iter().zip(their_samples).find(|((_, ours), (_, theirs))| {
            let number = |text: &str| text.parse::<f64>().expect("a number");
            ours != theirs && !is_close(number(ours), number(theirs))
        }) {
            lines.push(format!("{labels:?}: {ours:?} and {theirs:?}"));
        }
    }
    let count = lines.len();
    lines.truncate(10);
    if count > lines.len() {
        lines.push(format!("... {count} in all"));
    }
    lines
}

/// For [`differences`]: nothing but the same value is close.
pub fn exactly(ours: f64, theirs: f64) -> bool {
    ours == theirs || (ours.is_nan() && theirs.is_nan())
}

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("the clock is before the year 292277026")
}

fn seconds(time_ms: i64) -> String {
    format!("{}.{:03}", time_ms / 1000, time_ms % 1000)
}

/// Percent-encodes everything but letters and digits.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(labels: &[(&str, &str)], samples: &[(i64, &str)]) -> Vectors {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Vectors::from([(labels, samples.iter().map(|(time_ms, value)| (*time_ms, (*value).into())).collect())])
    }

    #[test]
    fn a_difference_in_label_instant_value_or_count_is_seen() {
        let ours = one(&[("job", "a")], &[(1, "1"), (2, "NaN")]);
        assert_eq!(differences(&ours, &ours, exactly), Vec::<String>::new());
        for theirs in [
            Vectors::new(),
            one(&[("job", "b")], &[(1, "1"), (2, "NaN")]),
            one(&[("job", "a"), ("site", "")], &[(1, "1"), (2, "NaN")]),
            one(&[("job", "a")], &[(1, "1"), (3, "NaN")]),
            one(&[("job", "a")], &[(1, "1"), (2, "0")]),
            one(&[("job", "a")], &[(1, "1.0000000000000002"), (2, "NaN")]),
            one(&[("job", "a")], &[(1, "1")]),
            one(&[("job", "a")], &[(1, "1"), (2, "NaN"), (2, "NaN")]),
        ] {
            assert_ne!(differences(&ours, &theirs, exactly), Vec::<String>::new(), "{theirs:?}");
            assert_ne!(differences(&theirs, &ours, exactly), Vec::<String>::new(), "{theirs:?}");
        }
    }

    #[test]
    fn a_chunked_body_is_joined_and_a_torn_one_is_no_body() {
        assert_eq!(unchunked(b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"), Some(b"abc0123456789".to_vec()));
        for torn in [&b""[..], b"3\r\nab", b"3\r\nabc\r\n", b"x\r\n"] {
            assert_eq!(unchunked(torn), None);
        }
    }
}
