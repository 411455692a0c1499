//! The runner's side: which inferences are sampled, and when they are handed out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use muster_engine::Tensor;
use shared::{ReleaseId, challenger::Terms};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::mpsc,
};

use super::{
    books::Books,
    flights::Flights,
    sample::{MAX_SAMPLE_BYTES, Sample, read_time},
};

/// Samples that wait. They are a sample already: those that find no room are not worth more room.
const QUEUE: usize = 16;

/// Bytes of all that wait, and of the one that is under way.
const MAX_QUEUED_BYTES: usize = 2 * MAX_SAMPLE_BYTES;

/// A rest after a sample is no longer than this, whatever the challenger says that it took.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Where sampled inferences of one model go.
pub(crate) struct Feed {
    challenger: ReleaseId,
    terms: Terms,
    queue: mpsc::Sender<Sample>,
    queued_bytes: Arc<AtomicUsize>,
    books: Arc<Books>,
}

/// An inference that a challenger shall see once it is answered.
pub(crate) struct Sampling {
    feed: Arc<Feed>,
    inputs: Vec<(String, Tensor)>,
}

/// The other end of the queue.
pub(crate) struct Feeder {
    samples: mpsc::Receiver<Sample>,
    queued_bytes: Arc<AtomicUsize>,
    flights: Arc<Flights>,
    cpu_percent: u8,
}

/// A feed and its other end.
pub(crate) fn feed(
    challenger: ReleaseId,
    terms: Terms,
    books: Arc<Books>,
    flights: Arc<Flights>,
) -> (Feed, Feeder) {
    let (queue, samples) = mpsc::channel(QUEUE);
    let queued_bytes = Arc::<AtomicUsize>::default();
    let cpu_percent = terms.cpu_percent.clamp(1, 100);
    let feeder = Feeder { samples, queued_bytes: Arc::clone(&queued_bytes), flights, cpu_percent };
    (Feed { challenger, terms, queue, queued_bytes, books }, feeder)
}

impl Feed {
    /// Keeps the inputs, if this inference is sampled. A tensor that is cloned shares its bytes.
    pub(crate) fn sampling(
        self: Arc<Self>,
        inference: &str,
        inputs: &[(String, Tensor)],
    ) -> Option<Sampling> {
        self.wants(inference).then(|| Sampling { feed: self, inputs: inputs.to_vec() })
    }

    /// Whether this inference is sampled; never once the challenger is gone.
    fn wants(&self, inference: &str) -> bool {
        !self.queue.is_closed() && self.terms.samples(inference)
    }

    /// Takes an inference that was answered. Never waits: what finds no room is counted and dropped.
    fn offer(&self, sample: Sample) {
        let (champion, bytes) = (sample.champion.clone(), sample.size_bytes());
        let taken = self.has_room(bytes) && {
            self.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
            let sent = self.queue.try_send(sample).is_ok();
            if !sent {
                self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            }
            sent
        };
        self.books.write(&champion, &self.challenger, |figures| {
            figures.sampled += 1;
            figures.dropped += u64::from(!taken);
        });
    }

    /// Two offers at once may both find the last room; the bound is then exceeded by one sample.
    fn has_room(&self, bytes: usize) -> bool {
        let queued = self.queued_bytes.load(Ordering::Acquire);
        bytes <= MAX_SAMPLE_BYTES && queued.saturating_add(bytes) <= MAX_QUEUED_BYTES
    }
}

impl Sampling {
    /// The champion has answered.
    pub(crate) fn answered(self, champion: &ReleaseId, outputs: &[Tensor]) {
        let sample = Sample { champion: champion.clone(), inputs: self.inputs, outputs: outputs.to_vec() };
        self.feed.offer(sample);
    }
}

impl Feeder {
    /// Hands samples out, one at a time, while nothing else is under way, until the challenger or the feed is gone.
    pub(crate) async fn run(mut self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        loop {
            let sample = tokio::select! {
                sample = self.next() => sample,
                () = gone(&mut stream) => return,
            };
            let Some(sample) = sample else { return };
            let exchange = async {
                sample.write(&mut stream).await?;
                read_time(&mut stream).await
            };
            let taken = match exchange.await {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::debug!(%error, "the challenger takes no samples any more");
                    return;
                }
            };
            // What is under way counts as well.
            self.queued_bytes.fetch_sub(sample.size_bytes(), Ordering::AcqRel);
            drop(sample);
            tokio::select! {
                () = tokio::time::sleep(rest_after(taken, self.cpu_percent)) => {}
                () = gone(&mut stream) => return,
            }
        }
    }

    /// The next sample, in a quiet moment; `None` when there are no more.
    async fn next(&mut self) -> Option<Sample> {
        let sample = self.samples.recv().await?;
        self.flights.quiet().await;
        Some(sample)
    }
}

