//! What a device may do, as pure functions of its identity: publish to its own `up/` topics, subscribe to its own
//! `dn/` topics by their exact names, leave a will on its own state topic, and nothing else.

use shared::DeviceId;
use shared::topic::{Channel, Down, Topic, Up};

/// The only protocol version spoken: MQTT 3.1.1 has no way to say that a publish was refused.
const MQTT_5: u8 = 5;

/// What a CONNECT packet claims.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Protocol level.
    pub protocol: u8,
    /// Client id.
    pub client_id: &'a str,
    /// User name, if any.
    pub user_name: Option<&'a str>,
    /// Topic of the will, if any.
    pub will_topic: Option<&'a str>,
    /// Whether the will asks to be retained.
    pub will_retained: bool,
}

/// Why a CONNECT was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectRefusal {
    /// Not MQTT 5.
    #[error("only MQTT 5 is spoken here")]
    OldProtocol,
    /// The client id is not the certificate's common name.
    #[error("the client id is not the name in the certificate")]
    ForeignClientId,
    /// The user name is not the certificate's common name.
    #[error("the user name is not the name in the certificate")]
    ForeignUserName,
    /// The will is for a topic other than the device's own state.
    #[error("the will is not for the device's own state topic")]
    ForeignWill,
    /// The will asks to be retained.
    #[error("nothing is retained here")]
    RetainedWill,
}

/// Checks a CONNECT of the device whose certificate was verified.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_connect(device: &DeviceId, claim: Claim<'_>) -> Result<(), ConnectRefusal> {
    if claim.protocol != MQTT_5 {
        return Err(ConnectRefusal::OldProtocol);
    }
    if claim.client_id != device.as_str() {
        return Err(ConnectRefusal::ForeignClientId);
    }
    if claim.user_name.is_some_and(|name| name != device.as_str()) {
        return Err(ConnectRefusal::ForeignUserName);
    }
    let Some(will_topic) = claim.will_topic else { return Ok(()) };
    if own_up(device, will_topic) != Some(Up::State) {
        return Err(ConnectRefusal::ForeignWill);
    }
    if claim.will_retained { Err(ConnectRefusal::RetainedWill) } else { Ok(()) }
}

/// Which of its own topics `device` publishes to; `None` when `topic` is not one of them.
#[must_use]
pub fn own_up(device: &DeviceId, topic: &str) -> Option<Up> {
    match own(device, topic)? {
        Channel::Up(up) => Some(up),
        Channel::Down(_) => None,
    }
}

/// Which of its own topics `device` subscribes to; `None` when `filter` is not exactly one of them.
#[must_use]
pub fn own_down(device: &DeviceId, filter: &str) -> Option<Down> {
    match own(device, filter)? {
        Channel::Down(down) => Some(down),
        Channel::Up(_) => None,
    }
}

fn own(device: &DeviceId, topic: &str) -> Option<Channel> {
    let topic = Topic::parse(topic)?;
    (topic.device == *device).then_some(topic.channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> DeviceId {
        DeviceId::new(name).unwrap()
    }

    fn claim<'a>() -> Claim<'a> {
        Claim { protocol: 5, client_id: "cam-7", user_name: None, will_topic: None, will_retained: false }
    }

    #[test]
    fn a_device_publishes_to_its_own_up_topics_only() {
        let (own, other) = (device("cam-7"), device("cam-8"));
        for up in Up::ALL {
            assert_eq!(own_up(&own, &Topic::up(own.clone(), up).to_string()), Some(up));
            assert_eq!(own_up(&own, &Topic::up(other.clone(), up).to_string()), None);
        }
        for down in Down::ALL {
            assert_eq!(own_up(&own, &Topic::down(own.clone(), down).to_string()), None);
        }
    }

    #[test]
    fn a_device_subscribes_to_its_own_down_topics_only() {
        let (own, other) = (device("cam-7"), device("cam-8"));
        for down in Down::ALL {
            assert_eq!(own_down(&own, &Topic::down(own.clone(), down).to_string()), Some(down));
            assert_eq!(own_down(&own, &Topic::down(other.clone(), down).to_string()), None);
        }
        for up in Up::ALL {
            assert_eq!(own_down(&own, &Topic::up(own.clone(), up).to_string()), None);
        }
    }

    #[test]
    fn no_wildcard_share_or_variation_of_an_own_topic_passes() {
        let own = device("cam-7");
        for filter in [
            "#",
            "+",
            "",
            "/",
            "muster/1/d/cam-7/dn/#",
            "muster/1/d/cam-7/dn/+",
            "muster/1/d/+/dn/bl",
            "muster/1/d/cam-7/dn/bl/",
            "/muster/1/d/cam-7/dn/bl",
            "MUSTER/1/d/cam-7/dn/bl",
            "muster/1/d/cam-7/dn/bl/#",
            "muster/1/d/cam-77/dn/bl",
            "muster/1/d/cam-7/dn/bl\0",
            "$share/x/muster/1/d/cam-7/dn/bl",
            "$SYS/broker/uptime",
        ] {
            assert_eq!(own_down(&own, filter), None, "{filter:?}");
            assert_eq!(own_up(&own, &filter.replace("/dn/bl", "/up/st")), None, "{filter:?}");
        }
    }

    #[test]
    fn the_certificate_alone_says_who_connects() {
        let own = device("cam-7");
        assert_eq!(check_connect(&own, claim()), Ok(()));
        assert_eq!(check_connect(&own, Claim { user_name: Some("cam-7"), ..claim() }), Ok(()));
        let cases = [
            (Claim { protocol: 4, ..claim() }, ConnectRefusal::OldProtocol),
            (Claim { client_id: "cam-8", ..claim() }, ConnectRefusal::ForeignClientId),
            (Claim { client_id: "", ..claim() }, ConnectRefusal::ForeignClientId),
            (Claim { user_name: Some("admin"), ..claim() }, ConnectRefusal::ForeignUserName),
        ];
        for (claim, refusal) in cases {
            assert_eq!(check_connect(&own, claim), Err(refusal));
        }
    }

    #[test]
    fn a_will_speaks_only_on_the_own_state_topic_and_is_never_retained() {
        let own = device("cam-7");
        let with_will = |topic| Claim { will_topic: Some(topic), ..claim() };
        assert_eq!(check_connect(&own, with_will("muster/1/d/cam-7/up/st")), Ok(()));
        for topic in ["muster/1/d/cam-8/up/st", "muster/1/d/cam-7/up/tm", "muster/1/d/cam-7/dn/ds", "x"] {
            assert_eq!(check_connect(&own, with_will(topic)), Err(ConnectRefusal::ForeignWill));
        }
        let retained = Claim { will_retained: true, ..with_will("muster/1/d/cam-7/up/st") };
        assert_eq!(check_connect(&own, retained), Err(ConnectRefusal::RetainedWill));
    }
}
