//! What this server has seen of the others.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{ServerId, TERM};
use crate::store::ServerRow;

/// Beats of the other servers, and since when we know them.
#[derive(Debug, Default)]
pub(super) struct Neighbours(BTreeMap<ServerId, (u64, Instant)>);

impl Neighbours {
    /// Looks at the beats of all servers and names the others that have shown nothing new for a [`TERM`].
    pub(super) fn silent(&mut self, me: &ServerId, servers: &[ServerRow], now: Instant) -> Vec<ServerId> {
        let others = servers.iter().filter(|row| row.id != *me);
        let seen = |row: &ServerRow| match self.0.get(&row.id) {
            Some((beats, since)) if *beats == row.beats => *since,
            _ => now,
        };
        self.0 = others.map(|row| (row.id.clone(), (row.beats, seen(row)))).collect();
        let is_silent = |since: Instant| now.duration_since(since) >= TERM;
        self.0.iter().filter(|(_, (_, since))| is_silent(*since)).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_server_is_given_up_only_after_a_term_without_a_beat_seen_by_ourselves() {
        let (me, other) = (ServerId::new(), ServerId::new());
        let rows = |beats| [(&me, 7), (&other, beats)].map(|(id, beats)| ServerRow { id: id.clone(), beats });
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut neighbours = Neighbours::default();
        // The first look proves nothing, however old the number is.
        assert!(neighbours.silent(&me, &rows(3), start).is_empty());
        assert!(neighbours.silent(&me, &rows(3), start + TERM - second).is_empty());
        assert!(neighbours.silent(&me, &rows(4), start + TERM).is_empty());
        assert!(neighbours.silent(&me, &rows(4), start + TERM * 2 - second).is_empty());
        let silent = neighbours.silent(&me, &rows(4), start + TERM * 2);
        assert!(silent.iter().eq([&other]));
        assert!(neighbours.silent(&me, &rows(4)[..1], start + TERM * 3).is_empty());
    }
}
