//! Devices learn a new baseline, because somebody says so.

use fleet_core::drift::{Order, Whom, groups};
use shared::{ReleaseId, Timestamp, manifest::DriftSpec};

use crate::{
    app::App,
    store::{Store, StoreError, Tx},
};

/// Who learns what anew.
#[derive(Debug, Clone)]
pub struct Relearn {
    /// Under which release.
    pub release: ReleaseId,
    /// Which feature; all when absent.
    pub feature: Option<String>,
    /// Who.
    pub whom: Whom,
}

/// There are as many orders as one check carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyOrders;

/// Orders it of the next check: what was counted of these features until now belongs to the baseline that is given up.
///
/// # Errors
/// When the database refuses.
pub async fn relearn(
    app: &App,
    tx: &mut Tx,
    relearn: Relearn,
    now: Timestamp,
) -> Result<Result<(), TooManyOrders>, StoreError> {
    let Relearn { release, feature, whom } = relearn;
    let place = match &feature {
        None => None,
        Some(feature) => {
            let spec = app.specs.of(&release).await?;
            let place = |spec: &DriftSpec| spec.reference.features().iter().position(|f| f.name == *feature);
            // A version that has no such feature has nothing to learn.
            let Some(place) = spec.as_deref().and_then(place) else { return Ok(Ok(())) };
            Some(place)
        }
    };
    match &whom {
        Whom::Everyone => count_anew(tx, &release, None, place, now).await?,
        Whom::Device(device) => count_anew(tx, &release, Some(device), place, now).await?,
        Whom::Stratum { .. } => {
            for (device, strata) in app.store.drift_devices(&release, &app.drift.strata, now).await? {
                if whom.includes(&device, &groups(&strata)) {
                    count_anew(tx, &release, Some(&device), place, now).await?;
                }
            }
        }
    }
    let ordered = Store::order_drift(tx, &release, &Order::Relearn { feature, whom }).await?;
    Ok(if ordered { Ok(()) } else { Err(TooManyOrders) })
}

async fn count_anew(
    tx: &mut Tx,
    release: &ReleaseId,
    device: Option<&str>,
    place: Option<usize>,
    now: Timestamp,
) -> Result<(), StoreError> {
    match place {
        None => Store::count_anew(tx, release, device, now).await,
        Some(place) => Store::count_feature_anew(tx, release, device, place, now).await,
    }
}
