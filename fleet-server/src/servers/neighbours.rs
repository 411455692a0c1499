//! What this server has seen of the others.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{BEAT_EVERY, ServerId, TERM};
use crate::store::ServerRow;

/// A look that comes later than this after the one before tells as much of what held us up as of the others.
const LATE: Duration = Duration::from_secs(2);

/// Beats of the other servers, and since when we know them.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    seen: BTreeMap<ServerId, (u64, Instant)>,
    looked: Option<Instant>,
}

impl Neighbours {
    /// Looks at the beats of all servers and names the others that have shown nothing new for a [`TERM`].
    ///
    /// Time in which we did not look ourselves counts as that between two beats: what held us up, a database that was
    /// away, may have held them up too, and the first to come back must not give all others up.
    pub(super) fn silent(&mut self, me: &ServerId, servers: &[ServerRow], now: Instant) -> Vec<ServerId> {
        let others = servers.iter().filter(|row| row.id != *me);
        let unseen = self.looked.replace(now).map_or(Duration::ZERO, |looked| uncounted(now - looked));
        let seen = |row: &ServerRow| match self.seen.get(&row.id) {
            Some((beats, since)) if *beats == row.beats => *since + unseen,
            _ => now,
        };
        self.seen = others.map(|row| (row.id.clone(), (row.beats, seen(row)))).collect();
        let is_silent = |since: Instant| now.duration_since(since) >= TERM;
        self.seen.iter().filter(|(_, (_, since))| is_silent(*since)).map(|(id, _)| id.clone()).collect()
    }
}

/// The part of the time between two looks that says nothing about the others.
fn uncounted(between: Duration) -> Duration {
    if between > LATE { between.saturating_sub(BEAT_EVERY) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    struct Scene<'a> {
        me: &'a ServerId,
        other: &'a ServerId,
        neighbours: Neighbours,
        start: Instant,
    }

    impl<'a> Scene<'a> {
        fn new(me: &'a ServerId, other: &'a ServerId) -> Self {
            Self { me, other, neighbours: Neighbours::default(), start: Instant::now() }
        }

        /// Looks when the other has raised its beats to `beats`.
        fn look(&mut self, beats: u64, second: u64) -> Vec<ServerId> {
            let row = |(id, beats): (&ServerId, u64)| ServerRow { id: id.clone(), beats };
            let rows = [(self.me, 7), (self.other, beats)].map(row);
            self.neighbours.silent(self.me, &rows, self.start + Duration::from_secs(second))
        }

        fn nobody_is_silent(&mut self, beats: u64, mut seconds: Range<u64>) {
            assert!(seconds.all(|second| self.look(beats, second).is_empty()));
        }
    }

    #[test]
    fn a_server_is_given_up_only_after_a_term_without_a_beat_seen_by_ourselves() {
        let (me, other) = (ServerId::new(), ServerId::new());
        let mut scene = Scene::new(&me, &other);
        // The first look proves nothing, however old the number is.
        scene.nobody_is_silent(3, 0..5);
        scene.nobody_is_silent(4, 5..10);
        assert!(scene.look(4, 10).iter().eq([&other]));
        assert!(scene.neighbours.silent(&me, &[], scene.start + TERM * 3).is_empty());
    }

    #[test]
    fn who_comes_back_first_after_a_stall_of_all_gives_the_others_time_to_come_back_too() {
        let (me, other) = (ServerId::new(), ServerId::new());
        let mut scene = Scene::new(&me, &other);
        scene.nobody_is_silent(3, 0..2);
        // The database was away for an hour.
        scene.nobody_is_silent(3, 3_600..3_603);
        assert!(
            scene.look(3, 3_603).iter().eq([&other]),
            "one that does not come back is given up after all"
        );
    }

    #[test]
    fn servers_that_always_look_late_give_a_dead_one_up_nevertheless() {
        let (me, other) = (ServerId::new(), ServerId::new());
        let mut scene = Scene::new(&me, &other);
        assert!((0..5).all(|look| scene.look(3, look * 4).is_empty()));
        assert!(scene.look(3, 20).iter().eq([&other]));
    }
}
