//! The real test images: 8×8 pixels of handwritten digits with their labels.

use std::fs;

use crate::programs::repository;

/// Pixels of an image.
pub const PIXELS: usize = 64;

/// Columns at the left whose emptiness makes version 3 answer NaN and the slow model slow.
const MARGIN_COLUMNS: usize = 2;

/// An image with its label.
#[derive(Debug, Clone, PartialEq)]
pub struct Digit {
    /// Brightness from 0 to 16, row by row.
    pub pixels: [f32; PIXELS],
    /// The digit that somebody wrote.
    pub label: usize,
}

impl Digit {
    /// True where there is no ink in the left margin.
    #[must_use]
    pub fn has_empty_margin(&self) -> bool {
        self.pixels.chunks(8).all(|row| row[..MARGIN_COLUMNS].iter().all(|pixel| *pixel == 0.0))
    }
}

/// All 597 test images.
#[must_use]
pub fn test_images() -> Vec<Digit> {
    let path = repository().join("fleet-server/demo/digits-test.bin");
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    bytes.chunks_exact(PIXELS + 1).map(read_record).collect()
}

/// Test images that no version finds hard to compute.
#[must_use]
pub fn images_with_ink_in_margin() -> Vec<Digit> {
    test_images().into_iter().filter(|digit| !digit.has_empty_margin()).collect()
}

/// Test images that make version 3 fail and the slow model slow.
#[must_use]
pub fn images_with_empty_margin() -> Vec<Digit> {
    test_images().into_iter().filter(Digit::has_empty_margin).collect()
}

fn read_record(record: &[u8]) -> Digit {
    let mut pixels = [0.0; PIXELS];
    pixels.iter_mut().zip(record).for_each(|(pixel, byte)| *pixel = f32::from(*byte));
    Digit { pixels, label: usize::from(record[PIXELS]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_in_eight_has_an_empty_margin() {
        assert_eq!(test_images().len(), 597);
        assert_eq!(images_with_empty_margin().len(), 77);
    }
}
