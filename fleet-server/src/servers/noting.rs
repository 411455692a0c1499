//! Says again who is connected here, after the others gave this server up.

use std::sync::Arc;

use shared::DeviceId;
use tokio::task::JoinSet;

use crate::{
    app::App,
    store::{Beat, StoreError},
};

/// Devices of one transaction: between two of them others have their turn.
const AT_ONCE: usize = 512;

/// Beats go on while many devices are noted, or the others would give this server up for it once more.
#[derive(Default)]
pub(super) struct Noting {
    /// A turn failed. Nobody knows whether it was the one that made us known again, nor what else was not written.
    pub(super) is_owed: bool,
    running: JoinSet<()>,
}

impl Noting {
    /// The others hear of us; devices are noted if they had forgotten them.
    pub(super) async fn heard(&mut self, beat: Beat, app: &Arc<App>) {
        if beat == Beat::Anew || self.is_owed {
            self.is_owed = false;
            self.end().await;
            let app = app.clone();
            self.running.spawn(async move {
                if let Err(error) = note(&app).await {
                    tracing::error!(error = &error as &dyn std::error::Error, "connections were not noted");
                }
            });
        }
    }

    /// Nothing is noted any more.
    pub(super) async fn end(&mut self) {
        self.running.shutdown().await;
    }
}

async fn note(app: &App) -> Result<(), StoreError> {
    let Some(broker) = app.broker.get() else { return Ok(()) };
    let devices: Vec<DeviceId> = broker.connected().into_iter().collect();
    for some in devices.chunks(AT_ONCE) {
        let mut tx = app.store.begin().await?;
        app.store.note_connections(&mut tx, some, app.clock.now()).await?;
        tx.commit().await?;
    }
    // Who went meanwhile was struck before he was noted.
    let stayed = broker.connected();
    for gone in devices.iter().filter(|device| !stayed.contains(*device)) {
        app.store.set_connected(gone, false, app.clock.now()).await?;
    }
    Ok(())
}
