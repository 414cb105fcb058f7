//! The body of a POST to `/api/v2/alerts` (Alertmanager's api/v2/openapi.yaml, `postableAlerts`).

use super::AlertMessage;
use crate::{percent::push_query_escaped, time::Rfc3339Ms};
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
    push_instant(out, alert.ends_at_ms);
    out.push_str("\",\"startsAt\":\"");
    push_instant(out, alert.starts_at_ms);
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

fn push_instant(out: &mut String, wall_ms: i64) {
    use core::fmt::Write;
    let _ = write!(out, "{}", Rfc3339Ms(wall_ms)); // a String takes everything
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

/// Bytes between the quotes that [`write_text`] makes of a text.
pub fn text_bytes(text: &str) -> usize {
    let bytes = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(bytes).sum()
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
}
