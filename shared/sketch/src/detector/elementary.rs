//! Logarithm and exponential from exactly rounded operations.
//!
//! The ones of a platform's library differ in the last bit between platforms, and evidence that two parties compute from
//! the same counts has to be equal to the bit. These two use `+ - × ÷`, rounding down and the bits of a number.

/// ln 2 in two parts: the first has 21 zero bits at its end, so its product with an exponent is exact (Cody & Waite 1980).
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
const LOG2_E: f64 = std::f64::consts::LOG2_E;

const FRACTION_BITS: u32 = 52;
const EXPONENT_BIAS: i64 = 1023;

/// Natural logarithm of a normal positive number, to within two units in the last place or 1e-16.
pub(crate) fn ln(x: f64) -> f64 {
    debug_assert!(x.is_normal() && x > 0.0, "{x} has no logarithm here");
    let bits = x.to_bits();
    let mut exponent = ((bits >> FRACTION_BITS) & 0x7ff).cast_signed() - EXPONENT_BIAS;
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    let mut mantissa = f64::from_bits(fraction | (EXPONENT_BIAS.cast_unsigned() << FRACTION_BITS));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m-1)/(m+1)); the argument is at most 0.172, so the first term left out is below 1e-18.
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let mut series = 0.0;
    for odd in (1..=21).rev().step_by(2) {
        series = series * square + 1.0 / f64::from(odd);
    }
    let exponent = exponent as f64;
    exponent * LN_2_HIGH + (2.0 * ratio * series + exponent * LN_2_LOW)
}

/// Exponential of a number from -700 to 700, to a relative 1e-15.
pub(crate) fn exp(x: f64) -> f64 {
    debug_assert!(x.abs() <= 700.0, "{x} is beyond what a float holds");
    let power = (x * LOG2_E + 0.5).floor();
    let rest = (x - power * LN_2_HIGH) - power * LN_2_LOW;
    // |rest| is at most 0.347: the first term left out of the series is below 1e-17.
    let mut series = 1.0;
    for n in (1..=13).rev() {
        series = 1.0 + rest * series / f64::from(n);
    }
    let exponent = (power as i64 + EXPONENT_BIAS).cast_unsigned();
    series * f64::from_bits(exponent << FRACTION_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_agree_with_the_platform_to_its_precision() {
        for step in -6_990..=6_990 {
            let x = f64::from(step) * 0.1;
            let (ours, theirs) = (exp(x), x.exp());
            assert!((ours / theirs - 1.0).abs() < 1e-15, "exp({x}) is {ours}, not {theirs}");
            let (ours, theirs) = (ln(theirs), theirs.ln());
            assert!((ours - theirs).abs() <= 4e-16 * theirs.abs().max(0.25), "ln is {ours}, not {theirs}");
        }
        assert_eq!((ln(1.0).to_bits(), exp(0.0).to_bits()), (0, 1.0_f64.to_bits()));
    }

    #[test]
    fn their_bits_are_the_same_on_every_processor() {
        assert_eq!(ln(10.0).to_bits(), 0x4002_6bb1_bbb5_5516);
        assert_eq!(exp(1.0).to_bits(), 0x4005_bf0a_8b14_576a);
        assert_eq!(exp(-20.5).to_bits(), 0x3e15_7a3a_feed_00ac);
    }
}
