//! From a table of the schema to the features that it means.

use muster_sketch::{
    detector::Vocabulary,
    reference::{MAX_CATEGORIES, MAX_FEATURES},
};
use shared::manifest::{ImageLayout, ImageStatistic, Reading, Side, TensorSpec};

use super::{
    Model, PROJECTIONS, Planned, STATISTICS, What,
    derive::image_layout,
    element_name,
    file::{Categorical, Class, Embedding, Image, List, Numeric, Scores},
    image_features, statistics,
};

type Features = Result<Vec<Planned>, String>;

pub(super) fn numeric(entry: &Numeric, model: Model<'_>) -> Features {
    let (side, spec) = either(entry.input.as_deref(), entry.output.as_deref(), model)?;
    let elements = model.elements(spec);
    let feature = |index: u32, name: Option<&String>| Planned {
        name: name.cloned().unwrap_or_else(|| element_name(&spec.name, index, elements)),
        is_named: name.is_some(),
        side,
        tensor: spec.name.clone(),
        what: What::Number(Reading::Element { index }),
    };
    if let Some(index) = entry.index.or((elements == Some(1) && entry.names.is_none()).then_some(0)) {
        if entry.names.is_some() {
            return Err("`names` are of all elements and `index` is of one: give its `name`".into());
        }
        check_index(index, spec, elements)?;
        return Ok(vec![feature(index, entry.name.as_ref())]);
    }
    if entry.name.is_some() {
        return Err(format!(
            "'{}' has several elements: say which by `index`, or give `names` of all",
            spec.name
        ));
    }
    let count = all_elements(spec, elements)?;
    match &entry.names {
        Some(names) if names.len() != count as usize => {
            Err(format!("{} names for the {count} elements of '{}': one each", names.len(), spec.name))
        }
        names => Ok((0..count)
            .map(|index| feature(index, names.as_ref().and_then(|names| names.get(index as usize))))
            .collect()),
    }
}

pub(super) fn categorical(entry: &Categorical, model: Model<'_>) -> Features {
    let (side, spec) = either(entry.input.as_deref(), entry.output.as_deref(), model)?;
    let elements = model.elements(spec);
    let index = match (entry.index, elements) {
        (Some(index), _) => index,
        (None, Some(1)) => 0,
        (None, _) => return Err(format!("'{}' has several elements: say which by `index`", spec.name)),
    };
    check_index(index, spec, elements)?;
    let name = entry.name.clone().unwrap_or_else(|| element_name(&spec.name, index, elements));
    let vocabulary = match entry.list {
        List::Open => Vocabulary::Sampled,
        List::Closed => Vocabulary::Closed,
    };
    let what = What::Code { index, codes: codes(entry)?, vocabulary };
    Ok(vec![Planned { name, is_named: entry.name.is_some(), side, tensor: spec.name.clone(), what }])
}

/// The codes that the publisher lists, with their names.
fn codes(entry: &Categorical) -> Result<Option<Vec<(i64, String)>>, String> {
    let codes: Vec<i64> = match (&entry.codes, &entry.names) {
        (None, None) => return Ok(None),
        (Some(codes), _) => codes.clone(),
        // A code for each name, from 0.
        (None, Some(names)) => (0..).take(names.len()).collect(),
    };
    if !(1..=MAX_CATEGORIES).contains(&codes.len()) {
        return Err(format!(
            "{} categories; allowed are 1 to {MAX_CATEGORIES}: group the rare ones",
            codes.len()
        ));
    }
    let names = match &entry.names {
        Some(names) if names.len() != codes.len() => {
            return Err(format!("{} names for {} codes: one each", names.len(), codes.len()));
        }
        Some(names) => names.clone(),
        None => codes.iter().map(i64::to_string).collect(),
    };
    no_duplicate("code", &codes)?;
    no_duplicate("name", &names)?;
    Ok(Some(codes.into_iter().zip(names).collect()))
}

pub(super) fn image(entry: &Image, model: Model<'_>) -> Features {
    let spec = find(entry.input.as_deref(), Side::Input, model)?;
    let layout = layout(entry, spec, model)?;
    let unknown = |name: &String| {
        format!("there is no figure '{name}' of an image: there are {}", STATISTICS.join(", "))
    };
    let words: Vec<String> = match &entry.statistics {
        Some(words) => words.clone(),
        None => STATISTICS.iter().map(ToString::to_string).collect(),
    };
    let chosen: Vec<Vec<ImageStatistic>> = words
        .iter()
        .map(|word| statistics(word, layout.channels).ok_or_else(|| unknown(word)))
        .collect::<Result<_, _>>()?;
    let name = entry.name.as_ref().unwrap_or(&spec.name);
    Ok(image_features(&spec.name, name, layout, &chosen.concat()))
}

/// What the entry says, and for the rest what the shape of the input says.
fn layout(entry: &Image, spec: &TensorSpec, model: Model<'_>) -> Result<ImageLayout, String> {
    let derived =
        image_layout(model, spec).filter(|derived| entry.order.is_none_or(|order| order == derived.order));
    let missing = || {
        format!(
            "the shape of {spec} does not say how its image lies: give `order`, `channels`, `height` and `width`"
        )
    };
    let number =
        |given: Option<u32>, of: fn(ImageLayout) -> u32| given.or(derived.map(of)).ok_or_else(missing);
    let layout = ImageLayout {
        order: entry.order.or(derived.map(|layout| layout.order)).ok_or_else(missing)?,
        channels: number(entry.channels, |layout| layout.channels)?,
        height: number(entry.height, |layout| layout.height)?,
        width: number(entry.width, |layout| layout.width)?,
    };
    match model.elements(spec) {
        Some(elements) if elements == layout.elements() => Ok(layout),
        Some(elements) => Err(format!(
            "an image of {} × {} × {} has {} elements, and a row of {spec} has {elements}",
            layout.channels,
            layout.height,
            layout.width,
            layout.elements()
        )),
        None => Err(format!("a row of {spec} has no fixed size, and an image needs one")),
    }
}

