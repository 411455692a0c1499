use proptest::prelude::*;

use super::*;

fn labels(text: &str) -> Labels {
    text.split_whitespace().map(|label| shared::device::parse_label(label).unwrap()).collect()
}

fn selects(selector: &str, device: &str, having: &str) -> bool {
    let inventory = Inventory::default();
    Selector::parse(selector).unwrap().matches(&DeviceId::new(device).unwrap(), &labels(having), &inventory)
}

fn selects_one_that_is(selector: &str, inventory: &Inventory) -> bool {
    Selector::parse(selector).unwrap().matches(&DeviceId::new("cam-1").unwrap(), &labels("tier=a"), inventory)
}

fn small() -> Inventory {
    Inventory { arch: "aarch64".into(), cpus: 4, memory_mib: 512, disk_free_mib: 0, ..Inventory::default() }
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
        "selector, character 1: nothing here; write `all`, k=v, k!=v, k in (a,b), id=DEVICE or mem_mib>=512"
    );
    assert_eq!(
        told("site=berlin, banana"),
        "selector, character 14: 'banana' is not a condition; write `all`, k=v, k!=v, k in (a,b), id=DEVICE or mem_mib>=512"
    );
    assert_eq!(told("k in (a,b"), "selector, character 6: this '(' is never closed; add ')'");
    assert_eq!(told("a=b)"), "selector, character 4: this ')' closes nothing; remove it");
    assert!(told("site=").contains("'site=' is not a label"));
    assert!(told("id=a/b").contains("'a/b' is not a device id"));
    assert!(told("k in ()").contains("'k=' is not a label"));
}

#[test]
fn devices_are_selected_by_what_they_are() {
    for selector in [
        "mem_mib>=512",
        "mem_mib<=512,tier in (a,b)",
        "mem_mib > 511",
        "cpus<5",
        "disk_mib<1",
        "arch=aarch64",
    ] {
        assert!(selects_one_that_is(selector, &small()), "{selector}");
    }
    for selector in
        ["mem_mib>512", "mem_mib<512", "cpus>=5", "disk_mib>0", "arch!=aarch64", "arch in (x86_64)"]
    {
        assert!(!selects_one_that_is(selector, &small()), "{selector}");
    }
}

#[test]
fn a_device_that_never_told_what_it_is_is_neither_small_nor_large() {
    for selector in
        ["mem_mib>=0", "mem_mib<1000000", "cpus<=0", "disk_mib<1", "arch=aarch64", "hardening=full"]
    {
        assert!(!selects_one_that_is(selector, &Inventory::default()), "{selector}");
    }
    assert!(selects_one_that_is("arch!=aarch64", &Inventory::default()));
}

#[test]
fn a_number_is_compared_by_size_and_only_numbers_are() {
    let told = |text: &str| Selector::parse(text).unwrap_err().to_string();
    assert!(told("mem_mib=512").contains("mem_mib is a number; write mem_mib>=N"), "{}", told("mem_mib=512"));
    assert!(told("mem_mib in (1,2)").contains("is a number"));
    assert!(
        told("site>3")
            .contains("'site' is not a number that devices tell; these are: mem_mib, disk_mib, cpus")
    );
    assert!(told("cpus>=four").contains("'four' is not a whole number; write cpus>=512"));
}

#[test]
fn an_endless_selector_is_refused() {
    assert!(Selector::parse(&"a=b,".repeat(MAX_SELECTOR_BYTES)).is_err());
}

proptest! {
    #[test]
    fn any_text_is_refused_or_survives_a_round_trip(text in "[a-c=!<>,() in0-9]{0,24}|(mem_mib|cpus)[<>=]{1,2}[0-9]{1,3}|\\PC{0,40}") {
        if let Ok(selector) = Selector::parse(&text) {
            prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
        }
    }
}
