//! Percent-encodes what stands raw in requests' targets, which Go's HTTP server takes and hyper does not.
//!
//! Scripts written for Prometheus send `?query=up{job="node"}` as it is. The bytes of a connection are followed through
//! here before hyper sees them; only a request line's target is changed:
//!
//! ```text
//! Start -> Method -> Target -> LineRest -> Headers -> (a body: Body, or ChunkSize <-> Chunk -> Trailers) -> Start
//!    any of them, at something that hyper refuses too -> Lost, where nothing more is changed
//! ```
//!
//! Framing is as in RFC 9112 §6 and §7.1, and as lenient as httparse: a line may end in a bare line feed.

/// How many bytes one byte can become.
pub const GROWTH: usize = 3;

/// The longest header name that matters here.
const NAME_BYTES_MAX: usize = TRANSFER_ENCODING.len();
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";
const CONTENT_LENGTH: &[u8] = b"content-length";

/// Where in its requests a connection is.
#[derive(Debug)]
pub struct Targets {
    at: At,
    /// What this request's headers have said so far.
    length: Option<u64>,
    is_chunked: bool,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// Between requests; empty lines before one are passed over.
    Start,
    Method,
    Target,
    LineRest,
    /// At a header's first byte or, behind a carriage return, at the blank line's line feed.
    HeaderStart,
    HeaderName {
        name: [u8; NAME_BYTES_MAX],
        /// More than fits is no name that matters.
        name_bytes: usize,
    },
    LengthValue {
        digits: Option<u64>,
    },
    OtherValue,
    Body {
        left_bytes: u64,
    },
    ChunkSize {
        digits: Option<u64>,
    },
    ChunkExtension {
        size_bytes: u64,
    },
    Chunk {
        left_bytes: u64,
    },
    /// The line end behind a chunk.
    ChunkEnd,
    TrailerStart,
    Trailer,
    Lost,
}

impl Targets {
    pub const fn new() -> Self {
        Self { at: At::Start, length: None, is_chunked: false }
    }

    /// How many bytes may be read so that they fit into `room` bytes whatever they are: at least one.
    pub fn read_bytes_max(&self, room: usize) -> usize {
        let unchanged = match self.at {
            At::Body { left_bytes } | At::Chunk { left_bytes } => usize::try_from(left_bytes).unwrap_or(usize::MAX),
            At::Lost => usize::MAX,
            _ => 0,
        };
        unchanged.max(room / GROWTH).min(room).max(1)
    }

    /// Hands on the connection's next bytes, in order and in as few pieces as possible.
    pub fn pass(&mut self, bytes: &[u8], mut put: impl FnMut(&[u8])) {
        // What was looked at and not yet handed on.
        let (mut from, mut position) = (0, 0);
        while position < bytes.len() {
            match &mut self.at {
                At::Lost => position = bytes.len(),
                At::Body { left_bytes } | At::Chunk { left_bytes } => {
                    let rest = bytes.len() - position;
                    let length = usize::try_from(*left_bytes).map_or(rest, |left| left.min(rest));
                    *left_bytes -= length as u64;
                    position += length;
                    self.leave_if_done();
                }
                at => {
                    let byte = bytes[position];
                    if matches!(at, At::Target) && is_raw(byte) {
                        put(&bytes[from..position]);
                        put(&percent_encoded(byte));
                        from = position + 1;
                    }
                    position += 1;
                    self.step(byte);
                }
            }
        }
        put(&bytes[from..]);
    }

    fn leave_if_done(&mut self) {
        match self.at {
            At::Body { left_bytes: 0 } => self.at = At::Start,
            At::Chunk { left_bytes: 0 } => self.at = At::ChunkEnd,
            _ => {}
        }
    }

