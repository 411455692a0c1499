//! The sockets on which applications ask for inferences.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use agent_store::disk;
use anyhow::{Context, anyhow};

use crate::{
    config::Config,
    daemon::patience::{Obstacle, patiently},
};

/// Owner and group: applications that may ask are in the agent's group.
const SOCKET_MODE: u32 = 0o660;

/// Both listening sockets.
pub(in crate::daemon) struct Listeners {
    tcp: TcpListener,
    unix: UnixListener,
    unix_path: PathBuf,
}

impl Listeners {
    /// Opens both and tells other programs where they are, in `endpoints.json` of the data directory. The runner of an
    /// agent that was killed gets a moment to let go of them.
    pub(in crate::daemon) async fn open(config: &Config) -> anyhow::Result<Self> {
        let tcp = patiently(|| listen(config.serving.http)).await?;
        tcp.set_nonblocking(true)?;
        let unix_path = config.unix_socket();
        patiently(|| remove_stale(&unix_path)).await?;
        let unix = patiently(|| bind(&unix_path)).await?;
        unix.set_nonblocking(true)?;
        patiently(|| fs::set_permissions(&unix_path, fs::Permissions::from_mode(SOCKET_MODE))).await?;
        let http = tcp.local_addr()?;
        patiently(|| write_endpoints(&config.data_dir, http, &unix_path)).await?;
        Ok(Self { tcp, unix, unix_path })
    }

    /// Copies for a runner, in the order in which it expects them.
    pub(super) fn descriptors(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(vec![self.tcp.try_clone()?.into(), self.unix.try_clone()?.into()])
    }

    pub(super) fn tcp(&self) -> io::Result<tokio::net::TcpListener> {
        tokio::net::TcpListener::from_std(self.tcp.try_clone()?)
    }

    pub(super) fn unix(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.unix.try_clone()?)
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.unix_path);
    }
}

fn listen(http: SocketAddr) -> Result<TcpListener, Obstacle> {
    TcpListener::bind(http).map_err(|error| {
        let in_use = error.kind() == io::ErrorKind::AddrInUse;
        let error = anyhow::Error::new(error).context(format!(
            "cannot listen on {http}; is another program using the port? set [serving] http to a free one, or to port 0"
        ));
        if in_use { Obstacle::InUse(error) } else { Obstacle::Lasting(error) }
    })
}

/// A socket that nobody answers on was left by an agent that died. Anything else in its place is not ours.
fn remove_stale(path: &Path) -> Result<(), Obstacle> {
    let place = path.display();
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("cannot look for {place}")).into());
        }
    };
    if !metadata.file_type().is_socket() {
        return Err(
            anyhow!("{place} exists and is not a socket; set [serving] unix_socket to another path").into()
        );
    }
    if UnixStream::connect(path).is_ok() {
        return Err(Obstacle::InUse(anyhow!(
            "another program listens on {place}; stop it, or set [serving] unix_socket to another path"
        )));
    }
    Ok(fs::remove_file(path).with_context(|| format!("cannot remove the old socket {place}"))?)
}

fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    UnixListener::bind(path).with_context(|| {
        format!(
            "cannot listen on {}; set [serving] unix_socket to a path of at most 107 bytes",
            path.display()
        )
    })
}

fn write_endpoints(data_dir: &Path, http: SocketAddr, unix_socket: &Path) -> anyhow::Result<()> {
    let endpoints = serde_json::json!({ "http": http.to_string(), "unix_socket": unix_socket });
    let path = data_dir.join("endpoints.json");
    disk::replace(&path, &serde_json::to_vec_pretty(&endpoints)?)
        .with_context(|| format!("cannot write {}", path.display()))
}
