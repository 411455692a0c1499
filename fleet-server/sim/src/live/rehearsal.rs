//! A live story in virtual time: the same fleet, acts and expectations, before both cores instead of a real server.
//!
//! It becomes a [`Story`] like any other and is told by the same [`World`], so the oracle looks after every event. Three
//! things are arranged, so that what the story says means what it means before a real server:
//!
//! - Devices are switched on [`LEAD_SECS`] before the story begins, because a live story begins when all are connected.
//! - What is expected is asked at the end of the story. The world then goes on for as long as its rollouts are patient, and only
//!   then the oracle asks what must have come to pass: a live story may have faults to its last second.
//! - Devices have what they run from their enrolment on, and become mute when the story begins.

use fleet_core::Strategy;
use shared::{DeviceId, ReleaseId, RolloutId};
use thiserror::Error;

use super::{Class, Crowd, LiveAct, LiveStory, Steady, Who};
use crate::{
    nature::Nature,
    oracle::Violation,
    server::Flaw,
    story::{Act, Character, DeviceStory, Moment, Network, ReleaseStory, Story, Timed, five_minutes},
    transcript::{Detail, Transcript},
    world::World,
};

/// Devices connect within two seconds; the slowest links of stories bring what they run within the rest.
const LEAD_SECS: u64 = 30;

/// A broker notices a dead link within 90 s, a device dials again within 60 s, and says what waits.
const ROOM_SECS: u64 = 600;

/// As virtual devices before a real server do.
const TELLS_SECS: u32 = 1;

/// A link that a story says nothing of, in KiB per second: none of its files takes a millisecond.
const FAST_LINK_KIB: u64 = 1 << 20;

/// Why a live story cannot be told in virtual time.
#[derive(Debug, Error)]
pub enum NoRehearsal {
    /// The number of devices does not fit the story.
    #[error("this many devices cannot tell the story: {0}")]
    Crowd(String),
    /// Nobody could have what it runs.
    #[error(
        "{device} runs {release}, which is {nature:?} there, so no device would have kept it; run another"
    )]
    RunsBad {
        /// Who.
        device: DeviceId,
        /// What.
        release: ReleaseId,
        /// How that behaves there.
        nature: Nature,
    },
    /// In virtual time devices tell at every look of the server.
    #[error(
        "{0} compares metrics and telemetry_secs is 0, so nobody would tell any; virtual time cannot do that"
    )]
    NothingTold(RolloutId),
}

/// A live story that can be told in virtual time.
#[derive(Debug, Clone)]
pub struct Rehearsal<'a> {
    live: &'a LiveStory,
    story: Story,
    /// When the live story is over.
    end: Moment,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Rehearsed {
    /// What should hold and does not, one sentence each; a broken rule is one.
    pub missed: Vec<String>,
    /// What an operator would have seen.
    pub transcript: Transcript,
}

impl LiveStory {
    /// This story in virtual time, with as many devices as it says or `total` in its proportions.
    ///
    /// # Errors
    /// Says what virtual time cannot do.
    pub fn rehearsal(&self, total: Option<u32>) -> Result<Rehearsal<'_>, NoRehearsal> {
        let crowd = Crowd::of(self, total, "").map_err(NoRehearsal::Crowd)?;
        let releases = crowd.releases(self, ReleaseId::clone);
        check_runs(&crowd, &releases)?;
        self.check_telemetry()?;
        let end = after_lead(self.end);
        let story = Story {
            title: self.title.clone(),
            why: self.why.clone(),
            seed: self.seed,
            devices: crowd.classes.iter().filter(|class| !class.members.is_empty()).map(devices).collect(),
            releases,
            drift: false,
            tells_secs: TELLS_SECS,
            look_secs: self.look_secs.unwrap_or_else(five_minutes),
            network: Network { damage_ppm: self.network.damage_ppm, ..Network::default() },
            acts: acts(self, &crowd),
            calm: None,
            end: later(end, self.patience_secs()),
        };
        Ok(Rehearsal { live: self, story, end })
    }

    fn check_telemetry(&self) -> Result<(), NoRehearsal> {
        let mut compared = self.starts().filter(|(_, strategy)| strategy.metrics.is_some());
        match compared.next() {
            Some((rollout, _)) if self.telemetry_secs == 0 => Err(NoRehearsal::NothingTold(rollout.clone())),
            _ => Ok(()),
        }
    }

    /// How long rollouts may still take when nothing befalls anybody any more.
    fn patience_secs(&self) -> u64 {
        let of = |strategy: &Strategy| {
            let judged = strategy.metrics.as_ref().map_or(0, |metrics| metrics.max_bake_secs);
            let retries = (0..strategy.retries.max).map(|tried| strategy.retries.wait_secs(tried));
            let settling = retries.fold(strategy.silent_after_secs, u64::saturating_add);
            let wave = |bake_time_secs: u64| bake_time_secs.max(judged).saturating_add(settling);
            strategy.waves.iter().map(|spec| wave(spec.bake_time_secs)).fold(0, u64::saturating_add)
        };
        self.starts().map(|(_, strategy)| of(strategy)).fold(ROOM_SECS, u64::saturating_add)
    }

    fn starts(&self) -> impl Iterator<Item = (&RolloutId, &Strategy)> {
        self.acts.iter().filter_map(|timed| match &timed.act {
            LiveAct::Start { rollout, strategy, .. } => Some((rollout, &**strategy)),
            _ => None,
        })
    }
}

