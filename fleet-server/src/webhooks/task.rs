//! Looks for webhooks that have something to deliver, and lets each of them deliver in a task of its own.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use shared::Timestamp;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    BadCertificate, Envelope, EventFilter, Failure, FailureKind, KIND, Sender, Then, WebhookSecret, host_of,
    schedule::CHANCES,
};
use crate::{
    app::App,
    store::{Advance, EventRow, Store, StoreError, WebhookRow},
};

/// How often it is looked for new events, where nobody says that there are any: those of other servers.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Events that a webhook holds at a time.
const PAGE: u32 = 50;

/// Pages that a webhook delivers before it is looked at anew, which tells it that it was changed.
const PAGES: usize = 4;

/// A delivery under way may take this long after a stop was asked for; cut off, it would come twice.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a webhook waits whose delivery could not be written down.
const REST: Duration = Duration::from_secs(5);

/// Delivers until `stop`; deliveries under way end first.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let mut changes = app.changes.subscribe();
    let (mut busy, mut workers) = (BTreeSet::new(), JoinSet::new());
    loop {
        if let Err(error) = start_due(&app, &mut busy, &mut workers, &stop).await {
            tracing::error!(error = &error as &dyn std::error::Error, "webhooks are not delivered");
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = changes.changed() => {}
            Some(ended) = workers.join_next(), if !workers.is_empty() => forget(&mut busy, ended),
        }
    }
    let _ = timeout(DRAIN, async { while workers.join_next().await.is_some() {} }).await;
}

/// A task that panicked does not say whose it was; then all are looked at anew, and no two deliver at once, because what
/// each writes down is refused when another has written before.
fn forget(busy: &mut BTreeSet<String>, ended: Result<String, tokio::task::JoinError>) {
    match ended {
        Ok(webhook) => drop(busy.remove(&webhook)),
        Err(error) => {
            tracing::error!(%error, "a delivery broke");
            busy.clear();
        }
    }
}

async fn start_due(
    app: &Arc<App>,
    busy: &mut BTreeSet<String>,
    workers: &mut JoinSet<String>,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    if !app.lease.is_ours(Instant::now()) {
        return Ok(());
    }
    let webhooks = app.store.webhooks().await?;
    if webhooks.is_empty() {
        return Ok(());
    }
    let (now, newest) = (app.clock.now(), app.store.newest_event().await?);
    for row in webhooks {
        let is_due = row.disabled.is_none() && row.sequence < newest && row.standing.is_due(now);
        if is_due && busy.insert(row.id.clone()) {
            let worker = Worker { app: app.clone(), row, stop: stop.clone() };
            workers.spawn(worker.run());
        }
    }
    Ok(())
}

/// What one webhook delivers.
struct Worker {
    app: Arc<App>,
    row: WebhookRow,
    stop: CancellationToken,
}

/// A sender, if one could be made.
type Made = Result<Sender, BadCertificate>;

/// Whether a webhook goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// With what comes next.
    Goes,
    /// Not now.
    Waits,
}

impl Worker {
    async fn run(mut self) -> String {
        let id = self.row.id.clone();
        if let Err(error) = self.deliver().await {
            tracing::error!(webhook.id = %id, error = &error as &dyn std::error::Error, "a delivery was not written down");
            self.rest().await;
        }
        id
    }

