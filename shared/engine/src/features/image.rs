//! Figures of an image: what a camera that ages, moves, freezes or is covered changes first.
//!
//! Sixteen to thirty-one lines of a tall image are read, evenly apart, each with its neighbours above and below, so an
//! image of any height costs some microseconds. The same lines are read everywhere, so figures compare.

use shared::manifest::{ImageLayout, ImageOrder, ImageStatistic};

use super::{
    lanes::{count_of, largest, sum, sum_of_squares},
    values::Values,
};

/// Lines that are read of one image: so many to twice as many. Sixteen lines of 224 pixels are three and a half thousand
/// in each channel, and images differ among each other far more than those pixels from the others of their image.
const LINES: usize = 16;

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
struct Sums {
    channels: Vec<ChannelSums>,
    laplacian: Mean,
    gradient: Mean,
    largest: f32,
    at_largest: f64,
}

/// Sums of one channel around its first value, which keeps small deviations of large numbers.
#[derive(Clone, Default)]
struct ChannelSums {
    pivot: Option<f32>,
    count: f64,
    sum: f64,
    squares: f64,
}

#[derive(Default)]
struct Mean {
    count: f64,
    sum: f64,
}

/// Memory for the lines that are looked at, and for what is made of them.
#[derive(Default)]
struct Lines {
    above: Vec<f32>,
    own: Vec<f32>,
    below: Vec<f32>,
    scratch: Vec<f32>,
}

impl ImageFigures {
    /// Of one row of a tensor. `None` when it has not as many elements as the layout says.
    pub(super) fn of(values: &Values<'_>, layout: ImageLayout) -> Option<Self> {
        if values.len() as u64 != layout.elements() {
            return None;
        }
        let (height, width) = (layout.height as usize, layout.width as usize);
        // Neighbours in a line are `step` elements apart. Channels that are planes are read one after the other.
        let (planes, step) = match layout.order {
            ImageOrder::Chw => (layout.channels as usize, 1),
            ImageOrder::Hwc => (1, layout.channels as usize),
        };
        let (mut sums, mut lines) = (Sums::new(layout.channels as usize), Lines::default());
        for line in (0..height).step_by(lines_apart(height)) {
            let has_neighbours = line > 0 && line + 1 < height && width > 2;
            for plane in 0..planes {
                let read = |line: usize, into: &mut Vec<f32>| {
                    values.part((plane * height + line) * width * step, width * step, into);
                };
                read(line, &mut lines.own);
                sums.add_line(plane, step, &mut lines);
                if has_neighbours {
                    read(line - 1, &mut lines.above);
                    read(line + 1, &mut lines.below);
                    sums.add_laplacian(step, &mut lines);
                }
            }
        }
        Some(sums.figures())
    }

    /// Values that are looked at to find them: of each line that is read, and of its neighbours above and below.
    pub(super) fn values_of(layout: ImageLayout) -> usize {
        let ImageLayout { channels, height, width, .. } = layout;
        let lines = (height as usize).div_ceil(lines_apart(height as usize));
        3 * lines * width as usize * channels as usize
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

fn lines_apart(height: usize) -> usize {
    (height / LINES).max(1)
}

impl Sums {
    fn new(channels: usize) -> Self {
        Self {
            channels: vec![ChannelSums::default(); channels],
            laplacian: Mean::default(),
            gradient: Mean::default(),
            largest: f32::NEG_INFINITY,
            at_largest: 0.0,
        }
    }

    fn add_line(&mut self, plane: usize, step: usize, lines: &mut Lines) {
        let Lines { own, scratch, .. } = lines;
        if step == 1 {
            self.channels[plane].add(own.iter().copied(), scratch);
        } else {
            for (place, sums) in self.channels.iter_mut().enumerate() {
                match step {
                    // Most images have three channels, and a pixel of known length has no bounds to check.
                    3 => sums.add(own.as_chunks::<3>().0.iter().map(|pixel| pixel[place]), scratch),
                    _ => sums.add(own.chunks_exact(step).map(|pixel| pixel[place]), scratch),
                }
            }
        }
        self.add_largest(own);
        let steps = own.len().saturating_sub(step);
        let pairs = own[..steps].iter().zip(&own[own.len() - steps..]);
        refill(scratch, pairs.map(|(left, right)| (right - left).abs()));
        self.gradient.add(scratch);
    }

    fn add_largest(&mut self, line: &[f32]) {
        let largest = largest(line);
        if largest > self.largest {
            (self.largest, self.at_largest) = (largest, 0.0);
        }
        if largest == self.largest {
            self.at_largest += count_of(line, largest);
        }
    }

    /// Of a line that has neighbours on all sides.
    fn add_laplacian(&mut self, step: usize, lines: &mut Lines) {
        let Lines { above, own, below, scratch } = lines;
        let inner = own.len() - 2 * step;
        let beside = own[..inner].iter().zip(&own[2 * step..]);
        let across = above[step..].iter().zip(&below[step..]);
        let around = beside.zip(across).map(|((left, right), (up, down))| left + right + (up + down));
        refill(
            scratch,
            own[step..][..inner].iter().zip(around).map(|(own, around)| (4.0 * own - around).abs()),
        );
        self.laplacian.add(scratch);
    }

    #[allow(clippy::cast_possible_truncation)] // figures are counted as FP32
    fn figures(&self) -> ImageFigures {
        let pixels: f64 = self.channels.iter().map(|channel| channel.count).sum();
        ImageFigures {
            means: self.channels.iter().map(|channel| channel.mean() as f32).collect(),
            deviations: self.channels.iter().map(|channel| channel.deviation() as f32).collect(),
            sharpness: self.laplacian.get(),
            gradient: self.gradient.get(),
            saturated: (self.at_largest / pixels) as f32,
        }
    }
}

impl ChannelSums {
    fn add(&mut self, line: impl Iterator<Item = f32> + Clone, scratch: &mut Vec<f32>) {
        let pivot = *self.pivot.get_or_insert_with(|| line.clone().next().unwrap_or(0.0));
        refill(scratch, line.map(|value| value - pivot));
        self.count += scratch.len() as f64;
        self.sum += sum(scratch);
        self.squares += sum_of_squares(scratch);
    }

    fn mean(&self) -> f64 {
        f64::from(self.pivot.unwrap_or(0.0)) + self.sum / self.count
    }

    fn deviation(&self) -> f64 {
        let offset = self.sum / self.count;
        let variance = self.squares / self.count - offset * offset;
        // Rounding may leave it below zero. `max` would make a zero of a NaN, which is to be seen.
        if variance < 0.0 { 0.0 } else { variance.sqrt() }
    }
}

impl Mean {
    fn add(&mut self, values: &[f32]) {
        self.count += values.len() as f64;
        self.sum += sum(values);
    }

    /// 0 of nothing: a line of one pixel has no neighbours.
    #[allow(clippy::cast_possible_truncation)] // figures are counted as FP32
    fn get(&self) -> f32 {
        if self.count > 0.0 { (self.sum / self.count) as f32 } else { 0.0 }
    }
}

/// One pass with nothing to add up, which the compiler makes vector instructions of.
fn refill(scratch: &mut Vec<f32>, values: impl Iterator<Item = f32>) {
    scratch.clear();
    scratch.extend(values);
}
