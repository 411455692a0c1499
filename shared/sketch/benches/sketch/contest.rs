//! Taking turns, and the table of results.

use std::time::Instant;

/// Rounds in which everyone has one turn.
pub const ROUNDS: usize = 39;

/// Contestants, each with how many units of work a turn of it does. Turns should take about as long as each other, and
/// less than the machine takes to switch to another program: then most are not interrupted.
#[derive(Default)]
pub struct Contest<'a> {
    contestants: Vec<(usize, Box<dyn FnMut() + 'a>)>,
}

/// Nanoseconds for each unit of work: by contestant, then by round.
pub struct Outcome(Vec<Vec<f64>>);

impl<'a> Contest<'a> {
    /// Adds a contestant that does `units` of work a turn.
    pub fn add(&mut self, units: usize, turn: impl FnMut() + 'a) {
        self.contestants.push((units, Box::new(turn)));
    }

    /// Lets everyone warm up and then take turns.
    pub fn run(mut self) -> Outcome {
        self.contestants.iter_mut().for_each(|(_, turn)| turn());
        let count = self.contestants.len();
        let mut times = vec![Vec::with_capacity(ROUNDS); count];
        for round in 0..ROUNDS {
            for place in 0..count {
                let contestant = (round + place) % count;
                let (units, turn) = &mut self.contestants[contestant];
                let start = Instant::now();
                turn();
                times[contestant].push(start.elapsed().as_secs_f64() * 1e9 / *units as f64);
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
