//! What drift is looked for in, what is known of it, and what was told.

mod alarms;
mod anew;
mod batch;
mod checks;
mod orders;
mod settings;
mod states;
mod strata;
mod summed;
mod windows;

use shared::ReleaseId;

use super::StoreError;

pub use alarms::AlarmFilter;
pub use checks::{KEPT_PERIODS, Pending, Period};
pub use states::DriftState;
pub use summed::{Strata, SummedRow};
pub use windows::{LeftOutOfWindows, SketchRow};

/// What is bound for a release.
fn bound(release: &ReleaseId) -> (String, i64) {
    (release.model.as_str().to_owned(), i64::from(release.version.get()))
}

fn release_of(row: &sqlx::any::AnyRow) -> Result<ReleaseId, StoreError> {
    use super::Columns as _;
    let text = format!("{}@{}", row.text("model")?, row.number("version")?);
    super::parsed("release", &text)
}
