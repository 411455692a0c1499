//! What other rollouts of a model must hear of what this one does.

use std::collections::BTreeMap;

use shared::{DeviceId, ReleaseId, RolloutId};

use super::{Effect, Event, FurtherBack, Hold, Input, LetGo, Record, Restoration, Rollout, State};

/// What a turn did to devices, as far as it concerns others.
struct Done<'a> {
    /// Devices that were asked.
    asked: Vec<&'a DeviceId>,
    /// Devices from which the release was taken, and what they go back to.
    given_back: Vec<(&'a DeviceId, Option<&'a ReleaseId>)>,
    /// Devices that it had asked and will bring back, and what they go back to.
    taken_back: Vec<(&'a DeviceId, Option<&'a ReleaseId>)>,
    /// Devices that it will never ask.
    let_go: Vec<&'a DeviceId>,
}

impl Rollout {
    /// What others must be told of the effects of a turn, in the same transaction and before anything else happens. The
    /// order matters: what they do in turn follows what this one did.
    #[must_use]
    pub fn tells<'a>(
        &self,
        effects: &[Effect],
        others: impl Iterator<Item = &'a Self>,
    ) -> Vec<(RolloutId, Input)> {
        let done = self.done(effects);
        if done.is_nothing() {
            return vec![];
        }
        let model = &self.spec.release.model;
        let rivals: Vec<&Self> =
            others.filter(|other| other.id() != self.id() && other.spec.release.model == *model).collect();
        let mut told = Vec::new();
        for rival in &rivals {
            let mut tell = |input| told.push((rival.id().clone(), input));
            self.taken_from(rival, &done).map(&mut tell);
            self.taken_away_under(rival, &done).map(&mut tell);
            self.let_go_to(rival, &rivals, &done).map(&mut tell);
        }
        told.extend(self.given_back_to(&rivals, &done));
        told
    }

    fn done<'a>(&'a self, effects: &'a [Effect]) -> Done<'a> {
        let mut done = Done { asked: vec![], given_back: vec![], taken_back: vec![], let_go: vec![] };
        for effect in effects {
            match effect {
                Effect::Assign { device, .. } => done.asked.push(device),
                Effect::Restore { device, previous } => done.given_back.push((device, previous.as_ref())),
                Effect::Announce(
                    Event::Halted { .. } | Event::Completed { .. } | Event::Superseded { .. },
                ) => {
                    done.let_go.extend(self.no_longer_wanted());
                }
                Effect::Announce(Event::RollingBack { .. }) => {
                    done.let_go.extend(self.no_longer_wanted());
                    let asked = self.devices.iter().filter(|(_, record)| record.was_asked());
                    done.taken_back.extend(asked.map(|(device, record)| (device, record.from.as_ref())));
                }
                Effect::Announce(_) | Effect::Compare { .. } => {}
            }
        }
        done.taken_back.extend(&done.given_back);
        if self.has_stopped() {
            done.let_go.extend(done.given_back.iter().map(|(device, _)| *device));
        }
        done
    }

    /// Devices that it will not ask any more. While it is in force that are not those on which it failed: a person may
    /// want them to be asked again.
    fn no_longer_wanted(&self) -> impl Iterator<Item = &DeviceId> {
        let is_over = self.active_wave().is_none();
        let gone_back = |record: &Record| self.has_stopped() && record.restoration != Restoration::None;
        let of = move |record: &Record| is_over && (!record.was_asked() || gone_back(record));
        self.devices.iter().filter(move |(_, record)| of(record)).map(|(device, _)| device)
    }

    /// True when it is no longer in force.
    pub(super) fn has_stopped(&self) -> bool {
        self.takes_all_back() || matches!(self.state, State::Halted { .. })
    }

    fn taken_from(&self, rival: &Self, done: &Done<'_>) -> Option<Input> {
        let has = |device: &&&DeviceId| {
            rival.devices.get(**device).is_some_and(|record| !matches!(record.hold, Hold::Taken { .. }))
        };
        let devices: Vec<_> = done.asked.iter().filter(has).map(|device| (*device).clone()).collect();
        (!devices.is_empty()).then(|| Input::Superseded { devices, by: self.id().clone() })
    }

    /// One that was planned later may count on our release as what its devices go back to.
    fn taken_away_under(&self, rival: &Self, done: &Done<'_>) -> Option<Input> {
        if rival.started_at < self.started_at {
            return None;
        }
        let release = &self.spec.release;
        let counts_on_it = |device: &DeviceId| {
            rival.devices.get(device).is_some_and(|record| record.from.as_ref() == Some(release))
        };
        let devices: Vec<_> = (done.taken_back.iter())
            .filter(|(device, _)| counts_on_it(device))
            .map(|(device, to)| FurtherBack { device: (*device).clone(), to: to.cloned() })
            .collect();
        (!devices.is_empty()).then(|| Input::TakenBack { release: release.clone(), devices })
    }

    fn let_go_to(&self, rival: &Self, rivals: &[&Self], done: &Done<'_>) -> Option<Input> {
        let by_us = |device: &DeviceId| {
            rival.devices.get(device).is_some_and(|record| record.hold.other() == Some(self.id()))
        };
        let devices: Vec<_> = (done.let_go.iter())
            .filter(|device| by_us(device))
            .map(|device| LetGo {
                device: (*device).clone(),
                wanted_by: self.next_for(rival, rivals, device),
            })
            .collect();
        (!devices.is_empty()).then_some(Input::LetGo { devices })
    }

    /// A device is given back to the rollout that brought the release, the newest of them if there were several.
    fn given_back_to(&self, rivals: &[&Self], done: &Done<'_>) -> Vec<(RolloutId, Input)> {
        let mut told = BTreeMap::<&RolloutId, Vec<LetGo>>::new();
        for (device, to) in &done.given_back {
            let brought = |rival: &&&Self| {
                Some(&rival.spec.release) == *to && rival.devices.get(*device).is_some_and(Record::can_return)
            };
            let newest = rivals.iter().filter(brought).max_by_key(|rival| (rival.started_at, rival.id()));
            if let Some(rival) = newest {
                // While this one is in force a person may want it to ask again.
                let still_ours = || (!self.has_stopped()).then(|| self.id().clone());
                let wanted_by = self.next_for(rival, rivals, device).or_else(still_ours);
                told.entry(rival.id()).or_default().push(LetGo { device: (*device).clone(), wanted_by });
            }
        }
        told.into_iter().map(|(id, devices)| (id.clone(), Input::GivenBack { devices })).collect()
    }

    /// The strongest of those that want a device, which this rollout lets go of, before `rival` does.
    fn next_for(&self, rival: &Self, rivals: &[&Self], device: &DeviceId) -> Option<RolloutId> {
        let stronger = |other: &&&Self| other.rank() > rival.rank() && other.would_have(device, self.id());
        rivals.iter().filter(stronger).max_by_key(|other| other.rank()).map(|other| other.id().clone())
    }

    /// True when it asked the device, will ask it, or may be told to ask it again, once `other` has let go of it.
    fn would_have(&self, device: &DeviceId, other: &RolloutId) -> bool {
        let Some(record) = self.devices.get(device).filter(|record| !record.withdrawn) else { return false };
        let is_free = record.hold.other().is_none_or(|by| by == other);
        let waits = record.own_progress().is_pending() && self.active_wave().is_some();
        let may_ask_again = record.restoration != Restoration::None;
        let is_in_force = self.has_begun() && !self.has_stopped();
        is_in_force && is_free && (waits || may_ask_again || record.can_restore())
    }
}

impl Done<'_> {
    fn is_nothing(&self) -> bool {
        self.asked.is_empty() && self.taken_back.is_empty() && self.let_go.is_empty()
    }
}
