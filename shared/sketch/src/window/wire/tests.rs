use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    reference::{FeatureReference, NumericReference, ReferenceValues},
    window::{
        FeatureWindow, MISSING,
        tests::{Row, any_row, reference, window},
    },
};

fn any_window() -> impl Strategy<Value = Window> {
    let rows = prop::collection::vec(any_row(), 20..200);
    (rows, 0_u64..1 << 40, 0_u64..1 << 50, 0_u64..1 << 40, 1_u32..).prop_map(
        |(rows, sequence, from_ms, length, stride)| {
            let to_ms = from_ms + length;
            Window { sequence, from_ms, to_ms, stride, ..window(&reference(), (1, 2), 1, &rows) }
        },
    )
}

fn plain() -> Window {
    let rows: Vec<Row> = (0..40).map(|row| ([row as f32 * 0.3, 3.0], Some("cat"))).collect();
    window(&reference(), (1, 1), 7, &rows)
}

proptest! {
    #[test]
    fn a_window_survives_the_wire(window in any_window()) {
        let reference = reference();
        let bytes = window.encode(&reference).unwrap();
        prop_assert_eq!(Window::reference_of(&bytes), Ok(reference.id()));
        prop_assert_eq!(Window::decode(&bytes, &reference), Ok(window));
    }

    #[test]
    fn a_changed_window_is_refused_or_is_another_one(window in any_window(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let reference = reference();
        let mut bytes = window.encode(&reference).unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] ^= byte;
        }
        // There is one form for each window, so whatever is read is written the same again.
        if let Ok(read) = Window::decode(&bytes, &reference) {
            prop_assert_eq!(read.encode(&reference).unwrap(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_are_a_window(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        let reference = reference();
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&reference.id().get().to_be_bytes());
        bytes.extend_from_slice(&tail);
        for bytes in [&bytes, &tail] {
            if let Ok(read) = Window::decode(bytes, &reference) {
                prop_assert_eq!(&read.encode(&reference).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn a_hostile_tail_behind_an_honest_head_is_refused_or_is_a_window(tail in prop::collection::vec(any::<u8>(), 0..400), kept in 40_usize..70) {
        let reference = reference();
        let mut bytes = plain().encode(&reference).unwrap();
        bytes.truncate(kept);
        bytes.extend_from_slice(&tail);
        if let Ok(read) = Window::decode(&bytes, &reference) {
            prop_assert_eq!(read.encode(&reference).unwrap(), bytes);
        }
    }
}

#[test]
fn whose_window_it_is_can_be_read_without_its_reference() {
    let window = plain();
    let bytes = window.encode(&reference()).unwrap();
    assert_eq!(Window::origin_of(&bytes), Ok((window.origin, 7)));
    assert_eq!(Window::origin_of(&bytes[..20]), Err(DecodeError::Truncated));
    assert!(matches!(Window::origin_of(&[2; 40]), Err(DecodeError::Version { version: 2 })));
    let mut foreign = bytes.clone();
    foreign[18] ^= 0x55;
    assert!(!matches!(Window::origin_of(&foreign), Ok((origin, _)) if origin.device == "device-1"));
}

#[test]
fn a_window_that_was_cut_or_goes_on_is_refused() {
    let reference = reference();
    let bytes = plain().encode(&reference).unwrap();
    for length in 0..bytes.len() {
        assert_eq!(Window::decode(&bytes[..length], &reference), Err(DecodeError::Truncated), "at {length}");
    }
    for byte in [0, 1, 255] {
        let longer = [&bytes[..], &[byte]].concat();
        assert_eq!(Window::decode(&longer, &reference), Err(DecodeError::Trailing));
    }
    let endless = vec![VERSION; MAX_WINDOW_BYTES + 1];
    assert!(matches!(Window::decode(&endless, &reference), Err(DecodeError::TooLong { .. })));
}

#[test]
fn another_version_or_reference_is_named() {
    let reference = reference();
    let mut bytes = plain().encode(&reference).unwrap();
    let other = Reference::new(reference.features()[..1].to_vec()).unwrap();
    let expected = DecodeError::OtherReference { ours: other.id(), theirs: reference.id() };
    assert_eq!(Window::decode(&bytes, &other), Err(expected));
    assert!(matches!(plain().encode(&other), Err(EncodeError::OtherReference { .. })));
    bytes[0] = 2;
    assert_eq!(Window::decode(&bytes, &reference), Err(DecodeError::Version { version: 2 }));
}

#[test]
fn what_no_device_counts_is_not_sent() {
    let reference = reference();
    let refused = |change: &dyn Fn(&mut Window)| {
        let mut window = plain();
        change(&mut window);
        assert!(matches!(window.encode(&reference), Err(EncodeError::Implausible { .. })), "{window:?}");
    };
    refused(&|window| window.origin.device = "a/b".to_owned());
    refused(&|window| window.origin.boot = String::new());
    refused(&|window| window.origin.boot = "x".repeat(65));
    refused(&|window| window.sequence = u64::MAX);
    refused(&|window| window.to_ms = 0);
    refused(&|window| window.stride = 0);
    refused(&|window| drop(window.features.pop()));
    refused(&|window| window.features.swap(0, 1));
    refused(&|window| window.features[0] = FeatureCounts::empty(&reference.features()[0].values));
}

#[test]
fn claims_that_overflow_are_refused() {
    let reference = reference();
    for rows in [1 << 28, (1 << 28) + 1, bits::MAX_NUMBER] {
        let mut bits = BitWriter::after([&[VERSION][..], &reference.id().get().to_be_bytes()].concat());
        for name in [b'd', b'b'] {
            bits.number(1, NAME_LENGTH_BITS);
            bits.put(u64::from(name), 8);
        }
        for (number, low_bits) in
            [(1, SEQUENCE_BITS), (1, TIME_BITS), (1, SPAN_BITS), (0, 0), (rows, ROWS_BITS)]
        {
            bits.number(number, low_bits);
        }
        for _ in 0..200 {
            bits.number(bits::MAX_NUMBER, 0);
        }
        let error = Window::decode(&bits.finish(), &reference).unwrap_err();
        assert!(matches!(error, DecodeError::Implausible { .. }), "{error}");
    }
}

/// Deterministic values that look like a normal feature: the sum of twelve uniform ones.
fn normal(seed: &mut u64) -> f32 {
    let mut sum = -6.0;
    for _ in 0..12 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sum += (*seed >> 40) as f32 / (1_u64 << 24) as f32;
    }
    sum
}

#[test]
fn thirty_two_features_of_a_thousand_rows_fit_into_one_packet() {
    let mut seed = 1;
    let mut feature = |place: usize| {
        let sample: Vec<f32> = (0..10_000).map(|_| normal(&mut seed)).collect();
        let values = ReferenceValues::Numeric(NumericReference::from_sample("a", &sample).unwrap());
        FeatureReference { name: format!("f{place}"), values }
    };
    let reference = Arc::new(Reference::new((0..32).map(&mut feature).collect()).unwrap());
    let length = |shift: f32, gap: f32| {
        let mut seed = 2;
        let mut recorder = FeatureWindow::new(Arc::clone(&reference));
        for _ in 0..1_000 {
            let row: Vec<f32> = (0..32).map(|_| normal(&mut seed) + shift).collect();
            let row: Vec<f32> =
                row.into_iter().map(|value| if value > gap { MISSING } else { value }).collect();
            recorder.record(&row, &[]).unwrap();
        }
        let features = recorder.seal().unwrap();
        let uuid = "01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
        let window = Window { features, origin: Origin { device: uuid.clone(), boot: uuid }, ..plain() };
        let (from_ms, to_ms) = (1_760_000_000_000, 1_760_000_300_000);
        Window { reference: reference.id(), from_ms, to_ms, ..window }.encode(&reference).unwrap().len()
    };
    let usual = length(0.0, f32::MAX);
    assert!(usual < 1_500, "{usual} bytes");
    assert!((usual - 120) / 32 <= 40, "{usual} bytes are more than 40 a feature");
    // Drift, also on every feature at once, costs some more bytes and nothing else.
    for drifted in [length(1.0, f32::MAX), length(1e6, f32::MAX), length(0.0, 1.0)] {
        assert!(drifted < 2_500, "{drifted} bytes");
    }
}
