//! The values of features, row after row.

use std::collections::BTreeMap;

use muster_engine::{
    Tensor,
    features::{Code, Extractor, Row},
};
use muster_sketch::reference::MAX_CATEGORIES;
use shared::manifest::Side;

use crate::publish::features::{Model, Planned, What};

/// Reads the features of one side of the model, and keeps them.
pub(super) struct Collector {
    extractor: Extractor,
    features: Vec<Watched>,
    row: Row,
    /// The case of each row.
    cases: Vec<usize>,
}

/// A feature, where its values are found, and what they were.
struct Watched {
    tensor: Place,
    from: From,
    column: Column,
}

enum Place {
    Input(String),
    Output(usize),
}

/// Where a value is found.
#[derive(Clone, Copy)]
enum From {
    /// Among the numbers of a row.
    Number(usize),
    /// Among the places of a row.
    Class(usize),
    /// At this place of its tensor's row.
    Code(usize),
}

/// The values of one feature.
pub(super) enum Column {
    /// In the order of their rows.
    Numbers(Vec<f32>),
    /// How often there was each whole number.
    Codes(CodeCounts),
    /// How often each place had the largest score, and how often there was none.
    Classes { counts: Vec<u64>, missing: u64 },
}

#[derive(Default)]
pub(super) struct CodeCounts {
    /// One more than may be at most, to tell that they are too many.
    pub(super) counts: BTreeMap<i64, u64>,
    /// Values that are no whole numbers.
    pub(super) none: u64,
    /// Rows without a value.
    pub(super) missing: u64,
}

impl Collector {
    /// Of features of one side.
    pub(super) fn new(features: Vec<Planned>, model: Model<'_>) -> Result<Self, String> {
        let (mut sources, mut watched) = (vec![], vec![]);
        let (mut numbers, mut classes) = (0, 0);
        for feature in &features {
            let (from, column) = match &feature.what {
                What::Number(_) => {
                    numbers += 1;
                    (From::Number(numbers - 1), Column::Numbers(vec![]))
                }
                What::TopClass { .. } => {
                    classes += 1;
                    (From::Class(classes - 1), Column::Classes { counts: vec![], missing: 0 })
                }
                What::Code { index, .. } => {
                    (From::Code(*index as usize), Column::Codes(CodeCounts::default()))
                }
            };
            if !matches!(from, From::Code(_)) {
                sources.push(feature.source(vec![]));
            }
            watched.push(Watched { tensor: place(feature, model), from, column });
        }
        let extractor =
            Extractor::new(&sources, model.inputs, model.outputs).map_err(|error| error.to_string())?;
        Ok(Self { extractor, features: watched, row: Row::default(), cases: vec![] })
    }

    pub(super) fn features(&self) -> usize {
        self.features.len()
    }

    pub(super) fn rows(&self) -> usize {
        self.cases.len()
    }

    /// Takes the rows of a case.
    pub(super) fn take(&mut self, case: usize, inputs: &[(String, Tensor)], outputs: &[Tensor]) {
        let Self { extractor, features, row: found, cases } = self;
        let rows = extractor.rows(inputs);
        for row in 0..rows {
            extractor.read(inputs, outputs, row, found);
            for feature in features.iter_mut() {
                let tensor = match &feature.tensor {
                    Place::Input(name) => {
                        inputs.iter().find(|(input, _)| input == name).map(|(_, tensor)| tensor)
                    }
                    Place::Output(place) => outputs.get(*place),
                };
                match feature.from {
                    From::Number(slot) => feature.column.take_number(found.numbers[slot]),
                    From::Class(slot) => {
                        let classes = tensor.map_or(0, |tensor| extractor.row_len(tensor, row, rows));
                        feature.column.take_class(found.places[slot], classes);
                    }
                    From::Code(index) => {
                        let code =
                            tensor.map_or(Code::Missing, |tensor| extractor.code(tensor, row, rows, index));
                        feature.column.take_code(code);
                    }
                }
            }
            cases.push(case);
        }
    }

    /// What was taken of each feature, in their order; rows in the order of the sample, so that a value which stood still
    /// in it is seen to.
    pub(super) fn into_columns(self) -> impl Iterator<Item = Column> {
        let mut order: Vec<usize> = (0..self.cases.len()).collect();
        order.sort_by_key(|&row| self.cases[row]);
        let is_sorted = self.cases.is_sorted();
        self.features.into_iter().map(move |feature| match feature.column {
            Column::Numbers(numbers) if !is_sorted => {
                Column::Numbers(order.iter().map(|&row| numbers[row]).collect())
            }
            column => column,
        })
    }
}

fn place(feature: &Planned, model: Model<'_>) -> Place {
    match feature.side {
        Side::Input => Place::Input(feature.tensor.clone()),
        // One that is not there has no values.
        Side::Output => {
            let place = model.outputs.iter().position(|spec| spec.name == feature.tensor);
            Place::Output(place.unwrap_or(usize::MAX))
        }
    }
}

impl Column {
    fn take_number(&mut self, number: f32) {
        if let Self::Numbers(numbers) = self {
            numbers.push(number);
        }
    }

    fn take_class(&mut self, place: Option<usize>, classes: usize) {
        let Self::Classes { counts, missing } = self else { return };
        if counts.len() < classes {
            counts.resize(classes, 0);
        }
        match place.and_then(|place| counts.get_mut(place)) {
            Some(count) => *count += 1,
            None => *missing += 1,
        }
    }

    fn take_code(&mut self, code: Code) {
        let Self::Codes(codes) = self else { return };
        match code {
            Code::Missing => codes.missing += 1,
            Code::None => codes.none += 1,
            Code::Whole(code) => {
                if codes.counts.len() <= MAX_CATEGORIES || codes.counts.contains_key(&code) {
                    *codes.counts.entry(code).or_insert(0) += 1;
                }
            }
        }
    }
}
