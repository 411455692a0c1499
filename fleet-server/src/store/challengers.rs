//! Challengers: what devices shall run beside their champions, and what came of it.
//!
//! Of a device there are two numbers for each match, of the fleet all figures: an interval needs to know how devices
//! differ in what they decided, and nothing else of each.

use std::collections::BTreeMap;

use shared::{
    DeviceId, ModelName, ReleaseId, Timestamp, Version,
    challenger::{Challenger, ChallengerFigures, ChallengerState},
};
use sqlx::any::AnyRow;

use super::{
    Columns, Store, StoreError, TelemetryRow, Tx, from_json, millis, parsed, signed,
    telemetry::known_releases, to_json,
};

/// What a device shall challenge.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct NamedChallengers {
    /// The number of the document; zero when there never was one.
    pub revision: u64,
    /// At most one for each model.
    pub challengers: Vec<Challenger>,
}

/// A device that shall run a challenger of some model.
#[derive(Debug, Clone, PartialEq)]
pub struct ChallengedDevice {
    /// Who.
    pub device: DeviceId,
    /// What it shall run.
    pub named: NamedChallengers,
    /// The newest document that it has verified.
    pub seen_revision: u64,
    /// How far each of its challengers is, as it last said.
    pub states: Vec<ChallengerState>,
}

/// What came of one champion and one challenger.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchRow {
    /// The sums over all devices.
    pub figures: ChallengerFigures,
    /// For each device, how often both agreed and how often both decided.
    pub devices: Vec<(u64, u64)>,
}

impl ChallengedDevice {
    /// The order by which it runs this release; `None` when it shall not.
    #[must_use]
    pub fn runs(&self, release: &ReleaseId) -> Option<&Challenger> {
        self.named.challengers.iter().find(|named| named.release == *release)
    }
}

impl NamedChallengers {
    pub(super) fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        let challengers = row.optional_text("challengers")?;
        let challengers = challengers.map(|text| from_json("challengers", &text)).transpose()?;
        let revision = row.unsigned("challengers_revision")?;
        Ok(Self { revision, challengers: challengers.unwrap_or_default() })
    }
}

