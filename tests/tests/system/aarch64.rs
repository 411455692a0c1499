//! The agent built for aarch64, emulated: nothing slips in that a device cannot have.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use system_tests::{
    device::{Device, DeviceOptions},
    digits::test_images,
    fleet::Fleet,
    inference::accuracy,
    models::{Policy, Publication},
    programs::{aarch64_agent, from_debian},
    wait::until_true,
};

/// Emulated, everything takes ten times as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The aarch64 agent on this machine, without asking the kernel to know foreign programs.
///
/// The agent starts itself as runner and trial, by the path it was loaded from. So the emulator loads it once from
/// `loaded`, and from then on `loaded` is a script that starts the emulator.
struct Emulated {
    launcher: PathBuf,
    loaded: PathBuf,
    script: String,
}

impl Emulated {
    fn prepare(folder: &Path) -> Self {
        let qemu = from_debian("qemu-aarch64-static", "qemu-user-static");
        let (launcher, loaded, kept) =
            (folder.join("launcher"), folder.join("muster-agent"), folder.join("kept"));
        for copy in [&loaded, &kept] {
            fs::copy(aarch64_agent(), copy).unwrap();
        }
        let start =
            |program: &Path| format!("#!/bin/sh\nexec {} {} \"$@\"\n", qemu.display(), program.display());
        write_program(&launcher, &start(&loaded));
        Self { launcher, script: start(&kept), loaded }
    }

    /// The agent runs; what it starts from now on is emulated too.
    fn switch(&self) {
        let fresh = self.loaded.with_extension("new");
        write_program(&fresh, &self.script);
        fs::rename(fresh, &self.loaded).unwrap();
    }
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_emulated_agent_enrols_installs_a_model_and_answers() {
    let scratch = tempfile::tempdir().unwrap();
    let emulated = Emulated::prepare(scratch.path());
    let mut fleet = Fleet::start(0);
    let program = Some(emulated.launcher.clone());
    let mut device = Device::new("arm", DeviceOptions { program, ..DeviceOptions::default() });
    let _ = device.enroll(&fleet.token()).ok();
    device.run();
    fleet.devices.push(device);
    until_true("the emulated device is online", PATIENCE, || fleet.is_online("arm"));
    emulated.switch();

    let release = fleet.publish(&Publication::digits(2).with_policy(Policy::QUICK));
    let rollout = fleet.start_rollout(&release);
    let _ = fleet.cli().run(["rollout", "status", &rollout, "--watch", "--timeout", "120s"]).ok();
    assert!(accuracy(&fleet.devices[0].http(), "digits", &test_images()[..100]) > 0.9);
    assert!(fleet.device("arm").to_string().contains("aarch64"));
}
