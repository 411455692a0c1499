//! Windows of counts: what of them is believed, and how they are stored.
//!
//! A window that is not believed is acknowledged wherever it says which one it is: it will make no more sense when it comes
//! again, and must not stand before those that do.

use std::{sync::Arc, time::Duration};

use muster_sketch::window::{FeatureCounts, MIN_WINDOW_ROWS, Window};
use shared::{
    BootId, DeviceId,
    message::{Acknowledgement, Stream},
    sketch::SketchMessage,
};

use super::batch::BatchStore;
use crate::{
    app::App,
    drift::Specs,
    store::{SketchRow, StoreError},
};

/// Stores windows.
pub struct SketchStore {
    /// Whose windows.
    pub app: Arc<App>,
}

impl BatchStore for SketchStore {
    type Row = SketchRow;

    const NAME: &'static str = "a window of counts";

    /// Each window is added to a handful of sums, so fewer than of telemetry fit into some hundredths of a second.
    const BATCH: usize = 128;

    /// Windows are of minutes, and those of one moment share the sums that they are added to.
    const LINGER: Duration = Duration::from_millis(250);

    async fn store(&self, rows: &[SketchRow]) -> bool {
        let (now, drift) = (self.app.clock.now(), &self.app.drift);
        match self.app.store.insert_windows(rows, &drift.keep, &drift.strata, now).await {
            Ok(left_out) => {
                let metrics = &self.app.metrics;
                metrics.drift_left_out("stratum", left_out.strata);
                metrics.drift_left_out("release", left_out.releases);
                true
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "windows of counts were not stored"
                );
                false
            }
        }
    }
}

/// What a message on `up/sk` is.
pub(super) enum Read {
    /// A window of a release that is watched.
    Window(Box<SketchRow>),
    /// Nothing that is believed, and why.
    Refused(String),
}

/// How the window in a message is acknowledged, as far as it says which one it is.
pub(super) fn acknowledgement(payload: &[u8]) -> Option<Acknowledgement> {
    let message = SketchMessage::decode(payload).ok()?;
    let (origin, sequence) = Window::origin_of(message.window).ok()?;
    let boot = BootId::new(origin.boot).ok()?;
    Some(Acknowledgement { stream: Stream::Sketch, boot, sequence })
}

/// Reads a message of `device`.
///
/// # Errors
/// When the database gives no answer.
pub(super) async fn read(specs: &Specs, device: &DeviceId, payload: &[u8]) -> Result<Read, StoreError> {
    let message = match SketchMessage::decode(payload) {
        Ok(message) => message,
        Err(error) => return Ok(Read::Refused(error.to_string())),
    };
    let Some(spec) = specs.of(&message.release).await? else {
        return Ok(Read::Refused(format!("{} is not watched for drift", message.release)));
    };
    let window = match Window::decode(message.window, &spec.reference) {
        Ok(window) => window,
        Err(error) => return Ok(Read::Refused(error.to_string())),
    };
    Ok(match believed(device, window) {
        Ok((boot, window)) => {
            let device = device.clone();
            Read::Window(Box::new(SketchRow { device, boot, release: message.release, window }))
        }
        Err(why) => Read::Refused(why.to_owned()),
    })
}

/// What bytes alone do not show.
fn believed(device: &DeviceId, window: Window) -> Result<(BootId, Window), &'static str> {
    if window.origin.device != device.as_str() {
        return Err("it speaks for another device");
    }
    let rows = window.features.first().map_or(0, FeatureCounts::rows);
    if rows < MIN_WINDOW_ROWS {
        return Err("it has so few rows that it tells single values");
    }
    let boot = BootId::new(window.origin.boot.clone()).map_err(|_| "it names no run of an agent")?;
    Ok((boot, window))
}
