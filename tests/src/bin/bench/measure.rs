//! Contestants that take turns, medians, and the time on a processor.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// The kernel counts the processor time of a process in hundredths of a second on every Linux (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Two contestants: the median of their blocks, and the median of the ratio within a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Ours.
    pub ours: f64,
    /// The peer's.
    pub peers: f64,
    /// Ours through the peer's.
    pub ratio: f64,
}

/// Something that does the same work again and again and tells how long each time took, in microseconds.
pub struct Contestant<'a> {
    /// Its name in the table.
    pub name: &'static str,
    /// Runs a block.
    pub block: Box<dyn FnMut(usize) -> anyhow::Result<Vec<f64>> + 'a>,
}

/// The figure of every contestant's block in every round.
#[derive(Debug, Default)]
pub struct Rounds {
    /// Names with one figure for each round.
    contestants: Vec<(&'static str, Vec<f64>)>,
}

impl Comparison {
    /// Figures that were taken in the same rounds.
    pub fn of_rounds(ours: &[f64], peers: &[f64]) -> Self {
        let ratios: Vec<f64> = ours.iter().zip(peers).map(|(ours, peers)| ours / peers).collect();
        Self { ours: median(ours), peers: median(peers), ratio: median(&ratios) }
    }

    /// The same in another unit.
    pub fn times(self, factor: f64) -> Self {
        Self { ours: self.ours * factor, peers: self.peers * factor, ..self }
    }
}

impl<'a> Contestant<'a> {
    /// A contestant that is called once for each measurement.
    pub fn calling(name: &'static str, mut act: impl FnMut() -> anyhow::Result<()> + 'a) -> Self {
        let block = move |count| {
            (0..count)
                .map(|_| {
                    let since = Instant::now();
                    act()?;
                    Ok(micros(since.elapsed()))
                })
                .collect()
        };
        Self { name, block: Box::new(block) }
    }
}

impl Rounds {
    /// Lets everybody take turns: `rounds` blocks of `count` each, after one block that warms up. The figure of a block is its median.
    pub fn play(contestants: &mut [Contestant<'_>], rounds: usize, count: usize) -> anyhow::Result<Self> {
        Self::play_by(median, contestants, rounds, count)
    }

    /// The same, and `figure` makes the figure of a block out of its times.
    pub fn play_by(
        figure: fn(&[f64]) -> f64,
        contestants: &mut [Contestant<'_>],
        rounds: usize,
        count: usize,
    ) -> anyhow::Result<Self> {
        let mut played = Self { contestants: contestants.iter().map(|one| (one.name, Vec::new())).collect() };
        for round in 0..=rounds {
            for turn in 0..contestants.len() {
                // Nobody always comes after the same other one.
                let index = (turn + round) % contestants.len();
                let (contestant, (name, figures)) = (&mut contestants[index], &mut played.contestants[index]);
                let block = (contestant.block)(count).with_context(|| format!("{name} failed"))?;
                if round > 0 {
                    figures.push(figure(&block));
                }
            }
        }
        Ok(played)
    }

    /// The means of so many rounds in a row, as if they had been one.
    pub fn grouped(self, rounds: usize) -> Self {
        let grouped = |(name, figures): (_, Vec<f64>)| (name, means(&figures, rounds));
        Self { contestants: self.contestants.into_iter().map(grouped).collect() }
    }

    /// `ours` beside `peer`.
    pub fn compare(&self, ours: &str, peer: &str) -> Comparison {
        Comparison::of_rounds(self.of(ours), self.of(peer))
    }

    /// What `ours` takes longer than `peer`, beside all that `peer` takes.
    pub fn surplus(&self, ours: &str, peer: &str) -> Comparison {
        let (ours, peers) = (self.of(ours), self.of(peer));
        let surplus: Vec<f64> = ours.iter().zip(peers).map(|(ours, peers)| ours - peers).collect();
        Comparison::of_rounds(&surplus, peers)
    }

    fn of(&self, name: &str) -> &[f64] {
        let found = self.contestants.iter().find(|(known, _)| *known == name);
        found.map_or(&[], |(_, medians)| medians)
    }
}

/// The middle one; of an even number the mean of the two in the middle. NaN where there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The means of so many values in a row.
pub fn means(values: &[f64], count: usize) -> Vec<f64> {
    values.chunks(count).map(mean).collect()
}

/// A duration in microseconds.
pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Seconds that all threads of a process spent on processors, in the kernel too.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    Ok(Stat::of(pid)?.own_seconds)
}

/// Nanoseconds that all threads of a process that are there spent on processors; the ticks of `/proc/PID/stat` are too
/// coarse for little.
pub fn cpu_nanos(pid: u32) -> anyhow::Result<f64> {
    let mut nanos = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += stat.split(' ').next().context("an unknown form of schedstat")?.parse::<f64>()?;
    }
    Ok(nanos)
}

/// Seconds that this thread spent on processors.
pub fn thread_cpu_seconds() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").context("the kernel keeps no schedstat")?;
    let nanos = stat.split(' ').next().and_then(|text| text.parse::<f64>().ok());
    Ok(nanos.context("an unknown form of schedstat")? / 1e9)
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, PartialEq)]
pub struct Stat {
    /// Of its program, the first fifteen bytes.
    pub name: String,
    /// The process that started it.
    pub parent: u32,
    /// What its threads spent on processors, in the kernel too.
    pub own_seconds: f64,
    /// What those of its children spent that have ended.
    pub ended_seconds: f64,
}

impl Stat {
    /// Of a process that is there.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
        Self::parse(&stat).context("an unknown form of /proc/PID/stat")
    }

    /// The name is in parentheses and may hold anything, parentheses too.
    fn parse(stat: &str) -> Option<Self> {
        let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
        let fields: Vec<&str> = stat[end + 1..].split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        let seconds = |user: usize| Some((ticks(user)? + ticks(user + 1)?) / TICKS_PER_SECOND);
        Some(Self {
            name: stat[begin + 1..end].to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            own_seconds: seconds(11)?,
            ended_seconds: seconds(13)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        let contestants = vec![("ours", vec![2.0, 20.0, 4.0]), ("peer", vec![1.0, 10.0, 2.0])];
        let rounds = Rounds { contestants };
        assert_eq!(rounds.compare("ours", "peer"), Comparison { ours: 4.0, peers: 2.0, ratio: 2.0 });
        assert_eq!(rounds.surplus("ours", "peer"), Comparison { ours: 2.0, peers: 2.0, ratio: 1.0 });
    }

    #[test]
    fn what_comes_once_in_many_rounds_is_in_the_mean_of_a_group() {
        let contestants = vec![("ours", vec![1.0, 1.0, 1.0, 5.0, 1.0, 5.0, 1.0, 1.0])];
        let grouped = Rounds { contestants }.grouped(4);
        assert_eq!(grouped.of("ours"), [2.0, 2.0]);
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 20 5 20 0 1 0 100 0 0";
        let wanted = Stat { name: "a) b".to_owned(), parent: 1, own_seconds: 3.0, ended_seconds: 0.25 };
        assert_eq!(Stat::parse(stat), Some(wanted));
        assert!(cpu_seconds(std::process::id()).is_ok() && thread_cpu_seconds().is_ok());
    }

    #[test]
    fn an_even_number_has_its_median_between_two() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
