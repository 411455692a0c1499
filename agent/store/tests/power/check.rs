//! The invariants, checked on what a power cut left.

use std::{collections::BTreeSet, sync::Arc};

use agent_core::{Installed, Phase, Record};
use agent_store::LedgerFile;
use shared::{Digest, Timestamp};

use crate::{
    disk::SimDisk,
    facts::{Facts, Saved},
    image::Image,
    server::{MODELS, Server},
    world::{LEDGER_ROOM, Violation, World},
};

/// Operations of a recovery: both copies are read and one is written, folders are made, and the first turn saves.
const MAX_RECOVERY_OPERATIONS: usize = 64;

/// Files of a device: for each model committed and candidate with manifest, model, golden vectors; what a
/// superseded deployment left until the next collection; and what was being written.
const MAX_FILES: usize = MODELS.len() * 2 * 3 * 2 + 8;

/// Recovers from `image` and checks what must hold then. The device that came up is handed back; its disk holds the
/// moments of the recovery if it `records` them.
pub fn recovers(
    image: &Image,
    facts: &Arc<Facts>,
    server: &Server,
    records: bool,
) -> Result<World, Violation> {
    let disk = SimDisk::new(image.clone(), facts.clone());
    disk.state().records = records;
    let world = World::start(disk, 1_000, Timestamp(2_000_000_000_000), true)?;
    let mut world = world.ok_or("nobody was killed")?;
    let found = world.facts.saved.clone();
    is_what_was_saved(&found, facts)?;
    visible_artifacts_are_whole(image)?;
    for record in found.ledger.models.values() {
        is_runnable(record, image, server)?;
    }
    outside_is_not_contradicted(&found, facts)?;
    if records && read_ledger(&world.disk.live())? != *found {
        return Err("I5: a second recovery finds another state".into());
    }
    world.pump(server)?;
    if committed(&world.facts.saved) != committed(&found) {
        return Err("I1: recovery changed what is committed".into());
    }
    let live = world.disk.live();
    let (operations, bound) = (world.disk.state().log.len(), MAX_RECOVERY_OPERATIONS + 4 * files(image));
    if operations > bound {
        return Err(format!("I8: recovery took {operations} operations, at most {bound} are allowed"));
    }
    if files(&live) > MAX_FILES {
        return Err(format!("I6: {} files are left", files(&live)));
    }
    Ok(world)
}

/// Lives on with the same server, and checks where the device ends.
pub fn converges(world: &mut World, server: &Server) -> Result<(), Violation> {
    world.connect(server)?;
    for _ in 0..4 {
        world.live(server)?;
    }
    let ledger = world.agent.ledger();
    let mut keep = BTreeSet::new();
    for (name, record) in &ledger.models {
        let wanted = server.desired.iter().find(|release| release.model == *name);
        let wanted = wanted.ok_or(format!("{name} is not assigned and still known"))?;
        let release = &server.releases[wanted];
        let got_it = record.committed.as_ref().is_some_and(|committed| committed.release == *wanted);
        let refused = ledger.remembered_bad.contains(&release.manifest.model.digest);
        if record.candidate.is_some() || !(got_it || refused) {
            return Err(format!("{wanted} is neither kept nor refused: {record:?}"));
        }
        keep.extend(record.committed.iter().flat_map(|i| [i.manifest, i.model, i.golden]));
    }
    let live = world.disk.live();
    let left = |dir: &str| -> BTreeSet<String> {
        live.files_in(dir.as_ref()).into_iter().map(|(name, _)| name.to_string()).collect()
    };
    let kept: BTreeSet<String> = keep.iter().map(Digest::to_string).collect();
    if left("artifacts") != kept || !left("staging").is_empty() {
        return Err(format!(
            "I6: {:?} and {:?} are left, needed are {kept:?}",
            left("artifacts"),
            left("staging")
        ));
    }
    Ok(())
}

