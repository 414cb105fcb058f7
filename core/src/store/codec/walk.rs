//! Steps over a stripe's columns without decoding their values.

use super::{
    CodecError, ColumnKind, Presence, ROWS_MAX,
    bits::Reader,
    exceptions,
    head::{Form, Head, Reference},
    integers, integers_v1, presence,
};

/// Goes through a stripe as [`StripeDecoder`](super::StripeDecoder) does, to find where a column lies and where decoding
/// has to begin for it.
pub struct StripeWalk {
    rows: usize,
    newest: Passed,
    older: Passed,
    age: Passed,
    /// The name given last, and where decoding has to begin for all that was called so.
    name: usize,
    name_begin: usize,
}

/// A column that later ones may refer to.
#[derive(Clone, Copy)]
struct Passed {
    /// Rows with a value; 0: there is no such column.
    count: usize,
    /// Where decoding has to begin for this column and all behind it so far.
    begin: usize,
}

/// One column that was stepped over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stepped {
    pub kind: ColumnKind,
    /// The column's length.
    pub bytes: usize,
    /// The name, as the caller gave it, of the column at which a decoder has to begin to reach this one.
    pub begin: usize,
}

impl StripeWalk {
    /// # Errors
    ///
    /// More than [`ROWS_MAX`] rows.
    pub fn new(rows: usize) -> Result<Self, CodecError> {
        if rows > ROWS_MAX {
            return Err(CodecError::TooManyRows { rows, rows_max: ROWS_MAX });
        }
        let nothing = Passed { count: 0, begin: 0 };
        Ok(Self { rows, newest: nothing, older: nothing, age: nothing, name: usize::MAX, name_begin: usize::MAX })
    }

    /// Steps over the column at the start of `bytes`. `name` is what [`Stepped::begin`] will call it: its offset, say.
    /// Names must not descend. Columns of one name, as values and their ages, are decoded together.
    ///
    /// # Errors
    ///
    /// Bytes that are no column behind those stepped over before. Residuals are not looked at.
    pub fn column(&mut self, bytes: &[u8], name: usize) -> Result<Stepped, CodecError> {
        let (head, rest) = bytes.split_first().ok_or(CodecError::Truncated)?;
        let stepped = self.column_behind(*head, rest, name)?;
        Ok(Stepped { bytes: 1 + stepped.bytes, ..stepped })
    }

    /// As [`Self::column`], of a column whose first byte lies elsewhere and is not counted.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn column_behind(&mut self, head: u8, bytes: &[u8], name: usize) -> Result<Stepped, CodecError> {
        let mut reader = Reader::new(bytes);
        let head = Head::of(head)?;
        let other = match (head.reference, head.kind) {
            (Reference::Nothing, _) => None,
            (Reference::BeforeThat, _) => Some(self.older),
            (_, ColumnKind::Float) => Some(self.newest),
            (_, ColumnKind::Age) => Some(self.age),
        };
        let (count, begin) = match other {
            None => (presence_count(head, self.rows, &mut reader)?, name),
            Some(other) if other.count > 0 => (other.count, other.begin),
            Some(_) => return Err(CodecError::Damaged),
        };
        match head.form {
            Form::Nothing | Form::Zero | Form::One => {}
            Form::ConstantInteger => {
                reader.unsigned()?;
            }
            Form::ConstantDecimal => {
                reader.byte()?;
                reader.unsigned()?;
            }
            Form::ConstantRaw => {
                reader.take(8)?;
            }
            Form::Packed => {
                let mut run_head = reader.byte()?;
                if run_head & !integers::TAG_MASK == integers::EXCEPTIONS && run_head != integers::DRIFT {
                    exceptions::skip(run_head & integers::TAG_MASK, &mut reader)?;
                    run_head = reader.byte()?;
                }
                let has_rests = run_head == integers::DRIFT;
                if has_rests {
                    run_head = reader.byte()?;
                }
                if run_head <= integers::TAG_MASK {
                    integers_v1::skip(reader.byte()?, count, &mut reader)?;
                } else {
                    integers::skip(run_head, count, &mut reader)?;
                }
                if has_rests {
                    integers::skip(reader.byte()?, count, &mut reader)?;
                }
            }
            Form::Raw => {
                reader.take(8 * count)?;
            }
        }
        let begin = if name == self.name { begin.min(self.name_begin) } else { begin };
        (self.name, self.name_begin) = (name, begin);
        for passed in [&mut self.newest, &mut self.older, &mut self.age] {
            passed.begin = passed.begin.min(begin);
        }
        if count > 0 {
            let passed = Passed { count, begin };
            match head.kind {
                ColumnKind::Float => (self.newest, self.older) = (passed, self.newest),
                ColumnKind::Age => self.age = passed,
            }
        }
        Ok(Stepped { kind: head.kind, bytes: reader.used(), begin })
    }
}

fn presence_count(head: Head, rows: usize, reader: &mut Reader<'_>) -> Result<usize, CodecError> {
    match head.coding {
        presence::Coding::AllValue => Ok(rows),
        presence::Coding::AllAbsent => Ok(0),
        presence::Coding::Runs | presence::Coding::Bits => {
            let mut states = [Presence::Absent; ROWS_MAX];
            presence::read(head.coding, &mut states[..rows], reader)?;
            Ok(states[..rows].iter().filter(|state| **state == Presence::Value).count())
        }
    }
}
