//! The summary in lines for people.

use muster_sim::tell_counts;

use super::{Links, RolloutSummary, Seconds, Summary, WaveSummary};

impl Summary {
    /// The summary for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let Seconds { enrolling, connecting, story } = self.seconds;
        let mut lines = vec![
            self.title.clone(),
            format!(
                "{} devices: enrolled in {enrolling:.1} s, connected {connecting:.1} s later, story of {story:.1} s",
                self.devices
            ),
        ];
        for rollout in &self.rollouts {
            let RolloutSummary { name, release, state, seconds, counts, .. } = rollout;
            lines.push(format!(
                "{name} {release}: {} after {seconds:.1} s; {}",
                state.replace('_', " "),
                tell_counts(counts)
            ));
            lines.extend(rollout.reason.iter().map(|reason| format!("  {reason}")));
            let wave = |(number, wave): (usize, &WaveSummary)| {
                format!("  wave {}: {}; {}", number + 1, wave.state, tell_counts(&wave.counts))
            };
            lines.extend(rollout.waves.iter().enumerate().map(wave));
        }
        for class in &self.classes {
            let keeps: Vec<_> =
                class.keeps.iter().map(|(release, count)| format!("{release} on {count}")).collect();
            let keeps = if keeps.is_empty() { "nothing".to_owned() } else { keeps.join(", ") };
            lines.push(format!(
                "{}: {} of {} connected, keep {keeps}",
                class.class, class.connected, class.devices
            ));
        }
        let Links { connects, breaks, failed_dials, reports, blocks, damaged_blocks, .. } = self.links;
        lines.push(format!(
            "links: {connects} sessions, {breaks} broke, {failed_dials} attempts in vain; {reports} reports, {blocks} blocks, {damaged_blocks} damaged"
        ));
        lines.push(self.memory_line());
        lines.extend(self.missed.iter().map(|missed| format!("NOT AS EXPECTED: {missed}")));
        lines
    }

    fn memory_line(&self) -> String {
        let [before, connected, _] = self.memory;
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / self.devices.max(1) as f64;
        let of = |who: &str, before: u64, after: u64| {
            format!("{who} {} MiB, {:.1} KiB for each device", after / 1_024, each(before, after))
        };
        let server = before.server_kib.zip(connected.server_kib);
        let server = server.map(|(before, after)| format!("; {}", of("server", before, after)));
        format!(
            "memory when connected: {}{}",
            of("devices", before.sim_kib, connected.sim_kib),
            server.unwrap_or_default()
        )
    }
}
