//! Rules for the server, checked after every turn.

use std::collections::BTreeSet;

use fleet_core::{Event, Progress, RolloutStatus, State, verdict::MetricVerdict};
use shared::{RolloutId, Timestamp};

use super::{
    Oracle, Violation,
    books::{Account, Said},
    drift::{check_not_held, check_passed},
    rivals::check_is_wanted,
};
use crate::server::{Purpose, Row, Server, Write};

impl Oracle {
    pub(super) fn check_write(&mut self, server: &Server, write: &Write) -> Result<(), Violation> {
        self.check_generation(write)?;
        let Some(account) = self.rollouts.get_mut(&write.rollout) else {
            return broken("only rollouts write desired states", write, "nobody planned it");
        };
        match write.purpose {
            Purpose::Ask => {
                check_ask(account, write)?;
                check_not_held(account, write)?;
                check_is_wanted(server, account, write)?;
            }
            Purpose::Restore if !account.asked.contains_key(&write.device) => {
                return broken("only what was given is taken away", write, "it was never asked");
            }
            Purpose::Restore => {}
        }
        let release = account.spec.release.clone();
        self.check_rivals(server, write)?;
        self.note_who_has(write, &release);
        if let Some(dossier) = self.devices.get_mut(&write.device) {
            dossier.note_write(write, &release);
        }
        Ok(())
    }

    fn check_generation(&self, write: &Write) -> Result<(), Violation> {
        let models: BTreeSet<_> =
            write.desired.assignments.iter().map(|named| &named.release.model).collect();
        if models.len() != write.desired.assignments.len() {
            return broken("a desired state names one version of a model", write, "it names two");
        }
        let last = self.devices.get(&write.device).and_then(|dossier| dossier.desired.keys().next_back());
        match last {
            Some(last) if *last >= write.desired.generation => {
                let detail = format!("{} follows {last}", write.desired.generation);
                broken("generations grow", write, &detail)
            }
            _ => Ok(()),
        }
    }

    /// What changes who may be asked, before it is looked who was.
    pub(super) fn note_event(&mut self, id: &RolloutId, event: &Event) {
        let Some(account) = self.rollouts.get_mut(id) else { return };
        match event {
            Event::DeviceJoined { device } => {
                account.late.insert(device.clone());
                account.blocked.remove(device);
            }
            Event::Retried { .. } => account.retried += 1,
            Event::Promoted { wave, .. } => {
                account.promoted.insert(*wave);
            }
            _ => {}
        }
    }

    pub(super) fn check_event(
        &mut self,
        server: &Server,
        id: &RolloutId,
        event: &Event,
        now: Timestamp,
    ) -> Result<(), Violation> {
        let Some(account) = self.rollouts.get_mut(id) else { return Ok(()) };
        match event {
            Event::WaveBaking { wave, until } => {
                account.baking.insert(*wave, *until);
            }
            Event::WaveStarted { wave, .. }
                if account.approvals.contains(wave) && !account.approved.contains(wave) =>
            {
                let detail = format!("{id} starts wave {}", wave + 1);
                return Err(Violation::new("a wave that needs approval waits for it", detail));
            }
            Event::Approved { by, wave } if *by == account.spec.author => {
                let detail = format!("{by} approves wave {} of their own {id}", wave + 1);
                return Err(Violation::new("somebody else approves", detail));
            }
            Event::Approved { wave, .. } => {
                account.approved.insert(*wave);
            }
            Event::WaveJudged { wave, verdict: MetricVerdict::Degraded(_) }
                if server.rollout(id).is_some_and(|rollout| rollout.active_wave().is_some()) =>
            {
                let detail = format!("{id} goes on after wave {}", wave + 1);
                return Err(Violation::new("degraded metrics stop a rollout", detail));
            }
            Event::WavePassed { wave } => check_gate(server, account, *wave, now)?,
            _ => {}
        }
        Ok(())
    }

