//! The models that are measured, each with one input.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use system_tests::{
    digits::images_with_ink_in_margin,
    fleet::Fleet,
    models::{Policy, Publication},
};

use crate::onnxruntime;

/// Side of the images that the network takes.
const IMAGE_SIDE: usize = 224;

/// A model with everything that contestants need.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its name in the fleet.
    pub name: &'static str,
    /// The model.
    pub onnx: PathBuf,
    /// Its golden vectors.
    pub golden: PathBuf,
    /// Where it comes from.
    lineage: PathBuf,
    /// Name of its input.
    pub input: &'static str,
    /// Shape of its input.
    pub shape: Vec<usize>,
    /// Name of its output.
    pub output: &'static str,
    /// What every contestant is asked about.
    pub values: Vec<f32>,
    /// The same as a file, little-endian.
    pub input_file: PathBuf,
    /// Unit of its figures in the table.
    pub unit: &'static str,
    /// What makes that unit of microseconds.
    pub per_micro: f64,
    /// Inferences in a block: a block takes a tenth of a second or so.
    pub block: usize,
    /// Rounds that are counted: a multiple of the contestants, so that each is at every place equally often.
    pub rounds: usize,
}

impl Subject {
    /// The digits model of the demo, version 2.
    pub fn digits(folder: &Path) -> anyhow::Result<Self> {
        let Publication { onnx, golden, .. } = Publication::digits(2);
        let digit = images_with_ink_in_margin().into_iter().next().context("there are test images")?;
        let values = digit.pixels.to_vec();
        let input_file = write_values(&folder.join("digit.f32"), &values)?;
        let lineage = write_lineage(folder, "fleet-server/demo/make_digits.py")?;
        Ok(Self {
            name: "digits",
            onnx,
            golden,
            lineage,
            input: "image",
            shape: vec![1, 1, 8, 8],
            output: "probabilities",
            values,
            input_file,
            unit: "µs",
            per_micro: 1.0,
            block: 300,
            rounds: 28,
        })
    }

    /// A network of the shape of `MobileNet` v2 for images of 224×224, made by the script of the tests; its golden
    /// vectors are onnxruntime's answer.
    pub fn cnn(folder: &Path) -> anyhow::Result<Self> {
        let (onnx, golden) = (folder.join("cnn.onnx"), folder.join("cnn-golden.npz"));
        let values = gradient();
        let input_file = write_values(&folder.join("image.f32"), &values)?;
        let lineage = write_lineage(folder, "tests/data/make_cnn.py")?;
        onnxruntime::write_cnn(&onnx)?;
        onnxruntime::write_golden(&onnx, &input_file, &golden)?;
        Ok(Self {
            name: "cnn",
            onnx,
            golden,
            lineage,
            input: "image",
            shape: vec![1, 3, IMAGE_SIDE, IMAGE_SIDE],
            output: "logits",
            values,
            input_file,
            unit: "ms",
            per_micro: 1e-3,
            block: 4,
            rounds: 28,
        })
    }

    /// True when an inference takes no longer than the way to it.
    pub fn is_short(&self) -> bool {
        self.values.len() < 1_000
    }

    /// Publishes the model and waits until every device of the fleet has committed it.
    pub fn bring(&self, fleet: &Fleet) -> anyhow::Result<()> {
        let policy = self.input_file.with_extension("policy.toml");
        fs::write(&policy, Policy::QUICK.toml())?;
        let paths = [&self.onnx, &self.golden, &self.lineage, &policy].map(|path| path.display().to_string());
        let [onnx, golden, lineage, policy] = &paths;
        let named = ["model", "publish", onnx, "--name", self.name, "--golden", golden];
        let arguments = named.into_iter().chain(["--lineage", lineage, "--policy", policy]);
        let _ = fleet.cli().run(arguments).ok();
        let rollout = fleet.start_rollout(&format!("{}@1", self.name));
        let _ = fleet.watch(&rollout).ok();
        Ok(())
    }
}

fn write_values(file: &Path, values: &[f32]) -> anyhow::Result<PathBuf> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file.to_owned())
}

/// Writes a lineage file that says which script made the model, and gives its path.
pub fn write_lineage(folder: &Path, script: &str) -> anyhow::Result<PathBuf> {
    let stem = Path::new(script).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let file = folder.join(format!("{stem}-lineage.toml"));
    fs::write(&file, format!("training_script = \"{script}\"\n"))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// Pixels between 0 and 1 with three digits, as a camera's eight bits give them.
#[allow(clippy::cast_precision_loss)] // below 1000
fn gradient() -> Vec<f32> {
    (0..3 * IMAGE_SIDE * IMAGE_SIDE).map(|index| (index * 37 % 1_000) as f32 / 1_000.0).collect()
}
