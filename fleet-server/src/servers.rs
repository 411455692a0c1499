//! Several servers on one database: who lives, and which of them moves rollouts on with time.
//!
//! Every server raises a number in its row, its *beats*, about once a second. The others compare it with what they saw
//! before, by their own clocks: a server whose number has stood still for [`TERM`] is given up, its connections are
//! struck from the devices, and what it did for all goes to one that lives. In this no time of day of any machine is
//! compared with that of another. What rollouts ask of time (bakes, silent devices, freezes) is another matter: there
//! one server compares moments that another wrote down with its own clock, so the clocks of servers must agree.
//!
//! The *lease* says who draws the consequences of time. Its holder believes in it for a [`TERM`] after its last beat,
//! which is when the others may begin to give it up, and looks at the lease once more in the transaction itself: a
//! server that was stopped and wakes up changes nothing. Reports of devices and orders of people need no lease; any
//! server takes them, and transactions take turns.
//!
//! A server whose database is a file in its own folder is alone and needs none of this.

mod identity;
mod lease;
mod neighbours;
mod noting;

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    store::{self, Beat, ServerRow, Store, StoreError},
};

pub use identity::{Identity, ServerId};
pub use lease::Lease;
use neighbours::Neighbours;
use noting::Noting;

/// How often a server shows that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// A server that shows nothing for this long is given up: a few beats, so that one slow disk write is no death.
const TERM: Duration = Duration::from_secs(5);

/// What the lease over time is called in the database.
const ROLLOUTS: &str = "rollouts";

/// Another process runs under the same name.
#[derive(Debug, Error)]
#[error(
    "another server runs as {0} on the same database. If the data directory was copied, remove server.id from the copy \
     and start again"
)]
pub struct NameTaken(ServerId);

/// Enters this server among those that live. Nobody is connected to it yet.
///
/// # Errors
/// When the database refuses.
pub async fn join(store: &Store, me: &Identity) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    if store.is_shared() {
        Store::join_servers(&mut tx, me).await?;
    }
    Store::forget_connections(&mut tx, &me.id).await?;
    Ok(tx.commit().await?)
}

/// Shows the others that this server lives and looks after them, until `stop`.
///
/// # Errors
/// When another process has this server's name.
pub async fn run(app: Arc<App>, me: Identity, stop: CancellationToken) -> Result<(), NameTaken> {
    if !app.store.is_shared() {
        stop.cancelled().await;
        return Ok(());
    }
    let mut neighbours = Neighbours::default();
    let mut noting = Noting::default();
    loop {
        match turn(&app, &me, &mut neighbours).await {
            Ok(Beat::Stolen) => return Err(NameTaken(me.id)),
            Ok(beat) => {
                noting.heard(beat, &app).await;
                cut_off_revoked(&app).await;
            }
            Err(error) => {
                noting.is_owed = true;
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the other servers do not hear of this one"
                );
            }
        }
        tokio::select! {
            () = tokio::time::sleep(BEAT_EVERY) => {}
            () = stop.cancelled() => break,
        }
    }
    noting.end().await;
    if let Err(error) = leave(&app.store, &me).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the other servers take over only after a while"
        );
    }
    Ok(())
}

/// Whether this server still draws the consequences of time, looked at where it cannot change any more.
///
/// # Errors
/// When the database refuses.
pub async fn holds_lease(app: &App, tx: &mut store::Tx) -> Result<bool, StoreError> {
    let Some(epoch) = app.lease.epoch() else { return Ok(!app.store.is_shared()) };
    let lease = Store::lease(tx, ROLLOUTS).await?;
    let ours = lease.is_some_and(|lease| lease.epoch == epoch && lease.holder == *app.store.server());
    if !ours {
        app.lease.lose();
    }
    Ok(ours)
}

/// One beat, and everything that follows from those of the others, in one transaction.
async fn turn(app: &App, me: &Identity, neighbours: &mut Neighbours) -> Result<Beat, StoreError> {
    let mut tx = app.store.begin().await?;
    // After the wait for other writers: from this moment on the others hear of us.
    let began = Instant::now();
    let beat = Store::beat(&mut tx, me).await?;
    if beat == Beat::Stolen {
        app.lease.lose();
        return Ok(beat);
    }
    let mut servers = Store::servers(&mut tx).await?;
    for gone in neighbours.silent(&me.id, &servers, began) {
        tracing::warn!(server.id = %gone, "a server is silent and is given up");
        Store::forget_server(&mut tx, &gone).await?;
        servers.retain(|row| row.id != gone);
    }
    let epoch = hold(&mut tx, me, &servers, app.lease.epoch()).await?;
    tx.commit().await?;
    match epoch {
        Some(epoch) => app.lease.hold(epoch, began + TERM),
        None => app.lease.lose(),
    }
    Ok(beat)
}

/// The epoch under which this server holds the lease, which it takes when nobody who lives has it.
async fn hold(
    tx: &mut store::Tx,
    me: &Identity,
    living: &[ServerRow],
    known: Option<u64>,
) -> Result<Option<u64>, StoreError> {
    let lease = Store::lease(tx, ROLLOUTS).await?;
    if let Some(lease) = &lease {
        if lease.holder == me.id && known == Some(lease.epoch) {
            return Ok(known);
        }
        if lease.holder != me.id && living.iter().any(|row| row.id == lease.holder) {
            return Ok(None);
        }
    }
    let epoch = lease.map_or(1, |lease| lease.epoch + 1);
    Store::take_lease(tx, ROLLOUTS, &store::Lease { holder: me.id.clone(), epoch }).await?;
    tracing::info!(epoch, "this server now moves rollouts on");
    Ok(Some(epoch))
}

async fn leave(store: &Store, me: &Identity) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    Store::forget_server(&mut tx, &me.id).await?;
    Ok(tx.commit().await?)
}

/// Another server locked them out, and cannot reach the broker of this one.
async fn cut_off_revoked(app: &App) {
    match app.store.revoked_here().await {
        Ok(devices) => {
            for device in devices {
                app.kick(&device).await;
            }
        }
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "devices that were locked out may still be connected"
        ),
    }
}
