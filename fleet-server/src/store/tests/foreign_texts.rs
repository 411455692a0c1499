//! Texts that devices and people wrote, with characters that a database may refuse.

use shared::report::RejectReason;

use super::*;

on_each_database! {
    a_report_with_a_nul_is_stored_and_its_audit_entry_is_printable,
    reasons_that_people_gave_are_printable,
}

const BAD: &str = "x\0\x1b[2J\ny";
const PRINTABLE: &str = "x\u{fffd}\u{fffd}[2J\ny";

async fn a_report_with_a_nul_is_stored_and_its_audit_entry_is_printable(scene: &Scene) {
    let store = scene.open().await;
    add_device(&store).await;
    let report = Report {
        device: device_id(),
        boot: BootId::new("b1").unwrap(),
        sequence: 1,
        at: NOW,
        generation: Generation(1),
        release: release(),
        event: DeploymentEvent::Rejected(RejectReason::LoadFailed { detail: BAD.into() }),
    };
    let mut tx = store.begin().await.unwrap();
    assert!(Store::insert_report(&mut tx, &report, NOW).await.unwrap());
    Store::insert_event(&mut tx, NOW, "rollout", "r1", &report.event).await.unwrap();
    Store::audit(&mut tx, NOW, BAD, "rollout.halt", BAD, BAD).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.reports_of(&device_id()).await.unwrap()[0].report, report);
    assert_eq!(store.verify_audit().await.unwrap(), 1);
    let entry = store.audit_after(0).await.unwrap().remove(0);
    assert_eq!([entry.actor, entry.subject, entry.detail], [PRINTABLE; 3]);
}

async fn reasons_that_people_gave_are_printable(scene: &Scene) {
    let store = scene.open().await;
    add_device(&store).await;
    let freeze = NewFreeze {
        from: NOW,
        until: NOW + HOUR,
        reason: BAD.into(),
        selector: None,
        created_by: "ops".into(),
    };
    let token = NewToken {
        name: BAD.into(),
        prefix: "p".into(),
        hash: "h".into(),
        role: Role::Viewer,
        expires_at: None,
    };
    let mut tx = store.begin().await.unwrap();
    let added = Store::insert_freeze(&mut tx, &freeze, NOW).await.unwrap().unwrap();
    Store::set_quarantine_reason(&mut tx, &device_id(), Some(BAD)).await.unwrap();
    Store::insert_token(&mut tx, &token, NOW).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(added.reason, PRINTABLE);
    assert_eq!(store.freezes().await.unwrap(), [added]);
    assert_eq!(
        store.device(&device_id()).await.unwrap().unwrap().quarantine_reason.as_deref(),
        Some(PRINTABLE)
    );
    assert_eq!(store.tokens().await.unwrap()[0].name, PRINTABLE);
}
