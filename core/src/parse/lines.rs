//! Cuts a body that arrives in pieces into lines, keeping only the unfinished one.

use super::KnownLines;
use alloc::vec::Vec;

/// Longest exposition line we accept. A longer comment is passed over; a longer sample fails the scrape by its line
/// number.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// How often one line may go on behind a newline inside quotes, which the format does not allow and Prometheus takes.
const QUOTED_NEWLINE_COUNT_MAX: u32 = 64;

/// What the reader of a line says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Go on with the next line.
    Whole,
    /// The line ends inside quotes: it is not over yet.
    Unfinished,
    /// Nothing after this line counts.
    End,
}

/// Who reads the lines.
pub(super) trait LineReader<E> {
    /// Lines at the beginning of `bytes` that need no cutting: see `ExpositionSink::known`.
    fn known(&mut self, bytes: &[u8]) -> KnownLines;
    /// One line, without its newline.
    fn take(&mut self, line: &[u8]) -> Result<Taken, E>;
}

/// The unfinished line of one body.
#[derive(Default)]
pub(super) struct Lines {
    kept: Vec<u8>,
    /// The line outgrew [`LINE_BYTES_MAX`] and is a comment: pass over bytes up to its end.
    passing_over: bool,
    /// Newlines inside `kept`.
    quoted_newline_count: u32,
    /// One-based number of the line being read.
    pub(super) number: u64,
    ended: bool,
}

/// A line longer than [`LINE_BYTES_MAX`].
pub(super) struct LineTooLong;

impl Lines {
    pub(super) fn new() -> Self {
        Self { number: 1, ..Self::default() }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// Gives `reader` each line that is complete.
    pub(super) fn feed<E: From<LineTooLong>>(
        &mut self,
        mut bytes: &[u8],
        reader: &mut dyn LineReader<E>,
    ) -> Result<(), E> {
        while !self.ended && !bytes.is_empty() {
            if self.kept.is_empty() && !self.passing_over {
                let known = reader.known(bytes);
                self.number += known.count;
                bytes = &bytes[known.bytes..];
            }
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                return self.keep(bytes).map_err(E::from);
            };
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.kept.is_empty() && !self.passing_over && line.len() <= LINE_BYTES_MAX {
                let taken = reader.take(line)?;
                self.taken(taken, line)?;
            } else {
                self.keep(line)?;
                self.take_kept(reader)?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// The body is over: its last line may lack the newline.
    pub(super) fn finish<E: From<LineTooLong>>(&mut self, reader: &mut dyn LineReader<E>) -> Result<(), E> {
        if !self.ended && !self.kept.is_empty() {
            self.take_kept(reader)?;
        }
        self.ended = true;
        Ok(())
    }

    /// For the next body; the allocation stays.
    pub(super) fn start_again(&mut self) {
        self.kept.clear();
        *self = Self { kept: core::mem::take(&mut self.kept), ..Self::new() };
    }

    fn take_kept<E: From<LineTooLong>>(&mut self, reader: &mut dyn LineReader<E>) -> Result<(), E> {
        if self.passing_over {
            self.passing_over = false;
            self.number += 1;
            return Ok(());
        }
        if self.quoted_newline_count == 0 {
            self.kept.push(b'\n');
            let known = reader.known(&self.kept);
            if known.count > 0 {
                assert_eq!((known.count, known.bytes), (1, self.kept.len()), "one line is known whole or not");
                self.kept.clear();
                self.number += 1;
                return Ok(());
            }
            self.kept.pop();
        }
        let line = core::mem::take(&mut self.kept);
        let taken = reader.take(&line);
        // Either the line goes on here, or its allocation serves the next unfinished one.
        self.kept = line;
        let taken = taken?;
        if taken == Taken::Unfinished {
            self.go_on_behind_newline()?;
        } else {
            self.kept.clear();
            self.taken(taken, &[])?;
        }
        Ok(())
    }

    fn taken(&mut self, taken: Taken, line: &[u8]) -> Result<(), LineTooLong> {
        match taken {
            Taken::Whole => {
                self.number += 1 + u64::from(self.quoted_newline_count);
                self.quoted_newline_count = 0;
            }
            Taken::End => self.ended = true,
            Taken::Unfinished => {
                self.kept.extend_from_slice(line);
                self.go_on_behind_newline()?;
            }
        }
        Ok(())
    }

    fn go_on_behind_newline(&mut self) -> Result<(), LineTooLong> {
        self.quoted_newline_count += 1;
        if self.quoted_newline_count > QUOTED_NEWLINE_COUNT_MAX {
            return Err(LineTooLong);
        }
        self.keep(b"\n")
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        if self.passing_over {
            return Ok(());
        }
        if self.kept.len() + bytes.len() <= LINE_BYTES_MAX {
            self.kept.extend_from_slice(bytes);
            return Ok(());
        }
        let first = self.kept.iter().chain(bytes).find(|byte| !matches!(byte, b' ' | b'\t'));
        if first != Some(&b'#') {
            return Err(LineTooLong);
        }
        self.passing_over = true;
        self.kept.clear();
        Ok(())
    }
}