pub(super) fn confidence(entry: &Scores, model: Model<'_>) -> Features {
    scores(entry, model, ".confidence", Reading::Confidence)
}

pub(super) fn entropy(entry: &Scores, model: Model<'_>) -> Features {
    scores(entry, model, ".entropy", Reading::Entropy)
}

fn scores(entry: &Scores, model: Model<'_>, suffix: &str, reading: Reading) -> Features {
    let spec = find(entry.output.as_deref(), Side::Output, model)?;
    Ok(vec![of_output(spec, entry.name.as_ref(), suffix, What::Number(reading))])
}

pub(super) fn class(entry: &Class, model: Model<'_>) -> Features {
    let spec = find(entry.output.as_deref(), Side::Output, model)?;
    if let Some(names) = &entry.names {
        no_duplicate("name", names)?;
        match model.elements(spec) {
            Some(elements) if elements != names.len() as u64 => {
                return Err(format!(
                    "{} names for the {elements} scores of '{}': one each",
                    names.len(),
                    spec.name
                ));
            }
            Some(_) | None => {}
        }
    }
    Ok(vec![of_output(spec, entry.name.as_ref(), ".class", What::TopClass { names: entry.names.clone() })])
}

pub(super) fn embedding(entry: &Embedding, model: Model<'_>) -> Features {
    let spec = find(entry.output.as_deref(), Side::Output, model)?;
    let projections = entry.projections.unwrap_or(PROJECTIONS);
    if !(1..=shared::manifest::MAX_PROJECTIONS).contains(&projections) {
        return Err(format!(
            "{projections} projections; allowed are 1 to {}",
            shared::manifest::MAX_PROJECTIONS
        ));
    }
    let name = entry.name.as_ref().unwrap_or(&spec.name);
    let feature = |number: u32| {
        let what = What::Number(Reading::Projection { seed: entry.seed, number });
        of_output(spec, Some(&format!("{name}.projection[{number}]")), "", what)
    };
    Ok((0..projections).map(feature).collect())
}

fn of_output(spec: &TensorSpec, name: Option<&String>, suffix: &str, what: What) -> Planned {
    let name = name.cloned().unwrap_or_else(|| format!("{}{suffix}", spec.name));
    Planned { name, is_named: false, side: Side::Output, tensor: spec.name.clone(), what }
}

/// The tensor that an entry of either side means.
fn either<'a>(
    input: Option<&str>,
    output: Option<&str>,
    model: Model<'a>,
) -> Result<(Side, &'a TensorSpec), String> {
    match (input, output) {
        (Some(_), Some(_)) => Err("a feature is of an `input` or of an `output`, not of both".into()),
        (input, None) => Ok((Side::Input, find(input, Side::Input, model)?)),
        (None, output) => Ok((Side::Output, find(output, Side::Output, model)?)),
    }
}

/// The tensor of that name, or the only one.
fn find<'a>(name: Option<&str>, side: Side, model: Model<'a>) -> Result<&'a TensorSpec, String> {
    let tensors = model.tensors(side);
    let (word, plural) = match side {
        Side::Input => ("input", "inputs"),
        Side::Output => ("output", "outputs"),
    };
    match (name, tensors) {
        (None, [only]) => Ok(only),
        (None, _) => Err(format!("the model has {} {plural}: say which by `{word}`", tensors.len())),
        (Some(name), _) => tensors.iter().find(|spec| spec.name == name).ok_or_else(|| {
            let names: Vec<&str> = tensors.iter().take(SHOWN).map(|spec| spec.name.as_str()).collect();
            format!("the model has no {word} '{name}': it has {}", names.join(", "))
        }),
    }
}

/// So many names are listed in a message.
const SHOWN: usize = 20;

fn check_index(index: u32, spec: &TensorSpec, elements: Option<u64>) -> Result<(), String> {
    match elements {
        Some(elements) if u64::from(index) >= elements => {
            Err(format!("there is no element {index} in a row of {spec}: it has {elements}, from 0 on"))
        }
        Some(_) | None => Ok(()),
    }
}

fn all_elements(spec: &TensorSpec, elements: Option<u64>) -> Result<u32, String> {
    let Some(elements) = elements else {
        return Err(format!("a row of {spec} has no fixed size: say which element by `index`"));
    };
    let few = u32::try_from(elements).ok().filter(|&elements| elements as usize <= MAX_FEATURES);
    few.ok_or_else(|| {
        format!(
            "a row of {spec} has {elements} elements, and {MAX_FEATURES} can be watched: say which by `index`"
        )
    })
}

fn no_duplicate<T: Ord + std::fmt::Display>(what: &str, values: &[T]) -> Result<(), String> {
    let mut sorted: Vec<&T> = values.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("the {what} {} is there twice", pair[0])),
        None => Ok(()),
    }
}
