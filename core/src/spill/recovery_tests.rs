use super::{
    super::{
        format::VERSION,
        frame::{FrameKind, finish_frame, put_state},
        world::read,
        *,
    },
    *,
};
use crate::store::stored::NothingStored;
use alloc::{format, string::String, vec};
use proptest::prelude::*;

/// A log of so many states, and where each frame begins.
fn log(generation: u64, count: usize, value_bytes: usize) -> (Vec<u8>, Vec<usize>) {
    let (mut log, mut starts, mut out) = (Vec::new(), Vec::new(), vec![0; FRAME_BYTES_MAX]);
    for sequence in 0..count {
        let value = vec![sequence as u8; value_bytes];
        let payload = put_state(&format!("{generation}/{sequence}"), &value, &mut out[FRAME_HEAD_BYTES..]).unwrap();
        let used = finish_frame(FrameKind::State, generation, sequence as u32, payload, &mut out);
        starts.push(log.len());
        log.extend_from_slice(&out[..used]);
    }
    (log, starts)
}

fn keys(bytes: &[u8], generation: u64) -> (Vec<String>, RecoveryReport) {
    let (mut buf, mut keys) = (vec![0; FRAME_BYTES_MAX], Vec::new());
    let mut recovery = Recovery::new(&mut buf, Some(generation));
    read(bytes, &mut recovery, |frame| {
        let Frame::State { key, .. } = frame else { panic!("{frame:?}") };
        keys.push(key.into());
    });
    (keys, recovery.finish())
}

fn expected(generation: u64, sequences: impl IntoIterator<Item = usize>) -> Vec<String> {
    sequences.into_iter().map(|sequence| format!("{generation}/{sequence}")).collect()
}

#[test]
fn a_whole_log_comes_back_whatever_lies_behind_its_end() {
    let (whole, _) = log(4, 20, 30);
    for behind in [vec![], vec![0; 5_000], b"HFLG".to_vec(), vec![0xff; 31]] {
        let mut bytes = whole.clone();
        bytes.extend(behind);
        let (found, report) = keys(&bytes, 4);
        assert_eq!(found, expected(4, 0..20));
        assert_eq!((report.frames, report.damaged, report.torn, report.frames_missing), (20, 0, false, 0));
    }
}

#[test]
fn a_frame_of_a_newer_kind_is_passed_over_and_what_follows_is_read() {
    let (mut bytes, starts) = log(4, 5, 30);
    let at = starts[2];
    bytes[at + 6] = 77;
    let crc = crc32(&bytes[at..at + 28]);
    bytes[at + 28..at + 32].copy_from_slice(&crc.to_le_bytes());
    let (mut buf, mut found) = (vec![0; FRAME_BYTES_MAX], Vec::new());
    let mut recovery = Recovery::new(&mut buf, Some(4));
    read(&bytes, &mut recovery, |frame| found.push(matches!(frame, Frame::Newer)));
    assert_eq!(found, [false, false, true, false, false]);
    let report = recovery.finish();
    assert_eq!((report.frames, report.damaged, report.torn, report.frames_missing), (5, 0, false, 0));
}

#[test]
fn frames_of_the_largest_size_come_back() {
    let (whole, _) = log(4, 4, FRAME_BYTES_MAX - FRAME_HEAD_BYTES - 2 - 3);
    assert_eq!(whole.len(), 4 * FRAME_BYTES_MAX);
    assert_eq!(keys(&whole, 4).0, expected(4, 0..4));
}

#[test]
fn what_a_longer_predecessor_left_behind_is_not_of_this_generation() {
    let (mut bytes, _) = log(2, 40, 30);
    let (newer, _) = log(4, 13, 47);
    bytes[..newer.len()].copy_from_slice(&newer);
    let (found, report) = keys(&bytes, 4);
    assert_eq!(found, expected(4, 0..13));
    assert_eq!((report.damaged, report.torn, report.generation), (0, false, Some(4)));
    let mut buf = vec![0; FRAME_BYTES_MAX];
    let mut scan = Recovery::new(&mut buf, None);
    read(&bytes, &mut scan, |_| panic!("a scan gives no frames"));
    assert_eq!(scan.finish().generation, Some(4));
}

