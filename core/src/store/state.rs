//! Small state by name: alerts, cursors, an outbox. Each slot is kept twice; a put writes the older copy and then its
//! sequence number, so one of the two is always whole.
//!
//! A copy, little-endian: sequence u64 (0: nothing), length u32, checksum u32, length of the name u32, 0 u32, name
//! (40 bytes), the bytes.

use super::{Refused, RegionName, Store, sizes::STATE_HEAD_BYTES, slab::Checksum};
use crate::limits::STATE_KEY_BYTES_MAX;

const SEQUENCE: usize = 0;
const LENGTH: usize = 8;
const CHECKSUM: usize = 12;
const KEY_LENGTH: usize = 16;
const KEY: usize = 24;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    class: usize,
    slot: u32,
}

impl Store<'_> {
    /// Keeps bytes by name, replacing what was there in one step; empty bytes delete.
    ///
    /// # Errors
    ///
    /// A name or bytes that are too long, or no free slot; what was there stays.
    pub fn state_put(&mut self, key: &str, bytes: &[u8]) -> Result<(), Refused> {
        if key.is_empty() || key.len() > STATE_KEY_BYTES_MAX {
            return Err(Refused::StateKeyTooLong { bytes: key.len(), bytes_max: STATE_KEY_BYTES_MAX });
        }
        let before = self.state_slots().find(|slot| self.state_key(*slot) == Some(key.as_bytes()));
        if bytes.is_empty() {
            if let Some(before) = before {
                self.state_erase(before);
            }
            return Ok(());
        }
        let fits = |slot: &Slot| self.state_slot_bytes(*slot) >= bytes.len();
        let slot = before
            .filter(|slot| fits(slot))
            .or_else(|| self.state_slots().find(|slot| fits(slot) && self.state_newest(*slot).is_none()));
        let Some(slot) = slot else {
            let bytes_max = self.state_slots().map(|slot| self.state_slot_bytes(slot)).max().unwrap_or(0);
            if bytes.len() > bytes_max {
                return Err(Refused::StateTooLong { bytes: bytes.len(), bytes_max });
            }
            return Err(self.full(RegionName::State));
        };
        self.state_write(slot, key, bytes);
        if let Some(before) = before.filter(|before| *before != slot) {
            self.state_erase(before);
        }
        Ok(())
    }

    pub fn state_get(&self, key: &str) -> Option<&[u8]> {
        let slot = self.state_slots().find(|slot| self.state_key(*slot) == Some(key.as_bytes()))?;
        self.state_value(slot)
    }

    /// Every name with its bytes.
    pub fn state_visit(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for slot in self.state_slots() {
            let key = self.state_key(slot).and_then(|key| core::str::from_utf8(key).ok());
            if let (Some(key), Some(value)) = (key, self.state_value(slot)) {
                visit(key, value);
            }
        }
    }

    /// Bytes in use and bytes that the slots hold, one copy of each counted.
    pub(super) fn state_bytes(&self) -> (u64, u64) {
        let used = self.state_slots().filter_map(|slot| self.state_value(slot)).map(<[u8]>::len).sum::<usize>();
        let total = self.state_slots().map(|slot| self.state_slot_bytes(slot)).sum::<usize>();
        (used as u64, total as u64)
    }

    fn state_write(&mut self, slot: Slot, key: &str, bytes: &[u8]) {
        let copy = self.state_newest(slot).map_or(0, |newest| 1 - newest);
        let at = self.map.state(slot.class, slot.slot, copy);
        self.slab.publish_u64(at + SEQUENCE, 0);
        self.slab.put_u32(at + LENGTH, bytes.len() as u32);
        self.slab.put_u32(at + KEY_LENGTH, key.len() as u32);
        self.slab.put_bytes(at + KEY, key.as_bytes());
        self.slab.put_bytes(at + STATE_HEAD_BYTES, bytes);
        self.state_sequence += 1;
        let checksum = self.state_checksum(at, self.state_sequence, key.len(), bytes.len());
        self.slab.put_u32(at + CHECKSUM, checksum);
        self.slab.publish_u64(at + SEQUENCE, self.state_sequence);
    }

    /// The older copy first: between the two writes the newer one is still whole.
    fn state_erase(&mut self, slot: Slot) {
        let Some(newest) = self.state_newest(slot) else { return };
        for copy in [1 - newest, newest] {
            self.slab.publish_u64(self.map.state(slot.class, slot.slot, copy) + SEQUENCE, 0);
        }
    }

    /// Slots, smallest class first.
    fn state_slots(&self) -> impl Iterator<Item = Slot> + use<> {
        let classes = self.map.plan.state;
        (0..classes.len()).flat_map(move |class| (0..classes[class].count).map(move |slot| Slot { class, slot }))
    }

    fn state_slot_bytes(&self, slot: Slot) -> usize {
        self.map.plan.state[slot.class].bytes_each as usize
    }

    /// The copy with the higher sequence, if the slot holds anything.
    fn state_newest(&self, slot: Slot) -> Option<usize> {
        let [a, b] = [0, 1].map(|copy| self.slab.u64(self.map.state(slot.class, slot.slot, copy) + SEQUENCE));
        (a.max(b) > 0).then_some(usize::from(b > a))
    }

    fn state_key(&self, slot: Slot) -> Option<&[u8]> {
        let at = self.map.state(slot.class, slot.slot, self.state_newest(slot)?);
        Some(self.slab.bytes(at + KEY, self.slab.u32(at + KEY_LENGTH) as usize))
    }

    fn state_value(&self, slot: Slot) -> Option<&[u8]> {
        let at = self.map.state(slot.class, slot.slot, self.state_newest(slot)?);
        Some(self.slab.bytes(at + STATE_HEAD_BYTES, self.slab.u32(at + LENGTH) as usize))
    }

    fn state_checksum(&self, at: usize, sequence: u64, key_bytes: usize, bytes: usize) -> u32 {
        Checksum::new()
            .add(&sequence.to_le_bytes())
            .add(self.slab.bytes(at + KEY, key_bytes))
            .add(self.slab.bytes(at + STATE_HEAD_BYTES, bytes))
            .finish()
    }

    pub(super) fn state_clear(&mut self) {
        for slot in self.state_slots() {
            for copy in 0..2 {
                self.slab.put_u64(self.map.state(slot.class, slot.slot, copy) + SEQUENCE, 0);
            }
        }
    }

    // Attach.

    /// Checks every copy, and finishes a move to another slot. `Err` numbers the damaged slot.
    pub(super) fn state_restore(&mut self) -> Result<(), u64> {
        for (index, slot) in self.state_slots().enumerate() {
            for copy in 0..2 {
                let at = self.map.state(slot.class, slot.slot, copy);
                let sequence = self.slab.u64(at + SEQUENCE);
                if sequence == 0 {
                    continue;
                }
                let key_bytes = self.slab.u32(at + KEY_LENGTH) as usize;
                let bytes = self.slab.u32(at + LENGTH) as usize;
                let sane = key_bytes <= STATE_KEY_BYTES_MAX && bytes <= self.state_slot_bytes(slot);
                if !sane || self.state_checksum(at, sequence, key_bytes, bytes) != self.slab.u32(at + CHECKSUM) {
                    return Err(index as u64);
                }
                self.state_sequence = self.state_sequence.max(sequence);
            }
        }
        for slot in self.state_slots() {
            let sequence = self.state_slot_sequence(slot);
            let doubled = sequence > 0
                && self.state_slots().any(|other| {
                    other != slot
                        && self.state_slot_sequence(other) > sequence
                        && self.state_key(other) == self.state_key(slot)
                });
            if doubled {
                self.state_erase(slot);
            }
        }
        Ok(())
    }

    fn state_slot_sequence(&self, slot: Slot) -> u64 {
        let newest = self.state_newest(slot);
        newest.map_or(0, |copy| self.slab.u64(self.map.state(slot.class, slot.slot, copy) + SEQUENCE))
    }
}
