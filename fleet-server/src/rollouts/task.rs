//! The task: waits for commands and moments, and tells what came of them.

use std::{collections::BTreeSet, future::pending, sync::Arc, time::Duration};

use fleet_core::experiment::ExperimentStatus;
use shared::{DeviceId, Timestamp, report::Report};
use tokio::{
    sync::mpsc::Receiver,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Command, Greeting, Inbox, Order, Reply, RolloutError, fleet::Fleet};
use crate::{app::App, gateway, store::StoreError};

/// Commands of one turn, at most: enough to share a commit, few enough that nobody waits long.
const BATCH: usize = 64;

/// After the database refused a turn that no device waits for, the next try comes this much later.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How often a server looks at what others on its database did: devices and people wait for it.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// A turn that another server came before is made anew from what stands there now, at most this often.
const TRIES: usize = 4;

/// Makes a turn, and makes it anew where another server came before it.
macro_rules! again {
    ($turn:expr) => {{
        let mut tries = 1;
        loop {
            match $turn.await {
                Err(RolloutError::Outdated) if tries < TRIES => tries += 1,
                done => break done,
            }
        }
    }};
}

/// Runs until `stop`; the turn under way is finished first.
///
/// # Errors
/// When the stored rollouts cannot be read.
pub async fn run(app: Arc<App>, inbox: Inbox, stop: CancellationToken) -> Result<(), StoreError> {
    let mut commands = inbox.0;
    let mut fleet = Fleet::load(app).await?;
    let mut not_before = wake(&mut fleet).await;
    let mut follow_up = interval(FOLLOW_EVERY);
    follow_up.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = next_tick(&fleet, not_before) => not_before = tick(&mut fleet).await,
            () = next_look(&fleet) => look(&mut fleet).await,
            _ = follow_up.tick(), if fleet.app.store.is_shared() => follow(&mut fleet).await,
            received = receive(&mut commands, &mut batch) => {
                if received == 0 {
                    return Ok(());
                }
                turn(&mut fleet, batch).await;
            }
        }
    }
}

/// Tells devices and people here what another server changed.
async fn follow(fleet: &mut Fleet) {
    // First, or a device would hear of a release that this server does not list yet.
    if let Err(error) = fleet.app.signing.follow().await {
        tracing::error!(error = &error as &dyn std::error::Error, "cannot see what other servers signed");
    }
    let looked = async {
        if fleet.look_at_others().await? {
            fleet.app.changes.send_modify(|count| *count += 1);
        }
        fleet.changed_by_others().await
    };
    match looked.await {
        Ok(changed) => send_desired(fleet, changed).await,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot see what other servers did");
        }
    }
}

async fn receive(commands: &mut Receiver<Command>, batch: &mut Vec<Command>) -> usize {
    commands.recv_many(batch, BATCH).await
}

async fn next_tick(fleet: &Fleet, not_before: Timestamp) {
    match fleet.next_tick() {
        Some(at) => tokio::time::sleep(at.max(not_before).since(fleet.app.clock.now())).await,
        None => pending().await,
    }
}

async fn next_look(fleet: &Fleet) {
    match fleet.next_look() {
        Some(at) => tokio::time::sleep(at.since(fleet.app.clock.now())).await,
        None => pending().await,
    }
}

/// A look that fails is left out: the next one counts what it would have counted.
async fn look(fleet: &mut Fleet) {
    hear_alarms(fleet).await;
    let now = fleet.app.clock.now();
    match again!(fleet.look(now)) {
        Ok(changed) => tell(fleet, changed).await,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "no look at the metrics was taken")
        }
    }
}

/// What happened while this server was away is told first; what cannot be told now is found by the next tick.
async fn wake(fleet: &mut Fleet) -> Timestamp {
    hear_alarms(fleet).await;
    let now = fleet.app.clock.now();
    let done = again!(fleet.wake(now));
    moved_on(fleet, done, now).await
}

async fn tick(fleet: &mut Fleet) -> Timestamp {
    hear_alarms(fleet).await;
    let now = fleet.app.clock.now();
    let done = again!(fleet.tick(now));
    moved_on(fleet, done, now).await
}

/// Alarms that cannot be heard now are heard at the next look or tick.
async fn hear_alarms(fleet: &mut Fleet) {
    let now = fleet.app.clock.now();
    match again!(fleet.hear_alarms(now)) {
        Ok(None) => {}
        Ok(Some(changed)) => tell(fleet, changed).await,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "rollouts did not hear of drift alarms"
            );
        }
    }
}

/// When the next tick may come.
async fn moved_on(
    fleet: &Fleet,
    done: Result<BTreeSet<DeviceId>, RolloutError>,
    now: Timestamp,
) -> Timestamp {
    match done {
        Ok(changed) => {
            tell(fleet, changed).await;
            Timestamp::default()
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "rollouts cannot move on");
            now + RETRY_AFTER
        }
    }
}

