//! Sums over many numbers in a fixed number of lanes: the compiler makes vector instructions of them, and since which lane
//! a number goes to depends on its place alone, every processor gives the same bits.

/// Numbers side by side: four vectors of the smallest instruction set, two of the usual ones.
const LANES: usize = 16;

/// Blocks after which lanes are added up wide, so that no lane adds more than so many FP32 numbers: then the error
/// stays below a hundred thousandth of the sum of absolute values.
const FOLD: usize = 64;

/// Of all numbers.
pub(super) fn sum(values: &[f32]) -> f64 {
    sum_of(values, |value| value)
}

/// Of the squares of all numbers.
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    sum_of(values, |value| value * value)
}

/// How many numbers are this one.
pub(super) fn count_of(values: &[f32], wanted: f32) -> f64 {
    sum_of(values, |value| if value == wanted { 1.0 } else { 0.0 })
}

/// The largest number, NaN aside; negative infinity where there is none.
pub(super) fn largest(values: &[f32]) -> f32 {
    let larger = |best: f32, value: f32| if value > best { value } else { best };
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], block[lane]);
        }
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = larger(lanes[lane], lanes[lane + half]);
        }
    }
    rest.iter().copied().fold(lanes[0], larger)
}

/// Of one term of each number: of two at once the compiler would make pairs instead of vectors of either.
#[inline]
fn sum_of(values: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut total = 0.0;
    for blocks in blocks.chunks(FOLD) {
        let mut lanes = [0.0_f32; LANES];
        for block in blocks {
            for lane in 0..LANES {
                lanes[lane] += term(block[lane]);
            }
        }
        total += f64::from(folded(lanes));
    }
    rest.iter().fold(total, |total, &value| total + f64::from(term(value)))
}

/// The sum of the lanes, by halves.
fn folded(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_numbers_whatever_their_count() {
        for count in [0_u16, 1, 15, 16, 17, 1_023, 1_024, 5_000] {
            let values: Vec<f32> = (0..count).map(|place| f32::from(place % 100)).collect();
            let wide = || values.iter().map(|&value| f64::from(value));
            assert_eq!(sum(&values), wide().sum::<f64>(), "{count}");
            assert_eq!(sum_of_squares(&values), wide().map(|value| value * value).sum::<f64>(), "{count}");
            assert_eq!(
                count_of(&values, 7.0),
                wide().filter(|&value| value == 7.0).count() as f64,
                "{count}"
            );
        }
    }

    #[test]
    fn the_largest_is_found_beside_nan() {
        let mut values = vec![-3.0; 40];
        assert_eq!(largest(&values), -3.0);
        (values[5], values[39]) = (f32::NAN, 2.0);
        assert_eq!(largest(&values), 2.0);
        assert_eq!(largest(&[f32::NAN]), f32::NEG_INFINITY);
    }
}
