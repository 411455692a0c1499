//! Pictures of digits, and what may happen to a camera.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use ndarray::{IxDyn, OwnedRepr};
use ndarray_npy::NpzReader;

pub const SIDE: usize = 8;
const WHITE: f32 = 16.0;

pub type Picture = [f32; SIDE * SIDE];

/// SplitMix64 (Steele, Lea & Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn of<'a, T>(&mut self, many: &'a [T]) -> &'a T {
        &many[(self.uniform() * many.len() as f64) as usize]
    }

    /// Twelve uniform numbers less six: a normal deviate but for its far tails.
    fn normal(&mut self) -> f32 {
        ((0..12).map(|_| self.uniform()).sum::<f64>() - 6.0) as f32
    }
}

/// What a camera does to a picture.
pub type Change = fn(&Picture, &mut Random) -> Picture;

pub const CHANGES: [(&str, Change); 7] = [
    ("brighter by an eighth of white", |picture, _| picture.map(|pixel| (pixel + 2.0).min(WHITE))),
    ("contrast ×0.7", |picture, _| picture.map(|pixel| 8.0 + 0.7 * (pixel - 8.0))),
    ("blur over 3×3 pixels", |picture, _| by_pixel(|row, column| mean_around(picture, row, column))),
    ("noise of a sixteenth of white", |picture, random| {
        picture.map(|pixel| (pixel + random.normal()).clamp(0.0, WHITE))
    }),
    ("3×3 pixels covered", |picture, _| {
        let covered = 2..5;
        by_pixel(|row, column| {
            let is_covered = covered.contains(&row) && covered.contains(&column);
            if is_covered { 0.0 } else { picture[row * SIDE + column] }
        })
    }),
    ("moved by one pixel", |picture, _| {
        by_pixel(|row, column| if column == 0 { 0.0 } else { picture[row * SIDE + column - 1] })
    }),
    ("nothing", |picture, _| *picture),
];

fn by_pixel(of: impl Fn(usize, usize) -> f32) -> Picture {
    std::array::from_fn(|place| of(place / SIDE, place % SIDE))
}

fn mean_around(picture: &Picture, row: usize, column: usize) -> f32 {
    let near = |place: usize| place.saturating_sub(1)..(place + 2).min(SIDE);
    let pixels = near(row).flat_map(|row| near(column).map(move |column| picture[row * SIDE + column]));
    let (sum, count) = pixels.fold((0.0, 0.0), |(sum, count), pixel| (sum + pixel, count + 1.0));
    sum / count
}

pub fn demo(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fleet-server/demo").join(file)
}

pub fn training_pictures() -> Vec<Picture> {
    let mut npz = NpzReader::new(File::open(demo("digits-reference.npz")).unwrap()).unwrap();
    let images = npz.by_name::<OwnedRepr<f32>, IxDyn>("inputs/image").unwrap();
    let pixels: Vec<f32> = images.iter().copied().collect();
    pixels.as_chunks().0.to_vec()
}

/// Held-out pictures with the digit that is on them.
pub fn pictures() -> Vec<(Picture, usize)> {
    let picture = |record: &[u8]| {
        let pixels: Picture = std::array::from_fn(|place| f32::from(record[place]));
        (pixels, usize::from(record[SIDE * SIDE]))
    };
    let records = fs::read(demo("digits-test.bin")).unwrap();
    records.chunks_exact(SIDE * SIDE + 1).map(picture).collect()
}
