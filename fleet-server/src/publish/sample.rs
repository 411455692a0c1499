//! Samples of the training-time distribution: many inputs of the model, without answers.
//!
//! Two forms, told apart by their first bytes: an `.npz` file of arrays whose first axis counts the cases ([`arrays`]), and
//! a table in CSV whose rows are the cases ([`table`]). Both hold their numbers packed and make a tensor of one case at
//! a time, so a sample costs little more memory than its numbers.

mod arrays;
mod encode;
mod table;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use muster_engine::Tensor;
use shared::manifest::TensorSpec;

use super::npz;

/// Inputs of a model, case by case.
pub(super) struct Sample {
    cases: usize,
    columns: Vec<(String, Box<dyn Column>)>,
    header: Option<Vec<String>>,
}

/// The cases of one input.
trait Column {
    /// The input of one case. Fails with what is wrong in it.
    fn case(&self, index: usize) -> Result<Tensor, String>;
}

/// What the elements of an input are called, where somebody said so: by input and place in a row.
pub(super) type ElementNames = BTreeMap<(String, u32), String>;

impl Sample {
    /// Reads a file of either form.
    ///
    /// # Errors
    /// Says what is wrong, where, and what to do.
    pub(super) fn read(path: &Path, inputs: &[TensorSpec], names: &ElementNames) -> Result<Self, String> {
        let unreadable = |error: std::io::Error| format!("the sample cannot be read: {error}");
        let mut file = File::open(path).map_err(unreadable)?;
        let mut start = Vec::new();
        Read::by_ref(&mut file).take(4).read_to_end(&mut start).map_err(unreadable)?;
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        let file = BufReader::new(file);
        if npz::is_zip(&start) { arrays::read(file, inputs) } else { table::read(file, inputs, names) }
    }

    /// How many cases there are.
    pub(super) fn cases(&self) -> usize {
        self.cases
    }

    /// The inputs of a case.
    ///
    /// # Errors
    /// When the input's type does not hold a number of it.
    pub(super) fn case(&self, index: usize) -> Result<Vec<(String, Tensor)>, String> {
        let named = |(name, column): &(String, Box<dyn Column>)| match column.case(index) {
            Ok(tensor) => Ok((name.clone(), tensor)),
            Err(why) => Err(format!("input '{name}', case {index}: {why}")),
        };
        self.columns.iter().map(named).collect()
    }

    /// Names of the columns of a table, in the order of the elements of its one input. Nothing of other samples.
    pub(super) fn header(&self) -> Option<&[String]> {
        self.header.as_deref()
    }
}