/// Reports and hellos of a batch share a transaction each; orders of people have their own.
async fn turn(fleet: &mut Fleet, batch: Vec<Command>) {
    let (mut reports, mut replies, mut hellos) = (Vec::new(), Vec::new(), Vec::new());
    let mut orders = Vec::new();
    for command in batch {
        match command {
            Command::Report { report, reply } => {
                reports.push(*report);
                replies.push(reply);
            }
            Command::Hello { greeting } => hellos.push(greeting),
            order => orders.push(order),
        }
    }
    if !hellos.is_empty() {
        take_hellos(fleet, &hellos).await;
    }
    if !reports.is_empty() {
        take_reports(fleet, &reports, replies).await;
    }
    for order in orders {
        take_order(fleet, order).await;
    }
}

async fn take_hellos(fleet: &mut Fleet, greetings: &[Greeting]) {
    let now = fleet.app.clock.now();
    match again!(fleet.hellos(greetings, now)) {
        Ok(changed) => tell(fleet, changed).await,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "rollouts do not know who connected");
        }
    }
}

async fn take_reports(fleet: &mut Fleet, reports: &[Report], replies: Vec<Reply<()>>) {
    let now = fleet.app.clock.now();
    let done = again!(fleet.reports(reports, now));
    let stored = done.is_ok();
    for reply in replies {
        // A device that left meanwhile sends its report again.
        let _ = reply.send(if stored { Ok(()) } else { Err(RolloutError::Outdated) });
    }
    match done {
        Ok(changed) => tell(fleet, changed).await,
        Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "reports were not stored"),
    }
}

async fn take_order(fleet: &mut Fleet, command: Command) {
    if may_begin(&command) {
        hear_alarms(fleet).await;
    }
    let now = fleet.app.clock.now();
    match command {
        Command::Plan { wanted, reply } => answer(reply, fleet.plan(&wanted, now).await),
        Command::Start { wanted, reply } => {
            let started = again!(fleet.start(&wanted, now));
            if let Ok((_, changed)) = &started {
                tell(fleet, changed.clone()).await;
            }
            answer(reply, started.map(|(id, _)| id));
        }
        Command::TryStart { wanted, reply } => answer(reply, again!(fleet.try_start(&wanted, now))),
        Command::TryOrder { id, order, by, reply } => {
            answer(reply, again!(fleet.try_order(&id, order.clone(), by.clone(), now)));
        }
        Command::Order { id, order, by, reply } => {
            let done = again!(fleet.order(&id, order.clone(), by.clone(), now));
            if let Ok(changed) = &done {
                tell(fleet, changed.clone()).await;
            }
            answer(reply, done.map(|_| ()));
        }
        Command::Withdraw { device, model, reply } => {
            let done = again!(fleet.withdraw(&device, model.as_ref(), now));
            if done.is_ok() {
                tell(fleet, BTreeSet::new()).await;
            }
            answer(reply, done);
        }
        Command::Refreeze { reply } => {
            let done = again!(fleet.refreeze(now));
            if let Ok(changed) = &done {
                tell(fleet, changed.clone()).await;
            }
            answer(reply, done.map(|_| ()));
        }
        Command::HearAlarms => hear_alarms(fleet).await,
        Command::StopEverything { reason, by, trial, reply } => {
            let done = again!(fleet.stop_everything(&reason, &by, trial, now));
            if let Ok((_, changed)) = &done {
                tell(fleet, changed.clone()).await;
            }
            answer(reply, done.map(|(ended, _)| ended));
        }
        Command::StartExperiment { wanted, trial, reply } => {
            let done = again!(fleet.start_experiment(&wanted, trial, now));
            answer_experiment(fleet, reply, done).await;
        }
        Command::StopExperiment { stop, trial, reply } => {
            let done = again!(fleet.stop_experiment(&stop, trial, now));
            answer_experiment(fleet, reply, done).await;
        }
        Command::Report { .. } | Command::Hello { .. } => {}
    }
}

/// Whether a rollout may begin to ask devices in this turn, which must not hear of older alarms after it.
fn may_begin(command: &Command) -> bool {
    let begins = |order: &Order| matches!(order, Order::Approve { .. } | Order::Retry);
    match command {
        Command::Start { .. } | Command::StartExperiment { .. } => true,
        Command::Order { order, .. } => begins(order),
        _ => false,
    }
}

async fn answer_experiment(
    fleet: &Fleet,
    reply: Reply<Box<ExperimentStatus>>,
    done: Result<(ExperimentStatus, BTreeSet<DeviceId>), RolloutError>,
) {
    if let Ok((_, changed)) = &done {
        tell(fleet, changed.clone()).await;
    }
    answer(reply, done.map(|(status, _)| Box::new(status)));
}

/// Whoever asked may have gone away; the act stands anyway.
fn answer<T>(reply: Reply<T>, result: Result<T, RolloutError>) {
    let _ = reply.send(result);
}

/// Wakes those who wait for a change, and sends new desired states. A device that does not listen now is told at
/// its next hello.
async fn tell(fleet: &Fleet, changed: BTreeSet<DeviceId>) {
    fleet.app.changes.send_modify(|count| *count += 1);
    send_desired(fleet, changed).await;
}

async fn send_desired(fleet: &Fleet, devices: BTreeSet<DeviceId>) {
    for device in devices {
        gateway::send_desired(&fleet.app, &device).await;
    }
}
