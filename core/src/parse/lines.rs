//! Cuts a body that arrives in pieces into lines, keeping only the unfinished one.

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

    /// Calls `take` with each line that is complete, without its newline.
    pub(super) fn feed<E: From<LineTooLong>>(
        &mut self,
        mut bytes: &[u8],
        take: &mut dyn FnMut(&[u8]) -> Result<Taken, E>,
    ) -> Result<(), E> {
        while !self.ended && !bytes.is_empty() {
            let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                return self.keep(bytes).map_err(E::from);
            };
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.kept.is_empty() && !self.passing_over && line.len() <= LINE_BYTES_MAX {
                let taken = take(line)?;
                self.taken(taken, line)?;
            } else {
                self.keep(line)?;
                self.take_kept(take)?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// The body is over: its last line may lack the newline.
    pub(super) fn finish<E: From<LineTooLong>>(
        &mut self,
        take: &mut dyn FnMut(&[u8]) -> Result<Taken, E>,
    ) -> Result<(), E> {
        if !self.ended && !self.kept.is_empty() {
            self.take_kept(take)?;
        }
        self.kept = Vec::new();
        self.ended = true;
        Ok(())
    }

    fn take_kept<E: From<LineTooLong>>(&mut self, take: &mut dyn FnMut(&[u8]) -> Result<Taken, E>) -> Result<(), E> {
        if self.passing_over {
            self.passing_over = false;
            self.number += 1;
            return Ok(());
        }
        let line = core::mem::take(&mut self.kept);
        let taken = take(&line)?;
        // Either the line goes on here, or its allocation serves the next unfinished one.
        self.kept = line;
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