impl Store {
    /// Names the challengers of a device, and gives the document a revision above every earlier one, also those of a
    /// database that was lost. `change` gets those that are named and the new revision; where it says false, or there is no
    /// such device, nothing is changed.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn change_challengers(
        tx: &mut Tx,
        id: &DeviceId,
        now: Timestamp,
        change: impl FnOnce(&mut Vec<Challenger>, u64) -> bool,
    ) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT challengers, challengers_revision FROM devices WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut **tx)
            .await?;
        let Some(row) = row else { return Ok(false) };
        let mut named = NamedChallengers::from_row(&row)?;
        let revision = now.as_millis().max(named.revision.saturating_add(1));
        if !change(&mut named.challengers, revision) {
            return Ok(false);
        }
        named.challengers.sort_by(|a, b| a.release.cmp(&b.release));
        sqlx::query("UPDATE devices SET challengers = $1, challengers_revision = $2 WHERE id = $3")
            .bind(to_json(&named.challengers))
            .bind(signed(revision))
            .bind(id.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(true)
    }

    /// Every device that is let in and shall run a challenger of some model.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn challenged_devices(&self) -> Result<Vec<ChallengedDevice>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, challengers, challengers_revision, seen_challengers_revision, challenger_states \
             FROM devices WHERE revoked = 0 AND challengers IS NOT NULL AND challengers <> '[]' ORDER BY id",
        )
        .fetch_all(&self.reader)
        .await?;
        let device = |row: &AnyRow| {
            let states = row.optional_text("challenger_states")?;
            let states = states.map(|text| from_json("challenger states", &text)).transpose()?;
            Ok(ChallengedDevice {
                device: parsed("device id", &row.text("id")?)?,
                named: NamedChallengers::from_row(row)?,
                seen_revision: row.unsigned("seen_challengers_revision")?,
                states: states.unwrap_or_default(),
            })
        };
        rows.iter().map(device).collect()
    }

    /// What came of a challenger, by the champions that it met, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn matches(&self, challenger: &ReleaseId) -> Result<Vec<MatchRow>, StoreError> {
        let (model, version) = bound(challenger);
        let sums = sqlx::query(
            "SELECT champion, figures FROM challenger_sums WHERE model = $1 AND challenger = $2 \
             ORDER BY champion DESC",
        )
        .bind(&model)
        .bind(version)
        .fetch_all(&self.reader)
        .await?;
        let devices = sqlx::query(
            "SELECT champion, agreed, decided FROM challenger_devices WHERE model = $1 AND challenger = $2 \
             ORDER BY device",
        )
        .bind(&model)
        .bind(version)
        .fetch_all(&self.reader)
        .await?;
        let mut by_champion = BTreeMap::<i64, Vec<(u64, u64)>>::new();
        for row in &devices {
            let counts = (row.unsigned("agreed")?, row.unsigned("decided")?);
            by_champion.entry(row.number("champion")?).or_default().push(counts);
        }
        let matched = |row: &AnyRow| {
            let devices = by_champion.remove(&row.number("champion")?).unwrap_or_default();
            Ok(MatchRow { figures: from_json("figures", &row.text("figures")?)?, devices })
        };
        sums.iter().map(matched).collect()
    }

    /// Forgets what the device of this name decided; the sums keep it.
    pub(super) async fn forget_challenger_devices(tx: &mut Tx, device: &DeviceId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM challenger_devices WHERE device = $1")
            .bind(device.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}

/// Stores what new reports say of challengers, in the order in which they came.
pub(super) async fn add(tx: &mut Tx, rows: &[&TelemetryRow], now: Timestamp) -> Result<(), StoreError> {
    let telling = || rows.iter().filter(|row| !row.telemetry.challengers.is_empty());
    let newest: BTreeMap<_, _> =
        telling().map(|row| (row.device.as_str(), &row.telemetry.challengers.states)).collect();
    for (device, states) in newest {
        sqlx::query("UPDATE devices SET challenger_states = $1 WHERE id = $2")
            .bind(to_json(states))
            .bind(device)
            .execute(&mut **tx)
            .await?;
    }
    let named = telling().flat_map(|row| &row.telemetry.challengers.matches);
    let known = known_releases(tx, named.flat_map(|one| [&one.champion, &one.challenger])).await?;
    let mut sums = BTreeMap::<(ReleaseId, Version), ChallengerFigures>::new();
    for row in telling() {
        for one in &row.telemetry.challengers.matches {
            if known.contains(&one.champion) && known.contains(&one.challenger) {
                add_to_device(tx, &row.device, one, now).await?;
                let new = || ChallengerFigures::new(one.champion.clone(), one.challenger.clone());
                let key = (one.champion.clone(), one.challenger.version);
                sums.entry(key).or_insert_with(new).merge(one);
            }
        }
    }
    for figures in sums.into_values() {
        add_to_sum(tx, figures).await?;
    }
    Ok(())
}

async fn add_to_device(
    tx: &mut Tx,
    device: &DeviceId,
    figures: &ChallengerFigures,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ((model, champion), (_, challenger)) = (bound(&figures.champion), bound(&figures.challenger));
    sqlx::query(
        "INSERT INTO challenger_devices (model, champion, challenger, device, agreed, decided, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (model, champion, challenger, device) DO UPDATE SET \
         agreed = challenger_devices.agreed + excluded.agreed, \
         decided = challenger_devices.decided + excluded.decided, updated_at = excluded.updated_at",
    )
    .bind(model)
    .bind(champion)
    .bind(challenger)
    .bind(device.as_str())
    .bind(signed(figures.agreed))
    .bind(signed(figures.agreed.saturating_add(figures.disagreed)))
    .bind(millis(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn add_to_sum(tx: &mut Tx, mut figures: ChallengerFigures) -> Result<(), StoreError> {
    let ((model, champion), (_, challenger)) = (bound(&figures.champion), bound(&figures.challenger));
    let row = sqlx::query(
        "SELECT figures FROM challenger_sums WHERE model = $1 AND champion = $2 AND challenger = $3",
    )
    .bind(&model)
    .bind(champion)
    .bind(challenger)
    .fetch_optional(&mut **tx)
    .await?;
    if let Some(row) = row {
        figures.merge(&from_json("figures", &row.text("figures")?)?);
    }
    sqlx::query(
        "INSERT INTO challenger_sums (model, champion, challenger, figures) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (model, champion, challenger) DO UPDATE SET figures = excluded.figures",
    )
    .bind(model)
    .bind(champion)
    .bind(challenger)
    .bind(to_json(&figures))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn bound(release: &ReleaseId) -> (String, i64) {
    (model_text(&release.model), i64::from(release.version.get()))
}

fn model_text(model: &ModelName) -> String {
    model.as_str().to_owned()
}
