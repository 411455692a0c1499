//! A server with devices, and the steps that most tests share.

use std::{ffi::OsString, fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    cli::{Answer, Cli},
    device::{Device, DeviceOptions},
    models::{Policy, Publication, digits_reference},
    proxy::Proxy,
    server::Server,
    views,
    wait::{PATIENCE, until_true},
};

/// Label of every device here.
pub const SITE: &str = "site=berlin";

/// How long a rollout may take before its watcher gives up.
const WATCH_FOR: &str = "60s";

/// Where a model comes from, when a test does not care.
const LINEAGE: &str = "data_licence = \"CC-BY-4.0\"\n";

/// A server and its devices.
#[derive(Debug)]
pub struct Fleet {
    /// The devices, named `cam-1`, `cam-2`, … Dropped first, so that they end before their server.
    pub devices: Vec<Device>,
    /// The server.
    pub server: Server,
}

impl Fleet {
    /// A server and `count` devices, enrolled, running and connected.
    #[must_use]
    pub fn start(count: usize) -> Self {
        Self::start_on(Server::start(), count)
    }

    /// The same with a proxy between the devices and the broker.
    #[must_use]
    pub fn start_behind(proxy: &Proxy, count: usize) -> Self {
        Self::start_on(Server::start_behind(proxy), count)
    }

    /// A fleet of `server`.
    #[must_use]
    pub fn start_on(server: Server, count: usize) -> Self {
        let mut fleet = Self { devices: Vec::new(), server };
        for number in 1..=count {
            fleet.add(&format!("cam-{number}"), DeviceOptions::default());
        }
        fleet.wait_until_online();
        fleet
    }

    /// Enrols and starts one more device.
    pub fn add(&mut self, name: &str, options: DeviceOptions) -> &mut Device {
        let mut device = Device::new(name, options);
        let _ = device.enroll(&self.token()).ok();
        device.run();
        self.devices.push(device);
        self.devices.last_mut().expect("just pushed")
    }

    /// The command line with the rights of an administrator.
    #[must_use]
    pub fn cli(&self) -> Cli {
        self.server.cli()
    }

    /// A token for one device of [`SITE`].
    #[must_use]
    pub fn token(&self) -> String {
        token(&self.cli(), 1, "1h").ok().stdout.trim().to_owned()
    }

    /// Publishes as the next version of `digits`.
    #[must_use]
    pub fn try_publish(&self, publication: &Publication) -> Answer {
        self.cli().run(publish_arguments(&self.server, "digits", publication))
    }

    /// Publishes as the next version of `digits`, and gives its name, for example `digits@2`.
    #[track_caller]
    #[must_use]
    pub fn publish(&self, publication: &Publication) -> String {
        self.publish_as("digits", publication)
    }

    /// The same as the next version of another model.
    #[track_caller]
    #[must_use]
    pub fn publish_as(&self, model: &str, publication: &Publication) -> String {
        publish_on(&self.server, model, publication)
    }

    /// Starts a rollout to [`SITE`] and gives its id.
    #[track_caller]
    #[must_use]
    pub fn start_rollout(&self, release: &str) -> String {
        let json = self.cli().json(&["rollout", "start", release, "--to", SITE]);
        views::text(&json, "id")
    }

    /// Watches a rollout to its end.
    #[must_use]
    pub fn watch(&self, rollout: &str) -> Answer {
        self.cli().run(["rollout", "status", rollout, "--watch", "--timeout", WATCH_FOR])
    }

    /// Publishes, rolls out, and waits until every device has committed.
    #[track_caller]
    pub fn bring(&self, publication: &Publication) -> String {
        let release = self.publish(publication);
        let rollout = self.start_rollout(&release);
        let _ = self.watch(&rollout).ok();
        release
    }

    /// Brings digits version 1 under several names, all at once: each name is another artifact.
    #[track_caller]
    pub fn bring_models(&self, names: &[String]) {
        let rollouts: Vec<String> = names
            .iter()
            .zip(1..)
            .map(|(name, seed)| {
                let small = Policy { memory_mib: 64, ..Policy::QUICK };
                let digits = Publication::digits(1).marked(self.server.scratch(), seed).with_policy(small);
                self.start_rollout(&self.publish_as(name, &digits))
            })
            .collect();
        for rollout in rollouts {
            let _ = self.watch(&rollout).ok();
        }
    }

