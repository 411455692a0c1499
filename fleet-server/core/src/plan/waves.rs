//! Who is asked in which wave.

use super::{PlannedDevice, WaveKind, WavePlan};
use crate::{
    device::DeviceFacts,
    strategy::{Strategy, WaveShare, WaveSpec},
};

/// Deals the devices to the waves in order, and holds back the control cohort; returns also those that no wave reaches.
/// Any stretch of the order is a small picture of the fleet, so the last one is as good a control as any.
pub(super) fn cut<'a>(
    ordered: &[&'a DeviceFacts],
    strategy: &Strategy,
    planned: impl Fn(&DeviceFacts) -> PlannedDevice,
) -> (Vec<WavePlan>, Vec<&'a DeviceFacts>) {
    let total = ordered.len();
    let held_back = total.saturating_mul(strategy.control_percent as usize) / 100;
    let (steps, control) = ordered.split_at(total - held_back);
    let wave = |devices: &[&DeviceFacts], spec: &WaveSpec, kind| WavePlan {
        devices: devices.iter().map(|device| planned(device)).collect(),
        bake_time_secs: spec.bake_time_secs,
        approve: spec.approve,
        kind,
    };
    let mut rest = steps.to_vec();
    let mut waves = Vec::new();
    for spec in &strategy.waves {
        let taken = take(&mut rest, spec, total);
        waves.push(wave(&taken, spec, WaveKind::Step));
    }
    waves.push(wave(control, &WaveSpec::of(WaveShare::All), WaveKind::Control));
    waves.retain(|wave| !wave.devices.is_empty());
    (waves, rest)
}

/// Takes the devices of a wave out of those that are left.
fn take<'a>(rest: &mut Vec<&'a DeviceFacts>, spec: &WaveSpec, total: usize) -> Vec<&'a DeviceFacts> {
    if let WaveShare::Selector(selector) = &spec.share {
        return rest.extract_if(.., |d| selector.matches(&d.id, &d.labels, &d.inventory)).collect();
    }
    let size = spec.share.size(total).min(rest.len());
    rest.drain(..size).collect()
}
