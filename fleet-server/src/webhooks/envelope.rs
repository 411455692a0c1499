//! What is said of an event: a CloudEvent (CNCF, version 1.0) in its structured JSON form, the document of the event inside.
//!
//! Source and id name an event for ever: the source is the fleet and not one of its servers, and the id holds the event's
//! number and its time, so that a database that was brought back from a copy gives no old id to a new event. A second delivery is
//! the same to the byte.

use serde::Serialize;
use serde_json::{Value, json};
use shared::{Digest, Timestamp};
use uuid::Uuid;

use super::filter::full_name;
use crate::store::EventRow;

/// What deliveries are.
pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Begins the types of our events, as the specification wants: the reversed name of who defines them.
const TYPES: &str = "dev.muster";

/// Something to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The id, in the body and in `webhook-id`.
    pub id: String,
    /// The body.
    pub body: Vec<u8>,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    r#type: String,
    subject: &'a str,
    time: String,
    datacontenttype: &'static str,
    /// An extension: digits of one length, so that texts are in the order of events.
    sequence: String,
    data: &'a Value,
}

impl Envelope {
    /// What is said of an event of the fleet with this CA.
    #[must_use]
    pub fn of(row: &EventRow, fleet: Digest) -> Self {
        let id = format!("evt_{}_{}", row.sequence, row.at.as_millis());
        let event = CloudEvent {
            specversion: "1.0",
            id: &id,
            source: format!("urn:muster:fleet:{}", fleet.to_string().trim_start_matches("sha256:")),
            r#type: format!("{TYPES}.{}", full_name(row)),
            subject: &row.subject,
            time: rfc3339(row.at),
            datacontenttype: "application/json",
            sequence: format!("{:020}", row.sequence),
            data: &row.document,
        };
        let body = serde_json::to_vec(&event).expect("texts and a JSON value are JSON");
        Self { id, body }
    }
}

/// A delivery that is asked for to see whether it arrives; of no event.
#[must_use]
pub fn test_envelope(webhook: &str, by: &str, now: Timestamp, fleet: Digest) -> Envelope {
    let document = json!({"event": "test", "by": by});
    let row = EventRow { sequence: 0, at: now, kind: super::KIND.into(), subject: webhook.into(), document };
    let Envelope { id, body } = Envelope::of(&row, fleet);
    // No event has it, and no second test.
    let own = format!("test_{}", Uuid::new_v4().simple());
    let text = String::from_utf8(body).expect("JSON is text").replacen(&id, &own, 1);
    Envelope { id: own, body: text.into_bytes() }
}

fn rfc3339(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(1_800_000_000_250);

    fn fleet() -> Digest {
        Digest::of(b"ca")
    }

    fn read(envelope: &Envelope) -> Value {
        serde_json::from_slice(&envelope.body).unwrap()
    }

    #[test]
    fn an_event_becomes_a_cloud_event_that_is_the_same_each_time() {
        let document = json!({"event": "drift.detected", "alarm": {"id": 7}});
        let row = EventRow { sequence: 42, at: AT, kind: "drift".into(), subject: "digits".into(), document };
        let envelope = Envelope::of(&row, fleet());
        let event = read(&envelope);
        assert_eq!(
            (&event["specversion"], &event["type"]),
            (&json!("1.0"), &json!("dev.muster.drift.detected"))
        );
        assert_eq!((&event["subject"], &event["data"]["alarm"]["id"]), (&json!("digits"), &json!(7)));
        assert_eq!(
            (&event["time"], &event["datacontenttype"]),
            (&json!("2027-01-15T08:00:00.25Z"), &json!("application/json"))
        );
        assert_eq!((event["id"].as_str().unwrap(), &*envelope.id), (&*envelope.id, "evt_42_1800000000250"));
        let source = event["source"].as_str().unwrap();
        assert!(
            source.starts_with("urn:muster:fleet:") && source.len() > 60 && !source.contains("sha256"),
            "{source}"
        );
        assert_eq!(Envelope::of(&row, fleet()), envelope);
    }

    #[test]
    fn a_document_without_a_name_has_the_type_of_its_kind() {
        let row = EventRow {
            sequence: 1,
            at: AT,
            kind: "rollout".into(),
            subject: "r1".into(),
            document: json!("x"),
        };
        assert_eq!(read(&Envelope::of(&row, fleet()))["type"], "dev.muster.rollout");
    }

    #[test]
    fn no_two_tests_have_the_same_id() {
        let test = || test_envelope("ab12", "ann", AT, fleet());
        let (one, other) = (test(), test());
        assert_ne!(one.id, other.id);
        let event = read(&one);
        assert_eq!(
            (&event["type"], event["id"].as_str()),
            (&json!("dev.muster.webhook.test"), Some(&*one.id))
        );
    }
}
