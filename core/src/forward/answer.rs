//! What an upstream's answer means for the rows that were sent.

/// The class of an answer; `docs/HTTP_API.md` has the table for readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerClass {
    /// 2xx: the rows are the upstream's now.
    Accepted,
    /// Nothing is wrong with the rows: wait and send them again. 5xx, 429, time-outs, and everything an operator repairs
    /// on the other side (401, 403, 404, redirects).
    Again,
    /// The message is too big: send less at once.
    TooLarge,
    /// The upstream's window has moved on (or our clock is ahead of it): these rows wait, newer ones go on.
    OutOfBounds,
    /// The upstream has newer samples of the same series.
    OutOfOrder,
    /// Something in the message is bad: find it.
    Refused,
}

/// Words by which upstreams say that samples lie outside their window: Prometheus (`out of bounds`, `too old sample`),
/// Mimir and Cortex (`timestamp too old`, `too far in the future`), Thanos (`out of bounds`, `too far in future`).
const OUT_OF_BOUNDS_WORDS: [&str; 5] =
    ["out of bounds", "too old", "too-old", "too far in the future", "too far in future"];

/// Words for samples older than the series' newest: Prometheus, Mimir, Thanos. Another value at the same timestamp is not
/// among them: a repeat has the same value and is accepted.
const OUT_OF_ORDER_WORDS: [&str; 2] = ["out of order", "out-of-order"];

/// `body` is the answer's beginning.
pub fn classify(status: u16, body: &str) -> AnswerClass {
    match status {
        200..=299 => AnswerClass::Accepted,
        413 => AnswerClass::TooLarge,
        // Thanos answers 409 where Prometheus answers 400; others use 422.
        400 | 409 | 422 => {
            let says = |words: &[&str]| words.iter().any(|words| contains_ignoring_case(body, words));
            if says(&OUT_OF_BOUNDS_WORDS) {
                AnswerClass::OutOfBounds
            } else if says(&OUT_OF_ORDER_WORDS) {
                AnswerClass::OutOfOrder
            } else {
                AnswerClass::Refused
            }
        }
        _ => AnswerClass::Again,
    }
}

fn contains_ignoring_case(text: &str, words: &str) -> bool {
    text.as_bytes().windows(words.len()).any(|window| window.eq_ignore_ascii_case(words.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_class_and_only_2xx_is_accepted() {
        for status in 0..=999 {
            assert_eq!(classify(status, "") == AnswerClass::Accepted, (200..300).contains(&status), "{status}");
        }
        for status in [100, 301, 401, 403, 404, 405, 408, 415, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(classify(status, "out of bounds"), AnswerClass::Again, "{status}");
        }
        assert_eq!(classify(413, ""), AnswerClass::TooLarge);
    }

    #[test]
    fn the_words_of_known_upstreams_are_told_apart() {
        for (body, class) in [
            ("out of bounds", AnswerClass::OutOfBounds),
            ("too old sample", AnswerClass::OutOfBounds),
            ("failed pushing to ingester: ... (err-mimir-sample-timestamp-too-old)", AnswerClass::OutOfBounds),
            ("timestamp is too far in the future", AnswerClass::OutOfBounds),
            ("Out of order sample", AnswerClass::OutOfOrder),
            ("out of bounds: timestamp is too far in the future", AnswerClass::OutOfBounds),
            ("duplicate sample for timestamp 1795524590177; overrides not allowed", AnswerClass::Refused),
            ("label name \"a\" is not unique: invalid sample", AnswerClass::Refused),
            ("", AnswerClass::Refused),
        ] {
            assert_eq!(classify(400, body), class, "{body}");
            assert_eq!(classify(409, body), class, "{body}");
        }
    }
}
