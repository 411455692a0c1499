//! What an act of a story means for a device.

use std::time::Duration;

use muster_sim::LiveAct;
use tokio::time::Instant;

use crate::sim::life::Order as DeviceOrder;

/// What devices are ordered, and in words.
pub(super) fn order_of(act: &LiveAct, begin: Instant) -> Option<(DeviceOrder, String)> {
    Some(match *act {
        LiveAct::Cut { .. } => (DeviceOrder::Cut, "are cut off".to_owned()),
        LiveAct::Reconnect { .. } => (DeviceOrder::Reconnect, "can connect again".to_owned()),
        LiveAct::Outage { for_secs, .. } => (DeviceOrder::Cut, format!("are cut off for {for_secs} s")),
        LiveAct::Flap { every_secs, down_secs, until, .. } => {
            let order = DeviceOrder::Flap {
                every: Duration::from_secs(every_secs),
                down: Duration::from_secs(down_secs),
                until: begin + Duration::from_secs(until.secs),
            };
            (order, format!("lose their links about every {every_secs} s for {down_secs} s, until {until}"))
        }
        LiveAct::PowerCut { after_effects, .. } => {
            (DeviceOrder::PowerCut { after_effects }, format!("lose power after {after_effects} effects"))
        }
        LiveAct::Restart { .. } => (DeviceOrder::Restart, "are restarted".to_owned()),
        LiveAct::Die { .. } => (DeviceOrder::Die, "die".to_owned()),
        LiveAct::Mute { .. } => (DeviceOrder::Mute, "fall silent".to_owned()),
        LiveAct::Clock { ahead_secs, .. } => {
            let ahead_ms = ahead_secs.saturating_mul(1_000);
            (DeviceOrder::Clock { ahead_ms }, format!("will have a clock {ahead_secs} s ahead"))
        }
        LiveAct::KillRunner { .. } => (DeviceOrder::KillRunner, "lose their runner".to_owned()),
        LiveAct::DamageDisk { .. } => (DeviceOrder::DamageDisk, "have a damaged disk".to_owned()),
        LiveAct::Traffic { per_minute, .. } => {
            (DeviceOrder::Traffic { per_minute }, format!("get {per_minute} requests in a minute"))
        }
        LiveAct::Start { .. }
        | LiveAct::Pause { .. }
        | LiveAct::Resume { .. }
        | LiveAct::Promote { .. }
        | LiveAct::Retry { .. }
        | LiveAct::Halt { .. }
        | LiveAct::RollBack { .. } => return None,
    })
}
