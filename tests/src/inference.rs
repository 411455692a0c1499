//! The Open Inference Protocol as an application on a device speaks it, over HTTP or the Unix socket.

use std::{fmt, io, time::Instant};

use serde_json::{Value, json};

use crate::{
    digits::Digit,
    http::{Request, Response, Target},
};

/// An answered inference.
#[derive(Debug, Clone, PartialEq)]
pub struct Inference {
    /// Which version answered.
    pub version: String,
    /// One number for each digit.
    pub probabilities: Vec<f32>,
    /// From the first byte sent to the last received.
    pub millis: f64,
}

/// An inference that was not answered.
#[derive(Debug)]
pub enum Unanswered {
    /// No connection, or no whole answer.
    Connection(io::Error),
    /// An answer that says no.
    Refused(Response),
}

impl Inference {
    /// The digit it takes the image for.
    #[must_use]
    pub fn digit(&self) -> usize {
        let highest = self.probabilities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        highest.map_or(usize::MAX, |(digit, _)| digit)
    }
}

impl Unanswered {
    /// True when the model answered with something that is no number.
    #[must_use]
    pub fn is_non_finite(&self) -> bool {
        matches!(self, Self::Refused(response) if {
            let text = response.text().to_lowercase();
            text.contains("finite") || text.contains("nan")
        })
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "no answer: {error}"),
            Self::Refused(response) => write!(f, "{} {}", response.status, response.text()),
        }
    }
}

/// Asks `model` what `digit` is, with JSON tensors.
///
/// # Errors
/// When it is not answered.
pub fn infer(target: &Target, model: &str, digit: &Digit) -> Result<Inference, Unanswered> {
    let request = json!({"inputs": [{
        "name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": digit.pixels.to_vec(),
    }]});
    let since = Instant::now();
    let response = target.post_json(&infer_path(model), &request).map_err(Unanswered::Connection)?;
    let millis = since.elapsed().as_secs_f64() * 1_000.0;
    if response.status != 200 {
        return Err(Unanswered::Refused(response));
    }
    let answer = response.json();
    let probabilities =
        answer.pointer("/outputs/0/data").and_then(Value::as_array).cloned().unwrap_or_default();
    let probabilities = probabilities.iter().filter_map(Value::as_f64).map(|value| value as f32).collect();
    Ok(Inference { version: version(&answer), probabilities, millis })
}

/// Asks with binary tensors, and for binary tensors.
///
/// # Errors
/// When it is not answered.
pub fn infer_binary(target: &Target, model: &str, digit: &Digit) -> Result<Inference, Unanswered> {
    let tensor: Vec<u8> = digit.pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    let header = json!({
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8],
                    "parameters": {"binary_data_size": tensor.len()}}],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": true}}],
    })
    .to_string();
    let lengths = vec![("inference-header-content-length", header.len().to_string())];
    let body = [header.as_bytes(), &tensor].concat();
    let path = infer_path(model);
    let request = Request { path: &path, headers: lengths, body: Some(body), ..Request::default() };
    let since = Instant::now();
    let response = target.send(&request).map_err(Unanswered::Connection)?;
    let millis = since.elapsed().as_secs_f64() * 1_000.0;
    if response.status != 200 {
        return Err(Unanswered::Refused(response));
    }
    let json_bytes = response.header("inference-header-content-length").and_then(|text| text.parse().ok());
    let (json, tensor) = response.body.split_at(json_bytes.unwrap_or(response.body.len()));
    let answer: Value = serde_json::from_slice(json).expect("a binary answer starts with JSON");
    let numbers =
        tensor.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")));
    Ok(Inference { version: version(&answer), probabilities: numbers.collect(), millis })
}

/// The share of `digits` that is recognised; panics when one is not answered.
#[track_caller]
#[must_use]
pub fn accuracy(target: &Target, model: &str, digits: &[Digit]) -> f64 {
    let right = digits.iter().filter(|digit| match infer(target, model, digit) {
        Ok(inference) => inference.digit() == digit.label,
        Err(error) => panic!("{model} does not answer: {error}"),
    });
    right.count() as f64 / digits.len() as f64
}

fn infer_path(model: &str) -> String {
    format!("/v2/models/{model}/infer")
}

fn version(answer: &Value) -> String {
    answer["model_version"].as_str().unwrap_or_default().to_owned()
}
