//! Which publishes are on their way, and what becomes of them when a connection ends.
//!
//! `rumqttc` numbers packets itself and tells the number only when it sends, in order; hence two queues:
//! *submitted* (handed over, number unknown) and *in flight* (number known, not acknowledged). When a connection
//! ends, both go back to *waiting* in the order of their first submission; QoS 0 and what was only offered are left out.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::{LinkError, Message, Qos};

/// Handed to `rumqttc` and not yet sent: small, so that a goodbye or an acknowledgement never queues far behind.
pub(crate) const MAX_SUBMITTED: usize = 4;

/// How long a message is worth sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Over every reconnect, until it is acknowledged.
    Acknowledged,
    /// No longer than the connection of this number lasts.
    EndOf(u64),
}

/// A message with someone who may be waiting for its acknowledgement.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) message: Message,
    pub(crate) until: Until,
    pub(crate) done: Option<oneshot::Sender<Result<(), LinkError>>>,
}

impl Outbound {
    /// Tells the waiting publisher, if there is one.
    pub(crate) fn finish(self, result: Result<(), LinkError>) {
        if let Some(done) = self.done {
            // A publisher that stopped waiting has nothing to be told.
            let _ = done.send(result);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Outbound>,
    submitted: VecDeque<Outbound>,
    in_flight: VecDeque<(u16, Outbound)>,
}

impl Outbox {
    /// Nothing anywhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.submitted.is_empty() && self.in_flight.is_empty()
    }

    /// Whether one more may be submitted when `window` unacknowledged ones are allowed.
    pub(crate) fn has_room(&self, window: usize) -> bool {
        self.submitted.len() < MAX_SUBMITTED && self.submitted.len() + self.in_flight.len() < window
    }

    /// The oldest message left over from an earlier connection.
    pub(crate) fn pop_waiting(&mut self) -> Option<Outbound> {
        self.waiting.pop_front()
    }

    /// Whether an earlier connection left something.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Notes that `outbound` was handed to the client.
    pub(crate) fn submitted(&mut self, outbound: Outbound) {
        self.submitted.push_back(outbound);
    }

    /// Notes that the client sent its oldest submitted message under `packet_id` (0 for QoS 0).
    pub(crate) fn sent(&mut self, packet_id: u16) {
        let Some(outbound) = self.submitted.pop_front() else { return };
        match outbound.message.qos {
            Qos::AtMostOnce => outbound.finish(Ok(())),
            Qos::AtLeastOnce => self.in_flight.push_back((packet_id, outbound)),
        }
    }

    /// Takes out what was acknowledged under `packet_id`.
    pub(crate) fn acknowledged(&mut self, packet_id: u16) -> Option<Outbound> {
        let place = self.in_flight.iter().position(|(id, _)| *id == packet_id)?;
        self.in_flight.remove(place).map(|(_, outbound)| outbound)
    }

    /// The connection is gone: what must be repeated waits again, in order, before what waited already.
    pub(crate) fn connection_lost(&mut self) {
        let in_flight = self.in_flight.drain(..).map(|(_, outbound)| outbound);
        let (repeat, lost): (Vec<_>, Vec<_>) =
            in_flight.chain(self.submitted.drain(..)).partition(|out| out.until == Until::Acknowledged);
        for outbound in repeat.into_iter().rev() {
            self.waiting.push_front(outbound);
        }
        for outbound in lost {
            outbound.finish(Err(LinkError::Offline));
        }
    }

    /// The link is stopped: nobody will send these any more.
    pub(crate) fn abandon(&mut self) {
        self.connection_lost();
        for outbound in self.waiting.drain(..) {
            outbound.finish(Err(LinkError::Stopped));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound(topic: &str, qos: Qos) -> Outbound {
        let until = if qos == Qos::AtLeastOnce { Until::Acknowledged } else { Until::EndOf(1) };
        Outbound { message: Message { topic: topic.into(), qos, payload: "x".into() }, until, done: None }
    }

    fn drain(outbox: &mut Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.pop_waiting()).map(|out| out.message.topic).collect()
    }

    #[test]
    fn a_lost_connection_repeats_everything_unacknowledged_in_order() {
        let mut outbox = Outbox::default();
        for topic in ["a", "b", "c", "d"] {
            outbox.submitted(outbound(topic, Qos::AtLeastOnce));
        }
        (1..=3).for_each(|id| outbox.sent(id));
        assert_eq!(outbox.acknowledged(1).unwrap().message.topic, "a");
        outbox.connection_lost();
        assert_eq!(drain(&mut outbox), ["b", "c", "d"]);
    }

    #[test]
    fn a_lost_connection_forgets_qos_0() {
        let mut outbox = Outbox::default();
        outbox.submitted(outbound("request", Qos::AtMostOnce));
        outbox.submitted(outbound("report", Qos::AtLeastOnce));
        outbox.connection_lost();
        assert_eq!(drain(&mut outbox), ["report"]);
    }

    #[test]
    fn a_lost_connection_forgets_what_its_user_repeats() {
        let mut outbox = Outbox::default();
        outbox.submitted(Outbound { until: Until::EndOf(1), ..outbound("window", Qos::AtLeastOnce) });
        outbox.submitted(Outbound { until: Until::EndOf(1), ..outbound("window", Qos::AtLeastOnce) });
        outbox.sent(1);
        outbox.connection_lost();
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_second_loss_keeps_the_first_order() {
        let mut outbox = Outbox::default();
        for topic in ["a", "b", "c"] {
            outbox.submitted(outbound(topic, Qos::AtLeastOnce));
        }
        outbox.connection_lost();
        let first = outbox.pop_waiting().unwrap();
        outbox.submitted(first);
        outbox.connection_lost();
        assert_eq!(drain(&mut outbox), ["a", "b", "c"]);
    }

    #[test]
    fn the_window_counts_submitted_and_sent() {
        let mut outbox = Outbox::default();
        assert!(outbox.has_room(2));
        outbox.submitted(outbound("a", Qos::AtLeastOnce));
        outbox.sent(1);
        outbox.submitted(outbound("b", Qos::AtLeastOnce));
        assert!(!outbox.has_room(2));
        outbox.acknowledged(1);
        assert!(outbox.has_room(2));
    }

    #[test]
    fn an_acknowledgement_for_nothing_changes_nothing() {
        let mut outbox = Outbox::default();
        assert!(outbox.acknowledged(9).is_none());
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_stopped_link_tells_those_who_wait() {
        let mut outbox = Outbox::default();
        let (done, mut waiter) = oneshot::channel();
        outbox.submitted(Outbound { done: Some(done), ..outbound("a", Qos::AtLeastOnce) });
        outbox.abandon();
        assert_eq!(waiter.try_recv().unwrap(), Err(LinkError::Stopped));
        assert!(outbox.is_empty());
    }
}
