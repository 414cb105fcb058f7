//! A column's first byte: form, presence coding, kind, and what it has from an earlier column.

use super::{CodecError, ColumnKind, presence::Coding};

/// Bits 0 to 2: what the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// No row has a value.
    Nothing = 0,
    Zero = 1,
    One = 2,
    ConstantInteger = 3,
    ConstantDecimal = 4,
    ConstantRaw = 5,
    Packed = 6,
    Raw = 7,
}

/// Bits 6 and 7: what is to be had from an earlier column of the stripe. With any but `Nothing`, presence is that
/// column's and bits 3 and 4 are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reference {
    Nothing = 0,
    /// Transform and presence of the column before; its integers are to be added.
    Before = 1,
    /// The same, of the column before that one.
    BeforeThat = 2,
    /// Presence alone, of the column before.
    Presence = 3,
}

impl Reference {
    /// Whether integers are differences to another column's.
    pub fn is_difference(self) -> bool {
        matches!(self, Self::Before | Self::BeforeThat)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub form: Form,
    pub coding: Coding,
    pub kind: ColumnKind,
    pub reference: Reference,
}

/// Heads so frequent that a chunk's directory names them by two bits in their place; 0 there means another one.
pub const SHORT_HEADS: [u8; 3] = [
    // Zero in every row; nothing more follows.
    0x01, // The same as the column before; nothing more follows.
    0x41, // Packed, with a value in every row.
    0x06,
];

const AGE: u8 = 1 << 5;
const CODING_SHIFT: u8 = 3;
const REFERENCE_SHIFT: u8 = 6;

impl Head {
    pub fn byte(self) -> u8 {
        let age = if self.kind == ColumnKind::Age { AGE } else { 0 };
        self.form as u8 | (self.coding as u8) << CODING_SHIFT | age | (self.reference as u8) << REFERENCE_SHIFT
    }

    pub fn of(byte: u8) -> Result<Self, CodecError> {
        let form = match byte & 7 {
            0 => Form::Nothing,
            1 => Form::Zero,
            2 => Form::One,
            3 => Form::ConstantInteger,
            4 => Form::ConstantDecimal,
            5 => Form::ConstantRaw,
            6 => Form::Packed,
            _ => Form::Raw,
        };
        let coding = match byte >> CODING_SHIFT & 3 {
            0 => Coding::AllValue,
            1 => Coding::AllAbsent,
            2 => Coding::Runs,
            _ => Coding::Bits,
        };
        let kind = if byte & AGE == 0 { ColumnKind::Float } else { ColumnKind::Age };
        let reference = match byte >> REFERENCE_SHIFT {
            0 => Reference::Nothing,
            1 => Reference::Before,
            2 => Reference::BeforeThat,
            _ => Reference::Presence,
        };
        // A difference has its transform from the other column, so forms that bring their own say nothing new.
        let is_difference = matches!(form, Form::Zero | Form::One | Form::ConstantInteger | Form::Packed);
        let damaged = match reference {
            Reference::Nothing => false,
            Reference::Before => coding != Coding::AllValue || !is_difference,
            Reference::BeforeThat => coding != Coding::AllValue || !is_difference || kind == ColumnKind::Age,
            Reference::Presence => coding != Coding::AllValue || form == Form::Nothing,
        };
        if damaged { Err(CodecError::Damaged) } else { Ok(Self { form, coding, kind, reference }) }
    }
}

/// What an encoded column holds, from its head alone; `None` when there is no head.
pub fn column_kind(bytes: &[u8]) -> Option<ColumnKind> {
    Some(Head::of(*bytes.first()?).ok()?.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_heads_are_what_they_say() {
        let head = |form, reference| Head { form, coding: Coding::AllValue, kind: ColumnKind::Float, reference };
        let said =
            [(Form::Zero, Reference::Nothing), (Form::Zero, Reference::Before), (Form::Packed, Reference::Nothing)];
        assert_eq!(SHORT_HEADS, said.map(|(form, reference)| head(form, reference).byte()));
    }

    #[test]
    fn every_byte_is_a_head_that_gives_it_again_or_is_damaged() {
        let mut heads = 0;
        for byte in 0..=u8::MAX {
            match Head::of(byte) {
                Ok(head) => {
                    assert_eq!(head.byte(), byte);
                    heads += 1;
                }
                Err(error) => assert_eq!(error, CodecError::Damaged, "{byte:#x}"),
            }
        }
        // Two kinds of: 8 forms by 4 codings, 4 forms of difference, 7 with another's presence; and 4 more of floats.
        assert_eq!(heads, 2 * (32 + 4 + 7) + 4);
    }
}