    /// One byte outside of bodies.
    fn step(&mut self, byte: u8) {
        self.at = match (self.at, byte) {
            (At::Start, b'\r' | b'\n') => At::Start,
            (At::Start, _) => {
                (self.length, self.is_chunked) = (None, false);
                At::Method
            }
            (At::Method, b' ') => At::Target,
            (At::Target, b' ') => At::LineRest,
            (At::Method | At::Target, b'\r' | b'\n') => At::Lost,
            (At::LineRest, b'\n') => At::HeaderStart,
            (At::HeaderStart, b'\r') => At::HeaderStart,
            (At::HeaderStart, b'\n') => self.behind_head(),
            (At::HeaderStart, _) => named(byte, [0; NAME_BYTES_MAX], 0),
            (At::HeaderName { name, name_bytes }, b':') => match name.get(..name_bytes) {
                Some(name) if name.eq_ignore_ascii_case(CONTENT_LENGTH) => At::LengthValue { digits: None },
                Some(name) if name.eq_ignore_ascii_case(TRANSFER_ENCODING) => {
                    // Hyper refuses every coding whose last is not `chunked`.
                    self.is_chunked = true;
                    At::OtherValue
                }
                _ => At::OtherValue,
            },
            (At::HeaderName { .. }, b'\n') => At::Lost,
            (At::HeaderName { name, name_bytes }, _) => named(byte, name, name_bytes),
            (At::LengthValue { digits: Some(length) }, b'\n') => {
                let is_other = self.length.is_some_and(|before| before != length);
                self.length = Some(length);
                if is_other { At::Lost } else { At::HeaderStart }
            }
            (At::LengthValue { digits }, b' ' | b'\t' | b'\r') => At::LengthValue { digits },
            (At::LengthValue { digits }, _) => match with_digit(digits, byte, 10) {
                Some(digits) => At::LengthValue { digits: Some(digits) },
                None => At::Lost,
            },
            (At::OtherValue, b'\n') => At::HeaderStart,
            (At::ChunkSize { digits: Some(size_bytes) }, b'\n') => in_chunk(size_bytes),
            (At::ChunkSize { digits: Some(size_bytes) }, b'\r' | b';' | b' ' | b'\t') => {
                At::ChunkExtension { size_bytes }
            }
            (At::ChunkSize { digits }, _) => match with_digit(digits, byte, 16) {
                Some(digits) => At::ChunkSize { digits: Some(digits) },
                None => At::Lost,
            },
            (At::ChunkExtension { size_bytes }, b'\n') => in_chunk(size_bytes),
            (At::ChunkEnd, b'\r') => At::ChunkEnd,
            (At::ChunkEnd, b'\n') => At::ChunkSize { digits: None },
            (At::ChunkEnd, _) => At::Lost,
            (At::TrailerStart, b'\r') => At::TrailerStart,
            (At::TrailerStart, b'\n') => At::Start,
            (At::TrailerStart, _) => At::Trailer,
            (At::Trailer, b'\n') => At::TrailerStart,
            (at, _) => at,
        };
    }

    /// Chunks win over a length (RFC 9112 §6.3), as hyper has it.
    fn behind_head(&self) -> At {
        match self.length {
            _ if self.is_chunked => At::ChunkSize { digits: None },
            None | Some(0) => At::Start,
            Some(left_bytes) => At::Body { left_bytes },
        }
    }
}

fn named(byte: u8, mut name: [u8; NAME_BYTES_MAX], name_bytes: usize) -> At {
    if let Some(place) = name.get_mut(name_bytes) {
        *place = byte;
    }
    At::HeaderName { name, name_bytes: (name_bytes + 1).min(NAME_BYTES_MAX + 1) }
}

fn in_chunk(size_bytes: u64) -> At {
    if size_bytes == 0 { At::TrailerStart } else { At::Chunk { left_bytes: size_bytes } }
}

fn with_digit(digits: Option<u64>, byte: u8, radix: u32) -> Option<u64> {
    let digit = char::from(byte).to_digit(radix)?;
    digits.unwrap_or(0).checked_mul(radix.into())?.checked_add(digit.into())
}

/// What Go's server takes in a target though RFC 3986 does not have it there. `#` belongs to it: a fragment is never sent,
/// so Go reads it as part of the query, while hyper would cut the query off there. Control characters and the space are
/// refused by both, and pass unchanged.
fn is_raw(byte: u8) -> bool {
    matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80..)
}