#[test]
fn a_torn_tail_ends_the_log_quietly_wherever_it_is_torn() {
    let (whole, starts) = log(4, 6, 30);
    for length in starts[5]..whole.len() {
        let (found, report) = keys(&whole[..length], 4);
        assert_eq!(found, expected(4, 0..5));
        assert_eq!((report.damaged, report.torn), (0, length >= starts[5] + FRAME_HEAD_BYTES), "{length}");
        // The file is longer than what was written: zeros behind.
        let mut bytes = whole[..length].to_vec();
        bytes.resize(whole.len() + 1_000, 0);
        let (found, report) = keys(&bytes, 4);
        assert_eq!((found.len(), report.damaged), (5, 0));
        assert_eq!(report.torn, length >= starts[5] + 2, "{length}");
    }
}

#[test]
fn a_damaged_frame_in_the_middle_is_left_out_counted_and_named() {
    let (whole, starts) = log(4, 6, 30);
    for at in starts[2]..starts[3] {
        let mut bytes = whole.clone();
        // One bit of a header is mended, of the rest it is damage.
        bytes[at] ^= if at < starts[2] + FRAME_HEAD_BYTES { 0x18 } else { 0x10 };
        let (found, report) = keys(&bytes, 4);
        assert_eq!(found, expected(4, [0, 1, 3, 4, 5]), "byte {at}");
        assert_eq!((report.damaged, report.torn, report.frames_missing), (1, false, 1));
        assert_eq!(report.damaged_first, Some(starts[2] as u64..starts[3] as u64));
    }
}

/// One flipped bit in the header of the log's last frame made it look like the log's end: the rows of a flush that was on
/// the medium were missing, and nobody was told.
#[test]
fn a_flipped_bit_in_any_frames_header_costs_nothing_and_is_told() {
    let (older, _) = log(2, 400, 30);
    let (whole, starts) = log(4, 6, 30);
    for behind in [vec![0; 9_000], older] {
        for frame in [0, 3, 5] {
            for bit in 0..8 * FRAME_HEAD_BYTES {
                let mut bytes = behind.clone();
                // The last frame begins a page.
                bytes[..starts[5]].copy_from_slice(&whole[..starts[5]]);
                bytes[4096..4096 + whole.len() - starts[5]].copy_from_slice(&whole[starts[5]..]);
                let at = if frame == 5 { 4096 } else { starts[frame] };
                bytes[at + bit / 8] ^= 1 << (bit % 8);
                let (found, report) = keys(&bytes, 4);
                assert_eq!(found, expected(4, 0..6), "frame {frame}, bit {bit}");
                assert_eq!((report.mended, report.mended_first), (1, Some(at as u64)));
                assert_eq!((report.damaged, report.torn, report.frames_missing), (0, false, 0));
            }
        }
    }
}

#[test]
fn a_log_of_one_frame_with_a_flipped_bit_is_found() {
    let (whole, _) = log(4, 1, 30);
    for bit in 0..8 * FRAME_HEAD_BYTES {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut buf = vec![0; FRAME_BYTES_MAX];
        let mut scan = Recovery::new(&mut buf, None);
        read(&bytes, &mut scan, |_| panic!("a scan gives no frames"));
        assert_eq!(scan.finish().generation, Some(4), "bit {bit}");
    }
}

#[test]
fn a_last_frame_whose_header_has_more_flipped_bits_is_told() {
    let (whole, starts) = log(4, 6, 30);
    for byte in 0..FRAME_HEAD_BYTES {
        for flips in [0x03, 0xa4, 0xff] {
            let mut bytes = whole.clone();
            bytes.resize(9_000, 0);
            bytes[starts[5] + byte] ^= flips;
            let (found, report) = keys(&bytes, 4);
            assert_eq!(found, expected(4, 0..5));
            assert!(report.torn && report.mended == 0, "byte {byte}, {flips:x}");
        }
    }
}

#[test]
fn a_frame_of_a_newer_version_stops_the_reading() {
    let (mut bytes, starts) = log(4, 3, 30);
    let at = starts[1];
    let version = VERSION + 1;
    bytes[at + 4..at + 6].copy_from_slice(&version.to_le_bytes());
    let crc = crc32(&bytes[at..at + 28]);
    bytes[at + 28..at + 32].copy_from_slice(&crc.to_le_bytes());
    let mut buf = vec![0; FRAME_BYTES_MAX];
    let mut recovery = Recovery::new(&mut buf, Some(4));
    recovery.feed(&bytes);
    assert!(matches!(recovery.next_frame(), Ok(Some(_))));
    let refused = FormatError::FromNewerVersion { what: "log frame", version };
    assert_eq!(recovery.next_frame(), Err(refused));
}

