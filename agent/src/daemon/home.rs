//! What a device is before anything runs on it: who it is, what it keeps, what time it has.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use agent_core::{Agent, Ledger, RECORDING_FORMAT, Settings, Start};
use agent_store::{Room, Store, disk::OsDisk};
use anyhow::{Context, anyhow};
use rustix::{fs::FlockOperation, io::Errno};
use shared::{BootId, Digest, manifest::Manifest};

use super::{
    MIB,
    patience::{Obstacle, patiently},
    state::Saved,
};
use crate::{clock::Clock, config::Config, identity::Identity, local_time, recording::Recorder};

/// The data directory of an enrolled device, which this daemon alone uses.
pub(super) struct Home {
    pub(super) config: Config,
    pub(super) identity: Identity,
    pub(super) saved: Saved,
    pub(super) clock: Clock,
    pub(super) boot: BootId,
}

impl Home {
    /// Takes the data directory, for as long as the other value lives.
    pub(super) async fn open(config: Config) -> anyhow::Result<(Self, File)> {
        let identity = patiently(|| Identity::load(&config.data_dir)).await?;
        let lock = patiently(|| lock(&config.data_dir)).await?;
        let saved = patiently(|| anyhow::Ok(Saved::open(config.data_dir.clone())?)).await?;
        let clock = Clock::start(saved.state().floors.time);
        let boot = BootId::new(uuid::Uuid::now_v7().simple().to_string())?;
        Ok((Self { config, identity, saved, clock, boot }, lock))
    }

    /// The store of models in it.
    pub(super) async fn store(&self) -> anyhow::Result<Store> {
        let limits = &self.config.limits;
        let room = Room {
            quota_bytes: limits.store_mib.saturating_mul(MIB),
            spare_bytes: limits.spare_mib.saturating_mul(MIB),
        };
        let dir = &self.config.data_dir;
        let open = || {
            Store::open(OsDisk, dir, room)
                .with_context(|| format!("cannot open the store in {}", dir.display()))
        };
        patiently(open).await
    }

    /// True when there is a model to bring back.
    pub(super) fn has_models(&self) -> bool {
        self.saved.state().ledger.models.values().any(|record| record.committed.is_some())
    }

    /// Everything that the core is built from.
    pub(super) async fn start(&self, store: &Store) -> anyhow::Result<Start> {
        let device = self.identity.device.clone();
        let settings = Settings {
            jitter_seed: u64::from_le_bytes(Digest::of(device.as_str().as_bytes()).short()),
            maintenance: self.config.maintenance(),
            utc_offset_secs: local_time::of_core(&self.clock),
        };
        let (boot, at, ledger) = (self.boot.clone(), self.clock.steady(), self.saved.state().ledger.clone());
        let manifests = patiently(|| manifests_of(store, &ledger)).await?;
        Ok(Start { format: RECORDING_FORMAT, device, boot, at, settings, ledger, manifests })
    }
}

/// The core, and the recorder of what it is told if `record` says where.
pub(super) fn core(start: Start, record: Option<PathBuf>) -> anyhow::Result<(Agent, Option<Recorder>)> {
    let recorder = record.map(|path| Recorder::begin(&path, start.clone())).transpose()?;
    let core = Agent::new(start.device, start.boot, start.ledger, start.manifests, start.settings, start.at);
    Ok((core, recorder))
}

/// One that is gone or has changed is fetched again; one that cannot be read just now is neither.
fn manifests_of(store: &Store, ledger: &Ledger) -> io::Result<Vec<(Digest, Manifest)>> {
    let read = |digest| Ok(store.manifest(&digest)?.map(|manifest| (digest, manifest)));
    ledger.manifests().filter_map(|digest| read(digest).transpose()).collect()
}

/// Held as long as the agent runs; the system releases it however the agent ends.
fn lock(data_dir: &Path) -> Result<File, Obstacle> {
    let path = data_dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    locked.map_err(|error| match error {
        Errno::WOULDBLOCK => {
            Obstacle::InUse(anyhow!("another agent uses {}; stop it first", data_dir.display()))
        }
        other => anyhow::Error::new(io::Error::from(other))
            .context(format!("cannot lock {}", path.display()))
            .into(),
    })?;
    Ok(file)
}