fn read_ledger(image: &Image) -> Result<Saved, Violation> {
    let disk = SimDisk::new(image.clone(), ().into());
    disk.state().records = false;
    let opened = LedgerFile::open_with_room::<Saved>(disk.clone(), "".into(), LEDGER_ROOM);
    let (_, found) = opened.map_err(|error| format!("I1: the ledger is not readable: {error}"))?;
    Ok(found.unwrap_or_default())
}

/// The strongest form of I3, I4 and I7: what a save said is safe is there, or what the next one was writing.
fn is_what_was_saved(found: &Saved, facts: &Facts) -> Result<(), Violation> {
    if found == &*facts.saved || facts.saving.as_deref() == Some(found) {
        return Ok(());
    }
    let (found, saved) = (found.ledger.generation, facts.saved.ledger.generation);
    Err(format!("I3: the ledger is not what was saved (generation {found:?}, saved {saved:?})"))
}

fn visible_artifacts_are_whole(image: &Image) -> Result<(), Violation> {
    for (name, bytes) in image.files_in("artifacts".as_ref()) {
        if let Ok(digest) = name.parse::<Digest>()
            && Digest::of(&bytes) != digest
        {
            return Err(format!("I2: artifact {digest} is visible with other bytes"));
        }
    }
    Ok(())
}

/// What is committed, and a candidate that came past its transfer, lies in the store as it was signed; and the manifest
/// of every candidate does.
fn is_runnable(record: &Record, image: &Image, server: &Server) -> Result<(), Violation> {
    let whole = |installed: &Installed| [installed.manifest, installed.model, installed.golden].to_vec();
    let committed = record.committed.iter().map(|installed| (installed, whole(installed)));
    let candidate = record.candidate.iter().map(|candidate| match candidate.phase {
        Phase::Transferring { .. } => (&candidate.installed, vec![candidate.installed.manifest]),
        Phase::SelfTesting { .. } | Phase::Activating(_) | Phase::Probation(_) => {
            (&candidate.installed, whole(&candidate.installed))
        }
    });
    for (installed, digests) in committed.chain(candidate) {
        let release = &installed.release;
        for digest in digests {
            if image.read(format!("artifacts/{digest}").as_ref()).map(Digest::of) != Some(digest) {
                return Err(format!("I1: {release} cannot run: {digest} is not in the store"));
            }
            if !server.signed(&digest) {
                return Err(format!("I2: {release} was never signed"));
            }
        }
    }
    Ok(())
}

/// What somebody outside has seen still holds, told without the ledger that was saved.
fn outside_is_not_contradicted(found: &Saved, facts: &Facts) -> Result<(), Violation> {
    let ledger = &found.ledger;
    if ledger.generation < facts.generation {
        return Err(format!(
            "I4: generation {:?} was reported, {:?} is known",
            facts.generation, ledger.generation
        ));
    }
    for (name, release) in &facts.committed {
        let committed = ledger.models.get(name).and_then(|record| record.committed.as_ref());
        if committed.map(|installed| &installed.release) != Some(release) {
            return Err(format!("I3: {release} was reported as kept, found is {committed:?}"));
        }
    }
    for candidate in ledger.models.values().filter_map(|record| record.candidate.as_ref()) {
        let order = (candidate.installed.release.clone(), candidate.generation);
        let (starts, trials) = match &candidate.phase {
            Phase::Transferring { .. } => (0, 0),
            Phase::SelfTesting { trials, .. } => (0, *trials),
            Phase::Activating(watch) | Phase::Probation(watch) => (watch.starts, u32::MAX),
        };
        let (started, tried) = (facts.starts.get(&order), facts.trials.get(&order));
        if started.is_some_and(|&started| started > starts) || tried.is_some_and(|&tried| tried > trials) {
            return Err(format!(
                "I7: {order:?} was tried {tried:?} and started {started:?} times: {candidate:?}"
            ));
        }
    }
    Ok(())
}

fn committed(saved: &Saved) -> Vec<Option<&Installed>> {
    saved.ledger.models.values().map(|record| record.committed.as_ref()).collect()
}

fn files(image: &Image) -> usize {
    ["artifacts", "staging"].iter().map(|dir| image.files_in(dir.as_ref()).len()).sum()
}
