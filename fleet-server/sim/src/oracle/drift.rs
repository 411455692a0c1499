//! Rules for what follows from a drift alarm.

use fleet_core::{DriftAlarm, OnAlarm, State};
use muster_sketch::detector::{MIN_GROUP_DEVICES, Scope};
use shared::ReleaseId;

use super::{Oracle, Violation, books::Account, rollout::broken};
use crate::server::{Server, Write};

impl Oracle {
    /// An alarm was raised; rollouts of the release that had it on a device and were still under way had to hear of it.
    pub(super) fn check_alarm(
        &mut self,
        server: &Server,
        release: &ReleaseId,
        alarm: &DriftAlarm,
    ) -> Result<(), Violation> {
        let may_be_the_release = match &alarm.scope {
            Scope::Model => true,
            Scope::World => alarm.others < MIN_GROUP_DEVICES,
            Scope::Stratum { .. } | Scope::Sensor { .. } => false,
        };
        let concerned = self.rollouts.values_mut().filter(|account| account.spec.release == *release);
        for account in concerned.filter(|account| may_be_the_release && !account.asked.is_empty()) {
            let Some(rollout) = server.rollout(&account.spec.id) else { continue };
            let Some(wave) = rollout.active_wave().filter(|wave| *wave < account.sizes.len()) else {
                continue;
            };
            match account.spec.strategy.drift.on_alarm {
                OnAlarm::Rollback => {
                    let detail = format!("{} goes on in wave {}", account.spec.id, wave + 1);
                    return Err(Violation::new("drift stops a rollout that does not bear it", detail));
                }
                OnAlarm::Hold if !matches!(rollout.state(), State::AwaitingApproval { .. }) => {
                    account.alarmed.insert(wave);
                }
                OnAlarm::Hold | OnAlarm::Ignore => {}
            }
        }
        Ok(())
    }
}

impl Account {
    /// True while nobody new may be asked because of an alarm in this wave. What a retry asks for again is another matter: a
    /// person has looked at the rollout.
    fn is_held_by_drift(&self, wave: usize) -> bool {
        self.alarmed.contains(&wave) && !self.promoted.contains(&wave) && self.retried == 0
    }
}

pub(super) fn check_not_held(account: &Account, write: &Write) -> Result<(), Violation> {
    match write.state {
        State::Running { wave } if account.is_held_by_drift(wave) => {
            broken("nobody is asked while a wave is held for drift", write, &format!("wave {}", wave + 1))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_passed(account: &Account, wave: usize) -> Result<(), Violation> {
    if account.is_held_by_drift(wave) {
        let detail = format!("{}, wave {}", account.spec.id, wave + 1);
        return Err(Violation::new("a wave that is held for drift passes only by a person's word", detail));
    }
    Ok(())
}
