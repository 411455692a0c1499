//! Single devices: correlated frames, and what was wrong from the first day.

use muster_sketch::detector::{DeviceWatch, Rule, Thinning, Threshold, Watched, Zone, odd_baselines};

use crate::{
    long,
    population::{DEVICES, DIRECTIONS, Fault, HOURS_A_YEAR, PAIRS, Population, Single},
    summary::Delays,
};

const FRAME_CORRELATION: f64 = 0.8;
const COUNTED_AN_HOUR: usize = 50;

/// Alarms of one device in so many hours, counting every `every`-th frame.
fn alarms(seed: u64, every: usize, hours: usize) -> usize {
    let device = Single::draw(seed);
    let rule = Rule {
        zone: Zone::for_baselines(DEVICES as u64, DIRECTIONS, 0.0).unwrap(),
        threshold: Threshold::one_false_alarm_in(10.0, HOURS_A_YEAR, PAIRS).unwrap(),
        suppress_secs: 0,
    };
    // Every k-th value of such a series is such a series, with the k-th power of the correlation: nothing is left out by
    // not drawing those between.
    let thinned = FRAME_CORRELATION.powi(i32::try_from(every).unwrap());
    let mut frames = device.correlated(thinned, seed);
    let mut watch = DeviceWatch::new(&device.scores);
    watch.observe(&device.scores, &rule, &device.bin(frames.by_ref().take(1_000)), 0).unwrap();
    let hour = |hour: usize| {
        let counts = device.bin(frames.by_ref().take(COUNTED_AN_HOUR));
        watch.observe(&device.scores, &rule, &counts, hour as u64).unwrap()
    };
    (1..=hours).map(hour).filter(|watched| matches!(watched, Watched::Counted { alarm: Some(_), .. })).count()
}

#[test]
fn correlated_frames_are_silent_when_they_are_thinned_as_the_baseline_says() {
    let (devices, hours) = (400 * long(4), 480);
    let mut steps = vec![];
    let (mut thinned, mut all) = (0, 0);
    for seed in 1..=devices {
        let baseline: Vec<_> = Single::draw(seed).correlated(FRAME_CORRELATION, seed).take(10_000).collect();
        let every = Thinning::of(&baseline).unwrap().every;
        steps.push(Some(u64::from(every)));
        thinned += alarms(seed, every as usize, hours);
        if seed <= 100 {
            all += alarms(seed, 1, hours);
        }
    }
    let steps = Delays::print("step for a correlation of 0.8, 10,000 frames", "frames", steps.into_iter());
    println!("every frame: {all} false alarms in {} device-hours", 100 * hours);
    println!("thinned: {thinned} false alarms in {} device-hours", devices as usize * hours);
    assert!((8..=11).contains(&steps.median()));
    assert!(thinned == 0 && all > 100, "seeds 1 to {devices}");
}

#[test]
fn a_device_that_was_broken_from_its_first_day_is_unlike_its_siblings() {
    let fleets = 40 * long(10);
    let (mut wrong, mut found) = (0, [0; 3]);
    for seed in 1..=fleets {
        let mut population = Population::draw(seed);
        wrong += odd(&mut population).len();
        for (fault, found) in
            [Fault::Shift(2.5), Fault::Shift(2.0), Fault::Frozen].into_iter().zip(&mut found)
        {
            let mut broken = population.branch(0);
            let device = broken.random().below(DEVICES);
            broken.break_device(device, fault);
            *found += usize::from(odd(&mut broken).contains(&device));
        }
    }
    println!(
        "first day: {wrong} of {} devices wrongly odd; of {fleets} broken ones found: +2.5 s {}, +2 s {}, frozen {}",
        fleets * DEVICES as u64,
        found[0],
        found[1],
        found[2],
    );
    let fleets = fleets as usize;
    assert!(wrong * 500 <= fleets * DEVICES && found[2] == fleets && found[0] * 10 >= fleets * 9);
}

fn odd(population: &mut Population) -> Vec<usize> {
    let beginnings = population.beginnings();
    let beginnings: Vec<_> = beginnings.iter().map(Vec::as_slice).collect();
    let odd = odd_baselines(population.scores(), &beginnings).unwrap();
    odd.into_iter().map(|odd| odd.index).collect()
}
