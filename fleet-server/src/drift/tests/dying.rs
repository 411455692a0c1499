//! A check that dies anywhere is taken up where it was, by this server or another, and nothing counts twice.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use super::*;

/// More checks, or batches, than it takes to be cut off twenty times; a database that is never caught in between fails the test.
const MOST: u64 = 200;

/// The windows and the first check of every test here.
async fn before_the_check(scene: &Scene) -> (Plant, u64) {
    let mut plant = Plant::start(scene, 31).await;
    plant.learn(&[0]).await;
    let period = before_the_next(&mut plant).await;
    (plant, period)
}

/// The windows of one more check.
async fn before_the_next(plant: &mut Plant) -> u64 {
    plant.bring(&[0], 300, &|device, value| if device == "a-1" { value + 3.0 } else { value }).await;
    plant.close().await
}

/// What is known after so many checks of a server that nothing happens to, but for times, which are real.
async fn undisturbed(checks: usize) -> Vec<String> {
    let (mut plant, mut period) = before_the_check(&Scene::sqlite().await).await;
    for _ in 1..checks {
        plant.check_period(period).await;
        period = before_the_next(&mut plant).await;
    }
    plant.check_period(period).await;
    timeless(&plant).await
}

/// Moments are of the clock, in milliseconds; all else must be the same to the bit.
async fn timeless(plant: &Plant) -> Vec<String> {
    let mut known = plant.alarms().await;
    for alarm in &mut known {
        alarm.opened_at = Timestamp(0);
        alarm.last_at = Timestamp(0);
    }
    let mut texts: Vec<_> = known
        .iter()
        .map(|alarm| {
            let mut value = serde_json::to_value(&alarm.found.cause).unwrap();
            value["finding"]["alarm"]["at_secs"] = 0.into();
            value["finding"]["alarm"]["since_secs"] = 0.into();
            format!("{} {:?} {} {value}", alarm.id, alarm.found.scope, alarm.times)
        })
        .collect();
    for (release, feature, status) in
        plant.app().store.drift_statuses(&plant.versions[0].0.model).await.unwrap()
    {
        let status = fleet_core::drift::FeatureStatus { at: Timestamp(0), ..status };
        texts.push(format!("{release} {feature} {}", serde_json::to_string(&status).unwrap()));
    }
    texts.push(format!("{} events", plant.events().await.len()));
    texts
}

