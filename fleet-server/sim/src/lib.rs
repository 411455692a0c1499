//! A whole fleet in one thread and no time at all: the machines of devices and server in a virtual world.
//!
//! ```text
//! Story ──▶ World: one clock, one queue, a network that loses, repeats, delays
//!             ├─ Server          plan, rollouts, desired states with generations   (fleet-core)
//!             ├─ VirtualDevice   the agent's machine with a shell of virtual time  (agent-core)
//!             └─ Oracle          looks after every event: what may never be, and what must come to pass
//! ```
//!
//! A [`Story`] is data: a seed makes one up ([`made_up`]), a person writes one down as TOML. The same story gives the same
//! world, event for event, so a seed is all that a failure must print.
//!
//! A [`LiveStory`] is written nearly alike and is for another stage: a [`VirtualDevice`] with a shell that stands before
//! a real server, in real time. A [`Rehearsal`] tells it here before that, to both cores and under the oracle.

mod catalog;
mod device;
mod live;
mod nature;
mod oracle;
mod random;
mod scenario;
mod seeded;
mod server;
mod story;
mod transcript;
mod wire;
mod world;

pub use catalog::{Catalog, Published, file_name, vouched};
pub use device::{Ending, Profile, VirtualDevice};
pub use live::{
    Class, Crowd, Expectation, LiveAct, LiveDevices, LiveRelease, LiveStory, LiveTimed, Member, NoLiveStory,
    NoRehearsal, Rehearsal, Rehearsed, Steady, Who, read_live_story,
};
pub use nature::Nature;
pub use oracle::{Oracle, Violation};
pub use random::Random;
pub use scenario::{NoStory, read_story, transcribe};
pub use seeded::made_up;
pub use server::{Desired, Flaw, Purpose, Row, Server, Unheard, Write};
pub use story::{Act, BEGIN, Character, DeviceStory, Moment, Network, ReleaseStory, Story, Timed};
pub use transcript::{Detail, Transcript, sentence, tell_counts};
pub use wire::{BlockNews, Down, Up};
pub use world::{End, Standing, World, tell};
