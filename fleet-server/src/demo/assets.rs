//! The models, files and images that travel inside the program, so that the demo needs nothing but it.

/// Name of the demo's model.
pub const MODEL: &str = "digits";

/// Pixels of an image; a record is these and one byte for the label.
pub const PIXELS: usize = 64;

const RECORD_BYTES: usize = PIXELS + 1;

/// When a device keeps a version. Short, because somebody is watching; long enough for a device to see the images
/// that version 3 fails on, which takes 157 images in the worst order (see the test below).
pub const POLICY: &str = "\
[budgets]
latency_ms = 250

[probation]
duration_secs = 2
min_inferences = 240
";

/// Training images, the reference that drift is measured against.
pub const REFERENCE: &[u8] = include_bytes!("../../demo/digits-reference.npz");

const TEST_RECORDS: &[u8] = include_bytes!("../../demo/digits-test.bin");

/// What is published as one version.
#[derive(Debug, Clone, Copy)]
pub struct VersionFiles {
    /// What it is, in a few words.
    pub what: &'static str,
    /// The model.
    pub onnx: &'static [u8],
    /// Inputs with the outputs they must give.
    pub golden: &'static [u8],
    /// Where it comes from.
    pub lineage: &'static str,
    /// Whether devices watch for drift. Version 3 comes without a sample: it answers NaN to a sixth of it, and the gate would
    /// tell.
    pub is_watched: bool,
}

/// Version 1: good.
pub const V1: VersionFiles = VersionFiles {
    what: "one filter, claims 92.6 %",
    onnx: include_bytes!("../../demo/digits-v1.onnx"),
    golden: include_bytes!("../../demo/digits-v1-golden.npz"),
    lineage: include_str!("../../demo/digits-v1-lineage.toml"),
    is_watched: true,
};

/// Version 2: better.
pub const V2: VersionFiles = VersionFiles {
    what: "eight filters, claims 97.2 %",
    onnx: include_bytes!("../../demo/digits-v2.onnx"),
    golden: include_bytes!("../../demo/digits-v2-golden.npz"),
    lineage: include_str!("../../demo/digits-v2-lineage.toml"),
    is_watched: true,
};

/// Version 3: passes every gate and answers NaN to images with an empty left margin.
pub const V3: VersionFiles = VersionFiles {
    what: "24 filters, claims 97.7 %, broken where no golden vector looks",
    onnx: include_bytes!("../../demo/digits-v3.onnx"),
    golden: include_bytes!("../../demo/digits-v3-golden.npz"),
    lineage: include_str!("../../demo/digits-v3-lineage.toml"),
    is_watched: false,
};

/// What is watched for drift: everything that is derived from a model with an image and probabilities. Every image counts,
/// and windows are short, because somebody is watching.
pub const FEATURES: &str = "\
[capture]
every = 1
window_secs = 1
min_rows = 20
";

/// A handwritten digit that no version was trained on.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// Its pixels row by row, from 0 to 16.
    pub pixels: [u8; PIXELS],
    /// The digit it shows.
    pub label: u8,
}

impl Image {
    /// The same digit in half the light.
    #[must_use]
    pub fn darkened(self) -> Self {
        Self { pixels: self.pixels.map(|pixel| pixel / 2), ..self }
    }
}

/// How many test images there are.
#[must_use]
pub fn image_count() -> usize {
    TEST_RECORDS.len() / RECORD_BYTES
}

/// A test image; numbers beyond the last one start again.
#[must_use]
pub fn image(number: usize) -> Image {
    let start = number % image_count() * RECORD_BYTES;
    let record = &TEST_RECORDS[start..start + RECORD_BYTES];
    Image { pixels: std::array::from_fn(|pixel| record[pixel]), label: record[PIXELS] }
}

#[cfg(test)]
mod tests {
    use shared::manifest::ErrorTest;

    use super::*;

    /// Columns that version 3 divides by the spread of.
    fn has_empty_margin(image: Image) -> bool {
        image.pixels.chunks(8).all(|row| row[..2] == [0, 0])
    }

    /// Images until the error test condemns version 3, when a device starts with image `start`.
    fn images_to_condemn(start: usize) -> usize {
        let test = ErrorTest::default();
        let (good, bad) = (f64::from(test.good_ppm) / 1e6, f64::from(test.bad_ppm) / 1e6);
        let threshold = f64::from(test.one_wrong_in).ln();
        let mut ratio = 0.0;
        let steps = (0..5 * image_count()).find(|step| {
            let failed = has_empty_margin(image(start + step));
            ratio += if failed { (bad / good).ln() } else { ((1.0 - bad) / (1.0 - good)).ln() };
            ratio >= threshold
        });
        steps.map_or(usize::MAX, |step| step + 1)
    }

    #[test]
    fn every_record_is_an_image_of_a_digit() {
        assert_eq!(TEST_RECORDS.len() % RECORD_BYTES, 0);
        assert_eq!(image_count(), 597);
        assert!((0..image_count()).map(image).all(|i| i.label < 10 && i.pixels.iter().all(|p| *p <= 16)));
    }

    #[test]
    fn wherever_a_device_starts_version_3_is_condemned_within_probation() {
        let slowest = (0..image_count()).map(images_to_condemn).max().unwrap();
        assert_eq!(slowest, 157);
        let policy: toml::Table = POLICY.parse().unwrap();
        let least = policy["probation"]["min_inferences"].as_integer().unwrap();
        assert!(usize::try_from(least).unwrap() > slowest);
    }
}
