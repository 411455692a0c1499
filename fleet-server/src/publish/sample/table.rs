//! A sample as a table in CSV: a header that names the columns, then a row for each case.
//!
//! A column is one element of an input. Of a model with one input, columns are its elements in order; where the schema
//! names all of them, and of a model with several inputs, they are found by name. An empty cell is a missing value, which
//! models are told as NaN.

use std::{collections::BTreeMap, io::Read};

use bytes::Bytes;
use csv::{ReaderBuilder, StringRecord, Trim};
use muster_engine::Tensor;
use shared::manifest::{DataType, Dim, TensorSpec};

use super::{
    Column, ElementNames, Sample,
    encode::{encode, has_nan},
};

/// Columns of a table. Whoever has more has them as arrays.
const MAX_COLUMNS: usize = 4_096;

struct TableColumn {
    datatype: DataType,
    /// Of one case.
    shape: Vec<u64>,
    bytes: Bytes,
}

impl Column for TableColumn {
    fn case(&self, index: usize) -> Result<Tensor, String> {
        let elements = self.shape.iter().product::<u64>();
        let length = usize::try_from(elements).unwrap_or(0) * self.datatype.size_bytes();
        let bytes = self.bytes.slice(index * length..(index + 1) * length);
        Tensor::new(self.datatype, self.shape.clone(), bytes).map_err(|error| error.to_string())
    }
}

/// An input that is being filled, and the column of each of its elements.
struct Filling {
    spec: TensorSpec,
    shape: Vec<u64>,
    columns: Vec<usize>,
    bytes: Vec<u8>,
}

pub(super) fn read(file: impl Read, inputs: &[TensorSpec], names: &ElementNames) -> Result<Sample, String> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(file);
    let header = reader.headers().map_err(unreadable)?.clone();
    let header: Vec<String> = header.iter().map(str::to_owned).collect();
    check_header(&header)?;
    let mut fillings = assign(&header, inputs, names)?;
    let (mut cases, mut record) = (0, StringRecord::new());
    while reader.read_record(&mut record).map_err(unreadable)? {
        for filling in &mut fillings {
            filling.take(&record).map_err(|(column, why)| {
                let line = record.position().map_or(0, csv::Position::line);
                format!("line {line}, column '{}': {why}", header[column])
            })?;
        }
        cases += 1;
    }
    let header = match fillings.as_slice() {
        [only] => Some(only.columns.iter().map(|&column| header[column].clone()).collect()),
        _ => None,
    };
    let columns = fillings.into_iter().map(|filling| {
        let Filling { spec, shape, bytes, .. } = filling;
        let column = TableColumn { datatype: spec.datatype, shape, bytes: bytes.into() };
        (spec.name, Box::new(column) as Box<dyn Column>)
    });
    Ok(Sample { cases, columns: columns.collect(), header })
}

fn unreadable(error: csv::Error) -> String {
    format!("not an .npz file, and as a table in CSV it cannot be read: {error}")
}

fn check_header(header: &[String]) -> Result<(), String> {
    if header.iter().all(|name| name.is_empty()) {
        return Err(
            "the sample is neither an .npz file nor a table in CSV: it has no first line that names columns"
                .into(),
        );
    }
    if header.len() > MAX_COLUMNS {
        return Err(format!(
            "the table has {} columns; at most {MAX_COLUMNS}: give an .npz file",
            header.len()
        ));
    }
    if header.iter().all(|name| name.parse::<f64>().is_ok()) {
        return Err("line 1 of the table has numbers only: it must name the columns".into());
    }
    if header[0].is_empty() {
        return Err("the first column has no name, as where pandas writes its index: write the table with index=False".into());
    }
    if let [only] = header
        && only.contains([';', '\t'])
    {
        return Err("line 1 of the table is one column: separate columns by commas".into());
    }
    let mut sorted: Vec<&String> = header.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two columns are named '{}'", pair[0])),
        None => Ok(()),
    }
}

/// Says which column is which element.
fn assign(header: &[String], inputs: &[TensorSpec], names: &ElementNames) -> Result<Vec<Filling>, String> {
    let shapes: Vec<Vec<u64>> = inputs.iter().map(shape_of_row).collect::<Result<_, _>>()?;
    let lengths: Vec<usize> = shapes.iter().map(|shape| elements(shape)).collect();
    let elements: usize = lengths.iter().fold(0, |sum, &length| sum.saturating_add(length));
    if elements != header.len() {
        let more = if elements < header.len() { "leave out the others" } else { "give all of them" };
        return Err(format!(
            "the table has {} columns, and the inputs of the model have {elements} elements: {more}",
            header.len()
        ));
    }
    let places: BTreeMap<&str, usize> =
        header.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    let named = |name: &str, index: u32| names.get(&(name.to_owned(), index)).map(String::as_str);
    let mut fillings = Vec::new();
    for (spec, (shape, length)) in inputs.iter().zip(shapes.into_iter().zip(lengths)) {
        let called: Vec<Option<&str>> = (0..length).map(|place| named(&spec.name, place as u32)).collect();
        let columns = match (called.iter().copied().collect::<Option<Vec<&str>>>(), inputs) {
            (Some(called), _) => {
                by_name(&called.into_iter().map(str::to_owned).collect::<Vec<_>>(), &places)?
            }
            (None, [_]) => in_order(&called, header)?,
            (None, _) => by_name(&default_names(spec, &called), &places)?,
        };
        fillings.push(Filling { spec: spec.clone(), shape, columns, bytes: vec![] });
    }
    Ok(fillings)
}

