//! Devices learn a new baseline, because somebody says so.

use fleet_core::drift::{Order, Whom, groups};
use shared::{ReleaseId, Timestamp};

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

/// Orders it of the next check: what was counted until now belongs to the baseline that is given up. `devices` is the fleet of the
/// release as [`Store::drift_devices`] gives it.
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
    match &whom {
        Whom::Everyone => Store::count_all_anew(tx, &release, now).await?,
        Whom::Device(device) => Store::count_anew(tx, &release, device, now).await?,
        Whom::Stratum { .. } => {
            for (device, strata) in app.store.drift_devices(&release, &app.drift.strata, now).await? {
                if whom.includes(&device, &groups(&strata)) {
                    Store::count_anew(tx, &release, &device, now).await?;
                }
            }
        }
    }
    let ordered = Store::order_drift(tx, &release, &Order::Relearn { feature, whom }).await?;
    Ok(if ordered { Ok(()) } else { Err(TooManyOrders) })
}
