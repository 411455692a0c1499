//! Who lives in a live story, by name.

use std::collections::BTreeMap;

use shared::{DeviceId, ReleaseId};

use super::{
    LiveDevices, LiveStory, Who,
    check::{self, MAX_DEVICES},
};
use crate::{nature::Nature, random::Random, story::ReleaseStory};

/// The devices of a story.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// Class by class, as the story has them.
    pub classes: Vec<Class>,
    seed: u64,
    /// Ends every name, so that a crowd finds its names free where others live.
    suffix: String,
}

/// Devices that are alike.
#[derive(Debug, Clone)]
pub struct Class {
    /// What the story says of them.
    pub story: LiveDevices,
    /// Their names.
    pub members: Vec<DeviceId>,
}

/// A device, by the places of its class and of itself within it.
pub type Member = (usize, usize);

impl Crowd {
    /// The devices of `story`: as many as it says, or `total` in the proportions that it says. `suffix` ends their names,
    /// and is not written where the story names them.
    ///
    /// # Errors
    /// When nobody lives there, too many do, a name is none, or the story names somebody who does not live there.
    pub fn of(story: &LiveStory, total: Option<u32>, suffix: &str) -> Result<Self, String> {
        let counts: Vec<u32> = story.devices.iter().map(|devices| devices.count).collect();
        let counts = match total {
            Some(total) => shares(&counts, total),
            None => counts,
        };
        let all: u64 = counts.iter().copied().map(u64::from).sum();
        if !(1..=u64::from(MAX_DEVICES)).contains(&all) {
            return Err(format!("{all} devices; write 1 to {MAX_DEVICES}"));
        }
        let classes =
            story.devices.iter().zip(counts).map(|(devices, count)| Class::of(devices, count, suffix));
        let (classes, suffix) = (classes.collect::<Result<_, _>>()?, suffix.to_owned());
        let crowd = Self { classes, seed: story.seed, suffix };
        let mut seen = BTreeMap::new();
        for class in &crowd.classes {
            if seen.insert(&class.story.name, ()).is_some() {
                return Err(format!("two [[device]] are called {}; give one another name", class.story.name));
            }
        }
        check::names(story, &crowd)?;
        Ok(crowd)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.iter().map(|class| class.members.len()).sum()
    }

    /// True for a crowd of nobody, which no story has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members of a class.
    pub(super) fn class(&self, name: &str) -> Result<Vec<Member>, String> {
        let found = self.classes.iter().position(|class| class.story.name == name);
        let class =
            found.ok_or_else(|| format!("there is no class {name}; write the name of a [[device]]"))?;
        Ok((0..self.classes[class].members.len()).map(|member| (class, member)).collect())
    }

    /// The members of a class, or the one device of this name.
    pub(super) fn named(&self, name: &str) -> Result<Vec<Member>, String> {
        if let Ok(members) = self.class(name) {
            return Ok(members);
        }
        let one = self.classes.iter().enumerate().find_map(|(class, it)| {
            let is_it = |id: &DeviceId| id.as_str().strip_suffix(&self.suffix) == Some(name);
            let member = it.members.iter().position(is_it)?;
            Some((class, member))
        });
        one.map(|member| vec![member]).ok_or_else(|| {
            format!("there is no device or class {name}; write a class, or a device such as cam-1")
        })
    }

    /// Whom an act of the story means.
    #[must_use]
    pub fn who(&self, who: &Who) -> Vec<Member> {
        match who {
            Who::Named(names) => names.iter().filter_map(|name| self.named(name).ok()).flatten().collect(),
            Who::Share { percent, of } => {
                let everybody = match of {
                    Some(class) => self.class(class).unwrap_or_default(),
                    None => self.everybody(),
                };
                self.draw(everybody, *percent)
            }
        }
    }

    /// Every device.
    #[must_use]
    pub fn everybody(&self) -> Vec<Member> {
        let of = |(class, it): (usize, &Class)| (0..it.members.len()).map(move |member| (class, member));
        self.classes.iter().enumerate().flat_map(of).collect()
    }

    /// The name of a device.
    #[must_use]
    pub fn id(&self, (class, member): Member) -> &DeviceId {
        &self.classes[class].members[member]
    }

    /// The releases as a [`Catalog`](crate::Catalog) has them, under the names that `published` gives them. Sizes are
    /// those of a made-up artifact and mean nothing here; natures are what counts.
    #[must_use]
    pub fn releases(
        &self,
        story: &LiveStory,
        published: impl Fn(&ReleaseId) -> ReleaseId,
    ) -> Vec<ReleaseStory> {
        let of = |it: &super::LiveRelease| {
            let named = |(name, nature): (&String, &Nature)| {
                let members = self.named(name).unwrap_or_default();
                members.into_iter().map(|member| (self.id(member).clone(), *nature)).collect::<Vec<_>>()
            };
            ReleaseStory {
                release: published(&it.release),
                nature: it.nature,
                except: it.except.iter().flat_map(named).collect(),
                blocks: 1,
                size_mib: 0,
                probation_secs: it.probation_secs,
                min_inferences: it.min_inferences,
            }
        };
        story.releases.iter().map(of).collect()
    }

    /// A share of them, at least one, the same for the same seed.
    fn draw(&self, mut members: Vec<Member>, percent: u32) -> Vec<Member> {
        let wanted = (members.len() * percent as usize).div_ceil(100);
        let mut random = Random::new(self.seed ^ u64::from(percent));
        for at in 0..wanted.min(members.len()) {
            let rest = (members.len() - at) as u64;
            let other = at + usize::try_from(random.below(rest)).unwrap_or(0);
            members.swap(at, other);
        }
        members.truncate(wanted);
        members
    }
}

impl Class {
    fn of(devices: &LiveDevices, count: u32, suffix: &str) -> Result<Self, String> {
        let id = |number: u32| DeviceId::new(format!("{}-{number}{suffix}", devices.name));
        let members = (1..=count).map(id).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        Ok(Self { story: devices.clone(), members })
    }
}

/// `total` in the proportions of `counts`, by largest remainders, so that nothing is lost to rounding.
fn shares(counts: &[u32], total: u32) -> Vec<u32> {
    let sum: u64 = counts.iter().copied().map(u64::from).sum::<u64>().max(1);
    let exact = |count: u32| u64::from(count) * u64::from(total);
    let mut shares: Vec<u32> =
        counts.iter().map(|count| u32::try_from(exact(*count) / sum).unwrap_or(u32::MAX)).collect();
    let given: u32 = shares.iter().sum();
    let mut order: Vec<usize> = (0..counts.len()).filter(|at| counts[*at] > 0).collect();
    order.sort_by_key(|at| std::cmp::Reverse(exact(counts[*at]) % sum));
    for at in order.into_iter().take(total.saturating_sub(given) as usize) {
        shares[at] += 1;
    }
    shares
}
