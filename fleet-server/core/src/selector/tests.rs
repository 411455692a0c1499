use proptest::prelude::*;

use super::*;

fn labels(text: &str) -> Labels {
    text.split_whitespace().map(|label| shared::device::parse_label(label).unwrap()).collect()
}

fn selects(selector: &str, device: &str, having: &str) -> bool {
    Selector::parse(selector).unwrap().matches(&DeviceId::new(device).unwrap(), &labels(having))
}

#[test]
fn every_condition_must_hold() {
    assert!(selects("site=berlin,env!=lab", "cam-1", "site=berlin env=prod"));
    assert!(!selects("site=berlin,env!=lab", "cam-1", "site=berlin env=lab"));
    assert!(!selects("site=berlin,env!=lab", "cam-1", "site=paris"));
    assert!(selects("all", "cam-1", ""));
    assert!(!selects("all,site=berlin", "cam-1", ""));
}

#[test]
fn a_device_without_the_label_is_not_equal_to_any_value() {
    assert!(selects("env!=lab", "cam-1", ""));
    assert!(!selects("env=lab", "cam-1", ""));
    assert!(!selects("env in (lab,prod)", "cam-1", ""));
}

#[test]
fn devices_can_be_named() {
    assert!(selects("id=cam-1", "cam-1", "id=other"));
    assert!(selects("id in (cam-1, cam-2)", "cam-2", ""));
    assert!(!selects("id!=cam-1", "cam-1", ""));
}

#[test]
fn a_mistake_is_told_with_its_place_and_a_remedy() {
    let told = |text: &str| Selector::parse(text).unwrap_err().to_string();
    assert_eq!(
        told(""),
        "selector, character 1: nothing here; write `all`, k=v, k!=v, k in (a,b) or id=DEVICE"
    );
    assert_eq!(
        told("site=berlin, banana"),
        "selector, character 14: 'banana' is not a condition; write `all`, k=v, k!=v, k in (a,b) or id=DEVICE"
    );
    assert_eq!(told("k in (a,b"), "selector, character 6: this '(' is never closed; add ')'");
    assert_eq!(told("a=b)"), "selector, character 4: this ')' closes nothing; remove it");
    assert!(told("site=").contains("'site=' is not a label"));
    assert!(told("id=a/b").contains("'a/b' is not a device id"));
    assert!(told("k in ()").contains("'k=' is not a label"));
}

#[test]
fn an_endless_selector_is_refused() {
    assert!(Selector::parse(&"a=b,".repeat(MAX_SELECTOR_BYTES)).is_err());
}

proptest! {
    #[test]
    fn any_text_is_refused_or_survives_a_round_trip(text in "[a-c=!,() in]{0,24}|\\PC{0,40}") {
        if let Ok(selector) = Selector::parse(&text) {
            prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
        }
    }
}
