//! The body of a POST to `/api/v2/alerts` (Alertmanager's api/v2/openapi.yaml, `postableAlerts`).

use super::AlertMessage;
use alloc::string::String;

/// Path below the Alertmanager's URL.
pub const PATH: &str = "/api/v2/alerts";

/// Where the graph of an alert's expression is: `<external_url>/graph?g0.expr=<expr>&g0.tab=1`.
pub fn generator_url(external_url: &str, expr: &str) -> String {
    let mut url = String::with_capacity(external_url.len() + expr.len() + 32);
    url.push_str(external_url.trim_end_matches('/'));
    url.push_str("/graph?g0.expr=");
    push_query_escaped(&mut url, expr);
    url.push_str("&g0.tab=1");
    url
}

/// As Go's `url.QueryEscape`: a space is `+`, everything but letters, digits and `-_.~` is percent-encoded.
pub fn push_query_escaped(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

/// Appends the alerts as one JSON array.
pub fn write_alerts<'a>(out: &mut String, alerts: impl IntoIterator<Item = &'a AlertMessage>) {
    out.push('[');
    for (index, alert) in alerts.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_alert(out, alert);
    }
    out.push(']');
}

fn write_alert(out: &mut String, alert: &AlertMessage) {
    out.push_str("{\"annotations\":");
    write_object(out, alert.annotations.iter().map(|(name, value)| (&**name, &**value)));
    out.push_str(",\"endsAt\":\"");
    push_rfc3339_ms(out, alert.ends_at_ms);
    out.push_str("\",\"startsAt\":\"");
    push_rfc3339_ms(out, alert.starts_at_ms);
    out.push_str("\",\"generatorURL\":");
    write_text(out, &alert.generator_url);
    out.push_str(",\"labels\":");
    write_object(out, alert.labels.iter());
    out.push('}');
}

fn write_object<'a>(out: &mut String, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push('{');
    for (index, (name, value)) in pairs.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(out, name);
        out.push(':');
        write_text(out, value);
    }
    out.push('}');
}

/// A JSON string.
pub fn write_text(out: &mut String, text: &str) {
    use core::fmt::Write;
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", control as u32); // a String takes everything
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// `2006-01-02T15:04:05.000Z`, always with milliseconds.
pub fn push_rfc3339_ms(out: &mut String, wall_ms: i64) {
    use core::fmt::Write;
    let days = wall_ms.div_euclid(86_400_000);
    let in_day_ms = wall_ms.rem_euclid(86_400_000);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute) = (in_day_ms / 3_600_000, in_day_ms / 60_000 % 60);
    let (second, ms) = (in_day_ms / 1_000 % 60, in_day_ms % 1_000);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z");
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01.
/// Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::LabelSet;

    #[test]
    fn an_alert_is_told_as_alertmanagers_api_asks_for_it() {
        let alert = AlertMessage {
            labels: LabelSet::from_pairs([("alertname", "Disk \"full\""), ("path", "C:\\"), ("é", "ü")]),
            annotations: [("empty", ""), ("text", "a\nb\t\u{1}")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            starts_at_ms: 1_435_065_584_128,
            ends_at_ms: 1_435_065_824_000,
            resolved: false,
            repeated: false,
            generator_url: generator_url("http://box:9090/", "sum by (a) (x{b=\"c d\"}) > 1").into(),
        };
        let mut out = String::new();
        write_alerts(&mut out, []);
        assert_eq!(out, "[]");
        out.clear();
        write_alerts(&mut out, [&alert]);
        let wanted = concat!(
            r#"[{"annotations":{"empty":"","text":"a\nb\t\u0001"},"endsAt":"2015-06-23T13:23:44.000Z","#,
            r#""startsAt":"2015-06-23T13:19:44.128Z","#,
            r#""generatorURL":"http://box:9090/graph?g0.expr=sum+by+%28a%29+%28x%7Bb%3D%22c+d%22%7D%29+%3E+1&g0.tab=1","#,
            r#""labels":{"alertname":"Disk \"full\"","path":"C:\\","é":"ü"}}]"#
        );
        assert_eq!(out, wanted);
        out.clear();
        write_alerts(&mut out, [&alert, &alert]);
        assert_eq!(out, format!("{},{}", &wanted[..wanted.len() - 1], &wanted[1..]));
    }

    #[test]
    fn instants_are_written_in_utc_with_milliseconds_whatever_they_are() {
        for (ms, wanted) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            let mut text = String::new();
            push_rfc3339_ms(&mut text, ms);
            assert_eq!(text, wanted);
        }
    }
}
