//! Which rows have a value: said in the head where one state holds for all, else runs or two bits a row.

use super::{
    CodecError, Presence,
    bits::{Reader, Writer, unsigned_bytes},
};

/// Bits 3 and 4 of a column's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Coding {
    /// Every row has a value.
    AllValue = 0,
    /// No row has anything.
    AllAbsent = 1,
    /// Runs, each an unsigned integer: length times four plus state, until all rows are told.
    Runs = 2,
    /// Two bits a row, lowest first.
    Bits = 3,
}

const SHIFT: u8 = 3;

impl Coding {
    pub fn choose(presence: &[Presence]) -> Self {
        if presence.iter().all(|state| *state == Presence::Value) {
            return Self::AllValue;
        }
        if presence.iter().all(|state| *state == Presence::Absent) {
            return Self::AllAbsent;
        }
        let runs_bytes: usize = runs(presence).map(|(state, length)| unsigned_bytes(run(state, length))).sum();
        if runs_bytes <= presence.len().div_ceil(4) { Self::Runs } else { Self::Bits }
    }

    pub fn head(self) -> u8 {
        (self as u8) << SHIFT
    }

    pub fn write(self, presence: &[Presence], writer: &mut Writer<'_>) -> Result<(), CodecError> {
        match self {
            Self::AllValue | Self::AllAbsent => Ok(()),
            Self::Runs => runs(presence).try_for_each(|(state, length)| writer.unsigned(run(state, length))),
            Self::Bits => presence.chunks(4).try_for_each(|group| {
                writer.byte(group.iter().enumerate().fold(0, |byte, (at, state)| byte | (*state as u8) << (2 * at)))
            }),
        }
    }
}

pub fn read(head: u8, presence: &mut [Presence], reader: &mut Reader<'_>) -> Result<(), CodecError> {
    match head >> SHIFT & 3 {
        0 => presence.fill(Presence::Value),
        1 => presence.fill(Presence::Absent),
        2 => {
            let mut rest = presence;
            while !rest.is_empty() {
                let run = reader.unsigned()?;
                let state = Presence::from_bits((run & 3) as u8).ok_or(CodecError::Damaged)?;
                let length = usize::try_from(run >> 2).map_err(|_| CodecError::Damaged)?;
                if length == 0 || length > rest.len() {
                    return Err(CodecError::Damaged);
                }
                let (told, after) = rest.split_at_mut(length);
                told.fill(state);
                rest = after;
            }
        }
        _ => {
            let bytes = reader.take(presence.len().div_ceil(4))?;
            for (row, state) in presence.iter_mut().enumerate() {
                *state = Presence::from_bits(bytes[row / 4] >> (2 * (row % 4)) & 3).ok_or(CodecError::Damaged)?;
            }
        }
    }
    Ok(())
}

fn runs(presence: &[Presence]) -> impl Iterator<Item = (Presence, usize)> {
    presence.chunk_by(|a, b| a == b).map(|run| (run[0], run.len()))
}

fn run(state: Presence, length: usize) -> u64 {
    (length as u64) << 2 | state as u64
}
