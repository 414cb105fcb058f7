//! `holdfast query instant|range`: asks a Prometheus or a Holdfast over HTTP and prints as `promtool query` does.
//!
//! A process of its own that blocks; the daemon does not use it.

use crate::config::parse_duration_ms;
use serde_json::Value;
use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write as _},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Longest answer read. A longer one is an error, not cut.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
const HEAD_BYTES_MAX: u64 = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the two minutes that a server gives a query by default.
const READ_TIMEOUT: Duration = Duration::from_secs(150);

/// Range and steps that promtool takes when none are given.
const RANGE_SECONDS: f64 = 300.0;
const STEP_COUNT: f64 = 250.0;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// `http://host:port`, with a path prefix if there is one.
    pub url: String,
    pub expression: String,
    pub when: When,
}

/// Instants are RFC 3339 or seconds since 1970; a step is a duration or seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// `None`: now, by the server's clock.
    Instant { time: Option<String> },
    /// `None`: now; 5 minutes before the end; a 250th of the range, at least one second.
    Range { start: Option<String>, end: Option<String>, step: Option<String> },
}

/// What a query prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub output: String,
    /// The server's warnings and infos, for standard error.
    pub warnings: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("{0:?} is not a server's address; write it like http://127.0.0.1:9090 (https is not supported yet)")]
    Url(String),
    #[error("{0:?} is not an instant; write seconds since 1970 or RFC 3339, like 2026-01-02T03:04:05Z")]
    Instant(String),
    #[error("{0:?} is not a step; write a duration like 15s, or seconds above 0")]
    Step(String),
    #[error("the range ends before it starts; swap --start and --end")]
    Range,
    #[error("{address} cannot be reached: {error}; is it running, and is the address right?")]
    Connection { address: String, error: std::io::Error },
    #[error("{address} gave no whole answer: {error}")]
    Transfer { address: String, error: std::io::Error },
    #[error("the answer is longer than {} MiB; ask for less", ANSWER_BYTES_MAX >> 20)]
    TooLong,
    #[error("the server refused the query ({kind}): {message}")]
    Refused { kind: String, message: String },
    #[error("the answer (HTTP status {status}) is not one of Prometheus' API; check the address and its path")]
    NotTheApi { status: u16 },
}

/// Asks and waits for the answer.
pub fn run(query: &Query) -> Result<Answer, QueryError> {
    let server = Server::new(&query.url)?;
    let mut form = vec![("query", query.expression.clone())];
    let path = match &query.when {
        When::Instant { time } => {
            if let Some(time) = time {
                form.push(("time", seconds(parse_instant(time)?)));
            }
            "/api/v1/query"
        }
        When::Range { start, end, step } => {
            let (start, end, step) = range(start.as_deref(), end.as_deref(), step.as_deref(), now())?;
            form.extend([("start", seconds(start)), ("end", seconds(end)), ("step", seconds(step))]);
            "/api/v1/query_range"
        }
    };
    let (status, body) = server.post(path, &form)?;
    read_answer(status, &body)
}

/// Start, end and step in seconds.
fn range(start: Option<&str>, end: Option<&str>, step: Option<&str>, now: f64) -> Result<(f64, f64, f64), QueryError> {
    let end = end.map_or(Ok(now), parse_instant)?;
    let start = start.map_or(Ok(end - RANGE_SECONDS), parse_instant)?;
    if start > end {
        return Err(QueryError::Range);
    }
    let step = match step {
        Some(step) => parse_step(step)?,
        None => ((end - start) / STEP_COUNT).floor().max(1.0),
    };
    Ok((start, end, step))
}

fn parse_step(text: &str) -> Result<f64, QueryError> {
    let as_duration = || parse_duration_ms(text).ok().map(|ms| ms as f64 / 1000.0);
    let step = text.parse::<f64>().ok().or_else(as_duration);
    step.filter(|step| step.is_finite() && *step > 0.0).ok_or_else(|| QueryError::Step(text.into()))
}