/// Each element's column by its name. No column is left over then, since there are as many columns as elements.
fn by_name(called: &[String], places: &BTreeMap<&str, usize>) -> Result<Vec<usize>, String> {
    let find = |name: &String| {
        places.get(name.as_str()).copied().ok_or_else(|| format!("the table has no column '{name}'"))
    };
    called.iter().map(find).collect()
}

/// Columns in the order of the elements; those that the schema names must be called so.
fn in_order(called: &[Option<&str>], header: &[String]) -> Result<Vec<usize>, String> {
    let differs = |(place, name): (usize, &Option<&str>)| {
        let name = name.filter(|name| header[place] != *name)?;
        Some(format!(
            "column {} of the table is '{}', and the schema calls that element '{name}': columns are in the order of the elements",
            place + 1,
            header[place]
        ))
    };
    match called.iter().enumerate().find_map(differs) {
        Some(error) => Err(error),
        None => Ok((0..called.len()).collect()),
    }
}

fn default_names(spec: &TensorSpec, called: &[Option<&str>]) -> Vec<String> {
    let default = |place: usize| match called.len() {
        1 => spec.name.clone(),
        _ => format!("{}[{place}]", spec.name),
    };
    called
        .iter()
        .enumerate()
        .map(|(place, name)| name.map_or_else(|| default(place), str::to_owned))
        .collect()
}

/// The shape of one row of an input.
fn shape_of_row(spec: &TensorSpec) -> Result<Vec<u64>, String> {
    let length = |(axis, dim): (usize, &Dim)| match dim {
        Dim::Fixed(length) => Some(*length),
        Dim::Symbol(_) if axis == 0 => Some(1),
        Dim::Symbol(_) => None,
    };
    let shape: Option<Vec<u64>> = spec.shape.iter().enumerate().map(length).collect();
    shape.filter(|shape| (1..=MAX_COLUMNS).contains(&elements(shape))).ok_or_else(|| {
        format!(
            "a table fits inputs of 1 to {MAX_COLUMNS} numbers, and input {spec} is none: give an .npz file"
        )
    })
}

fn elements(shape: &[u64]) -> usize {
    let product = shape.iter().fold(1_u64, |product, &length| product.saturating_mul(length));
    usize::try_from(product).unwrap_or(usize::MAX)
}

impl Filling {
    /// Takes a row of the table, or says what is wrong in which column.
    fn take(&mut self, record: &StringRecord) -> Result<(), (usize, String)> {
        let datatype = self.spec.datatype;
        for &column in &self.columns {
            let cell = record.get(column).unwrap_or_default();
            put(cell, datatype, &mut self.bytes).map_err(|why| (column, why))?;
        }
        Ok(())
    }
}

fn put(cell: &str, datatype: DataType, into: &mut Vec<u8>) -> Result<(), String> {
    if cell.is_empty() && !has_nan(datatype) {
        return Err(format!(
            "it is empty, and {datatype} has no missing value: leave the row out, or give a number"
        ));
    }
    // Beyond what an FP64 holds exactly.
    match (datatype, cell.parse::<i64>(), cell.parse::<u64>()) {
        (DataType::Int64, Ok(number), _) => into.extend(number.to_le_bytes()),
        (DataType::Uint64, _, Ok(number)) => into.extend(number.to_le_bytes()),
        _ => {
            let number = number(cell).ok_or_else(|| {
                format!("'{}' is not a number; leave a cell empty where a value is missing", shortened(cell))
            })?;
            if !encode(number, datatype, into) {
                return Err(format!("{number} cannot be {datatype}"));
            }
        }
    }
    Ok(())
}

/// A cell as a number. Truth values are those of Python.
fn number(cell: &str) -> Option<f64> {
    match cell {
        "" => Some(f64::NAN),
        "True" | "true" => Some(1.0),
        "False" | "false" => Some(0.0),
        _ => cell.parse().ok(),
    }
}

/// So much of a cell as a message holds.
fn shortened(cell: &str) -> String {
    const SHOWN_CHARS: usize = 40;
    cell.chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests;
