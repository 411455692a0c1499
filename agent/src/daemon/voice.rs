//! Everything through which the daemon speaks to the server, and how it takes its leave.

use std::{sync::Arc, time::Duration};

use agent_store::{disk::OsDisk, spool::Bounds};
use anyhow::Context;
use arc_swap::ArcSwap;
use muster_link::{Event, Link};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{MIB, home::Home, outgoing::Outgoing, telemetry::courier::Courier, uplink};
use crate::{renew::Renewal, tls};

/// What was said last gets this long to leave.
const GOODBYE: Duration = Duration::from_secs(2);

/// The link, and the two who send on it: at once, or when the server has stored what came before.
pub(super) struct Voice {
    pub(super) link: Link,
    pub(super) outgoing: Outgoing,
    pub(super) courier: Courier,
    /// Not a child of the daemon's own end: the last words leave after the shell has ended.
    link_end: CancellationToken,
}

impl Voice {
    /// Starts the link, what keeps its certificate fresh, and the senders; also gives what arrives.
    pub(super) fn start(
        home: &Home,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) -> anyhow::Result<(Self, mpsc::Receiver<Event>)> {
        let Home { identity, config, clock, .. } = home;
        let link_end = CancellationToken::new();
        let tls = tls::link_config(&identity.ca_pem, &identity.tls_pem, clock.clone())?;
        let tls = Arc::new(ArcSwap::from_pointee(tls));
        let (link, events) = uplink::start(identity, Arc::clone(&tls), link_end.clone())?;
        let renewal = Renewal::new(identity, &config.data_dir, tls, clock.clone())?;
        tasks.spawn(cancel.clone().run_until_cancelled_owned(renewal.run(link.clone())));
        let (outgoing, publisher) = Outgoing::new(identity.device.clone());
        tasks.spawn(publisher.run(link.clone()));
        let courier = start_courier(home, outgoing.clone())?;
        Ok((Self { link, outgoing, courier, link_end }, events))
    }

    /// Says the last words. A disk that hangs does not keep the agent from ending; what waits there is told after the
    /// next start.
    pub(super) async fn say_goodbye(self) {
        let last_words = async {
            self.courier.finish().await;
            self.outgoing.flush().await;
        };
        let _ = tokio::time::timeout(GOODBYE, last_words).await;
        self.link.stop(GOODBYE).await;
        let bytes = self.link.bytes().read();
        tracing::info!(sent_bytes = bytes.up_bytes, received_bytes = bytes.down_bytes, "the link has ended");
        self.link_end.cancel();
    }
}

/// The spool lies in a folder of its own and leaves the spare room alone.
fn start_courier(home: &Home, outgoing: Outgoing) -> anyhow::Result<Courier> {
    let config = &home.config;
    let bounds = Bounds {
        max_bytes: config.telemetry.spool_kib.saturating_mul(1_024),
        spare_bytes: config.limits.spare_mib.saturating_mul(MIB),
    };
    let interval = Duration::from_secs(config.telemetry.interval_secs.into());
    Courier::start(OsDisk, config.data_dir.join("spool"), bounds, interval, outgoing, home.clock.clone())
        .context("cannot start the courier's thread")
}
