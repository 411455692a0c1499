//! What is watched of a model whose publisher does not say it.

use shared::manifest::{DataType, Dim, ImageLayout, ImageOrder, Reading, Side, TensorSpec};

use super::{Model, Planned, STATISTICS, What, element_name, image_features, statistics};

/// Elements of an input that are watched each: of more, few depend on what somebody wants to know.
const MAX_ELEMENTS: u64 = 64;

/// Classes of an answer: the thousand of ImageNet and the "background" that some models have beside them. What has more
/// scores is rather an embedding.
const MAX_CLASSES: u64 = 1_001;

/// Features of a model. `header` names the elements of its only input.
pub(super) fn features(model: Model<'_>, header: Option<&[String]>) -> Vec<Planned> {
    let mut features = Vec::new();
    for spec in model.inputs {
        match image_layout(model, spec) {
            Some(layout) => {
                let chosen: Vec<_> = STATISTICS
                    .iter()
                    .filter_map(|name| statistics(name, layout.channels))
                    .flatten()
                    .collect();
                features.extend(image_features(&spec.name, &spec.name, layout, &chosen));
            }
            None => features.extend(elements(model, spec, header)),
        }
    }
    features.extend(answer(model));
    features
}

/// An image as most exporters lay it out: a batch of one or of any size, and channels before or after the picture,
/// whichever of these axes is small.
pub(super) fn image_layout(model: Model<'_>, spec: &TensorSpec) -> Option<ImageLayout> {
    let [batch, first, second, third] = spec.shape.as_slice() else { return None };
    if !matches!(batch, Dim::Fixed(1) | Dim::Symbol(_)) || spec.datatype == DataType::Bool {
        return None;
    }
    let [first, second, third] = [fixed(first)?, fixed(second)?, fixed(third)?];
    let is_small = |length: u32| matches!(length, 1 | 3 | 4);
    let chw = ImageLayout { order: ImageOrder::Chw, channels: first, height: second, width: third };
    let hwc = ImageLayout { order: ImageOrder::Hwc, channels: third, height: first, width: second };
    let layout = match (is_small(first), is_small(third)) {
        (true, true) if third < first => hwc,
        (true, _) => chw,
        (false, true) => hwc,
        (false, false) => return None,
    };
    // A variable axis that does not count rows leaves a row without a size.
    (model.elements(spec) == Some(layout.elements())).then_some(layout)
}

fn fixed(dim: &Dim) -> Option<u32> {
    match dim {
        Dim::Fixed(length) => u32::try_from(*length).ok(),
        Dim::Symbol(_) => None,
    }
}

fn elements(model: Model<'_>, spec: &TensorSpec, header: Option<&[String]>) -> Vec<Planned> {
    let elements = model.elements(spec).filter(|elements| (1..=MAX_ELEMENTS).contains(elements));
    let Some(count) = elements.filter(|_| spec.shape.len() <= 2) else { return vec![] };
    let feature = |index: u32| Planned {
        name: match header.and_then(|header| header.get(index as usize)) {
            Some(name) => name.clone(),
            None => element_name(&spec.name, index, elements),
        },
        is_named: false,
        side: Side::Input,
        tensor: spec.name.clone(),
        what: What::Number(Reading::Element { index }),
    };
    (0..u32::try_from(count).unwrap_or(0)).map(feature).collect()
}

/// Of the one output that holds scores: how sure the model is and what it says. Of a model without scores, its one number.
fn answer(model: Model<'_>) -> Vec<Planned> {
    let feature = |spec: &TensorSpec, suffix: &str, what: What| Planned {
        name: format!("{}{suffix}", spec.name),
        is_named: false,
        side: Side::Output,
        tensor: spec.name.clone(),
        what,
    };
    if let Some(scores) = only_float(model, |elements| (2..=MAX_CLASSES).contains(&elements)) {
        return vec![
            feature(scores, ".confidence", What::Number(Reading::Confidence)),
            feature(scores, ".entropy", What::Number(Reading::Entropy)),
            feature(scores, ".class", What::TopClass { names: None }),
        ];
    }
    let number = only_float(model, |elements| elements == 1);
    number.map(|spec| feature(spec, "", What::Number(Reading::Element { index: 0 }))).into_iter().collect()
}

/// The only output of floating point numbers, at most two axes and so many elements in a row.
fn only_float<'a>(model: Model<'a>, admits: impl Fn(u64) -> bool) -> Option<&'a TensorSpec> {
    let is_float = |spec: &TensorSpec| {
        matches!(spec.datatype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
    };
    let mut fitting = model
        .outputs
        .iter()
        .filter(|spec| is_float(spec) && spec.shape.len() <= 2 && model.elements(spec).is_some_and(&admits));
    fitting.next().filter(|_| fitting.next().is_none())
}
