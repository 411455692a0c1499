//! What a manifest promises callers against what the model says of itself.

use shared::manifest::{Dim, TensorSpec};

/// The manifest may fix an axis that the model leaves open, but not contradict the model.
///
/// # Errors
/// With both lists, in words.
pub(crate) fn agree(side: &str, manifest: &[TensorSpec], model: &[TensorSpec]) -> Result<(), String> {
    if manifest.len() == model.len() && manifest.iter().zip(model).all(|(a, b)| same(a, b)) {
        return Ok(());
    }
    let list = |specs: &[TensorSpec]| specs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(format!("{side} are {} in the manifest and {} in the model", list(manifest), list(model)))
}

fn same(manifest: &TensorSpec, model: &TensorSpec) -> bool {
    let fits = |(a, b): (&Dim, &Dim)| !matches!((a, b), (Dim::Fixed(a), Dim::Fixed(b)) if a != b);
    (&manifest.name, manifest.datatype, manifest.shape.len())
        == (&model.name, model.datatype, model.shape.len())
        && manifest.shape.iter().zip(&model.shape).all(fits)
}