/// Seconds since 1970.
fn parse_instant(text: &str) -> Result<f64, QueryError> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.or_else(|| parse_rfc3339(text)).ok_or_else(|| QueryError::Instant(text.into()))
}

/// RFC 3339 §5.6: `2026-01-02T03:04:05.678+01:00`.
fn parse_rfc3339(text: &str) -> Option<f64> {
    let number = |from: usize, to: usize, range: std::ops::RangeInclusive<i64>| {
        let digits = text.get(from..to).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<i64>().ok().filter(|number| range.contains(number))
    };
    let is = |at: usize, allowed: &str| text.get(at..at + 1).is_some_and(|one| allowed.contains(one));
    let (year, month, day) = (number(0, 4, 0..=9999)?, number(5, 7, 1..=12)?, number(8, 10, 1..=31)?);
    let (hour, minute, second) = (number(11, 13, 0..=23)?, number(14, 16, 0..=59)?, number(17, 19, 0..=60)?);
    if !(is(4, "-") && is(7, "-") && is(10, "Tt ") && is(13, ":") && is(16, ":")) {
        return None;
    }
    let rest = &text[19..];
    let fraction_bytes = match rest.strip_prefix('.') {
        Some(digits) => 1 + digits.bytes().take_while(u8::is_ascii_digit).count(),
        None => 0,
    };
    let fraction: f64 = if fraction_bytes > 1 { rest[..fraction_bytes].parse().ok()? } else { 0.0 };
    let offset_at = 19 + fraction_bytes;
    let offset_seconds = match &text[offset_at..] {
        "Z" | "z" => 0,
        offset if offset.len() == 6 && is(offset_at, "+-") && is(offset_at + 3, ":") => {
            let seconds = number(offset_at + 1, offset_at + 3, 0..=23)? * 3_600
                + number(offset_at + 4, offset_at + 6, 0..=59)? * 60;
            if offset.starts_with('-') { -seconds } else { seconds }
        }
        _ => return None,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if day > month_days[month as usize - 1] {
        return None;
    }
    let years_before = year - 1;
    let days_before_year =
        years_before * 365 + years_before.div_euclid(4) - years_before.div_euclid(100) + years_before.div_euclid(400);
    let days = days_before_year + month_days[..month as usize - 1].iter().sum::<i64>() + day - 1 - DAYS_TO_1970;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second - offset_seconds) as f64 + fraction)
}

/// From 0001-01-01.
const DAYS_TO_1970: i64 = 719_162;

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64 / 1000.0)
}

/// Milliseconds are what the API resolves.
fn seconds(value: f64) -> String {
    format!("{}", (value * 1000.0).round() / 1000.0)
}

pub(super) struct Server {
    /// `host:port`.
    address: String,
    /// Empty or `/something`.
    prefix: String,
}

impl Server {
    pub(super) fn new(url: &str) -> Result<Self, QueryError> {
        let refused = || QueryError::Url(url.into());
        let rest = url.strip_prefix("http://").ok_or_else(refused)?;
        if rest.contains(|c: char| c.is_whitespace() || c.is_control() || "?#@".contains(c)) {
            return Err(refused());
        }
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !crate::config::is_host_port(authority) {
            return Err(refused());
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && !port.ends_with(']'));
        let address = if has_port { authority.into() } else { format!("{authority}:80") };
        Ok(Self { address, prefix: prefix.trim_end_matches('/').into() })
    }