    /// What could not be written down is not tried again at once.
    async fn rest(&self) {
        tokio::select! {
            () = tokio::time::sleep(REST) => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn deliver(&mut self) -> Result<(), StoreError> {
        let sender = Sender::new(&self.row.url, self.row.ca_pem.as_deref());
        for _ in 0..PAGES {
            let page = self.app.store.events_page(self.row.sequence, PAGE).await?;
            if page.is_empty() || self.deliver_page(&sender, &page).await? == Progress::Waits {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn deliver_page(&mut self, sender: &Made, page: &[EventRow]) -> Result<Progress, StoreError> {
        let filter = EventFilter::stored(self.row.events.clone());
        for event in page.iter().filter(|event| filter.wants(event)) {
            if self.deliver_event(sender, event).await? == Progress::Waits {
                return Ok(Progress::Waits);
            }
        }
        // Behind the last one that was wanted there may be others.
        let last = page.last().map_or(self.row.sequence, |event| event.sequence);
        if last > self.row.sequence && !self.advance(last, None).await? {
            return Ok(Progress::Waits);
        }
        Ok(Progress::Goes)
    }

    async fn deliver_event(&mut self, sender: &Made, event: &EventRow) -> Result<Progress, StoreError> {
        if self.stop.is_cancelled() || !self.app.lease.is_ours(Instant::now()) {
            return Ok(Progress::Waits);
        }
        let secret = WebhookSecret::derive(&self.app.token_key, &self.row.id, &self.row.salt);
        let envelope = Envelope::of(event, self.app.authority.fingerprint());
        let posted = match sender {
            Ok(sender) => sender.post(&self.row.url, &secret, &envelope, self.app.clock.now()).await,
            Err(error) => Err(Failure::of_ours(error)),
        };
        let now = self.app.clock.now();
        match posted {
            Ok(_) => {
                self.app.metrics.webhook("delivered");
                let goes = self.advance(event.sequence, Some(now)).await?;
                Ok(if goes { Progress::Goes } else { Progress::Waits })
            }
            Err(failure) => {
                self.app.metrics.webhook(failure.kind.word());
                self.failed(&failure, now).await?;
                Ok(Progress::Waits)
            }
        }
    }

    /// Everything up to `to` is done with. False when the webhook was changed meanwhile.
    async fn advance(&mut self, to: u64, delivered_at: Option<Timestamp>) -> Result<bool, StoreError> {
        let advance = Advance { from: self.row.sequence, to, delivered_at };
        let mut tx = self.app.store.begin().await?;
        let done = Store::advance_webhook(&mut tx, &self.row.id, &advance).await?;
        tx.commit().await?;
        self.row.sequence = to;
        if delivered_at.is_some() {
            self.row.standing = Default::default();
        }
        Ok(done)
    }

    async fn failed(&self, failure: &Failure, now: Timestamp) -> Result<(), StoreError> {
        let row = &self.row;
        tracing::info!(webhook.id = %row.id, host = host_of(&row.url), tries = row.standing.failures + 1, "a delivery failed: {}", failure.detail);
        let mut tx = self.app.store.begin().await?;
        match row.standing.after(failure, now, chance()) {
            Then::Retry(standing) => {
                Store::webhook_failed(&mut tx, &row.id, row.sequence, &standing, &failure.detail).await?;
            }
            Then::GiveUp { since } => give_up(&mut tx, row, failure, since, now).await?,
        }
        tx.commit().await?;
        self.app.changes.send_modify(|count| *count += 1);
        Ok(())
    }
}

/// Nobody tries any more, and everybody is told.
async fn give_up(
    tx: &mut crate::store::Tx,
    row: &WebhookRow,
    failure: &Failure,
    since: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    let why = match failure.kind {
        FailureKind::Gone => failure.detail.clone(),
        FailureKind::Unreachable | FailureKind::TimedOut | FailureKind::Refused => {
            format!("failing since {}: {}", crate::clock::moment(since), failure.detail)
        }
    };
    if !Store::disable_webhook(tx, &row.id, row.sequence, &why, now).await? {
        return Ok(());
    }
    let host = host_of(&row.url);
    tracing::warn!(webhook.id = %row.id, host, "a webhook is disabled: {why}");
    let event = serde_json::json!({"event": "disabled", "host": host, "since": since, "why": why});
    Store::insert_event(tx, now, KIND, &row.id, &event).await?;
    Store::audit(tx, now, &format!("webhook:{}", row.id), "webhook.disable", &row.id, &why).await
}

/// A number that differs from server to server; without chance nothing is lost but time.
fn chance() -> u32 {
    let mut bytes = [0; 4];
    let _ = getrandom::fill(&mut bytes);
    u32::from_le_bytes(bytes) % (CHANCES + 1)
}
