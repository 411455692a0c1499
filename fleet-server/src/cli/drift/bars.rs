//! Bins as bars of text.

/// From empty to full, an eighth each.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Characters of the longest bar.
const WIDTH: usize = 24;

/// Shares of each bin; all 0 without values.
pub(super) fn shares(counts: &[u64]) -> Vec<f64> {
    let total: f64 = counts.iter().map(|&count| count as f64).sum();
    counts.iter().map(|&count| if total > 0.0 { count as f64 / total } else { 0.0 }).collect()
}

/// One character for each bin, up to `full`; whatever is there at all is seen.
pub(super) fn line(shares: &[f64], full: f64) -> String {
    let height = |share: f64| match (share / full * 8.0).round() as usize {
        0 if share > 0.0 => 1,
        height => height.min(8),
    };
    shares.iter().map(|&share| EIGHTHS[height(share)]).collect()
}

/// A bar from the left, as long as its part of `full`.
pub(super) fn bar(share: f64, full: f64) -> String {
    let cells = if full > 0.0 { (share / full * WIDTH as f64).round() as usize } else { 0 };
    format!("{:<WIDTH$}", "█".repeat(cells.min(WIDTH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_share_and_what_is_rare_is_seen() {
        let shares = shares(&[0, 500, 1, 250, 249]);
        assert_eq!(line(&shares, 0.5), " █▁▄▄");
        assert_eq!(bar(shares[3], 0.5).trim_end().chars().count(), WIDTH / 2);
        assert_eq!(line(&super::shares(&[0, 0]), 0.5), "  ");
        assert_eq!(bar(0.0, 0.0).trim_end(), "");
    }
}