    /// Every device stands in exactly one outcome, and in none that it did not report.
    pub(super) fn check_outcomes(&self, server: &Server) -> Result<(), Violation> {
        for rollout in server.rollouts() {
            let Some(account) = self.rollouts.get(rollout.id()) else { continue };
            let status = rollout.status();
            check_counts(account, &status)?;
            for device in &status.devices {
                let said = account.said.get(&device.device);
                let model = &status.release.model;
                let is_left_alone = || {
                    let of = |row: &Row| {
                        row.left_alone.contains(&None) || row.left_alone.contains(&Some(model.clone()))
                    };
                    server.row(&device.device).is_some_and(of)
                };
                let was_withdrawn = device.progress == Progress::Superseded { by: None };
                let is_told = is_covered(&device.progress, said) || (was_withdrawn && is_left_alone());
                if !is_told {
                    let detail = format!("{}: {} stands as {:?}", status.id, device.device, device.progress);
                    return Err(Violation::new("an outcome was reported since the device was asked", detail));
                }
            }
        }
        Ok(())
    }
}

fn check_ask(account: &mut Account, write: &Write) -> Result<(), Violation> {
    let reached = match write.state {
        State::Running { wave } => wave,
        State::Watching { .. } => account.sizes.len(),
        _ => return broken("nobody is asked unless the rollout runs", write, write.state.word()),
    };
    // A person who wants devices to be asked again brings a rollout back to an earlier wave.
    let reached = account.reached.max(reached);
    account.reached = reached;
    let device = &write.device;
    if account.blocked.contains(device) {
        return broken("nobody is asked whom the plan left out", write, "it is blocked");
    }
    match account.waves.get(device) {
        Some(wave) if *wave <= reached => {}
        None if account.late.contains(device) => {}
        Some(wave) => {
            let detail = format!("it is in wave {} and wave {} is reached", wave + 1, reached + 1);
            return broken("only waves that were reached are asked", write, &detail);
        }
        None => return broken("only planned devices are asked", write, "it is in no wave"),
    }
    if !write.desired.assignments.iter().any(|named| named.release == account.spec.release) {
        return broken("what is asked is the release of the rollout", write, "it is another");
    }
    account.asked.insert(device.clone(), write.desired.generation);
    let asked = account.times.entry(device.clone()).or_default();
    *asked += 1;
    if *asked > 1 + account.spec.strategy.retries.max + account.retried {
        return broken(
            "a device is asked once, and again as often as somebody allows",
            write,
            &format!("{asked} times"),
        );
    }
    check_times(account, write)?;
    let room: usize = account.sizes.iter().take(reached + 1).sum::<usize>() + account.late.len();
    if account.asked.len() > room {
        let detail = format!("{} are treated, {room} have room", account.asked.len());
        return broken("no more devices are treated than the reached waves hold", write, &detail);
    }
    Ok(())
}

/// The pace of the ramp, windows in the device's local time, and freezes.
fn check_times(account: &mut Account, write: &Write) -> Result<(), Violation> {
    let strategy = &account.spec.strategy;
    if let Some(windows) = &strategy.windows
        && windows.opens_at(write.at, write.utc_offset_secs) > write.at
    {
        return broken("devices are asked in their windows", write, &windows.to_string());
    }
    if let Some(freeze) = account.freezes.iter().find(|freeze| freeze.holds(&write.device, write.at)) {
        return broken("nobody is asked in a freeze", write, &freeze.reason);
    }
    if let Some(ramp) = strategy.ramp {
        let minute_ago = Timestamp(write.at.as_millis().saturating_sub(60_000));
        account.pace.retain(|at| *at > minute_ago);
        account.pace.push(write.at);
        // A late turn may catch up with a second of it.
        let most = ramp.max_per_minute.min(ramp.per_minute.saturating_mul(ramp.factor.saturating_pow(30)));
        let most = if ramp.factor == 1 { ramp.per_minute } else { most };
        if account.pace.len() > (most + most.div_ceil(60) + 1) as usize {
            let detail = format!("{} in a minute, {most} allowed", account.pace.len());
            return broken("nobody is asked faster than the ramp", write, &detail);
        }
    }
    Ok(())
}

