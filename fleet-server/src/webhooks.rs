//! Tells other systems what happened: each event that a webhook asks for is posted to its address, signed.
//!
//! There is no queue of things to be sent. What happened stands among the events, written in the transaction of what caused it,
//! and a webhook is a place in them: the number of the last event that its receiver has taken. A delivery is: read the next
//! event that is wanted, post it, write down its number. So nothing is lost, whatever dies when, and the order is that of the
//! events. What dies between the answer of the receiver and the writing down is delivered again, under the same id, by which
//! receivers drop it.
//!
//! Only the server that holds the lease over time delivers (see [`crate::servers`]), each webhook in a task of its own, so that a
//! slow receiver holds up nobody else's. A receiver that fails is tried again, at longer and longer intervals, and given up after days
//! ([`schedule`]). Nothing behind a failed delivery is tried: order is promised.
//!
//! What decides is without IO: [`filter`] which events, [`envelope`] what is said of them, [`secret`] how it is signed, [`schedule`]
//! when. [`send`] posts, and [`task`] puts it together.

mod address;
mod envelope;
mod filter;
mod schedule;
mod secret;
mod send;
mod task;

pub use address::{BadAddress, Trust, check_address, host_of};
pub use envelope::{Envelope, test_envelope};
pub use filter::{BadFilter, EventFilter, KINDS};
pub use schedule::{GIVE_UP_AFTER, Standing, Then};
pub use secret::{Signature, WebhookSecret};
pub use send::{BadCertificate, Failure, FailureKind, Sender};
pub use task::run;

/// Kind of the events about webhooks themselves.
pub(crate) const KIND: &str = "webhook";
