//! Capital in a game that is unfavourable while the hypothesis holds.
//!
//! The capital is split over stakes, because nobody knows in advance how large an effect will be, and each part is paid
//! into the game little by little, `1/(t(t+1))` at look `t`, because nobody knows when it will begin. What waits
//! is not lost to a long good time, so a candidate that degrades on its second day is still found. A mixture of
//! fair games is a fair game.

use serde::{Deserialize, Serialize};

/// Shares of the capital that one bet risks. Small ones find small effects; the largest still leaves a tenth when
/// everything is lost.
const STAKES: [f64; 5] = [0.062_5, 0.125, 0.25, 0.5, 0.9];

/// Larger e-values are cut to this: far beyond any decision, and far from what a float can hold.
pub const E_VALUE_CAP: f64 = 1e300;

/// Evidence against the hypothesis that payoffs are not positive on average, valid at every look.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EProcess {
    /// Looks with at least one bet.
    looks: u64,
    /// What each stake's share of the paid-in capital has become.
    capital: [f64; STAKES.len()],
}

impl EProcess {
    /// No evidence: the value is 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the payoffs of one look, one of each independent group, each from -1 to 1. Larger ones are cut, and what
    /// is not a number is not a bet. A look without bets changes nothing.
    pub fn bet(&mut self, payoffs: &[f64]) {
        if !payoffs.iter().any(|payoff| payoff.is_finite()) {
            return;
        }
        self.looks = self.looks.saturating_add(1);
        let paid_in = waiting_at(self.looks - 1) - waiting_at(self.looks);
        for (capital, stake) in self.capital.iter_mut().zip(STAKES) {
            let played = payoffs.iter().filter(|payoff| payoff.is_finite());
            let factors = played.map(|payoff| 1.0 + stake * payoff.clamp(-1.0, 1.0));
            *capital =
                factors.fold(*capital + paid_in, |capital, factor| (capital * factor).min(E_VALUE_CAP));
        }
    }

    /// The e-value: at least `1/alpha` means that the hypothesis is rejected at level `alpha`. Above 0, at most
    /// [`E_VALUE_CAP`] and a bit.
    #[must_use]
    pub fn value(&self) -> f64 {
        let mean = self.capital.iter().sum::<f64>() / STAKES.len() as f64;
        mean.min(E_VALUE_CAP) + waiting_at(self.looks)
    }

    /// Looks with at least one bet.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.looks
    }
}

/// The capital that is not in the game after `look` looks.
fn waiting_at(look: u64) -> f64 {
    1.0 / (look as f64 + 1.0)
}
