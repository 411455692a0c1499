//! Taking turns, and the table of results.

use std::time::Instant;

/// Rounds in which everyone has one turn.
const ROUNDS: usize = 31;

/// Contestants that do the same amount of work each turn.
pub struct Contest<'a> {
    units: usize,
    contestants: Vec<Box<dyn FnMut() + 'a>>,
}

/// Nanoseconds for each unit of work: by contestant, then by round.
pub struct Outcome(Vec<Vec<f64>>);

impl<'a> Contest<'a> {
    /// A contest in which a turn does `units` of work.
    pub fn new(units: usize) -> Self {
        Self { units, contestants: Vec::new() }
    }

    /// Adds a contestant; the name is for readers of the code.
    pub fn add(&mut self, _name: &str, turn: impl FnMut() + 'a) {
        self.contestants.push(Box::new(turn));
    }

    /// Lets everyone warm up and then take turns.
    pub fn run(mut self) -> Outcome {
        self.contestants.iter_mut().for_each(|turn| turn());
        let count = self.contestants.len();
        let mut times = vec![Vec::with_capacity(ROUNDS); count];
        for round in 0..ROUNDS {
            for place in 0..count {
                let contestant = (round + place) % count;
                let start = Instant::now();
                (self.contestants[contestant])();
                times[contestant].push(start.elapsed().as_secs_f64() * 1e9 / self.units as f64);
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

/// Rows to print.
#[derive(Default)]
pub struct Table(Vec<[String; 5]>);

impl Table {
    /// Adds what two contestants took.
    pub fn times(&mut self, what: &str, unit: &str, outcome: &Outcome, ours: usize, theirs: usize) {
        self.add(what, unit, outcome.median(ours), outcome.median(theirs), outcome.ratio(ours, theirs));
    }

    /// Adds two figures; one that is NaN is not there.
    pub fn figures(&mut self, what: &str, unit: &str, ours: f64, theirs: f64) {
        self.add(what, unit, ours, theirs, ours / theirs);
    }

    /// Prints the table.
    pub fn print(&self) {
        println!("| {:<48} | {:>7} | unit | {:>7} | {:>6} |", "what", "ours", "KLL's", "ratio");
        println!("|{:-<50}|{:->8}:|------|{:->8}:|{:->7}:|", "", "", "", "");
        for [what, ours, unit, theirs, ratio] in &self.0 {
            println!("| {what:<48} | {ours:>7} | {unit:<4} | {theirs:>7} | {ratio:>6} |");
        }
    }

    fn add(&mut self, what: &str, unit: &str, ours: f64, theirs: f64, ratio: f64) {
        let shown = |value: f64| if value.is_nan() { "-".to_owned() } else { short(value) };
        self.0.push([what.to_owned(), shown(ours), unit.to_owned(), shown(theirs), shown(ratio)]);
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
