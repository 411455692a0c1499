//! Wald's sequential probability ratio test between two rates of bad inferences.
//!
//! Every inference multiplies the likelihood ratio of "bad" against "good": a bad one by `bad / good`, a fine one
//! by `(1 − bad) / (1 − good)`. The ratio is computed from the totals, so it does not depend on how inferences
//! were batched, and no rounding accumulates.

use shared::manifest::ErrorTest;

const MILLION: f64 = 1_000_000.0;

/// Log₂ of the likelihood ratio after `total` inferences of which `bad` were bad.
pub(crate) fn log2_ratio(test: &ErrorTest, total: u64, bad: u64) -> f64 {
    let (good_rate, bad_rate) = (f64::from(test.good_ppm) / MILLION, f64::from(test.bad_ppm) / MILLION);
    let bad = bad.min(total);
    let each_bad = (bad_rate / good_rate).log2();
    let each_fine = ((1.0 - bad_rate) / (1.0 - good_rate)).log2();
    bad as f64 * each_bad + (total - bad) as f64 * each_fine
}

/// Log₂ of the ratio at which a version is condemned.
pub(crate) fn log2_threshold(test: &ErrorTest) -> f64 {
    f64::from(test.one_wrong_in).log2()
}

/// True when the evidence condemns.
#[cfg(test)]
fn condemns(test: &ErrorTest, total: u64, bad: u64) -> bool {
    log2_ratio(test, total, bad) >= log2_threshold(test)
}

/// A logarithm as a signed document can hold it.
pub(crate) fn in_thousandths(log2: f64) -> i64 {
    (log2 * 1_000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided_after(is_bad: impl Fn(u64) -> bool) -> Option<u64> {
        let test = ErrorTest::default();
        let mut bad = 0;
        (1..10_000).find(|&total| {
            bad += u64::from(is_bad(total));
            condemns(&test, total, bad)
        })
    }

    #[test]
    fn five_inferences_decide_when_all_of_them_fail() {
        assert_eq!(decided_after(|_| true), Some(5));
    }

    #[test]
    fn thirty_three_inferences_decide_when_one_in_five_fails() {
        assert_eq!(decided_after(|n| n % 5 == 3), Some(33));
        let test = ErrorTest::default();
        let drift = log2_ratio(&test, 5, 1) / 5.0;
        assert_eq!((log2_threshold(&test) / drift).ceil() as u64, 33);
    }

    #[test]
    fn a_good_model_is_never_condemned_by_its_usual_errors() {
        assert_eq!(decided_after(|n| n % 100 == 0), None);
    }

    #[test]
    fn more_bad_than_total_is_read_as_all_bad() {
        assert!(log2_ratio(&ErrorTest::default(), 1, u64::MAX).is_finite());
    }
}