/// What must hold before what comes after a wave, unless a person let it pass.
fn check_gate(server: &Server, account: &Account, wave: usize, now: Timestamp) -> Result<(), Violation> {
    if account.promoted.contains(&wave) {
        return Ok(());
    }
    check_passed(account, wave)?;
    let said = |flag: fn(&Said) -> bool| {
        account.members(wave).filter(|device| account.said.get(*device).is_some_and(flag)).count()
    };
    let of = |detail: String| format!("{}, wave {}: {detail}", account.spec.id, wave + 1);
    let strategy = &account.spec.strategy;
    let condemned = said(|said| said.condemned);
    let limit = strategy.max_failed.limit(account.sizes[wave]);
    if condemned > limit && account.retried == 0 {
        let detail = of(format!("{condemned} devices failed, {limit} allowed"));
        return Err(Violation::new("a wave passes only with few failures", detail));
    }
    let status = server.rollout(&account.spec.id).map(fleet_core::Rollout::status);
    let counts = status.as_ref().and_then(|status| status.waves.get(wave)).map(|wave| wave.counts);
    let counts = counts.unwrap_or_default();
    if said(|said| said.committed) == 0 && counts.superseded < counts.devices {
        return Err(Violation::new("a wave passes only with evidence", of("nobody kept the release".into())));
    }
    if counts.in_progress > 0 {
        return Err(Violation::new("a wave passes only when all have settled", of(format!("{counts:?}"))));
    }
    let seen = counts.devices - counts.superseded - counts.not_seen;
    if counts.silent * 100 > seen * strategy.max_silent_percent as usize {
        let detail = of(format!("{} of {seen} are silent", counts.silent));
        return Err(Violation::new("a wave passes only with few silent devices", detail));
    }
    let is_compared =
        status.as_ref().and_then(|status| status.waves.get(wave)).is_some_and(|wave| wave.compared);
    let verdict = server.verdict(&account.spec.id, wave);
    if is_compared && !matches!(verdict, Some(MetricVerdict::Healthy { .. })) {
        let detail = of(verdict.map_or_else(|| "nobody judged it".into(), ToString::to_string));
        return Err(Violation::new(
            "a wave that is compared passes only when its metrics are healthy",
            detail,
        ));
    }
    let until = account.baking.get(&wave);
    let watches = account.bake_secs[wave] > 0 && !is_compared;
    if watches && until.is_none_or(|until| now < *until) {
        let detail = of(format!("it was to be watched until {until:?}"));
        return Err(Violation::new("a wave passes only after its bake time", detail));
    }
    Ok(())
}

fn check_counts(account: &Account, status: &RolloutStatus) -> Result<(), Violation> {
    let devices: BTreeSet<_> = status.devices.iter().map(|device| &device.device).collect();
    let counts = &status.counts;
    let outcomes = [
        counts.waiting,
        counts.in_progress,
        counts.committed,
        counts.rejected,
        counts.failed,
        counts.rolled_back,
        counts.silent,
        counts.superseded,
        counts.not_seen,
    ];
    let sum: usize = outcomes.iter().sum();
    let planned = account.waves.len() + account.late.len();
    if sum == planned
        && counts.devices == planned
        && devices.len() == planned
        && status.devices.len() == planned
    {
        return Ok(());
    }
    let detail = format!("{}: {counts:?} of {planned} planned devices", status.id);
    Err(Violation::new("every device stands in exactly one outcome", detail))
}

fn is_covered(progress: &Progress, said: Option<&Said>) -> bool {
    let said = |flag: fn(&Said) -> bool| said.is_some_and(flag);
    match progress {
        Progress::Committed { .. } => said(|said| said.committed),
        Progress::Rejected(_) => said(|said| said.rejected),
        Progress::Failed(_) => said(|said| said.failed),
        Progress::RolledBack(_) => said(|said| said.rolled_back),
        Progress::Superseded { by: None } => said(|said| said.superseded),
        _ => true,
    }
}

pub(super) fn broken(rule: &'static str, write: &Write, detail: &str) -> Result<(), Violation> {
    let Write { device, rollout, .. } = write;
    let detail = format!("{rollout} asks {device} in generation {}: {detail}", write.desired.generation);
    Err(Violation::new(rule, detail))
}