/// Until the challenger has closed its end, or says something that it was not asked for.
async fn gone(stream: &mut (impl AsyncRead + Unpin)) {
    let _ = stream.read(&mut [0]).await;
}

/// So long nothing is handed out after a sample that took `taken`, so that it stays at its share.
fn rest_after(taken: Duration, cpu_percent: u8) -> Duration {
    let rest = u32::from(100 - cpu_percent.clamp(1, 100));
    (taken.saturating_mul(rest) / u32::from(cpu_percent.clamp(1, 100))).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::challenge::sample::write_time;
    use futures_util::FutureExt;
    use shared::manifest::DataType;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, duplex};

    const ALL: Terms = Terms { sample_ppm: 1_000_000, cpu_percent: 10, until: None };

    fn sample(bytes: usize) -> Sample {
        let inputs = vec![("x".into(), Tensor::zeros(DataType::Uint8, vec![bytes as u64]).unwrap())];
        Sample { champion: "m@1".parse().unwrap(), inputs, outputs: vec![] }
    }

    fn feed_of(terms: Terms) -> (Feed, Feeder, Arc<Books>, Arc<Flights>) {
        let (books, flights) = (Arc::new(Books::new(Arc::default())), Arc::<Flights>::default());
        let (feed, feeder) = feed("m@2".parse().unwrap(), terms, Arc::clone(&books), Arc::clone(&flights));
        (feed, feeder, books, flights)
    }

    #[tokio::test]
    async fn a_challenger_that_takes_nothing_costs_its_champion_a_full_queue_and_no_wait() {
        let (feed, feeder, books, _) = feed_of(ALL);
        let (ours, _theirs) = duplex(16);
        let running = tokio::spawn(feeder.run(ours));
        (0..1_000).for_each(|_| feed.offer(sample(2)));
        let told = books.take();
        assert_eq!((told[0].sampled, told[0].dropped), (1_000, 1_000 - QUEUE as u64));
        running.abort();
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes_and_what_is_too_large_is_not_tried() {
        let (feed, _feeder, books, _) = feed_of(ALL);
        feed.offer(sample(MAX_SAMPLE_BYTES + 1));
        (0..3).for_each(|_| feed.offer(sample(MAX_SAMPLE_BYTES)));
        let told = books.take();
        assert_eq!((told[0].sampled, told[0].dropped), (4, 2));
    }

    #[tokio::test]
    async fn a_feed_whose_challenger_is_gone_samples_nothing() {
        let (feed, feeder, books, _) = feed_of(ALL);
        let (ours, theirs) = duplex(16);
        drop(theirs);
        assert!(feed.wants("any"));
        feed.offer(sample(2));
        feeder.run(ours).await;
        assert!(!feed.wants("any"));
        assert_eq!(books.take()[0].sampled, 1);
    }

    #[tokio::test]
    async fn a_feed_ends_with_its_challenger_also_while_nothing_or_too_much_is_asked() {
        let (feed, feeder, _, _) = feed_of(ALL);
        let (ours, theirs) = duplex(16);
        drop(theirs);
        feeder.run(ours).await;
        assert!(!feed.wants("any"), "nothing was asked");
        let (feed, feeder, _, flights) = feed_of(ALL);
        let (ours, theirs) = duplex(16);
        let _request = flights.begin();
        feed.offer(sample(2));
        drop(theirs);
        feeder.run(ours).await;
        assert!(!feed.wants("any"), "a request is under way all the time");
    }

    #[tokio::test]
    async fn samples_wait_for_a_quiet_moment_and_then_for_their_share_of_the_time() {
        let (feed, feeder, _, flights) = feed_of(ALL);
        let (ours, mut theirs) = duplex(4_096);
        tokio::spawn(feeder.run(ours));
        let request = flights.begin();
        feed.offer(sample(2));
        feed.offer(sample(2));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let early = theirs.read_u8().now_or_never();
        assert!(early.is_none(), "a request is under way");
        drop(request);
        assert!(Sample::read(&mut theirs).await.unwrap().is_some());
        write_time(&mut theirs, Duration::from_millis(10)).await.unwrap();
        let began = Instant::now();
        assert!(Sample::read(&mut theirs).await.unwrap().is_some());
        assert!(began.elapsed() >= Duration::from_millis(90), "{:?} after 10 ms", began.elapsed());
    }

    #[test]
    fn a_rest_keeps_the_share_and_no_lie_makes_it_endless() {
        assert_eq!(rest_after(Duration::from_millis(10), 10), Duration::from_millis(90));
        assert_eq!(rest_after(Duration::from_millis(10), 50), Duration::from_millis(10));
        assert_eq!(rest_after(Duration::from_millis(10), 100), Duration::ZERO);
        assert_eq!(rest_after(Duration::MAX, 1), LONGEST_REST);
    }
}
