//! Reading a selector, clause by clause, with the place of every mistake.

use std::collections::BTreeSet;

use shared::{DeviceId, device::parse_label};

use super::{
    Clause, MAX_SELECTOR_BYTES, SelectorError, Subject, Test,
    inventory::{Number, Order, Word},
};

/// The word that stands for the name of a device; a label of this name cannot be selected.
pub(super) const DEVICE: &str = "id";

/// What can be written.
const FORMS: &str = "write `all`, k=v, k!=v, k in (a,b), id=DEVICE or mem_mib>=512";

/// A clause as written, and the byte where it starts.
struct Piece<'a> {
    text: &'a str,
    start: usize,
    whole: &'a str,
}

pub(super) fn clauses(whole: &str) -> Result<Vec<Clause>, SelectorError> {
    if whole.len() > MAX_SELECTOR_BYTES {
        let message =
            format!("longer than {MAX_SELECTOR_BYTES} bytes; select by a label instead of a list of ids");
        return Err(SelectorError { at: 1, message });
    }
    let mut clauses = Vec::new();
    for piece in split(whole)? {
        if piece.text != "all" {
            clauses.push(clause(&piece)?);
        }
    }
    Ok(clauses)
}

/// Cuts at commas that stand outside parentheses.
fn split(whole: &str) -> Result<Vec<Piece<'_>>, SelectorError> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut open = None;
    for (at, letter) in whole.char_indices() {
        match (letter, open) {
            ('(', None) => open = Some(at),
            ('(', Some(_)) => return Err(wrong(whole, at, "a list inside a list; write k in (a,b)")),
            (')', None) => return Err(wrong(whole, at, "this ')' closes nothing; remove it")),
            (')', Some(_)) => open = None,
            (',', None) => {
                pieces.push(Piece::cut(whole, start, at));
                start = at + 1;
            }
            _ => {}
        }
    }
    if let Some(at) = open {
        return Err(wrong(whole, at, "this '(' is never closed; add ')'"));
    }
    pieces.push(Piece::cut(whole, start, whole.len()));
    Ok(pieces)
}

fn clause(piece: &Piece<'_>) -> Result<Clause, SelectorError> {
    if piece.text.is_empty() {
        return Err(piece.wrong(&format!("nothing here; {FORMS}")));
    }
    if let Some((name, list)) = split_in(piece.text) {
        return one_of(piece, name, list);
    }
    if let Some(clause) = ordered(piece) {
        return clause;
    }
    if let Some((name, value)) = piece.text.split_once("!=") {
        let (subject, value) = condition(piece, name, value)?;
        return Ok(Clause { subject, test: Test::IsNot(value) });
    }
    if let Some((name, value)) = piece.text.split_once('=') {
        let (subject, value) = condition(piece, name, value)?;
        return Ok(Clause { subject, test: Test::Is(value) });
    }
    Err(piece.wrong(&format!("'{}' is not a condition; {FORMS}", piece.text)))
}

/// `mem_mib>=512` → its parts; `None` where no sign of order stands.
fn ordered(piece: &Piece<'_>) -> Option<Result<Clause, SelectorError>> {
    let (order, (name, bound)) =
        Order::ALL.into_iter().find_map(|order| Some((order, piece.text.split_once(order.sign())?)))?;
    let Some(number) = Number::named(name.trim()) else {
        let known = Number::ALL.map(Number::name).join(", ");
        let message = format!("'{}' is not a number that devices tell; these are: {known}", name.trim());
        return Some(Err(piece.wrong(&message)));
    };
    let clause = |bound| Clause { subject: Subject::Number(number), test: Test::Ordered(order, bound) };
    let bound = bound.trim();
    let wrong = |_| {
        piece.wrong(&format!("'{bound}' is not a whole number; write {}{}512", number.name(), order.sign()))
    };
    Some(bound.parse().map(clause).map_err(wrong))
}

/// `line in (1,2)` → `line` and `1,2`.
fn split_in(text: &str) -> Option<(&str, &str)> {
    let (head, tail) = text.split_once('(')?;
    let list = tail.strip_suffix(')')?;
    let name = head.trim_end().strip_suffix("in")?;
    name.ends_with(char::is_whitespace).then(|| (name.trim(), list))
}

fn one_of(piece: &Piece<'_>, name: &str, list: &str) -> Result<Clause, SelectorError> {
    let mut values = BTreeSet::new();
    for value in list.split(',') {
        values.insert(condition(piece, name, value)?.1);
    }
    Ok(Clause { subject: subject_of(name), test: Test::In(values) })
}

fn condition(piece: &Piece<'_>, name: &str, value: &str) -> Result<(Subject, String), SelectorError> {
    let (name, value) = (name.trim(), value.trim());
    let subject = subject_of(name);
    let checked = match subject {
        Subject::Device => DeviceId::new(value).map(drop).map_err(|error| error.to_string()),
        Subject::Label(_) | Subject::Word(_) => parse_label(&format!("{name}={value}")).map(drop),
        Subject::Number(number) => {
            Err(format!("{} is a number; write {0}>=N, {0}<=N, {0}>N or {0}<N", number.name()))
        }
    };
    checked.map_err(|message| piece.wrong(&message))?;
    Ok((subject, value.to_owned()))
}

fn subject_of(name: &str) -> Subject {
    let word = || Word::named(name).map(Subject::Word);
    let number = || Number::named(name).map(Subject::Number);
    let told = (name == DEVICE).then_some(Subject::Device).or_else(word).or_else(number);
    told.unwrap_or_else(|| Subject::Label(name.to_owned()))
}

impl<'a> Piece<'a> {
    fn cut(whole: &'a str, from: usize, to: usize) -> Self {
        let raw = &whole[from..to];
        let start = from + (raw.len() - raw.trim_start().len());
        Self { text: raw.trim(), start, whole }
    }

    fn wrong(&self, message: &str) -> SelectorError {
        wrong(self.whole, self.start, message)
    }
}

fn wrong(whole: &str, at_byte: usize, message: &str) -> SelectorError {
    SelectorError { at: whole[..at_byte].chars().count() + 1, message: message.to_owned() }
}
