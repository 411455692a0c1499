//! What the story does to a device.

use std::time::Duration;

use muster_sim::Ending;
use tokio::time::Instant;

use super::{Life, Link, POWER_BACK};

/// An agent that is restarted in order is back after this long, as in virtual time.
const RESTART: Duration = Duration::from_secs(5);

/// Something that befalls a device.
#[derive(Debug, Clone, Copy)]
pub(in crate::sim) enum Order {
    Cut,
    Reconnect,
    Flap { every: Duration, down: Duration, until: Instant },
    PowerCut { after_effects: u32 },
    Restart,
    Die,
    Mute,
    Clock { ahead_ms: i64 },
    KillRunner,
    DamageDisk,
    Traffic { per_minute: u32 },
}

/// A link that breaks again and again.
pub(super) struct Flap {
    every: Duration,
    down: Duration,
    until: Instant,
    pub(super) next: Instant,
}

impl Life {
    pub(super) async fn obey(&mut self, order: Order) {
        if self.dead {
            return;
        }
        match order {
            Order::Cut => {
                self.cut = true;
                self.drop_link();
            }
            Order::Reconnect => {
                self.cut = false;
                self.attempts = 0;
                if matches!(self.link, Link::Down) {
                    self.redial();
                }
            }
            Order::Flap { every, down, until } => {
                let mut flap = Flap { every, down, until, next: Instant::now() };
                flap.next += self.about(every);
                self.flap = Some(flap);
            }
            Order::PowerCut { after_effects: 0 } => self.end_life(Ending::PowerCut, POWER_BACK),
            Order::PowerCut { after_effects } => self.device.cut_power_after(after_effects),
            Order::Restart => self.restart().await,
            Order::Die => {
                self.end_life(Ending::PowerCut, POWER_BACK);
                (self.dead, self.power_back, self.flap) = (true, None, None);
            }
            Order::Mute => self.mute = true,
            Order::Clock { ahead_ms } => self.device.set_clock(ahead_ms),
            Order::KillRunner => self.device.kill_runner(self.now()),
            Order::DamageDisk => {
                self.device.damage_disk();
                self.device.kill_runner(self.now());
            }
            Order::Traffic { per_minute } => self.device.set_traffic(per_minute),
        }
    }

    async fn restart(&mut self) {
        if let Link::Up(session) = std::mem::replace(&mut self.link, Link::Down) {
            let counters = &self.surroundings.counters;
            counters.connected.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            // Who cannot be told goodbye is gone anyway.
            let _ = session.goodbye().await;
            self.device.disconnected(self.now());
        }
        self.end_life(Ending::Stopped, RESTART);
    }

    /// Breaks the link if it stands, and says when it breaks next.
    pub(super) fn flap(&mut self, now: Instant) {
        let Some(mut flap) = self.flap.take() else { return };
        if flap.until <= now {
            return;
        }
        if matches!(self.link, Link::Up(_)) {
            self.drop_link();
            self.attempts = 0;
            if !self.cut {
                self.link = Link::Waiting(now + flap.down);
            }
        }
        flap.next = now + self.about(flap.every);
        self.flap = Some(flap);
    }

    /// Half as much more or less, so that links do not break as one.
    fn about(&mut self, time: Duration) -> Duration {
        let percent = u32::try_from(self.random.between(50, 150)).unwrap_or(100);
        time * percent / 100
    }
}
