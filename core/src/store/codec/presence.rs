//! Which rows have a value: said in the head where one state holds for all, else runs or two bits a row.

use super::{
    CodecError, Presence,
    bits::{Reader, Writer, unsigned_bytes},
};

/// Bits 3 and 4 of a column's head: how presence is told.
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

impl Coding {
    pub fn choose(presence: &[Presence]) -> Self {
        if presence.iter().all(|state| *state == Presence::Value) {
            return Self::AllValue;
        }
        if presence.iter().all(|state| *state == Presence::Absent) {
            return Self::AllAbsent;
        }
        if runs_bytes(presence) <= presence.len().div_ceil(4) { Self::Runs } else { Self::Bits }
    }

    /// Bytes that [`Self::write`] writes.
    pub fn bytes(self, presence: &[Presence]) -> usize {
        match self {
            Self::AllValue | Self::AllAbsent => 0,
            Self::Runs => runs_bytes(presence),
            Self::Bits => presence.len().div_ceil(4),
        }
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

pub fn read(coding: Coding, presence: &mut [Presence], reader: &mut Reader<'_>) -> Result<(), CodecError> {
    match coding {
        Coding::AllValue => presence.fill(Presence::Value),
        Coding::AllAbsent => presence.fill(Presence::Absent),
        Coding::Runs => {
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
        Coding::Bits => {
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

fn runs_bytes(presence: &[Presence]) -> usize {
    runs(presence).map(|(state, length)| unsigned_bytes(run(state, length))).sum()
}

fn run(state: Presence, length: usize) -> u64 {
    (length as u64) << 2 | state as u64
}
