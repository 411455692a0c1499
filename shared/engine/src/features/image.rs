//! Figures of an image: what a camera that ages, moves, freezes or is covered changes first.
//!
//! About thirty-two lines of an image are read, each with its neighbours above and below, so an image of any size costs some
//! microseconds. The same lines are read everywhere, so figures compare.

use shared::manifest::{ImageLayout, ImageOrder, ImageStatistic};

use super::values::Values;

/// Lines that are read of one image, about: beyond, figures of natural images hardly change.
const LINES: usize = 32;

/// All figures of one image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ImageFigures {
    means: Vec<f32>,
    deviations: Vec<f32>,
    sharpness: f32,
    gradient: f32,
    saturated: f32,
}

/// Sums while lines go by.
#[derive(Default)]
struct Sums {
    pixels: f64,
    of_channel: Vec<(f64, f64)>,
    laplacian: (f64, f64),
    gradient: (f64, f64),
    largest: f32,
    at_largest: f64,
}

impl ImageFigures {
    /// Of one row of a tensor. `None` when it has not as many elements as the layout says.
    pub(super) fn of(values: &Values<'_>, layout: ImageLayout) -> Option<Self> {
        if values.len() as u64 != layout.elements() {
            return None;
        }
        let channels = layout.channels as usize;
        let mut sums =
            Sums { of_channel: vec![(0.0, 0.0); channels], largest: f32::NEG_INFINITY, ..Sums::default() };
        let height = layout.height as usize;
        for line in (0..height).step_by((height / LINES).max(1)) {
            for channel in 0..channels {
                let read = |line: usize| line_of(values, layout, channel, line);
                let own = read(line);
                sums.add_line(channel, &own);
                if line > 0 && line + 1 < height {
                    sums.add_laplacian(&read(line - 1), &own, &read(line + 1));
                }
            }
        }
        Some(sums.figures(channels))
    }

    #[allow(clippy::indexing_slicing)] // channels were checked with the layout
    pub(super) fn get(&self, statistic: ImageStatistic) -> f32 {
        match statistic {
            ImageStatistic::Mean { channel } => self.means[channel as usize],
            ImageStatistic::Deviation { channel } => self.deviations[channel as usize],
            ImageStatistic::Sharpness => self.sharpness,
            ImageStatistic::Gradient => self.gradient,
            ImageStatistic::Saturated => self.saturated,
        }
    }
}

impl Sums {
    fn add_line(&mut self, channel: usize, line: &[f32]) {
        let (sum, squares) = &mut self.of_channel[channel];
        for &value in line {
            let wide = f64::from(value);
            *sum += wide;
            *squares += wide * wide;
            if value > self.largest {
                (self.largest, self.at_largest) = (value, 0.0);
            }
            self.at_largest += f64::from(u8::from(value == self.largest));
        }
        self.pixels += line.len() as f64;
        let steps = line.iter().zip(&line[1.min(line.len())..]);
        let rise: f64 = steps.map(|(left, right)| f64::from((right - left).abs())).sum();
        self.gradient = (self.gradient.0 + rise, self.gradient.1 + line.len().saturating_sub(1) as f64);
    }

    fn add_laplacian(&mut self, above: &[f32], own: &[f32], below: &[f32]) {
        for (column, window) in own.windows(3).enumerate() {
            let around = window[0] + window[2] + above[column + 1] + below[column + 1];
            self.laplacian.0 += f64::from((4.0 * window[1] - around).abs());
            self.laplacian.1 += 1.0;
        }
    }

    #[allow(clippy::cast_possible_truncation)] // figures are counted as FP32
    fn figures(&self, channels: usize) -> ImageFigures {
        let of_channel = self.pixels / channels as f64;
        let mean = |&(sum, _): &(f64, f64)| sum / of_channel;
        let deviation =
            |sums: &(f64, f64)| (sums.1 / of_channel - mean(sums) * mean(sums)).max(0.0).sqrt() as f32;
        let ratio = |(sum, count): (f64, f64)| if count > 0.0 { (sum / count) as f32 } else { 0.0 };
        ImageFigures {
            means: self.of_channel.iter().map(|sums| mean(sums) as f32).collect(),
            deviations: self.of_channel.iter().map(deviation).collect(),
            sharpness: ratio(self.laplacian),
            gradient: ratio(self.gradient),
            saturated: (self.at_largest / self.pixels) as f32,
        }
    }
}

fn line_of(values: &Values<'_>, layout: ImageLayout, channel: usize, line: usize) -> Vec<f32> {
    let (width, height) = (layout.width as usize, layout.height as usize);
    match layout.order {
        ImageOrder::Chw => values.part((channel * height + line) * width, width),
        ImageOrder::Hwc => {
            let channels = layout.channels as usize;
            let interleaved = values.part(line * width * channels, width * channels);
            interleaved.into_iter().skip(channel).step_by(channels).collect()
        }
    }
}