impl Rehearsal<'_> {
    /// The story that it became.
    #[must_use]
    pub fn story(&self) -> &Story {
        &self.story
    }

    /// Tells it, with a flawed server if `flaw` says so.
    #[must_use]
    pub fn tell(&self, flaw: Option<Flaw>) -> Rehearsed {
        let mut world = World::new(self.story.clone(), flaw, Detail::Milestones);
        let missed = self.tell_to(&mut world).unwrap_or_else(|violation| vec![violation.to_string()]);
        Rehearsed { missed, transcript: world.transcript().clone() }
    }

    fn tell_to(&self, world: &mut World) -> Result<Vec<String>, Violation> {
        world.go_on(self.end)?;
        let missed = self.live.missed(&world.standings());
        world.run()?;
        Ok(missed)
    }
}

fn devices(class: &Class) -> DeviceStory {
    let it = &class.story;
    let label = ("class".to_owned(), it.name.clone());
    DeviceStory {
        name: it.name.clone(),
        count: Some(u32::try_from(class.members.len()).unwrap_or(u32::MAX)),
        labels: it.labels.clone().into_iter().chain([label]).collect(),
        runs: it.runs.clone(),
        traffic: it.traffic,
        memory_mib: it.memory_mib,
        link_kib: it.link_kib.map_or(FAST_LINK_KIB, u64::from),
        on: Moment::default(),
        character: Character::Honest,
        clock_secs: it.clock_secs,
        maintenance: it.maintenance.clone(),
        utc_offset_secs: it.utc_offset_secs,
    }
}

/// What happens, in order; acts of one moment as they are written.
fn acts(live: &LiveStory, crowd: &Crowd) -> Vec<Timed> {
    let mute = crowd.classes.iter().filter(|class| class.story.character == Steady::Mute);
    let mut acts: Vec<Timed> = mute
        .map(|class| Timed {
            at: after_lead(Moment::default()),
            act: Act::Mute { devices: class.members.clone() },
        })
        .collect();
    for timed in &live.acts {
        let at = after_lead(timed.at);
        if let LiveAct::Outage { devices, for_secs } = &timed.act {
            let act = Act::Reconnect { devices: ids(crowd, devices) };
            acts.push(Timed { at: later(at, *for_secs), act });
        }
        acts.push(Timed { at, act: act(&timed.act, crowd) });
    }
    acts.sort_by_key(|timed| timed.at);
    acts
}

fn act(act: &LiveAct, crowd: &Crowd) -> Act {
    let ids = |who: &Who| ids(crowd, who);
    match act.clone() {
        LiveAct::Start { rollout, release, devices, strategy } => {
            Act::Start { rollout, release, devices, strategy }
        }
        LiveAct::Pause { rollout } => Act::Pause { rollout },
        LiveAct::Resume { rollout } => Act::Resume { rollout },
        LiveAct::Promote { rollout } => Act::Promote { rollout },
        LiveAct::Retry { rollout } => Act::Retry { rollout },
        LiveAct::Halt { rollout } => Act::Halt { rollout },
        LiveAct::RollBack { rollout } => Act::RollBack { rollout },
        LiveAct::Cut { devices } | LiveAct::Outage { devices, .. } => Act::Cut { devices: ids(&devices) },
        LiveAct::Reconnect { devices } => Act::Reconnect { devices: ids(&devices) },
        LiveAct::Flap { devices, every_secs, down_secs, until } => {
            Act::Flap { devices: ids(&devices), every_secs, down_secs, until: after_lead(until) }
        }
        LiveAct::PowerCut { devices, after_effects } => {
            Act::PowerCut { devices: ids(&devices), after_effects }
        }
        LiveAct::Restart { devices } => Act::Restart { devices: ids(&devices) },
        LiveAct::Die { devices } => Act::Die { devices: ids(&devices) },
        LiveAct::Mute { devices } => Act::Mute { devices: ids(&devices) },
        LiveAct::Clock { devices, ahead_secs } => Act::Clock { devices: ids(&devices), ahead_secs },
        LiveAct::KillRunner { devices } => Act::KillRunner { devices: ids(&devices) },
        LiveAct::DamageDisk { devices } => Act::DamageDisk { devices: ids(&devices) },
        LiveAct::Traffic { devices, per_minute } => Act::Traffic { devices: ids(&devices), per_minute },
    }
}

fn ids(crowd: &Crowd, who: &Who) -> Vec<DeviceId> {
    crowd.who(who).into_iter().map(|member| crowd.id(member).clone()).collect()
}

/// A rollout before a live story brings devices to what they run, and that one must succeed.
fn check_runs(crowd: &Crowd, releases: &[ReleaseStory]) -> Result<(), NoRehearsal> {
    for class in &crowd.classes {
        let Some(runs) = releases.iter().find(|it| Some(&it.release) == class.story.runs.as_ref()) else {
            continue;
        };
        for device in &class.members {
            let nature = runs.except.get(device).copied().unwrap_or(runs.nature);
            if nature.is_bad() {
                let (device, release) = (device.clone(), runs.release.clone());
                return Err(NoRehearsal::RunsBad { device, release, nature });
            }
        }
    }
    Ok(())
}

fn after_lead(moment: Moment) -> Moment {
    later(moment, LEAD_SECS)
}

fn later(moment: Moment, secs: u64) -> Moment {
    Moment::of_secs(moment.secs.saturating_add(secs))
}
