//! Taking turns, and the table of results.

use std::time::Instant;

/// Rounds in which everyone has one turn.
pub const ROUNDS: usize = 39;

/// Contestants, each with how many units of work a turn of it does. Turns should take about as long as each other, and
/// less than the machine takes to switch to another program: then most are not interrupted.
#[derive(Default)]
pub struct Contest<'a> {
    contestants: Vec<(usize, Box<dyn FnMut() -> f64 + 'a>)>,
}

/// Nanoseconds for each unit of work: by contestant, then by round.
pub struct Outcome(Vec<Vec<f64>>);

impl<'a> Contest<'a> {
    /// Adds a contestant that does `units` of work a turn.
    pub fn add(&mut self, units: usize, mut turn: impl FnMut() + 'a) {
        self.add_timed(units, move || {
            let start = Instant::now();
            turn();
            start.elapsed().as_secs_f64() * 1e9
        });
    }

    /// Adds one that tells how many nanoseconds its turn took.
    pub fn add_timed(&mut self, units: usize, turn: impl FnMut() -> f64 + 'a) {
        self.contestants.push((units, Box::new(turn)));
    }

    /// Lets everyone warm up and then take turns.
    pub fn run(mut self) -> Outcome {
        for (_, turn) in &mut self.contestants {
            turn();
        }
        let count = self.contestants.len();
        let mut times = vec![Vec::with_capacity(ROUNDS); count];
        for round in 0..ROUNDS {
            for place in 0..count {
                let contestant = (round + place) % count;
                let (units, turn) = &mut self.contestants[contestant];
                times[contestant].push(turn() / *units as f64);
            }
        }
        Outcome(times)
    }
}

impl Outcome {
    /// The median of a contestant.
    pub fn median(&self, contestant: usize) -> f64 {
        median(self.0[contestant].clone())
    }

    /// The median ratio of two contestants within a round.
    pub fn ratio(&self, ours: usize, theirs: usize) -> f64 {
        median(self.0[ours].iter().zip(&self.0[theirs]).map(|(a, b)| a / b).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A figure with those of both peers; NaN where there is none.
pub struct Figures {
    pub ours: f64,
    /// KLL's in Rust, and the ratio.
    pub rust: [f64; 2],
    /// KLL's in C++, and the ratio.
    pub cpp: [f64; 2],
}

/// Rows to print.
#[derive(Default)]
pub struct Table(Vec<[String; 7]>);

impl Table {
    /// Adds what contestants took: `ours`, KLL in Rust, and KLL in C++ where it took part.
    pub fn times(&mut self, what: &str, outcome: &Outcome, ours: usize, rust: usize, cpp: Option<usize>) {
        let beside = |peer: usize| [outcome.median(peer), outcome.ratio(ours, peer)];
        let (ours, rust, cpp) = (outcome.median(ours), beside(rust), cpp.map_or([f64::NAN; 2], beside));
        self.add(what, "ns", Figures { ours, rust, cpp });
    }

    /// Adds a figure of ours, and single ones of the peers where there are any.
    pub fn figure(&mut self, what: &str, unit: &str, ours: f64, rust: f64, cpp: f64) {
        let beside = |peer: f64| [peer, ours / peer];
        self.add(what, unit, Figures { ours, rust: beside(rust), cpp: beside(cpp) });
    }

    /// Prints the table.
    pub fn print(&self) {
        println!(
            "| {:<45} | {:>7} | unit | {:>7} | {:>6} | {:>7} | {:>6} |",
            "what", "ours", "KLL's", "ratio", "in C++", "ratio"
        );
        println!("|{:-<47}|{:->8}:|------|{:->8}:|{:->7}:|{:->8}:|{:->7}:|", "", "", "", "", "", "");
        for [what, ours, unit, rust, ratio, cpp, cpp_ratio] in &self.0 {
            println!(
                "| {what:<45} | {ours:>7} | {unit:<4} | {rust:>7} | {ratio:>6} | {cpp:>7} | {cpp_ratio:>6} |"
            );
        }
    }

    fn add(&mut self, what: &str, unit: &str, figures: Figures) {
        let shown = |value: f64| if value.is_nan() { "-".to_owned() } else { short(value) };
        let Figures { ours, rust, cpp } = figures;
        let [ours, rust, ratio, cpp, cpp_ratio] = [ours, rust[0], rust[1], cpp[0], cpp[1]].map(shown);
        self.0.push([what.to_owned(), ours, unit.to_owned(), rust, ratio, cpp, cpp_ratio]);
    }
}

fn short(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
