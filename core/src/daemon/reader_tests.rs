use super::*;
use crate::{
    labels::MatchOp,
    spill::{SealReason, world::*},
    store::{ColumnKind, Presence},
};
use alloc::{collections::BTreeMap, string::String, vec};

fn unused() -> (ColumnKind, Presence) {
    (ColumnKind::Float, Presence::Absent)
}
