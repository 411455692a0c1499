//! The server of a run: one of its own in a folder that goes with it, or one that is there already.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    cli::Context,
    demo::{
        process::{self, Process},
        scene::{Folder, own_program, toml_text},
    },
};

/// A server that is not ready by then never will be.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How often it is asked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A server. The process ends before its folder goes.
pub(super) struct Server {
    pub(super) context: Context,
    own: Option<(Process, Folder)>,
}

impl Server {
    /// The server that `context` names.
    pub(super) fn named(context: Context) -> Self {
        Self { context, own: None }
    }

    /// Starts one, for `devices` devices, with its files in `folder` or in a temporary one.
    pub(super) async fn start(
        devices: usize,
        look_secs: Option<u32>,
        folder: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let folder = Folder::make(folder, "muster-sim")?;
        let (config, data_dir) = (folder.path().join("muster.toml"), folder.path().join("server"));
        let text = config_text(&toml_text(&data_dir)?, devices, look_secs);
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = Command::new(own_program()?);
        command.args(["serve", "--config"]).arg(&config);
        let mut process = Process::start("the server", command, folder.path().join("server.log"))?;
        let deadline = Instant::now() + READY_WITHIN;
        let ready = [data_dir.join("endpoints.json"), data_dir.join("admin-context.toml")];
        while !ready.iter().all(|file| file.is_file()) {
            if process.ended().is_some() || Instant::now() > deadline {
                bail!("the server did not get ready; the end of its log:\n{}", process::tail(process.log()));
            }
            sleep(LOOK_EVERY).await;
        }
        let context = Context::find(Some(&ready[1])).map_err(|failure| anyhow::anyhow!("{failure}"))?;
        Ok(Self { context, own: Some((process, folder)) })
    }

    /// Its process, where the run has started it.
    pub(super) fn pid(&self) -> Option<u32> {
        self.own.as_ref().and_then(|(process, _)| process.id())
    }

    /// Fails when a server of our own is no longer there.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        let Some((process, _)) = &mut self.own else { return Ok(()) };
        match process.ended() {
            None => Ok(()),
            Some(status) => {
                bail!("the server ended ({status}); the end of its log:\n{}", process::tail(process.log()))
            }
        }
    }

    /// Stops a server of our own.
    pub(super) async fn stop(self) {
        if let Some((process, folder)) = self.own {
            process.stop().await;
            drop(folder);
        }
    }
}

/// A tenth more connections than devices, because a server sees the end of a broken link later than the next one.
fn config_text(data_dir: &str, devices: usize, look_secs: Option<u32>) -> String {
    let connections = devices + devices / 10 + 100;
    let looks = look_secs.map_or_else(String::new, |secs| format!("\n[rollouts]\nlook_secs = {secs}\n"));
    format!(
        "data_dir = {data_dir}\n\n[http]\nlisten = \"127.0.0.1:0\"\n\n[mqtt]\nlisten = \"127.0.0.1:0\"\n\n\
         [limits]\nconnections = {connections}\n{looks}"
    )
}