/// What a sync brought to the medium is not written again: the next frame begins on the next page.
#[test]
fn the_rest_of_a_page_is_no_damage_unless_a_frame_is_missing() {
    let (whole, starts) = log(4, 3, 30);
    let (first, rest) = whole.split_at(starts[1]);
    // What lies there may be anything; here it looks like an older log.
    let (older, _) = log(2, 80, 30);
    let mut bytes = older;
    bytes[..first.len()].copy_from_slice(first);
    bytes[4096..4096 + rest.len()].copy_from_slice(rest);
    let (found, report) = keys(&bytes, 4);
    assert_eq!(found, expected(4, 0..3));
    assert_eq!((report.damaged, report.frames_missing, report.torn), (0, 0, false));
    // The second frame stood behind the first and is gone; the third one begins the page.
    let third = &whole[starts[2]..];
    bytes[4096..4096 + rest.len()].fill(0);
    bytes[4096..4096 + third.len()].copy_from_slice(third);
    let (found, report) = keys(&bytes, 4);
    assert_eq!(found, expected(4, [0, 2]));
    assert_eq!((report.damaged, report.frames_missing), (1, 1));
    assert_eq!(report.damaged_first, Some(starts[1] as u64..4096));
    // A gap that ends elsewhere is one, whatever the numbers say.
    let mut bytes = first.to_vec();
    bytes.resize(starts[1] + 100, 0);
    bytes.extend_from_slice(rest);
    assert_eq!(keys(&bytes, 4).1.damaged, 1);
}

proptest! {
    #[test]
    fn random_damage_never_panics_and_invents_nothing(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 1..20),
    ) {
        let (whole, _) = log(4, 12, 50);
        let mut bytes = whole.clone();
        for (at, bit) in &flips {
            bytes[at.index(whole.len())] ^= 1_u8 << bit;
        }
        let (found, report) = keys(&bytes, 4);
        prop_assert!(found.len() + flips.len() >= 12 && found.len() <= 12);
        prop_assert!(found.iter().all(|key| expected(4, 0..12).contains(key)));
        prop_assert!(found.len() == 12 || report.damaged > 0 || report.torn || !found.contains(&String::from("4/11")));
    }

    #[test]
    fn random_bytes_with_magics_in_them_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
        magics in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        for at in magics {
            if bytes.len() >= 4 {
                let at = at.index(bytes.len() - 3);
                bytes[at..at + 4].copy_from_slice(b"HFLG");
            }
        }
        let (found, _) = keys(&bytes, 4);
        prop_assert_eq!(found.len(), 0);
    }

    #[test]
    fn rows_frames_with_right_checksums_and_foreign_bodies_never_panic(
        seed: u64,
        patches in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        column_count_total in prop_oneof![Just(9_u32), any::<u32>()],
    ) {
        let plan = world::plan();
        let mut slab = Vec::new();
        let mut store = world::create(&mut slab, &plan);
        let mut replay = Replay::new(world::UUID, 1 << 16);
        let mut out = vec![0; SEGMENT_BYTES_MAX];
        let mut writer = LayoutWriter::new(TimelineKey(0x0a0b_0c0d_0e0f_1011), 5, 0, &mut out).unwrap();
        for index in 0..9 {
            writer.push(ColumnKind::Float, world::labels(&format!("m_{index}"), 1).as_ref());
        }
        let used = writer.finish();
        replay.apply(Frame::Layout { bytes: &out[..used] }, &mut store, &mut NothingStored).unwrap();
        let mut used = testing::Grid::random(seed, 5, 9).encode(seed % 9, 0..9, &mut out).unwrap().bytes;
        for (at, value) in &patches {
            out[at.index(used)] = *value;
        }
        if patches.len() == 3 {
            used /= 2;
        }
        replay.apply(Frame::RowsPlain { column_count_total, bytes: &out[..used] }, &mut store, &mut NothingStored).unwrap();
        replay.apply(Frame::Layout { bytes: &out[..used] }, &mut store, &mut NothingStored).unwrap();
        let report = replay.finish(&mut store);
        prop_assert!(report.rows <= 5);
    }
}
