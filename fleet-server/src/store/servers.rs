//! The servers on one database, and what one of them does for all.

use shared::{DeviceId, Timestamp};

use super::{
    Columns, Store, StoreError, Tx,
    many::{most_rows, pieces, statement},
    millis, parsed, signed,
};
use crate::servers::{Identity, ServerId};

/// A server as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRow {
    /// Which.
    pub id: ServerId,
    /// Raised again and again while it lives.
    pub beats: u64,
}

/// What came of raising the own beats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// The others see that we live.
    Heard,
    /// The others had given us up, and now know us again.
    Anew,
    /// Another process has our name.
    Stolen,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The server.
    pub holder: ServerId,
    /// Rises with every change of hands.
    pub epoch: u64,
}

impl Store {
    /// Enters this server among those that live, in place of an earlier run of it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn join_servers(tx: &mut Tx, me: &Identity) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO servers (id, run, beats) VALUES ($1, $2, 1) \
             ON CONFLICT (id) DO UPDATE SET run = excluded.run, beats = servers.beats + 1",
        )
        .bind(me.id.as_str())
        .bind(me.run.as_str())
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// Shows the others that this server lives.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn beat(tx: &mut Tx, me: &Identity) -> Result<Beat, StoreError> {
        let done = sqlx::query("UPDATE servers SET beats = beats + 1 WHERE id = $1 AND run = $2")
            .bind(me.id.as_str())
            .bind(me.run.as_str())
            .execute(&mut **tx)
            .await?;
        if done.rows_affected() == 1 {
            return Ok(Beat::Heard);
        }
        let other = sqlx::query("SELECT run FROM servers WHERE id = $1")
            .bind(me.id.as_str())
            .fetch_optional(&mut **tx)
            .await?;
        if other.is_some() {
            return Ok(Beat::Stolen);
        }
        Self::join_servers(tx, me).await?;
        Ok(Beat::Anew)
    }

    /// Every server that lives or died a moment ago.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn servers(tx: &mut Tx) -> Result<Vec<ServerRow>, StoreError> {
        let rows = sqlx::query("SELECT id, beats FROM servers ORDER BY id").fetch_all(&mut **tx).await?;
        rows.iter()
            .map(|row| {
                Ok(ServerRow { id: parsed("server id", &row.text("id")?)?, beats: row.unsigned("beats")? })
            })
            .collect()
    }

    /// Gives a server up: nobody is connected to it any more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_server(tx: &mut Tx, id: &ServerId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM servers WHERE id = $1").bind(id.as_str()).execute(&mut **tx).await?;
        Self::forget_connections(tx, id).await
    }

    /// Nobody is connected to this server until he says so.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_connections(tx: &mut Tx, id: &ServerId) -> Result<(), StoreError> {
        sqlx::query("UPDATE devices SET connected = 0, server = NULL WHERE server = $1")
            .bind(id.as_str())
            .execute(&mut **tx)
            .await?;
        // Of rows that no server wrote, or none that is there.
        sqlx::query(
            "UPDATE devices SET connected = 0, server = NULL WHERE connected = 1 AND (server IS NULL \
             OR server NOT IN (SELECT id FROM servers))",
        )
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// Notes that devices are connected to this server. Those that are with another server by now stay there: their
    /// connection here is one whose end was not noticed yet.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn note_connections(
        &self,
        tx: &mut Tx,
        devices: &[DeviceId],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for piece in pieces(devices, most_rows(tx)) {
            let mut query = statement(
                "UPDATE devices SET connected = 1, last_seen = new.column2, server = new.column3 FROM (VALUES",
                piece.len(),
                3,
                ") AS new WHERE devices.id = new.column1 AND devices.server IS NULL",
            );
            for device in piece {
                query = query.bind(device.to_string()).bind(millis(now)).bind(self.server.to_string());
            }
            query.execute(&mut **tx).await?;
        }
        Ok(())
    }

    /// Who holds a lease.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn lease(tx: &mut Tx, name: &str) -> Result<Option<Lease>, StoreError> {
        let row = sqlx::query("SELECT holder, epoch FROM leases WHERE name = $1")
            .bind(name)
            .fetch_optional(&mut **tx)
            .await?;
        row.map(|row| {
            Ok(Lease { holder: parsed("server id", &row.text("holder")?)?, epoch: row.unsigned("epoch")? })
        })
        .transpose()
    }

    /// Puts a lease into the hands of `lease.holder`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn take_lease(tx: &mut Tx, name: &str, lease: &Lease) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO leases (name, holder, epoch) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = excluded.epoch",
        )
        .bind(name)
        .bind(lease.holder.as_str())
        .bind(signed(lease.epoch))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// Devices with a connection to this server that were locked out meanwhile.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn revoked_here(&self) -> Result<Vec<DeviceId>, StoreError> {
        let rows = sqlx::query("SELECT id FROM devices WHERE revoked = 1 AND server = $1")
            .bind(self.server.as_str())
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(|row| parsed("device id", &row.text("id")?)).collect()
    }
}
