//! Requests and answers of inference as they travel: JSON, and the binary tensors that may follow it.
//!
//! With `Inference-Header-Content-Length` the body is that many bytes of JSON and then the binary tensors in the
//! order of the JSON, little-endian, row-major, without padding. Each names its length in `binary_data_size`.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use muster_engine::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use shared::manifest::{DataType, MAX_TENSORS, TensorSpec};

use super::{error::ServingError, json_tensor};

/// Name of the header that tells the length of the JSON part.
pub(super) const HEADER_LENGTH: &str = "inference-header-content-length";

/// Longest id of a caller: it is remembered for feedback.
const MAX_ID_BYTES: usize = 128;

type Parameters = BTreeMap<String, Value>;

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Option<Vec<RequestedOutput>>,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    shape: Vec<u64>,
    datatype: DataType,
    #[serde(default)]
    parameters: Parameters,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct RequestedOutput {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// A request that was read.
pub(super) struct Inference {
    pub(super) id: Option<String>,
    pub(super) inputs: Vec<(String, Tensor)>,
    outputs: Option<Vec<RequestedOutput>>,
    binary_by_default: bool,
}

/// An output that the caller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Position among the model's outputs.
    index: usize,
    encoding: Encoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Json,
    Binary,
}

/// Reads the body of a request.
pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Inference, ServingError> {
    let (json, mut binary) = split(headers, body)?;
    let request: Request = serde_json::from_slice(&json)
        .map_err(|error| bad(format!("the request is not an inference request: {error}")))?;
    if request.inputs.len() > MAX_TENSORS
        || request.outputs.as_ref().is_some_and(|list| list.len() > MAX_TENSORS)
    {
        return Err(bad(format!("more than {MAX_TENSORS} inputs or outputs")));
    }
    if request.id.as_ref().is_some_and(|id| id.len() > MAX_ID_BYTES) {
        return Err(bad(format!("the id is longer than {MAX_ID_BYTES} bytes")));
    }
    let inputs: Result<Vec<_>, _> =
        request.inputs.into_iter().map(|input| tensor(input, &mut binary)).collect();
    let inputs = inputs?;
    if !binary.is_empty() {
        return Err(bad(format!("{} bytes of binary data belong to no input", binary.len())));
    }
    let binary_by_default = flag(&request.parameters, "binary_data_output")?.unwrap_or(false);
    // An empty id is none: clients send it when they were given none.
    let id = request.id.filter(|id| !id.is_empty());
    Ok(Inference { id, inputs, outputs: request.outputs, binary_by_default })
}

/// The JSON part and the binary part.
fn split(headers: &HeaderMap, body: &Bytes) -> Result<(Bytes, Bytes), ServingError> {
    let Some(length) = headers.get(HEADER_LENGTH) else { return Ok((body.clone(), Bytes::new())) };
    let length: Option<usize> = length.to_str().ok().and_then(|text| text.trim().parse().ok());
    match length.filter(|length| *length <= body.len()) {
        Some(length) => Ok((body.slice(..length), body.slice(length..))),
        None => {
            Err(bad(format!("{HEADER_LENGTH} is not a number up to the {} bytes of the body", body.len())))
        }
    }
}

fn tensor(input: Input, binary: &mut Bytes) -> Result<(String, Tensor), ServingError> {
    let wrong = |text: String| bad(format!("input '{}': {text}", input.name));
    if input.parameters.contains_key("shared_memory_region") {
        return Err(wrong("shared memory is not supported; send the data as binary".into()));
    }
    let data = match (input.parameters.get("binary_data_size"), &input.data) {
        (Some(size), None) => take(binary, size).map_err(wrong)?,
        (None, Some(_)) if matches!(input.datatype, DataType::Fp16 | DataType::Bf16) => {
            return Err(wrong(format!("{} can only be sent as binary", input.datatype)));
        }
        (None, Some(data)) => json_tensor::read(data.get(), input.datatype).map_err(wrong)?.into(),
        (Some(_), Some(_)) => return Err(wrong("data is given both as JSON and as binary".into())),
        (None, None) => return Err(wrong("data is missing".into())),
    };
    let tensor = Tensor::new(input.datatype, input.shape, data).map_err(|error| wrong(error.to_string()))?;
    Ok((input.name, tensor))
}