/// Polls `what` so many times and drops it, as a power cut does. True when it was finished.
async fn cut_after<F: Future>(polls: usize, what: F) -> bool {
    let mut what = pin!(what);
    let mut left = polls;
    poll_fn(|context| {
        if what.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        left = left.saturating_sub(1);
        if left == 0 { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

async fn a_check_that_is_cut_off_anywhere_is_taken_up_and_counts_nothing_twice(scene: &Scene) {
    let (mut plant, mut period) = before_the_check(scene).await;
    let (mut cuts, mut checks) = (0, 0);
    // A quick database answers some statements before it is asked whether it did: fewer cuts fit into one check then.
    while cuts <= 20 {
        if checks > 0 {
            period = before_the_next(&mut plant).await;
        }
        checks += 1;
        assert!(
            checks < MOST as usize,
            "{cuts} cuts in {checks} checks: the database answers before it can be cut off"
        );
        let stop = CancellationToken::new();
        let check = Check { app: plant.app(), period, now: plant.now, stop: &stop };
        let mut polls = 2;
        while !cut_after(polls, check.run()).await {
            polls += 1;
            cuts += 1;
        }
    }
    assert_eq!(timeless(&plant).await, undisturbed(checks).await);
    // One that comes once more finds nothing to do.
    let known = plant.known().await;
    plant.check_period(period).await;
    assert_eq!(plant.known().await, known);
}

async fn windows_that_are_cut_off_while_they_are_stored_count_once(scene: &Scene) {
    let plant = Plant::start(scene, 8).await;
    let mut random = Random(3);
    let (release, spec, devices) = plant.versions[0].clone();
    let (store, drift) = (&plant.app().store, &plant.app().drift);
    let (mut cuts, mut rounds) = (0, 0);
    // A quick database answers some statements before it is asked whether it did: fewer cuts fit into one round then.
    while cuts <= 20 {
        rounds += 1;
        assert!(
            rounds < MOST,
            "{cuts} cuts in {rounds} batches: the database answers before it can be cut off"
        );
        let windows: Vec<_> = devices
            .iter()
            .map(|device| {
                let window = window(&spec, &mut random, (device, plant.now, rounds), 40, SOUND);
                let boot = BootId::new("boot-1").unwrap();
                SketchRow { device: device.clone(), boot, release: release.clone(), window }
            })
            .collect();
        let mut polls = 2;
        while !cut_after(polls, store.insert_windows(&windows, &drift.keep, &drift.strata, plant.now)).await {
            polls += 1;
            cuts += 1;
        }
    }
    let mut told = Vec::new();
    let of_all = crate::store::Strata::One(String::new());
    store
        .each_sum(&release, &of_all, 0..u64::MAX >> 1, |row| {
            told.push((row.sums.windows, row.sums.rows()));
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(told, [(12 * rounds, 12 * 40 * rounds)]);
}

async fn two_checks_of_one_period_at_one_time_are_one(scene: &Scene) {
    let wanted = undisturbed(1).await;
    let (plant, period) = before_the_check(scene).await;
    tokio::join!(plant.check_period(period), plant.check_period(period), plant.check_period(period));
    assert_eq!(timeless(&plant).await, wanted);
}

mod sqlite {
    use super::*;

    #[tokio::test]
    async fn a_check_that_is_cut_off_anywhere_is_taken_up_and_counts_nothing_twice() {
        super::a_check_that_is_cut_off_anywhere_is_taken_up_and_counts_nothing_twice(&Scene::sqlite().await)
            .await;
    }

    #[tokio::test]
    async fn windows_that_are_cut_off_while_they_are_stored_count_once() {
        super::windows_that_are_cut_off_while_they_are_stored_count_once(&Scene::sqlite().await).await;
    }

    #[tokio::test]
    async fn two_checks_of_one_period_at_one_time_are_one() {
        super::two_checks_of_one_period_at_one_time_are_one(&Scene::sqlite().await).await;
    }
}

mod postgres {
    use super::*;

    #[tokio::test]
    async fn a_check_that_is_cut_off_anywhere_is_taken_up_and_counts_nothing_twice() {
        let scene = Scene::postgres().await;
        super::a_check_that_is_cut_off_anywhere_is_taken_up_and_counts_nothing_twice(&scene).await;
    }

    #[tokio::test]
    async fn windows_that_are_cut_off_while_they_are_stored_count_once() {
        super::windows_that_are_cut_off_while_they_are_stored_count_once(&Scene::postgres().await).await;
    }

    #[tokio::test]
    async fn two_checks_of_one_period_at_one_time_are_one() {
        super::two_checks_of_one_period_at_one_time_are_one(&Scene::postgres().await).await;
    }

    #[tokio::test]
    async fn of_two_servers_one_checks_and_the_other_ends_what_it_began() {
        let scene = Scene::postgres().await;
        let (mut plant, mut period) = before_the_check(&scene).await;
        let second = tempfile::tempdir().unwrap();
        copy_keys(&plant.folder, &second);
        let other = start(&second, &scene).await;
        let later = plant.now + Duration::from_secs(86_400);
        assert_eq!(close(other.app(), later).await.unwrap(), None, "the first one holds the lease");
        let mut checks = 1;
        while !dies_midway(&plant, period).await {
            checks += 1;
            assert!(checks < MOST as usize, "{checks} checks were finished before they were seen to begin");
            period = before_the_next(&mut plant).await;
        }
        std::mem::replace(&mut plant.server, other).stop().await;
        // Its own task takes over with the lease, and the period that was closed is due.
        plant.until_idle().await;
        assert_eq!(timeless(&plant).await, undisturbed(checks).await);
    }
}

/// Begins a check that dies as soon as something of it is stored. False when it was finished first.
async fn dies_midway(plant: &Plant, period: u64) -> bool {
    let stop = CancellationToken::new();
    let check = Check { app: plant.app(), period, now: plant.now, stop: &stop };
    let mut beginning = pin!(check.run());
    // It does nothing while the database is asked, so only statements that are answered at once get by unseen.
    while !cut_after(1, beginning.as_mut()).await {
        let known = plant.app().store.drift_state(&plant.versions[0].0, "level").await.unwrap();
        if known.is_some_and(|known| known.period >= period) {
            return true;
        }
    }
    false
}

/// What a second server on the same database needs of the first one.
fn copy_keys(first: &tempfile::TempDir, second: &tempfile::TempDir) {
    use std::os::unix::fs::DirBuilderExt as _;
    let (from, to) = (first.path().join("data"), second.path().join("data"));
    std::fs::DirBuilder::new().mode(0o700).create(&to).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        let path = entry.unwrap().path();
        let is_key = path.extension().is_some_and(|ending| ending == "key" || ending == "pem");
        if is_key || path.file_name().is_some_and(|name| name == crate::server::ADMIN_CONTEXT) {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}
