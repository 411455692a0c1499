//! How many standard errors to allow for when the error itself is estimated.

/// Quantiles of Student's t at 0.9995, from one degree of freedom up: half of the one rollout in a thousand that may be
/// condemned without harm is what history and wandering get. Any table has them, as NIST/SEMATECH 1.3.6.7.2.
const FEW: [f64; 10] = [636.62, 31.599, 12.924, 8.610, 6.869, 5.959, 5.408, 5.041, 4.781, 4.587];

/// The same with any number of degrees.
const MANY: f64 = 3.290_5;

/// Standard errors that an estimate with so many degrees of freedom exceeds by chance in one case of 2,000.
///
/// Beyond the table the expansion around the normal quantile (Abramowitz & Stegun 1964, 26.7.5), here within 0.01.
pub(super) fn errors_allowed(freedom: usize) -> f64 {
    if let Some(few) = FEW.get(freedom.max(1) - 1) {
        return *few;
    }
    let (z, n) = (MANY, freedom as f64);
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / n + second / (n * n) + third / (n * n * n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_devices_need_more_standard_errors_as_in_the_tables() {
        let table = [(1, 636.62), (4, 8.610), (11, 4.437), (19, 3.883), (30, 3.646), (120, 3.373)];
        for (freedom, quantile) in table {
            let ours = errors_allowed(freedom);
            assert!((ours - quantile).abs() < 0.01, "{ours} for {freedom}");
        }
        assert!((1..200).all(|freedom| errors_allowed(freedom) > errors_allowed(freedom + 1)));
    }
}
