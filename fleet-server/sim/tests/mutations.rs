//! An oracle that cannot fail proves nothing: each deliberate mistake of the server is found, by the rule that it breaks.

use muster_sim::{Detail, Flaw, made_up, tell};

/// Seeds within which a mistake must show.
const SEEDS: u64 = 300;

/// The first rule that a server with this mistake breaks.
fn first_broken(flaw: Flaw) -> &'static str {
    let found = (1..=SEEDS).find_map(|seed| tell(&made_up(seed), Some(flaw), Detail::Nothing).0.err());
    found.unwrap_or_else(|| panic!("{flaw:?} goes unnoticed for {SEEDS} seeds")).rule
}

/// Every rule that a server with this mistake breaks first in some seed.
fn broken(flaw: Flaw, rule: &str) {
    let rules = (1..=SEEDS).filter_map(|seed| tell(&made_up(seed), Some(flaw), Detail::Nothing).0.err());
    let mut others = vec![];
    for violation in rules {
        if violation.rule == rule {
            return;
        }
        others.push(violation.rule);
    }
    panic!("{flaw:?} never breaks '{rule}' in {SEEDS} seeds, but {others:?}");
}

#[test]
fn reports_of_older_desired_states_that_count_are_found() {
    broken(Flaw::IgnoresGenerations, "an outcome was reported since the device was asked");
}

#[test]
fn asking_while_paused_is_found() {
    assert_eq!(first_broken(Flaw::AsksWhilePaused), "nobody is asked unless the rollout runs");
}

#[test]
fn asking_devices_of_the_next_wave_is_found() {
    broken(Flaw::AsksAhead, "only waves that were reached are asked");
}

#[test]
fn asking_devices_that_the_plan_left_out_is_found() {
    assert_eq!(first_broken(Flaw::AsksBlocked), "nobody is asked whom the plan left out");
}

#[test]
fn a_release_that_is_not_taken_away_is_found() {
    broken(Flaw::ForgetsToRestore, "a rolled back release is left nowhere");
}

#[test]
fn generations_that_are_used_twice_are_found() {
    assert_eq!(first_broken(Flaw::ReusesGenerations), "generations grow");
}

#[test]
fn decisions_that_a_restart_forgets_are_found() {
    broken(Flaw::ForgetsAtRestart, "only what was given is taken away");
}

#[test]
fn a_server_that_tells_devices_only_once_is_found() {
    broken(Flaw::TellsOnce, "a device follows its desired state");
}

#[test]
fn speaking_before_storing_is_found() {
    broken(Flaw::SpeaksTooEarly, "a device takes only what was asked of it");
}

#[test]
fn asking_faster_than_the_ramp_is_found() {
    broken(Flaw::ForgetsRamps, "nobody is asked faster than the ramp");
}

#[test]
fn a_wave_that_begins_without_approval_is_found() {
    broken(Flaw::ForgetsApprovals, "a wave that needs approval waits for it");
}

#[test]
fn asking_outside_of_windows_is_found() {
    broken(Flaw::ForgetsWindows, "devices are asked in their windows");
}

#[test]
fn asking_devices_that_are_pinned_is_found() {
    broken(Flaw::ForgetsPins, "nobody is asked who is pinned");
}

#[test]
fn metrics_that_are_not_listened_to_are_found() {
    broken(Flaw::FlattersMetrics, "a wave that is compared passes only when its metrics are healthy");
}

#[test]
fn drift_alarms_that_are_not_passed_on_are_found() {
    broken(Flaw::ForgetsDrift, "drift stops a rollout that does not bear it");
}

#[test]
fn rollouts_that_do_not_hear_of_each_other_are_found() {
    broken(Flaw::ForgetsRivals, "the books agree with the devices");
}

#[test]
fn asking_in_a_freeze_is_found() {
    broken(Flaw::ForgetsFreezes, "nobody is asked in a freeze");
}