    /// How a rollout stands.
    #[track_caller]
    #[must_use]
    pub fn rollout(&self, rollout: &str) -> Value {
        self.cli().json(&["rollout", "status", rollout])
    }

    /// What the server knows about a device.
    #[track_caller]
    #[must_use]
    pub fn device(&self, name: &str) -> Value {
        self.cli().json(&["device", "show", name])
    }

    /// Why a device runs what it runs. The numbers in its sentences are named, so that they can be looked for.
    #[track_caller]
    #[must_use]
    pub fn why(&self, name: &str) -> Value {
        let mut why = self.cli().json(&["device", "why", name]);
        let sentences = why["reasons"].as_array().cloned().unwrap_or_default();
        why["numbers"] = sentences.iter().filter_map(Value::as_str).flat_map(numbers_in).collect();
        why
    }

    /// True while the server sees the device connected.
    #[must_use]
    pub fn is_online(&self, name: &str) -> bool {
        views::all(&self.device(name), "connected").contains(&&Value::Bool(true))
    }

    /// Waits until the server sees every device.
    #[track_caller]
    pub fn wait_until_online(&self) {
        for device in &self.devices {
            until_true(&format!("{} is online", device.name()), PATIENCE, || self.is_online(device.name()));
        }
    }
}

/// Publishes as the next version of `model` on `server`, and gives its name.
#[track_caller]
#[must_use]
pub fn publish_on(server: &Server, model: &str, publication: &Publication) -> String {
    let arguments = publish_arguments(server, model, publication).into_iter();
    let answer = server.cli().run(arguments.chain(["-o".into(), "json".into()])).ok();
    views::text(&answer.json(), "release")
}

fn publish_arguments(server: &Server, model: &str, publication: &Publication) -> Vec<OsString> {
    let Publication { onnx, golden, lineage, policy, features } = publication;
    let policy = file(server, "policy", &policy.toml());
    let lineage = lineage.clone().unwrap_or_else(|| file(server, "lineage", LINEAGE));
    let mut arguments: Vec<OsString> = ["model", "publish", "--name", model].map(OsString::from).into();
    let files = [("--golden", golden), ("--policy", &policy), ("--lineage", &lineage)];
    arguments.extend(files.into_iter().flat_map(|(option, file)| [option.into(), file.into()]));
    if let Some(features) = features {
        let watched =
            [("--reference", digits_reference()), ("--features", file(server, "features", features))];
        arguments.extend(watched.into_iter().flat_map(|(option, file)| [option.into(), file.into()]));
    }
    arguments.push(onnx.into());
    arguments
}

/// Writes `text` under a name that other texts do not get.
fn file(server: &Server, kind: &str, text: &str) -> PathBuf {
    let mark = text.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let file = server.scratch().join(format!("{kind}-{mark:08x}.toml"));
    fs::write(&file, text).expect("the scratch folder is writable");
    file
}

/// Makes an enrolment token.
#[must_use]
pub fn token(cli: &Cli, uses: u32, expires: &str) -> Answer {
    let uses = uses.to_string();
    cli.run(["enroll", "token", "create", "--label", SITE, "--uses", &uses, "--expires", expires])
}

/// The numbers of a sentence, each under the name that its words give it.
fn numbers_in(sentence: &str) -> Vec<Value> {
    let words: Vec<&str> = sentence.split([' ', '(', ',']).filter(|word| !word.is_empty()).collect();
    let named = [
        ("resumed_bytes", ["were", "here"]),
        ("non_finite", ["with", "non-finite"]),
        ("starts", ["times", "without"]),
    ];
    let found = words.windows(3).filter_map(|w| {
        let (name, _) = named.iter().find(|(_, after)| *after == [w[1], w[2]])?;
        Some(json!({ *name: w[0].parse::<u64>().ok()? }))
    });
    found.collect()
}
