//! What the types of a live story cannot say.

use std::collections::{BTreeMap, BTreeSet};

use shared::{ModelName, ReleaseId};

use super::{LiveAct, LiveStory, Who, crowd::Crowd};

/// Most devices of a story: beyond it one process runs out of ports to one address.
pub(super) const MAX_DEVICES: u32 = 25_000;

/// Most releases of a story; the quality gate tries each for some seconds.
const MAX_RELEASES: usize = 64;

/// Words for where a rollout stands.
const STATES: [&str; 9] = [
    "awaiting_approval",
    "running",
    "watching",
    "paused",
    "halted",
    "rolling_back",
    "rolled_back",
    "completed",
    "superseded",
];

/// Says the first contradiction, where it is, and what to do.
pub(super) fn check(story: &LiveStory) -> Result<(), String> {
    Crowd::of(story, None, "")?;
    check_versions(story)?;
    let known: BTreeSet<&ReleaseId> = story.releases.iter().map(|it| &it.release).collect();
    for devices in &story.devices {
        if let Some(runs) = devices.runs.as_ref().filter(|runs| !known.contains(runs)) {
            return Err(format!("{} runs {runs}, which no [[release]] names", devices.name));
        }
        if devices.link_kib == Some(0) {
            return Err(format!("{}: link_kib is 0; write 1 or more, or `cut` the devices", devices.name));
        }
    }
    check_acts(story, &known)?;
    check_expectations(story)
}

/// Everybody whom the story names lives in `crowd`.
pub(super) fn names(story: &LiveStory, crowd: &Crowd) -> Result<(), String> {
    for release in &story.releases {
        for name in release.except.keys() {
            crowd.named(name).map_err(|why| format!("release {}: {why}", release.release))?;
        }
    }
    for timed in &story.acts {
        if let Some(who) = timed.act.devices() {
            check_who(who, crowd).map_err(|why| format!("the act at {}: {why}", timed.at))?;
        }
    }
    Ok(())
}

fn check_versions(story: &LiveStory) -> Result<(), String> {
    if story.releases.len() > MAX_RELEASES {
        return Err(format!("{} releases; write at most {MAX_RELEASES}", story.releases.len()));
    }
    let mut versions: BTreeMap<&ModelName, Vec<u32>> = BTreeMap::new();
    for it in &story.releases {
        versions.entry(&it.release.model).or_default().push(it.release.version.get());
    }
    for (model, mut numbers) in versions {
        numbers.sort_unstable();
        let expected = 1..=u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        if !numbers.iter().copied().eq(expected) {
            return Err(format!(
                "the versions of {model} are {numbers:?}; a server numbers them 1, 2, 3, … without gaps, so write them so"
            ));
        }
    }
    Ok(())
}

fn check_acts(story: &LiveStory, known: &BTreeSet<&ReleaseId>) -> Result<(), String> {
    let mut started = BTreeSet::new();
    let mut acts: Vec<_> = story.acts.iter().collect();
    acts.sort_by_key(|timed| timed.at);
    for timed in acts {
        let at = timed.at;
        if at > story.end {
            return Err(format!("something happens at {at}, after the end at {}; raise `end`", story.end));
        }
        if let LiveAct::Start { rollout, release, strategy, .. } = &timed.act {
            if !known.contains(release) {
                return Err(format!("{rollout} at {at} brings {release}, which no [[release]] names"));
            }
            strategy.check().map_err(|why| format!("{rollout} at {at}: {why}"))?;
            if strategy.waves.iter().any(|wave| wave.approve) {
                return Err(format!("{rollout} at {at}: approval needs another person; leave `approve` out"));
            }
            if !started.insert(rollout.clone()) {
                return Err(format!("{rollout} is started twice; give the one at {at} another name"));
            }
        } else if let Some(rollout) = timed.act.rollout().filter(|rollout| !started.contains(rollout)) {
            return Err(format!("something is ordered of {rollout} at {at}, before any `start` of it"));
        }
        if let LiveAct::Flap { every_secs, down_secs, .. } = timed.act
            && (!(1..=86_400).contains(&every_secs) || down_secs >= every_secs)
        {
            return Err(format!("flap at {at}: every_secs is 1 to 86400 and longer than down_secs"));
        }
    }
    Ok(())
}

fn check_who(who: &Who, crowd: &Crowd) -> Result<(), String> {
    match who {
        Who::Named(names) => names.iter().try_for_each(|name| crowd.named(name).map(|_| ())),
        Who::Share { percent, of } => {
            if !(1..=100).contains(percent) {
                return Err(format!("percent is {percent}; write 1 to 100"));
            }
            let class = |name: &String| crowd.class(name).map(|_| ());
            of.as_ref().map_or(Ok(()), class)
        }
    }
}

fn check_expectations(story: &LiveStory) -> Result<(), String> {
    let started: BTreeSet<_> = story.acts.iter().filter_map(|timed| timed.act.rollout()).collect();
    for (rollout, expected) in &story.expect {
        if !started.contains(rollout) {
            return Err(format!("[expect.{rollout}]: no act starts {rollout}"));
        }
        if let Some(state) = expected.state.as_ref().filter(|state| !STATES.contains(&state.as_str())) {
            return Err(format!(
                "[expect.{rollout}]: '{state}' is no state; write one of {}",
                STATES.join(", ")
            ));
        }
    }
    Ok(())
}
