//! Many devices in one thread that do as they are told: each takes its desired state in, says that it committed what is
//! named there, and says it again until the server has acknowledged it. What they were told and what was acknowledged is
//! written down, for an oracle to look at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use muster_link::{Event, Link, Qos};
use serde_json::Value;
use shared::{
    BootId, DeviceId, Generation, ReleaseId, Timestamp,
    device::Inventory,
    message::{Acknowledgement, DesiredMessage, DirectorDocument, Hello, StateMessage, Stream},
    report::{DeploymentEvent, ModelState, Report},
    topic::{Channel, Down, Topic, Up},
    trust::{Signed, Signer},
};
use tokio::{runtime::Runtime, sync::mpsc, task::JoinHandle};

use crate::{bare_device::Identity, device::Device};

/// Devices at work.
#[derive(Debug)]
pub struct Crew {
    members: BTreeMap<DeviceId, Arc<Mutex<Diary>>>,
    tasks: Vec<JoinHandle<()>>,
    runtime: Runtime,
}

/// What became of one device.
#[derive(Debug, Clone, Default)]
pub struct Diary {
    /// Every desired state that was newer than the one before, with the releases it names.
    pub told: Vec<(Generation, Vec<ReleaseId>)>,
    /// Numbers of the reports that the server acknowledged.
    pub acknowledged: BTreeSet<u64>,
    /// Reports that were made.
    pub reported: u64,
}

impl Crew {
    /// Puts devices that were enrolled, and are not run, to work.
    #[must_use]
    pub fn of(devices: &[Device]) -> Self {
        let runtime = Runtime::new().expect("threads are plenty");
        let (mut members, mut tasks) = (BTreeMap::new(), Vec::new());
        for device in devices {
            let identity = Identity::of(device);
            let (id, diary) = (identity.id.clone(), Arc::<Mutex<Diary>>::default());
            tasks.push(runtime.spawn(work(identity, Arc::clone(&diary))));
            members.insert(id, diary);
        }
        Self { members, tasks, runtime }
    }

    /// True when no device waits for an acknowledgement.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.diaries().values().all(|diary| diary.acknowledged.len() as u64 == diary.reported)
    }

    /// What each device has written down so far.
    #[must_use]
    pub fn diaries(&self) -> BTreeMap<DeviceId, Diary> {
        self.members.iter().map(|(id, diary)| (id.clone(), diary.lock().unwrap().clone())).collect()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            // Aborted, which is how it ends.
            let _ = self.runtime.block_on(task);
        }
    }
}

/// One device.
struct Member {
    id: DeviceId,
    signer: Signer,
    boot: BootId,
    link: Link,
    generation: Generation,
    models: Vec<ModelState>,
    waiting: BTreeMap<u64, Report>,
    diary: Arc<Mutex<Diary>>,
}

async fn work(identity: Identity, diary: Arc<Mutex<Diary>>) {
    let (link, mut events) = identity.connect(&[Down::Acknowledgement, Down::Desired]);
    let mut member = Member {
        id: identity.id,
        signer: identity.signer,
        boot: BootId::new("crew").expect("a name"),
        link,
        generation: Generation(0),
        models: Vec::new(),
        waiting: BTreeMap::new(),
        diary,
    };
    while let Some(event) = next(&mut events).await {
        match event {
            Event::Connected => member.introduce().await,
            Event::Message { topic, payload } => match Topic::parse(&topic).map(|topic| topic.channel) {
                Some(Channel::Down(Down::Desired)) => member.take_in(&payload).await,
                Some(Channel::Down(Down::Acknowledgement)) => member.acknowledged(&payload),
                _ => {}
            },
            _ => {}
        }
    }
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Option<Event> {
    events.recv().await
}

impl Member {
    /// Says hello, and everything again that was not acknowledged.
    async fn introduce(&mut self) {
        let hello = Hello {
            boot: self.boot.clone(),
            at: now(),
            generation: self.generation,
            inventory: Inventory { engines: vec!["tract-onnx 0.23.9".into()], ..Inventory::default() },
            models: self.models.clone(),
            limits_revision: 0,
            challengers_revision: 0,
        };
        self.say(&StateMessage::Hello(Box::new(hello))).await;
        for report in self.waiting.values() {
            self.say(&StateMessage::Report(self.sign(report))).await;
        }
    }

    /// Commits what is named, as an agent does that finds nothing wrong.
    async fn take_in(&mut self, payload: &[u8]) {
        let desired = read(payload);
        if desired.generation <= self.generation {
            return;
        }
        self.generation = desired.generation;
        let named: Vec<ReleaseId> = desired.assignments.iter().map(|wanted| wanted.release.clone()).collect();
        self.diary.lock().unwrap().told.push((desired.generation, named.clone()));
        let had: BTreeSet<_> = self.models.drain(..).filter_map(|model| model.committed).collect();
        for release in named {
            let model = release.model.clone();
            let committed = Some(release.clone());
            self.models.push(ModelState {
                model,
                committed,
                candidate: None,
                step: String::new(),
                held: vec![],
            });
            if !had.contains(&release) {
                self.report(&release, DeploymentEvent::Probation).await;
                self.report(&release, DeploymentEvent::Committed { inferences: 50, failures: 0 }).await;
            }
        }
    }

    async fn report(&mut self, release: &ReleaseId, event: DeploymentEvent) {
        let sequence = {
            let mut diary = self.diary.lock().unwrap();
            diary.reported += 1;
            diary.reported
        };
        let report = Report {
            device: self.id.clone(),
            boot: self.boot.clone(),
            sequence,
            at: now(),
            generation: self.generation,
            release: release.clone(),
            event,
        };
        self.say(&StateMessage::Report(self.sign(&report))).await;
        self.waiting.insert(sequence, report);
    }

    fn acknowledged(&mut self, payload: &[u8]) {
        let told: Acknowledgement = serde_json::from_slice(payload).expect("an acknowledgement");
        if told.stream == Stream::Report && told.boot == self.boot {
            self.waiting.remove(&told.sequence);
            self.diary.lock().unwrap().acknowledged.insert(told.sequence);
        }
    }

    fn sign(&self, report: &Report) -> Signed<Report> {
        Signed::sign(report, &[&self.signer]).expect("a report can be signed")
    }

    async fn say(&self, message: &StateMessage) {
        let topic = Topic::up(self.id.clone(), Up::State).to_string();
        let payload = serde_json::to_vec(message).expect("JSON");
        self.link.publish(topic, Qos::AtLeastOnce, payload.into()).await.expect("the link takes messages");
    }
}

/// The document, without the checks that an agent makes.
fn read(payload: &[u8]) -> DirectorDocument {
    let message: DesiredMessage = serde_json::from_slice(payload).expect("a desired state");
    let envelope: Value = serde_json::from_slice(&message.director.to_vec()).expect("JSON");
    serde_json::from_value(envelope["signed"].clone()).expect("a director document")
}

fn now() -> Timestamp {
    Timestamp::default() + SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}
