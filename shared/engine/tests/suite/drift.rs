//! From a sample to an alarm, on real images: the reference is made of the demo's training images in the way that a server makes it, held-out
//! images are counted as a device counts them, and it is said when the device alarms and that it is silent otherwise.
//!
//! Streams draw the 597 held-out images anew, with replacement, so they have no drift however long they are. `--nocapture` prints
//! the table of docs/drift.md; `MUSTER_LONG=1` looks at ten times as many devices for false alarms.

mod cameras;
mod released;

use std::{collections::BTreeMap, iter, sync::Arc};

use muster_engine::features::Row;
use muster_sketch::{
    detector::{DeviceWatch, Watched},
    window::FeatureWindow,
};

use cameras::{CHANGES, Random, pictures};
use released::Released;

/// A look every 50 images: fewer are no window by the defaults.
const LOOK: usize = 50;

/// The first images of a device are its baseline.
const BASELINE: usize = 1_000;

/// Images after which a change counts as not found.
const GIVEN_UP: usize = 10_000;

/// A device that watches itself.
struct Device<'a> {
    released: &'a Released,
    window: FeatureWindow,
    watches: Vec<DeviceWatch>,
    looks: u64,
}

impl<'a> Device<'a> {
    fn of(released: &'a Released) -> Self {
        let watches = released.scores.iter().map(DeviceWatch::new).collect();
        Device { released, window: FeatureWindow::new(Arc::clone(&released.reference)), watches, looks: 0 }
    }

    /// A window of rows, and the features that alarm at its end.
    fn look<'r>(&mut self, rows: impl Iterator<Item = &'r Row>) -> Vec<&str> {
        self.looks += 1;
        rows.for_each(|row| self.window.record_places(&row.numbers, &row.places).unwrap());
        let counts = self.window.seal().unwrap();
        let Released { scores, rule, reference, .. } = self.released;
        let mut alarms = vec![];
        for (place, watch) in self.watches.iter_mut().enumerate() {
            let watched = watch.observe(&scores[place], rule, counts[place].bins(), self.looks).unwrap();
            if let Watched::Counted { alarm: Some(_), .. } = watched {
                alarms.push(reference.features()[place].name.as_str());
            }
        }
        alarms
    }

    fn learn(&mut self, random: &mut Random, rows: &[Row]) {
        for _ in 0..BASELINE / LOOK {
            let drawn: Vec<_> = iter::repeat_with(|| random.of(rows)).take(LOOK).collect();
            assert_eq!(self.look(drawn.into_iter()), Vec::<&str>::new());
        }
    }

    /// Images until the first alarm, and of what it is.
    fn find<'r>(&mut self, limit: usize, mut draw: impl FnMut() -> &'r Row) -> Option<(usize, String)> {
        for look in 1..=limit / LOOK {
            let drawn: Vec<_> = iter::repeat_with(&mut draw).take(LOOK).collect();
            if let Some(&first) = self.look(drawn.into_iter()).first() {
                return Some((look * LOOK, first.to_owned()));
            }
        }
        None
    }
}

fn times_long(usual: u64) -> u64 {
    if std::env::var_os("MUSTER_LONG").is_some_and(|value| value == "1") { 10 * usual } else { usual }
}

#[test]
fn a_device_is_silent_as_long_as_its_images_do_not_change() {
    let released = Released::digits();
    let rows: Vec<_> = pictures().iter().map(|(picture, _)| released.read(picture)).collect();
    let (devices, images) = (times_long(20), 50_000);
    let mut found = vec![];
    for seed in 1..=devices {
        let (mut random, mut device) = (Random(seed), Device::of(&released));
        device.learn(&mut random, &rows);
        found.extend(device.find(images, || random.of(&rows)).map(|alarm| (seed, alarm)));
    }
    println!("no change: {} of {devices} devices alarm within {images} images each", found.len());
    let allowed = if devices > 20 { devices as usize / 20 } else { 0 };
    assert!(found.len() <= allowed, "(seed, (images, feature)): {found:?}");
}

#[test]
fn what_goes_wrong_with_a_camera_is_found_within_a_few_hundred_images() {
    let released = Released::digits();
    let pictures = pictures();
    let usual: Vec<_> = pictures.iter().map(|(picture, _)| released.read(picture)).collect();
    let with_label = pictures.iter().map(|(_, label)| *label).zip(&usual);
    let ones: Vec<_> = with_label.filter(|(label, _)| *label == 1).map(|(_, row)| row.clone()).collect();
    let devices = 20;
    for (name, change) in CHANGES {
        let mut random = Random(0);
        let changed: Vec<_> =
            pictures.iter().map(|(picture, _)| released.read(&change(picture, &mut random))).collect();
        report(
            name,
            name != "nothing",
            (1..=devices).map(|seed| {
                let (mut random, mut device) = (Random(seed), Device::of(&released));
                device.learn(&mut random, &usual);
                device.find(GIVEN_UP, || random.of(&changed))
            }),
        );
    }
    report(
        "stuck on one image",
        true,
        (1..=devices).map(|seed| {
            let (mut random, mut device) = (Random(seed), Device::of(&released));
            device.learn(&mut random, &usual);
            let stuck = random.of(&usual);
            device.find(GIVEN_UP, || stuck)
        }),
    );
    report(
        "every fifth image is replaced by a one",
        true,
        (1..=devices).map(|seed| {
            let (mut random, mut device) = (Random(seed), Device::of(&released));
            device.learn(&mut random, &usual);
            device
                .find(GIVEN_UP, || if random.uniform() < 0.2 { random.of(&ones) } else { random.of(&usual) })
        }),
    );
}

/// Prints a line of the table.
fn report(name: &str, is_to_be_found: bool, found: impl Iterator<Item = Option<(usize, String)>>) {
    let found: Vec<_> = found.collect();
    let mut delays: Vec<_> =
        found.iter().map(|found| found.as_ref().map_or(usize::MAX, |(images, _)| *images)).collect();
    delays.sort_unstable();
    let mut first = BTreeMap::<&str, usize>::new();
    found.iter().flatten().for_each(|(_, feature)| *first.entry(feature).or_default() += 1);
    let (median, most) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    let show = |images: usize| if images == usize::MAX { "never".to_owned() } else { images.to_string() };
    println!("{name:<40} median {:>6} | most {:>6} | first seen in {first:?}", show(median), show(most));
    if is_to_be_found {
        assert!(most <= GIVEN_UP && median <= 500, "{name}: {found:?}");
    } else {
        assert!(first.is_empty(), "{name}: {found:?}");
    }
}
