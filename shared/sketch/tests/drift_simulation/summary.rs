//! What is printed and what is held against the bar.

/// How long a drift took to be found in each run. `u64::MAX` is not found.
pub struct Delays(Vec<u64>);

impl Delays {
    /// Collects them and prints a row.
    pub fn print(name: &str, unit: &str, delays: impl Iterator<Item = Option<u64>>) -> Self {
        let mut delays: Vec<_> = delays.map(|delay| delay.unwrap_or(u64::MAX)).collect();
        delays.sort_unstable();
        let delays = Self(delays);
        let show = |delay: u64| if delay == u64::MAX { "never".to_owned() } else { delay.to_string() };
        println!(
            "{name:<48} {:>4} runs | median {:>6} | 90 % {:>6} | most {:>6} {unit}",
            delays.0.len(),
            show(delays.median()),
            show(delays.0[delays.0.len() * 9 / 10]),
            show(delays.most()),
        );
        delays
    }

    pub fn median(&self) -> u64 {
        self.0[self.0.len() / 2]
    }

    pub fn most(&self) -> u64 {
        self.0[self.0.len() - 1]
    }

    /// In how many runs it was found at all.
    pub fn found(&self) -> usize {
        self.0.iter().filter(|&&delay| delay != u64::MAX).count()
    }
}
