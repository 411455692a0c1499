use super::*;
use crate::window::NumericWindow;

/// A small generator (Marsaglia's xorshift), and from it a normal value as a sum of twelve uniform ones.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f32 {
        ((0..12).map(|_| self.uniform()).sum::<f64>() - 6.0) as f32
    }

    fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal()).collect()
    }
}

fn reference(sample: &[f32]) -> NumericReference {
    NumericReference::from_sample("a", sample).unwrap()
}

fn distances(reference: &NumericReference, values: &[f32]) -> NumericDistances {
    let mut window = NumericWindow::new(reference);
    window.record_all(values).unwrap();
    of_numbers(reference, &window.seal()).unwrap()
}

fn close(found: f64, truth: f64) -> bool {
    (found - truth).abs() <= 1e-12 * truth.abs().max(1.0)
}

#[test]
fn figures_are_those_of_an_independent_computation() {
    // Computed apart from this code, in Python, from the formulas in the module's documentation.
    let pair = Pair::of(&[400, 300, 200, 100, 0], &[30, 30, 20, 15, 5]).unwrap();
    let (psi, jensen_shannon, ks) = (pair.psi(), pair.jensen_shannon(), pair.kolmogorov_smirnov());
    assert!(close(psi.value, 0.299_696_401_818_377_9), "{psi:?}");
    assert!(close(psi.noise_floor, 0.044), "{psi:?}");
    assert!(close(jensen_shannon.value, 0.183_851_374_977_666_32), "{jensen_shannon:?}");
    assert!(close(jensen_shannon.noise_floor, 0.089_077_621_908_587_67), "{jensen_shannon:?}");
    assert!(close(ks.value, 0.1), "{ks:?}");
    assert!(close(ks.noise_floor, 0.091_113_292_795_632_89), "{ks:?}");
}

#[test]
fn the_wasserstein_distance_is_the_area_between_the_distributions() {
    let ramp: Vec<f32> = (0..2_000_u16).map(f32::from).collect();
    let reference = reference(&ramp);
    let values: Vec<f32> = (0..300_u16).map(|i| ((f64::from(i) * 3.7) % 1_500.0 + 800.0) as f32).collect();
    let found = distances(&reference, &values).wasserstein.value;
    // 0.62794 by fine numeric integration of the binned distributions, 0.62879 of the samples themselves (both in Python).
    assert!((found - 0.627_942).abs() < 1e-5, "{found}");
    let shifted: Vec<f32> = ramp.iter().map(|value| value + 3_000.0).collect();
    let found = distances(&reference, &shifted).wasserstein.value;
    let truth = 3_000.0 / f64::from(reference.scale());
    assert!((found / truth - 1.0).abs() < 0.001, "{found} against {truth}: also outside its range");
}

#[test]
fn alike_is_at_no_distance() {
    let sample = Random(5).normals(5_000);
    let found = distances(&reference(&sample), &sample);
    for score in [found.psi, found.jensen_shannon, found.kolmogorov_smirnov, found.wasserstein] {
        assert!(score.value < 1e-9 && !score.reportable, "{found:?}");
    }
}

#[test]
fn the_wasserstein_floor_of_a_normal_feature_is_the_known_one() {
    let sample = Random(11).normals(200_000);
    let noise = wasserstein::noise(&reference(&sample));
    // The integral gives 1.288; straight lines within bins make it a little wider.
    assert!((1.27..1.33).contains(&noise), "{noise}");
}

#[test]
fn without_drift_figures_are_about_their_floors_and_hardly_ever_reportable() {
    let mut random = Random(23);
    for size in [100, 200, 1_000] {
        let (mut ratios, mut reportable) = ([0.0; 4], 0);
        const TRIALS: usize = 200;
        for _ in 0..TRIALS {
            let reference = reference(&random.normals(2_000));
            let found = distances(&reference, &random.normals(size));
            let scores = [found.psi, found.jensen_shannon, found.kolmogorov_smirnov, found.wasserstein];
            for (ratio, score) in ratios.iter_mut().zip(scores) {
                *ratio += score.value / score.noise_floor / TRIALS as f64;
                reportable += usize::from(score.reportable);
            }
        }
        println!("n = {size}: mean of figure / floor {ratios:?}, reportable {reportable} of {}", 4 * TRIALS);
        for ratio in ratios {
            assert!((0.6..1.4).contains(&ratio), "n = {size}: {ratios:?}");
        }
        assert!(reportable <= if size < 200 { 0 } else { 4 * TRIALS / 50 }, "n = {size}: {reportable}");
    }
}

#[test]
fn drift_is_reportable() {
    let mut random = Random(31);
    let reference = reference(&random.normals(10_000));
    let shifted: Vec<f32> = random.normals(2_000).iter().map(|value| value + 0.5).collect();
    let found = distances(&reference, &shifted);
    for score in [found.psi, found.jensen_shannon, found.kolmogorov_smirnov, found.wasserstein] {
        assert!(score.reportable, "{found:?}");
    }
    assert!((found.wasserstein.value - 0.5).abs() < 0.05, "{found:?}");
    let few = distances(&reference, &shifted[..199]);
    assert!(!few.psi.reportable && !few.wasserstein.reportable, "199 values are too few, whatever they show");
}

#[test]
fn values_that_the_reference_never_had_give_finite_figures() {
    let reference = reference(&[2.0; 1_000]);
    let found = distances(&reference, &[f32::MAX; 300]);
    assert!(found.psi.value.is_finite() && found.wasserstein.value.is_finite(), "{found:?}");
    assert!((found.jensen_shannon.value - 1.0).abs() < 1e-12 && found.jensen_shannon.reportable);
    assert!(of_numbers(&reference, &NumericCounts::empty(3)).is_none(), "nothing counted has no distance");
    assert!(
        of_numbers(&reference, &NumericCounts::empty(4)).is_none(),
        "nor has what was counted in other bins"
    );
}

#[test]
fn the_whole_range_of_numbers_has_a_distance() {
    let wide: Vec<f32> = (0..1_000_u16).map(|row| if row % 2 == 0 { f32::MIN } else { f32::MAX }).collect();
    let found = distances(&reference(&wide), &[0.0; 300]);
    assert!(found.wasserstein.value.is_finite(), "{found:?}");
}

#[test]
fn a_new_category_is_at_a_distance() {
    let counts = ["cat", "dog"].map(|name| (name.to_owned(), 5_000)).to_vec();
    let reference = CategoryReference::from_counts("animal", counts, 0).unwrap();
    let with_unseen = |unseen| CategoryCounts::of(vec![500, 500, unseen], 0);
    let none = of_categories(&reference, &with_unseen(0)).unwrap();
    let some = of_categories(&reference, &with_unseen(50)).unwrap();
    assert!(!none.psi.reportable && !none.jensen_shannon.reportable, "{none:?}");
    assert!(some.psi.reportable && some.jensen_shannon.reportable, "{some:?}");
}
