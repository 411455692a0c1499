//! Which contents a power cut may leave: the durable one, with any part of what was not synced.
//!
//! Systematic choices first (nothing, everything, all but one, one alone, every prefix, every write torn in the middle
//! at sectors of 512 and 4,096 bytes), then some by chance.

use crate::{
    image::{Change, Image},
    rng::Rng,
};

/// What becomes of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Lost,
    /// The file has its new length and only these sectors of the bytes: the size of one, and which.
    Torn(usize, Vec<bool>),
}

/// Changes that are looked at one by one; of more, only the newest are.
const MAX_SINGLE: usize = 24;

/// At most `limit` choices: that all is lost, that all is kept, and some of the others.
pub fn choices(pending: &[Change], limit: usize, rng: &mut Rng) -> Vec<Vec<Fate>> {
    let count = pending.len();
    let mut chosen = vec![vec![Fate::Lost; count]];
    if count == 0 {
        return chosen;
    }
    chosen.push(vec![Fate::Kept; count]);
    let mut others = systematic(pending);
    others.extend((0..limit).map(|_| pending.iter().map(|change| by_chance(change, rng)).collect()));
    while chosen.len() < limit && !others.is_empty() {
        chosen.push(others.swap_remove(rng.below(others.len())));
    }
    chosen
}

fn systematic(pending: &[Change]) -> Vec<Vec<Fate>> {
    let (count, mut all) = (pending.len(), Vec::new());
    for index in count.saturating_sub(MAX_SINGLE)..count {
        for (base, other) in [(Fate::Kept, Fate::Lost), (Fate::Lost, Fate::Kept)] {
            let mut choice = vec![base; count];
            choice[index] = other;
            all.push(choice);
        }
        let mut prefix = vec![Fate::Kept; index];
        prefix.resize(count, Fate::Lost);
        all.push(prefix);
        all.extend(torn(pending, index));
    }
    all
}

fn torn(pending: &[Change], index: usize) -> Vec<Vec<Fate>> {
    let mut all = Vec::new();
    for sector in [512, 4_096] {
        let sectors = sectors(&pending[index], sector);
        if sectors < 2 {
            continue;
        }
        let patterns: [&dyn Fn(usize) -> bool; 3] =
            [&|at| at < sectors / 2, &|at| at >= sectors / 2, &|at| at % 2 == 0];
        for (pattern, base) in patterns.iter().zip([Fate::Kept, Fate::Lost, Fate::Kept]) {
            let mut choice = vec![base; pending.len()];
            choice[index] = Fate::Torn(sector, (0..sectors).map(pattern).collect());
            all.push(choice);
        }
    }
    all
}

fn by_chance(change: &Change, rng: &mut Rng) -> Fate {
    match rng.below(4) {
        0 => Fate::Lost,
        1 | 2 => {
            let sector = if rng.below(2) == 0 { 512 } else { 4_096 };
            match sectors(change, sector) {
                0 => Fate::Kept,
                sectors => Fate::Torn(sector, (0..sectors).map(|_| rng.below(2) == 0).collect()),
            }
        }
        _ => Fate::Kept,
    }
}

/// Sectors that a change touches, counted from the beginning of the file.
fn sectors(change: &Change, sector: usize) -> usize {
    match change {
        Change::Write { offset, bytes, .. } if !bytes.is_empty() => {
            (offset + bytes.len()).div_ceil(sector) - offset / sector
        }
        Change::Write { .. } | Change::Resize { .. } | Change::Names { .. } => 0,
    }
}

/// What the disk holds when every change had its fate.
pub fn image_after(durable: &Image, pending: &[Change], choice: &[Fate]) -> Image {
    let mut image = durable.clone();
    for (change, fate) in pending.iter().zip(choice) {
        match (fate, change) {
            (Fate::Kept, change) => image.apply(change),
            (Fate::Torn(sector, kept), Change::Write { node, offset, bytes }) => {
                // The length comes without the bytes.
                image.write(*node, offset + bytes.len(), &[]);
                for index in (0..kept.len()).filter(|&index| kept[index]) {
                    let first = offset / sector + index;
                    let from = (first * sector).max(*offset);
                    let to = ((first + 1) * sector).min(offset + bytes.len());
                    image.write(*node, from, &bytes[from - offset..to - offset]);
                }
            }
            (Fate::Lost | Fate::Torn(..), _) => {}
        }
    }
    image
}