    /// The `data` of an answer of the API.
    pub(super) fn data(&self, path: &str, form: &[(&str, String)]) -> Result<Value, QueryError> {
        let (status, body) = self.post(path, form)?;
        let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
            return Err(QueryError::NotTheApi { status });
        };
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            Some("error") => {
                let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
                Err(QueryError::Refused { kind: text("errorType"), message: text("error") })
            }
            _ => Err(QueryError::NotTheApi { status }),
        }
    }

    /// The status and the whole body.
    fn post(&self, path: &str, form: &[(&str, String)]) -> Result<(u16, Vec<u8>), QueryError> {
        let connection = |error| QueryError::Connection { address: self.address.clone(), error };
        let transfer = |error| QueryError::Transfer { address: self.address.clone(), error };
        let mut stream = self.connect().map_err(connection)?;
        let body: Vec<_> = form.iter().map(|(name, value)| format!("{name}={}", form_encoded(value))).collect();
        let body = body.join("&");
        let head = format!(
            "POST {}{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\nUser-Agent: holdfast/{}\r\n\r\n",
            self.prefix,
            self.address,
            body.len(),
            env!("CARGO_PKG_VERSION"),
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).map_err(transfer)?;
        let mut reader = BufReader::new(stream);
        let (status, framing) = read_head(&mut reader).map_err(transfer)?;
        let body = read_body(&mut reader, framing).map_err(transfer)?.ok_or(QueryError::TooLong)?;
        Ok((status, body))
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let mut last = std::io::Error::other("the name has no address");
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(READ_TIMEOUT))?;
                    stream.set_write_timeout(Some(READ_TIMEOUT))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn form_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

/// How the body ends (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    ToTheEnd,
}

fn invalid(message: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, message.to_owned())
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<(u16, Framing)> {
    let mut head = reader.take(HEAD_BYTES_MAX);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    let status = status.and_then(|status| status.trim().parse().ok()).ok_or_else(|| invalid("not an HTTP answer"))?;
    let mut framing = Framing::ToTheEnd;
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(invalid("the head of the answer is not whole"));
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok((status, framing)) };
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("content-length") && framing != Framing::Chunked {
            framing = Framing::Length(value.parse().map_err(|_| invalid("the length of the answer is not a number"))?);
        }
    }
}

/// `None`: longer than [`ANSWER_BYTES_MAX`].
fn read_body(reader: &mut impl BufRead, framing: Framing) -> std::io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    match framing {
        Framing::Length(length) if length > ANSWER_BYTES_MAX => return Ok(None),
        Framing::Length(length) => {
            if reader.take(length).read_to_end(&mut body)? as u64 != length {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Framing::ToTheEnd => {
            reader.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut body)?;
        }
        Framing::Chunked => loop {
            let mut line = String::new();
            reader.take(128).read_line(&mut line)?;
            let size = line.trim_end().split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(|_| invalid("the answer was cut"))?;
            if size == 0 {
                break;
            }
            if size > ANSWER_BYTES_MAX || body.len() as u64 + size > ANSWER_BYTES_MAX {
                return Ok(None);
            }
            if reader.take(size).read_to_end(&mut body)? as u64 != size {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let mut end = [0; 2];
            reader.read_exact(&mut end)?;
        },
    }
    Ok((body.len() as u64 <= ANSWER_BYTES_MAX).then_some(body))
}

fn read_answer(status: u16, body: &[u8]) -> Result<Answer, QueryError> {
    let not_the_api = QueryError::NotTheApi { status };
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return Err(not_the_api) };
    let texts = |key: &str| {
        let items = answer[key].as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    match answer["status"].as_str() {
        Some("success") => {
            let output = result(&answer["data"]).ok_or(not_the_api)?;
            Ok(Answer { output, warnings: [texts("warnings"), texts("infos")].concat() })
        }
        Some("error") => {
            let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
            Err(QueryError::Refused { kind: text("errorType"), message: text("error") })
        }
        _ => Err(not_the_api),
    }
}

/// As the `String` methods of Prometheus' `model.Value` print; nothing at all is an empty line.
fn result(data: &Value) -> Option<String> {
    typed_result(data).map(|text| if text.is_empty() { "\n".into() } else { text })
}

fn typed_result(data: &Value) -> Option<String> {
    let result = &data["result"];
    match data["resultType"].as_str()? {
        "scalar" => pair(result).map(|(time, value)| format!("scalar: {value} @[{time}]\n")),
        "string" => Some(format!("{}\n", result.get(1)?.as_str()?)),
        "vector" => {
            let mut text = String::new();
            for sample in result.as_array()? {
                let (time, value) = match sample.get("histogram") {
                    Some(histogram) => (number(histogram.get(0)?), histogram.get(1)?.to_string()),
                    None => pair(sample.get("value")?)?,
                };
                writeln!(text, "{} => {value} @[{time}]", metric(&sample["metric"])).ok()?;
            }
            Some(text)
        }
        "matrix" => {
            let mut text = String::new();
            for series in result.as_array()? {
                writeln!(text, "{} =>", metric(&series["metric"])).ok()?;
                for point in series["values"].as_array().into_iter().flatten() {
                    let (time, value) = pair(point)?;
                    writeln!(text, "{value} @[{time}]").ok()?;
                }
                for point in series["histograms"].as_array().into_iter().flatten() {
                    writeln!(text, "{} @[{}]", point.get(1)?, number(point.get(0)?)).ok()?;
                }
            }
            Some(text)
        }
        _ => None,
    }
}

/// `[time, "value"]`.
fn pair(point: &Value) -> Option<(String, String)> {
    let value: f64 = point.get(1)?.as_str()?.parse().ok()?;
    Some((number(point.get(0)?), float(value)))
}

fn number(time: &Value) -> String {
    time.as_f64().map_or_else(String::new, float)
}

/// Never with an exponent, as Go's `'f'` format.
fn float(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => format!("{value}"),
    }
}

