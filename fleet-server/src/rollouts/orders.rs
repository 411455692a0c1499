//! What people order.

use fleet_core::Input;

/// What a person wants of a rollout that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Ask nobody new.
    Pause,
    /// Go on.
    Resume,
    /// Agree that the wave is asked which waits for it.
    Approve {
        /// Which wave, counted from 0.
        wave: usize,
    },
    /// Let the wave under way pass.
    Promote {
        /// Which wave, counted from 0.
        wave: usize,
    },
    /// Ask the devices again that failed or fell silent.
    Retry,
    /// Stop for good and leave devices as they are.
    Halt {
        /// Why.
        reason: String,
    },
    /// Take the release away again.
    Rollback,
}

impl Order {
    /// Its name in the audit log.
    pub(super) fn action(&self) -> &'static str {
        match self {
            Self::Pause => "rollout.pause",
            Self::Resume => "rollout.resume",
            Self::Approve { .. } => "rollout.approve",
            Self::Promote { .. } => "rollout.promote",
            Self::Retry => "rollout.retry",
            Self::Halt { .. } => "rollout.order_halt",
            Self::Rollback => "rollout.order_rollback",
        }
    }

    /// What the machine is told.
    pub(super) fn input(self, by: String) -> Input {
        match self {
            Self::Pause => Input::Pause { by },
            Self::Resume => Input::Resume { by },
            Self::Approve { wave } => Input::Approve { wave, by },
            Self::Promote { wave } => Input::Promote { wave, by },
            Self::Retry => Input::Retry { by },
            Self::Halt { reason } => Input::Halt { by, reason },
            Self::Rollback => Input::Rollback { by },
        }
    }
}
