//! A request's parameters, from the query and from a form body, and the types Prometheus gives them.

use super::ApiError;
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// Names and values in the order given: form body first, as Go's `FormValue` has it.
#[derive(Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
}

/// More parameters than this in one request is refused.
const PARAMS_COUNT_MAX: usize = 1_000;

impl Params {
    pub fn parse(query: &str, content_type: &str, body: &[u8]) -> Result<Self, ApiError> {
        let mut params = Self::default();
        if content_type
            .split(';')
            .next()
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
        {
            let body = core::str::from_utf8(body).map_err(|_| ApiError::bad_data("the form body is not UTF-8"))?;
            params.add(body)?;
        }
        params.add(query)?;
        Ok(params)
    }

    fn add(&mut self, encoded: &str) -> Result<(), ApiError> {
        for pair in encoded.split('&').filter(|pair| !pair.is_empty()) {
            if self.pairs.len() == PARAMS_COUNT_MAX {
                return Err(ApiError::bad_data(format!(
                    "more than {PARAMS_COUNT_MAX} parameters; send fewer per request"
                )));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.pairs.push((decode(name)?, decode(value)?));
        }
        Ok(())
    }

    /// The first value, or the empty text where the parameter is missing.
    pub fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or("")
    }

    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn time_ms(&self, name: &str, default: Option<i64>) -> Result<i64, ApiError> {
        let text = self.get(name);
        match (text, default) {
            ("", Some(default)) => Ok(default),
            _ => parse_time_ms(text).ok_or_else(|| {
                ApiError::bad_data(format!("invalid parameter {name:?}: cannot parse {text:?} to a valid timestamp"))
            }),
        }
    }

    /// A time with a default; Prometheus words its error in another way than where there is none.
    pub fn instant_ms(&self, name: &str, default_ms: i64) -> Result<i64, ApiError> {
        let text = self.get(name);
        self.time_ms(name, Some(default_ms)).map_err(|_| {
            ApiError::bad_data(format!(
                "invalid parameter {name:?}: invalid time value for '{name}': cannot parse {text:?} to a valid timestamp"
            ))
        })
    }

    pub fn duration_ms(&self, name: &str, default: Option<i64>) -> Result<i64, ApiError> {
        let text = self.get(name);
        match (text, default) {
            ("", Some(default)) => Ok(default),
            _ => parse_duration_ms(text).ok_or_else(|| {
                ApiError::bad_data(format!("invalid parameter {name:?}: cannot parse {text:?} to a valid duration"))
            }),
        }
    }

    /// A count that bounds an answer; 0 and absent: no bound.
    pub fn limit(&self, name: &str) -> Result<usize, ApiError> {
        let refuse = |why: String| Err(ApiError::bad_data(format!("invalid parameter {name:?}: {why}")));
        match (self.get(name), self.get(name).parse::<i64>()) {
            ("", _) => Ok(0),
            (text, Err(_)) => refuse(format!("cannot parse {text:?} to a number")),
            (_, Ok(..0)) => refuse("limit must be non-negative".into()),
            (_, Ok(limit)) => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
        }
    }

    /// A count of which only what is positive bounds, where the default is none.
    pub fn count(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => match text.parse() {
                Ok(count) => Ok(Some(count)),
                Err(_) => Err(ApiError::bad_data(format!("{name} must be a number"))),
            },
        }
    }

    /// A truth value, as Go's `ParseBool` reads it.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            text => Err(ApiError::bad_data(format!(
                "invalid parameter {name:?}: error converting {name}: {text:?} is not true or false"
            ))),
        }
    }
}

/// Percent and plus decoding of one form component.
pub fn decode(text: &str) -> Result<String, ApiError> {
    let broken = || ApiError::bad_data(format!("invalid URL escape in {text:?}"));
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| (byte as char).to_digit(16)).ok_or_else(broken);
                (digit(bytes.next())? << 4 | digit(bytes.next())?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).map_err(|_| broken())
}

/// Unix seconds with a fraction, RFC 3339, or the two extremes Prometheus' own clients send.
fn parse_time_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = libm::round(seconds * 1000.0);
        return (seconds.is_finite() && libm::fabs(ms) < 9.2e18).then_some(ms as i64);
    }
    match text {
        "-292273086-05-16T16:47:06Z" => Some(i64::MIN / 1000 / 1000),
        "292277025-08-18T07:12:54.999999999Z" => Some(i64::MAX / 1000 / 1000),
        _ => crate::time::parse_rfc3339_ms(text),
    }
}

/// Seconds with a fraction, or `1h30m` as PromQL writes it.
fn parse_duration_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = seconds * 1000.0;
        return (seconds.is_finite() && libm::fabs(ms) < 9.2e18).then_some(ms as i64);
    }
    crate::time::parse_duration_ms(text).ok().map(|ms| ms as i64)
}

/// The label name of `/api/v1/label/<name>/values`: `U__` names escape other characters (Prometheus'
/// `model.UnescapeName` with the values scheme: `_hex_` is a code point, `__` an underscore).
pub fn unescape_label_name(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return name.to_string() };
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(end) = rest.find('_') else { return name.to_string() };
        if end == 0 {
            out.push('_');
        } else {
            let Some(c) = u32::from_str_radix(&rest[..end], 16).ok().and_then(char::from_u32) else {
                return name.to_string();
            };
            out.push(c);
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_and_query_are_read_and_the_form_comes_first() {
        let params = Params::parse(
            "query=b&match[]=x%20y",
            "application/x-www-form-urlencoded; charset=utf-8",
            b"query=a%2Bb+c",
        )
        .unwrap();
        assert_eq!(params.get("query"), "a+b c");
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["x y"]);
        assert!(Params::parse("a=%2", "", b"").is_err());
        assert_eq!(Params::parse("a=1", "text/plain", b"a=2").unwrap().get("a"), "1");
    }

    #[test]
    fn times_and_durations_are_read_as_prometheus_reads_them() {
        let time = |text: &str| parse_time_ms(text);
        assert_eq!(time("1435781430.781"), Some(1_435_781_430_781));
        assert_eq!(time("2015-07-01T20:10:51.781Z"), Some(1_435_781_451_781));
        assert_eq!(time("2015-07-01T22:10:51.781+02:00"), Some(1_435_781_451_781));
        assert_eq!((time("abc"), time(""), time("NaN"), time("1e300")), (None, None, None, None));
        let duration = |text: &str| parse_duration_ms(text);
        assert_eq!(duration("1h30m"), Some(5_400_000));
        assert_eq!((duration("15"), duration("0.5"), duration("5ms")), (Some(15_000), Some(500), Some(5)));
        assert_eq!((duration("m"), duration("5"), duration("1m1h"), duration("")), (None, Some(5_000), None, None));
    }

    #[test]
    fn escaped_label_names_are_unescaped() {
        assert_eq!(unescape_label_name("U__http_2e_status__code"), "http.status_code");
        assert_eq!(unescape_label_name("job"), "job");
        assert_eq!(unescape_label_name("U__broken_2"), "U__broken_2");
    }
}
