//! All devices of a run: how they join, how their tasks are reached, what they were at the end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, stream};
use muster_sim::{Catalog, Class, Crowd, LiveStory, Profile, Random};
use shared::{DeviceId, device::Inventory, enroll::EnrollResponse};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    identity::{Door, Fleet, Identity},
    life::{Birth, Counters, Ended, Life, ORDERS, Order, Surroundings},
    people::{People, Run},
    server::Server,
    stage::told,
};

/// Devices that join at once. Each join is a commit of the server, so more would only wait for each other.
const JOINS: usize = 16;

/// Devices connect as fast as the server lets them; when none did for this long, none will.
const NEXT_CONNECT_WITHIN: Duration = Duration::from_secs(60);

/// How often the connected are counted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A version on probation tells of its inferences this often.
const TELLS_EVERY: Duration = Duration::from_secs(1);

/// Everybody.
pub(super) struct Population {
    orders: Vec<Vec<mpsc::Sender<Order>>>,
    lives: JoinSet<Ended>,
    surroundings: Arc<Surroundings>,
}

/// A device that has joined, before it is switched on.
struct Joined {
    id: DeviceId,
    inventory: Inventory,
    identity: Identity,
}

impl Population {
    /// Lets every device join, class by class, and switches all of them on.
    pub(super) async fn enrol(
        story: &LiveStory,
        crowd: &Crowd,
        people: &People,
        run: &Run,
        ca: &str,
    ) -> anyhow::Result<Self> {
        let (mut joined, mut fleet) = (vec![], None);
        for class in &crowd.classes {
            let (devices, response) = join(class, people, ca).await?;
            if let Some(response) = response {
                fleet = Some(Fleet::of(&response)?);
            }
            joined.push(devices);
        }
        let fleet = fleet.context("a crowd has devices")?;
        let catalog = Arc::new(Catalog::new(&crowd.releases(story, |release| run.published(release))));
        let mut population =
            Self { orders: vec![], lives: JoinSet::new(), surroundings: Arc::new(Surroundings::new(fleet)) };
        let mut random = Random::new(story.seed);
        for (class, devices) in crowd.classes.iter().zip(joined) {
            let births = devices.into_iter().map(|it| birth(story, class, it, &catalog, random.draw()));
            let orders = births.map(|birth| population.switch_on(birth)).collect();
            population.orders.push(orders);
        }
        Ok(population)
    }

    fn switch_on(&mut self, birth: Birth) -> mpsc::Sender<Order> {
        let (sender, orders) = mpsc::channel(ORDERS);
        self.lives.spawn(Life::new(birth, self.surroundings.clone(), orders).live());
        sender
    }

    /// Waits until all of them are connected.
    pub(super) async fn connected(&self, devices: usize, server: &mut Server) -> anyhow::Result<()> {
        let (mut before, mut deadline) = (0, Instant::now() + NEXT_CONNECT_WITHIN);
        loop {
            let connected = self.counters().connected.load(Ordering::Relaxed);
            if connected > before {
                (before, deadline) = (connected, Instant::now() + NEXT_CONNECT_WITHIN);
            }
            if connected >= devices as u64 {
                return Ok(());
            }
            server.check_alive()?;
            if Instant::now() > deadline {
                let why = self.counters().last_failure().unwrap_or_else(|| "no attempt has failed".into());
                let secs = NEXT_CONNECT_WITHIN.as_secs();
                bail!(
                    "{connected} of {devices} devices are connected, and no other for {secs} s; last: {why}"
                );
            }
            sleep(LOOK_EVERY).await;
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.surroundings.counters
    }

    /// The ways to the devices, class by class.
    pub(super) fn orders(&self) -> &[Vec<mpsc::Sender<Order>>] {
        &self.orders
    }

    /// Ends every life.
    pub(super) async fn end(self) -> anyhow::Result<Vec<Ended>> {
        let Self { orders, mut lives, surroundings } = self;
        drop(orders);
        let mut ended = vec![];
        while let Some(life) = lives.join_next().await {
            ended.push(life.context("a virtual device broke")?);
        }
        drop(surroundings);
        Ok(ended)
    }
}

async fn join(
    class: &Class,
    people: &People,
    ca: &str,
) -> anyhow::Result<(Vec<Joined>, Option<EnrollResponse>)> {
    if class.members.is_empty() {
        return Ok((vec![], None));
    }
    let story = &class.story;
    let token = people.token(&story.name, &story.labels, class.members.len()).await.map_err(told)?;
    let door = Door::new(&token, ca)?;
    let joins = class.members.iter().map(|id| {
        let (door, inventory) = (&door, inventory(class));
        async move {
            let (identity, response) = door.join(id, inventory.clone()).await?;
            anyhow::Ok((Joined { id: id.clone(), inventory, identity }, response))
        }
    });
    let mut joining = stream::iter(joins).buffered(JOINS);
    let (mut devices, mut first) = (Vec::with_capacity(class.members.len()), None);
    while let Some(joined) = joining.next().await {
        let (device, response) = joined?;
        devices.push(device);
        first.get_or_insert(response);
    }
    Ok((devices, first))
}

fn inventory(class: &Class) -> Inventory {
    Inventory {
        agent_version: concat!("virtual ", env!("CARGO_PKG_VERSION")).into(),
        arch: "aarch64".into(),
        memory_mib: class.story.memory_mib,
        engines: vec!["tract-onnx 0.23.9".into()],
        utc_offset_secs: Some(class.story.utc_offset_secs),
        ..Inventory::default()
    }
}

fn birth(story: &LiveStory, class: &Class, joined: Joined, catalog: &Arc<Catalog>, seed: u64) -> Birth {
    let Joined { id, inventory, identity } = joined;
    let profile = Profile {
        id,
        inventory,
        runs: None,
        traffic_per_minute: class.story.traffic,
        tells_every: TELLS_EVERY,
        clock_ahead_ms: class.story.clock_secs.saturating_mul(1_000),
        maintenance: class.story.maintenance.clone(),
        utc_offset_secs: class.story.utc_offset_secs,
        seed,
    };
    Birth {
        profile,
        identity,
        catalog: catalog.clone(),
        link_kib: class.story.link_kib,
        damage_ppm: story.network.damage_ppm,
        telemetry: (story.telemetry_secs > 0).then(|| Duration::from_secs(story.telemetry_secs.into())),
    }
}
