//! A disk that is full, and one that fails: what runs goes on, and nothing is taken for durable that is not.

use std::sync::Arc;

use agent_core::Input;
use agent_store::LedgerFile;
use shared::Timestamp;

use crate::{
    disk::{SimDisk, Synced},
    facts::Facts,
    image::Image,
    server::{Nature, Server},
    world::World,
};

fn server() -> Server {
    Server::new(|_, _| Nature::Good)
}

fn world(server: &mut Server) -> World {
    let disk = SimDisk::new(Image::empty(), Arc::new(Facts::default()));
    disk.state().records = false;
    let mut world = World::start(disk, 0, Timestamp(1_700_000_000_000), true).unwrap().unwrap();
    world.connect(server).unwrap();
    order(&mut world, server, "digits@1");
    world
}

fn order(world: &mut World, server: &mut Server, release: &str) {
    server.desire(vec![release.parse().unwrap()]);
    let generation = server.generation;
    world.give(server, Input::DesiredArrived { generation }).unwrap();
    world.live(server).unwrap();
}

fn committed(world: &World) -> String {
    let record = world.facts.saved.ledger.models.values().next().unwrap();
    record.committed.as_ref().unwrap().release.to_string()
}

#[test]
fn a_full_disk_cannot_stop_a_save() {
    let disk = SimDisk::new(Image::empty(), Arc::new(()));
    let (mut file, _) = LedgerFile::open_with_room::<String>(disk.clone(), "".into(), 1_024).unwrap();
    file.save(&"first").unwrap();
    disk.state().capacity = 0;
    for length in 0..900 {
        file.save(&"x".repeat(length)).unwrap();
    }
    let (mut file, found) = LedgerFile::open_with_room::<String>(disk, "".into(), 1_024).unwrap();
    assert_eq!(found.unwrap().len(), 899);
    file.save(&"after a restart").unwrap();
}

#[test]
fn an_update_on_a_full_disk_ends_and_the_old_version_stays() {
    let mut server = server();
    let mut world = world(&mut server);
    world.disk.state().capacity = 0;
    order(&mut world, &mut server, "digits@2");
    assert_eq!(committed(&world), "digits@1");
    world.disk.state().capacity = usize::MAX;
    order(&mut world, &mut server, "digits@3");
    assert_eq!(committed(&world), "digits@3");
}

#[test]
fn a_file_whose_sync_failed_is_never_synced_again_as_it_is() {
    let mut server = server();
    let syncs = world(&mut server).disk.state().syncs.values().sum::<usize>();
    for fails_after in 0..3 * syncs {
        let mut server = self::server();
        let mut world = world(&mut server);
        world.disk.state().fails_after = Some(fails_after);
        for release in ["digits@2", "digits@3"] {
            order(&mut world, &mut server, release);
            // What failed was a save: the daemon tries again.
            order(&mut world, &mut server, release);
        }
        let state = world.disk.state();
        assert!(state.retried.is_empty(), "after {fails_after} syncs: {:?}", state.retried);
        drop(state);
        assert_eq!(committed(&world), "digits@3", "after {fails_after} syncs");
    }
}

/// From the counted start to the committed version, as the design bounds it.
const MAX_SYNCS_OF_AN_ACTIVATION: usize = 6;

#[test]
fn an_activation_costs_few_syncs() {
    let mut server = server();
    let mut world = world(&mut server);
    server.desire(vec!["digits@2".parse().unwrap()]);
    world.acknowledges = false;
    world.disk.state().syncs.clear();
    let generation = server.generation;
    let arrives = Input::DesiredArrived { generation };
    let before_activation = world.give_until_tried(&server, arrives).unwrap();
    world.disk.state().syncs.clear();
    world.pump(&server).unwrap();
    world.live(&server).unwrap();
    assert_eq!(committed(&world), "digits@2");
    let activation = world.disk.state().syncs.clone();
    println!("before the activation: {before_activation:?}; activation: {activation:?}");
    assert!(activation.keys().all(|synced| *synced == Synced::Ledger), "{activation:?}");
    assert!(activation.values().sum::<usize>() <= MAX_SYNCS_OF_AN_ACTIVATION, "{activation:?}");
}
