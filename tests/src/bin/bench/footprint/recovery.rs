//! How soon a device answers again after its agent was killed, with as many models as a busy device has.

use std::time::Instant;

use anyhow::ensure;
use system_tests::{fleet::Fleet, http::Target};

use super::{BOUND, START_WITHIN, millis, wait_until};
use crate::{measure::median, report::Row};

/// Models on the device, an artifact each.
const MODELS: usize = 10;

/// Kills; the figure is their median.
const KILLS: usize = 9;

/// In what time they are all to answer.
const RECOVERY_BOUND_MS: f64 = 500.0;

/// Kills the agent again and again, and waits until every model answers.
pub(super) fn rows() -> anyhow::Result<[Row; 2]> {
    let mut fleet = Fleet::start(1);
    let models: Vec<String> = (1..=MODELS).map(|number| format!("digits-{number}")).collect();
    fleet.bring_models(&models);
    let mut times = Vec::new();
    for _ in 0..KILLS {
        times.push(recover_millis(&mut fleet, &models)?);
    }
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let bound = |what: &str, figure| Row::beside(what, figure, "ms", BOUND, RECOVERY_BOUND_MS);
    Ok([
        bound("kill -9 to ten models ready, median", median(&times)),
        bound("kill -9 to ten models ready, slowest", slowest),
    ])
}

fn recover_millis(fleet: &mut Fleet, models: &[String]) -> anyhow::Result<f64> {
    let device = &mut fleet.devices[0];
    let socket = device.unix_socket();
    let since = Instant::now();
    device.kill();
    device.run();
    let mut waiting: Vec<&String> = models.iter().collect();
    let ready = wait_until(|| {
        waiting.retain(|model| !is_ready(&socket, model));
        waiting.is_empty()
    });
    ensure!(ready, "not ready after {START_WITHIN:?}: {waiting:?}; the agent said:\n{}", device.log_text());
    Ok(millis(since))
}

fn is_ready(socket: &Target, model: &str) -> bool {
    socket.get(&format!("/v2/models/{model}/ready")).is_ok_and(|answer| answer.status == 200)
}