fn metric(labels: &Value) -> String {
    let name = labels["__name__"].as_str().unwrap_or_default();
    let mut pairs: Vec<String> = Vec::new();
    for (label, value) in labels.as_object().into_iter().flatten().filter(|(label, _)| *label != "__name__") {
        pairs.push(format!("{label}={}", quoted(value.as_str().unwrap_or_default())));
    }
    pairs.sort();
    match (name, pairs.is_empty()) {
        ("", true) => "{}".into(),
        (name, true) => name.into(),
        (name, false) => format!("{name}{{{}}}", pairs.join(", ")),
    }
}

/// As Go's `%q`, as far as label values need it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            '\0'..='\x1f' | '\x7f' => quoted += &format!("\\x{:02x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_seconds_or_rfc_3339() {
        for (text, expected) in [
            ("1767323045", 1_767_323_045.0),
            ("1767323045.5", 1_767_323_045.5),
            ("2026-01-02T03:04:05Z", 1_767_323_045.0),
            ("2026-01-02T04:04:05.250+01:00", 1_767_323_045.25),
            ("2024-02-29T00:00:00-00:30", 1_709_166_600.0),
            ("1970-01-01T00:00:00Z", 0.0),
        ] {
            assert_eq!(parse_instant(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "now",
            "NaN",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2025-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-02T03:04:05+1:00",
            "2026-01-02T03:04:05Zü",
            "20é6-01-02T03:04:05Z",
        ] {
            assert!(matches!(parse_instant(text), Err(QueryError::Instant(_))), "{text}");
        }
    }

    #[test]
    fn a_range_has_the_defaults_of_promtool() {
        assert_eq!(range(None, None, None, 1_000.0).unwrap(), (700.0, 1_000.0, 1.0));
        assert_eq!(range(Some("0"), Some("1000"), None, 5.0).unwrap(), (0.0, 1_000.0, 4.0));
        assert_eq!(range(Some("0"), Some("1000"), Some("1m30s"), 5.0).unwrap(), (0.0, 1_000.0, 90.0));
        assert!(matches!(range(Some("2"), Some("1"), None, 5.0), Err(QueryError::Range)));
        assert!(matches!(range(None, None, Some("0"), 5.0), Err(QueryError::Step(_))));
        assert!(matches!(range(None, None, Some("x"), 5.0), Err(QueryError::Step(_))));
    }

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        let server = Server::new("http://[::1]/prometheus/").unwrap();
        assert_eq!((server.address.as_str(), server.prefix.as_str()), ("[::1]:80", "/prometheus"));
        assert_eq!(Server::new("http://a:9090").unwrap().address, "a:9090");
        for url in ["a:9090", "https://a", "http://", "http://a b", "http://u@a", "http://a:99999", "http://a/x?y"] {
            assert!(matches!(Server::new(url), Err(QueryError::Url(_))), "{url}");
        }
    }

    #[test]
    fn answers_print_as_promtool_prints_them() {
        let shown = |data: &str| {
            let body = format!(r#"{{"status":"success","data":{data},"warnings":["w"],"infos":["i"]}}"#);
            let answer = read_answer(200, body.as_bytes()).unwrap();
            assert_eq!(answer.warnings, ["w", "i"]);
            answer.output
        };
        assert_eq!(shown(r#"{"resultType":"scalar","result":[1.5,"1e+06"]}"#), "scalar: 1000000 @[1.5]\n");
        assert_eq!(shown(r#"{"resultType":"string","result":[1,"a b"]}"#), "a b\n");
        assert_eq!(shown(r#"{"resultType":"vector","result":[]}"#), "\n");
        let vector = r#"{"resultType":"vector","result":[
            {"metric":{"__name__":"up","job":"n","instance":"a\"b"},"value":[1435781451.781,"1"]},
            {"metric":{},"value":[2,"+Inf"]},{"metric":{"__name__":"x"},"value":[2,"NaN"]}]}"#;
        let expected = "up{instance=\"a\\\"b\", job=\"n\"} => 1 @[1435781451.781]\n{} => +Inf @[2]\nx => NaN @[2]\n";
        assert_eq!(shown(vector), expected);
        let matrix = r#"{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1,"0.1"],[2,"-Inf"]]}]}"#;
        assert_eq!(shown(matrix), "{a=\"b\"} =>\n0.1 @[1]\n-Inf @[2]\n");
    }

    #[test]
    fn label_values_are_quoted_as_in_go() {
        assert_eq!(quoted("a\"b\\c'\n\t\u{1}\u{7f}ü"), r#""a\"b\\c'\n\t\x01\x7fü""#);
    }

    #[test]
    fn a_refusal_and_a_foreign_answer_are_told_apart() {
        let refused = read_answer(400, br#"{"status":"error","errorType":"bad_data","error":"no"}"#).unwrap_err();
        assert_eq!(refused.to_string(), "the server refused the query (bad_data): no");
        for body in ["", "<html>", "{}", r#"{"status":"success"}"#, r#"{"status":"success","data":{"resultType":"x"}}"#]
        {
            assert!(matches!(read_answer(404, body.as_bytes()), Err(QueryError::NotTheApi { status: 404 })), "{body}");
        }
    }

    #[test]
    fn a_body_is_whole_or_an_error() {
        let read = |text: &str| {
            let mut reader = text.as_bytes();
            let (status, framing) = read_head(&mut reader)?;
            read_body(&mut reader, framing).map(|body| (status, body.map(|body| String::from_utf8(body).unwrap())))
        };
        let whole = Some("abcd".to_owned());
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd").unwrap(), (200, whole.clone()));
        assert_eq!(read("HTTP/1.1 503 No\r\n\r\nabcd").unwrap(), (503, whole.clone()));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n";
        assert_eq!(read(&format!("{chunked}0\r\n\r\n")).unwrap(), (200, whole));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n").unwrap(), (200, None));
        for cut in
            [chunked, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd", "HTTP/1.1 200 OK\r\n", "SSH-2.0\r\n", ""]
        {
            assert!(read(cut).is_err(), "{cut}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_the_client_fail(head in "HTTP/1.1 [0-9 ]{0,5}\r\n(transfer-encoding: chunked\r\n|content-length: [0-9]{1,22}\r\n|[a-z: ]{0,9}\r\n){0,3}(\r\n)?", body in "[0-9a-f\r\n{}\":,\\[\\]]{0,60}") {
            let text = head + &body;
            let mut reader = text.as_bytes();
            if let Ok((status, framing)) = read_head(&mut reader)
                && let Ok(Some(body)) = read_body(&mut reader, framing)
            {
                _ = read_answer(status, &body);
            }
            _ = read_answer(200, body.as_bytes());
            _ = parse_instant(&text);
        }

        #[test]
        fn no_instant_makes_the_reader_fail(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(.[0-9]{0,4})?(Z|[+-][0-9]{2}:[0-9]{2}|é)?") {
            _ = parse_instant(&text);
        }
    }
}