fn take(binary: &mut Bytes, size: &Value) -> Result<Bytes, String> {
    let size = size.as_u64().and_then(|size| usize::try_from(size).ok());
    let size = size.ok_or("binary_data_size is not a number of bytes")?;
    if size > binary.len() {
        return Err(format!(
            "binary_data_size is {size}, but only {} bytes are left in the body",
            binary.len()
        ));
    }
    Ok(binary.split_to(size))
}

fn flag(parameters: &Parameters, name: &str) -> Result<Option<bool>, ServingError> {
    match parameters.get(name) {
        None => Ok(None),
        Some(value) => {
            value.as_bool().map(Some).ok_or_else(|| bad(format!("parameter {name} is not true or false")))
        }
    }
}

impl Inference {
    /// The outputs to answer with: those that are named, in that order, or all.
    pub(super) fn wanted(&self, specs: &[TensorSpec]) -> Result<Vec<Wanted>, ServingError> {
        let wanted: Vec<Wanted> = match self.outputs.as_deref() {
            None | Some([]) => {
                (0..specs.len()).map(|index| Wanted { index, encoding: self.encoding(None) }).collect()
            }
            Some(named) => named.iter().map(|output| self.named(output, specs)).collect::<Result<_, _>>()?,
        };
        for Wanted { index, encoding } in &wanted {
            let spec = &specs[*index];
            if *encoding == Encoding::Json && matches!(spec.datatype, DataType::Fp16 | DataType::Bf16) {
                let text = "can only be answered as binary: set its parameter binary_data to true";
                return Err(bad(format!("output '{}' is {} and {text}", spec.name, spec.datatype)));
            }
        }
        Ok(wanted)
    }

    fn named(&self, output: &RequestedOutput, specs: &[TensorSpec]) -> Result<Wanted, ServingError> {
        let index = specs.iter().position(|spec| spec.name == output.name);
        let index = index.ok_or_else(|| bad(format!("the model has no output '{}'", output.name)))?;
        for unsupported in ["classification", "shared_memory_region"] {
            if output.parameters.contains_key(unsupported) {
                return Err(bad(format!(
                    "output '{}': parameter {unsupported} is not supported",
                    output.name
                )));
            }
        }
        Ok(Wanted { index, encoding: self.encoding(flag(&output.parameters, "binary_data")?) })
    }

    fn encoding(&self, binary: Option<bool>) -> Encoding {
        if binary.unwrap_or(self.binary_by_default) { Encoding::Binary } else { Encoding::Json }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    model_version: String,
    id: &'a str,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: DataType,
    shape: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<json_tensor::Data<'a>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

/// Writes the answer to a request.
pub(super) fn write(
    release: &shared::ReleaseId,
    id: &str,
    specs: &[TensorSpec],
    outputs: &[Tensor],
    wanted: &[Wanted],
) -> Result<Response, ServingError> {
    let chosen = wanted
        .iter()
        .filter_map(|wanted| Some((specs.get(wanted.index)?, outputs.get(wanted.index)?, wanted.encoding)));
    let answer = Answer {
        model_name: release.model.as_str(),
        model_version: super::version_text(release),
        id,
        outputs: chosen.clone().map(|(spec, tensor, encoding)| output(spec, tensor, encoding)).collect(),
    };
    let mut body = serde_json::to_vec(&answer).map_err(|error| ServingError::Model(error.to_string()))?;
    let json_length = body.len();
    let mut binary = chosen.filter(|(_, _, encoding)| *encoding == Encoding::Binary).peekable();
    if binary.peek().is_none() {
        return Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response());
    }
    binary.for_each(|(_, tensor, _)| body.extend_from_slice(tensor.data()));
    let mut response = ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response();
    response.headers_mut().insert(HEADER_LENGTH, HeaderValue::from(json_length));
    Ok(response)
}

fn output<'a>(spec: &'a TensorSpec, tensor: &'a Tensor, encoding: Encoding) -> Output<'a> {
    let (parameters, data) = match encoding {
        Encoding::Json => (None, Some(json_tensor::Data(tensor))),
        Encoding::Binary => (Some(BinarySize { binary_data_size: tensor.data().len() }), None),
    };
    Output { name: &spec.name, datatype: tensor.datatype(), shape: tensor.shape(), parameters, data }
}

fn bad(text: String) -> ServingError {
    ServingError::BadRequest(text)
}
