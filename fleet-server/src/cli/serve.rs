//! `serve`.

use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Failure, args::ServeArgs, chain, output::say};
use crate::{
    config::{Config, Variables},
    server::Server,
};

pub(super) async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let mut config = Config::load(args.config.as_deref(), &Variables::of_process())
        .map_err(|error| Failure::usage(chain(&error)))?;
    if let Some(data_dir) = args.data_dir {
        config.data_dir = data_dir;
    }
    let failed = |error: &dyn std::error::Error| Failure::new(Exit::Failed, chain(error));
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
    let mut server = Box::pin(Server::start(config, program)).await.map_err(|error| failed(&error))?;
    greet(&server);
    let broken = tokio::select! {
        _ = tokio::signal::ctrl_c() => None,
        _ = terminate.recv() => None,
        error = server.failed() => Some(error),
    };
    tracing::info!("stopping");
    server.stop().await;
    match broken {
        Some(error) => Err(failed(&error)),
        None => Ok(()),
    }
}

fn greet(server: &Server) {
    let endpoints = server.endpoints();
    say(&format!("muster is ready: API {}, MQTT {}", endpoints.url, endpoints.mqtt));
    if let Some(token) = server.first_token() {
        say("first start: keys, certificates and an admin token were made. The token, shown this once:");
        say(&format!("\n  {token}\n"));
        say("use it from this machine:");
        say(&format!("  export MUSTER_CONTEXT={}", server.admin_context().display()));
    }
}