fn percent_encoded(byte: u8) -> [u8; GROWTH] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What hyper sees of `sent`, which comes in pieces of `piece_bytes`, the first shorter by `offset`.
    fn passed(sent: &[u8], piece_bytes: usize, offset: usize) -> Vec<u8> {
        let mut targets = Targets::new();
        let mut seen = Vec::new();
        let (first, rest) = sent.split_at(offset.min(sent.len()));
        targets.pass(first, |piece| seen.extend_from_slice(piece));
        for piece in rest.chunks(piece_bytes) {
            targets.pass(piece, |piece| seen.extend_from_slice(piece));
        }
        seen
    }

    /// However it is split.
    fn check(sent: &str, expected: &str) {
        for offset in 0..=sent.len() {
            let seen = passed(sent.as_bytes(), sent.len().max(1), offset);
            assert_eq!(String::from_utf8_lossy(&seen), expected, "split at {offset}");
        }
        assert_eq!(String::from_utf8_lossy(&passed(sent.as_bytes(), 1, 0)), expected, "byte by byte");
    }

    #[test]
    fn only_a_requests_target_is_changed() {
        check(
            "GET /a{b}?q=\"|^` HTTP/1.1\r\nHost: \"{h}\"\r\n\r\n",
            "GET /a%7Bb%7D?q=%22%7C%5E%60 HTTP/1.1\r\nHost: \"{h}\"\r\n\r\n",
        );
        check("\r\n\nGET /<é> HTTP/1.1\nA: {\n\n", "\r\n\nGET /%3C%C3%A9%3E HTTP/1.1\nA: {\n\n");
        check("GET /%7B\\# HTTP/1.0\r\n\r\nGET /{ HTTP/1.0", "GET /%7B%5C%23 HTTP/1.0\r\n\r\nGET /%7B HTTP/1.0");
    }

    #[test]
    fn every_byte_is_encoded_or_passed_as_gos_server_takes_it() {
        for byte in 0..=u8::MAX {
            let sent = [b"GET /", &[byte][..], b"x HTTP/1.1\r\n"].concat();
            let seen = passed(&sent, 100, 0);
            let is_encoded = b"\"#<>\\^`{|}".contains(&byte) || byte >= 0x80;
            let expected = if is_encoded { format!("%{byte:02X}").into_bytes() } else { vec![byte] };
            assert_eq!(seen, [b"GET /", &expected[..], b"x HTTP/1.1\r\n"].concat(), "{byte:#x}");
        }
    }

    #[test]
    fn bodies_pass_untouched_and_the_request_behind_them_is_found() {
        let next = "GET /{ HTTP/1.1\r\n\r\n";
        let next_seen = "GET /%7B HTTP/1.1\r\n\r\n";
        for body in [
            "Content-Length: 13\r\n\r\nGET /{ HTTP/1",
            "A: b\r\ncontent-LENGTH:13 \r\nX-Content-Length: 1\r\n\r\nGET /{ HTTP/1",
            "Content-Length: 2\r\nContent-Length: 2\r\n\r\n {",
            "Content-Length: 0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\nD\r\nGET /{ HTTP/1\r\n2;x=\"{\"\r\n {\r\n0\r\n\r\n",
            "Content-Length: 1\r\ntransfer-encoding: chunked\r\n\r\n00b \r\nGET /{ HTTP\r\n0\r\nT: {\r\nU: /{ \r\n\r\n",
        ] {
            let request = format!("POST / HTTP/1.1\r\nHost: h\r\n{body}");
            check(&format!("{request}{next}"), &format!("{request}{next_seen}"));
        }
    }

    #[test]
    fn behind_what_hyper_refuses_nothing_is_changed() {
        for refused in [
            "GET\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabGET",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
        ] {
            let sent = format!("{refused}GET /{{ HTTP/1.1\r\n\r\n");
            check(&sent, &sent);
        }
    }

    #[test]
    fn what_is_read_fits_however_it_grows() {
        let mut targets = Targets::new();
        assert_eq!([1, 2, 3, 5, 6, 300].map(|room| targets.read_bytes_max(room)), [1, 1, 1, 1, 2, 100]);
        targets.pass(b"POST / HTTP/1.1\r\nContent-Length: 50\r\n\r\n", |_| ());
        assert_eq!([1, 40, 50, 149, 300].map(|room| targets.read_bytes_max(room)), [1, 40, 50, 50, 100]);
        targets.pass(&[b'{'; 50], |_| ());
        assert_eq!(targets.read_bytes_max(300), 100);
        targets.pass(b"lost\n", |_| ());
        assert_eq!(targets.read_bytes_max(300), 300);
    }
}
