use muster_sketch::window::{Origin, Window};
use proptest::prelude::*;

use super::*;

const KEEP: Keep = Keep { minutes_secs: 6 * 3_600, hours_secs: 14 * 86_400, days_secs: 400 * 86_400 };

fn window(plant: &mut Plant, sequence: u64, to_ms: u64) -> Window {
    Window {
        reference: plant.reference.id(),
        origin: Origin { device: "a-0".into(), boot: "boot-1".into() },
        sequence,
        from_ms: to_ms - 600_000,
        to_ms,
        stride: 1,
        features: vec![plant.count("a-0", 20 + sequence as usize, &|_, value| value)],
    }
}

proptest! {
    #[test]
    fn in_any_order_and_by_any_parts_windows_add_up_to_the_same(order in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(), cut in 1_usize..11) {
        let mut plant = Plant::new(1);
        let windows: Vec<_> = (0..12).map(|n| window(&mut plant, n, START.as_millis() + 1_000 * n)).collect();
        let sum = |places: &[usize]| {
            let mut sums = places.iter().map(|&place| Sums::of(&windows[place]));
            let first = sums.next().unwrap();
            sums.fold(first, |mut sum, more| { sum.add(&more).unwrap(); sum })
        };
        let mut parts = sum(&order[..cut]);
        parts.add(&sum(&order[cut..])).unwrap();
        let straight = sum(&(0..12).collect::<Vec<_>>());
        prop_assert_eq!(serde_json::to_string(&parts).unwrap(), serde_json::to_string(&straight).unwrap());
        prop_assert_eq!((straight.windows, straight.rows()), (12, 12 * 20 + 66));
    }

    #[test]
    fn a_window_lands_where_the_others_of_its_time_have_gone(ago_secs in 0_u64..500 * 86_400, late_secs in 0_u64..40 * 86_400) {
        let to_ms = START.as_millis() - 1_000 * ago_secs;
        let mut place = KEEP.place(to_ms, START);
        let later = Timestamp(START.as_millis() + 1_000 * late_secs);
        // What came in time is folded as it grows old.
        while let Some(longer) = place.span.longer() {
            if place.start_secs >= KEEP.oldest_secs(place.span, later) {
                break;
            }
            place = Place { span: longer, start_secs: longer.start_of(place.start_secs) };
        }
        let removed = place.start_secs < KEEP.oldest_secs(Span::Day, later);
        prop_assert!(removed || place == KEEP.place(to_ms, later), "{:?} {:?}", place, KEEP.place(to_ms, later));
    }
}

#[test]
fn a_clock_that_is_wrong_makes_no_rows_out_of_time() {
    let now = START.as_millis() / 1_000;
    let future = KEEP.place(u64::MAX / 4, START);
    assert_eq!((future.span, future.start_secs), (Span::Minute, now - now % 60));
    let past = KEEP.place(0, START);
    assert_eq!((past.span, past.start_secs), (Span::Day, KEEP.oldest_secs(Span::Day, START)));
}

#[test]
fn sums_of_different_references_are_never_added() {
    let (mut plant, mut other) = (Plant::new(1), Plant::new(1));
    let constant = NumericReference::from_sample("level", &[1.0; 2_000]).unwrap();
    let feature = FeatureReference { name: "level".into(), values: ReferenceValues::Numeric(constant) };
    other.reference = Arc::new(Reference::new(vec![feature]).unwrap());
    let mut sum = Sums::of(&window(&mut plant, 1, START.as_millis()));
    let before = sum.clone();
    assert!(sum.add(&Sums::of(&window(&mut other, 2, START.as_millis()))).is_err());
    assert_eq!(sum, before);
}
