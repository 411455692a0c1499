//! Which cases of a sample are looked at, when not all are, and in which order.

/// At most `most` of `cases` cases, evenly apart, in order.
pub(super) fn evenly(cases: usize, most: usize) -> impl Iterator<Item = usize> {
    let chosen = cases.min(most);
    (0..chosen).map(move |place| place * cases / chosen)
}

/// Every place below `count` once, so that the first ones, however many, lie evenly over all: each step is about the golden
/// section of the whole. Of the steps near it that meet every place, it is the one whose multiples come back to the start latest.
pub(super) fn spread(count: usize) -> impl Iterator<Item = usize> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share of a count
    let section = (count as f64 * 0.618_033_988_75) as usize;
    let near = (section.max(1)..section + SEARCHED).filter(|&step| is_coprime(step, count)).take(NEAR);
    let step = near.max_by_key(|&step| evenness(step, count)).unwrap_or(1);
    (0..count).map(move |number| number * step % count)
}

/// Steps among which the best is looked for.
const NEAR: usize = 16;

/// Numbers that are tried: so many in a row have steps that meet every place, whatever the count.
const SEARCHED: usize = 1_000;

/// How long no multiple of the step comes near the start: the smallest product of a number of steps with the distance from
/// the start after them. It is large where the step's share of the whole is badly approximated by fractions.
fn evenness(step: usize, count: usize) -> usize {
    let few = count.isqrt().max(1);
    let distance = |number: usize| {
        let place = number * step % count.max(1);
        place.min(count - place)
    };
    (1..=few).map(|number| number * distance(number)).min().unwrap_or(0)
}

fn is_coprime(a: usize, b: usize) -> bool {
    if b == 0 { a == 1 } else { is_coprime(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_of_few_and_an_even_part_of_many() {
        assert_eq!(evenly(3, 10).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(evenly(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(evenly(10, 0).count() + evenly(0, 10).count(), 0);
    }

    #[test]
    fn every_place_is_met_once_and_the_first_lie_everywhere() {
        for count in [0, 1, 2, 3, 10, 97, 1_200, 20_000] {
            let places: Vec<usize> = spread(count).collect();
            assert_eq!(places.iter().copied().collect::<BTreeSet<_>>().len(), count, "{count}");
            if count >= 100 {
                let mut first = places[..count / 10].to_vec();
                first.sort_unstable();
                let gaps = first.windows(2).map(|pair| pair[1] - pair[0]);
                assert!(gaps.max() <= Some(30), "{count}");
            }
        }
    }
}
