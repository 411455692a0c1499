//! How much memory each version takes, while inferences run.
//!
//! The kernel tells the memory of the process, not of a model. So what it grew by since the last measurement is put to
//! the version that ran meanwhile; where several did, to the one that was loaded last, since the others have run for
//! long and have what they need. What loading took is measured by itself and belongs to the version that was loaded.
//!
//! Nothing is measured while nothing runs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use shared::{ReleaseId, manifest::Budgets};
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};

use super::{models::Models, proc_self, protocol::Event};

/// Least time between two measurements: one costs about 30 µs, so this is a ten-thousandth of a core.
const INTERVAL: Duration = Duration::from_millis(250);

/// What the versions that are loaded take.
#[derive(Default)]
pub(crate) struct Memory {
    book: Mutex<Book>,
    running: AtomicUsize,
    /// An inference has begun or ended.
    work: Notify,
}

#[derive(Default)]
struct Book {
    entries: BTreeMap<ReleaseId, Entry>,
    /// Memory of the process at the last measurement; not known while a load is changing it.
    last_kib: Option<u64>,
    next_order: u64,
    loading: usize,
}

struct Entry {
    order: u64,
    budget_kib: u64,
    used_kib: u64,
    /// It has run since the last measurement.
    ran: bool,
    /// The daemon has heard that it is over its budget.
    told: bool,
}

/// A version over its budget.
#[derive(Debug, PartialEq, Eq)]
struct Excess {
    release: ReleaseId,
    used_kib: u64,
    budget_kib: u64,
}

impl Memory {
    /// A load begins: as long as the value lives, what the process grows by is not put to those that run.
    pub(crate) fn load(self: &Arc<Self>) -> Loading {
        let mut book = self.book();
        book.loading += 1;
        book.last_kib = None;
        Loading(Arc::clone(self), proc_self::memory_kib())
    }

    /// A version is dropped, and what it took is free.
    pub(crate) fn forget(&self, release: &ReleaseId) {
        let mut book = self.book();
        book.entries.remove(release);
        book.last_kib = None;
    }

    /// An inference of `release` runs as long as the value lives.
    pub(crate) fn run(self: &Arc<Self>, release: &ReleaseId) -> Running {
        self.running.fetch_add(1, Ordering::SeqCst);
        let running = Running { memory: Arc::clone(self), release: release.clone() };
        running.mark();
        running
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A load under way, and the memory of the process before it.
pub(crate) struct Loading(Arc<Memory>, u64);

impl Loading {
    /// The version is loaded; gives what that took, in KiB.
    pub(crate) fn done(self, release: &ReleaseId, budgets: &Budgets) -> u64 {
        let added_kib = proc_self::memory_kib().saturating_sub(self.1);
        self.0.book().insert(release, u64::from(budgets.memory_mib) * 1_024, added_kib);
        added_kib
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.0.book().loading -= 1;
    }
}

/// An inference under way.
pub(crate) struct Running {
    memory: Arc<Memory>,
    release: ReleaseId,
}

impl Running {
    fn mark(&self) {
        self.memory.book().ran(&self.release);
        self.memory.work.notify_one();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.mark();
        self.memory.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Book {
    fn insert(&mut self, release: &ReleaseId, budget_kib: u64, used_kib: u64) {
        let order = self.next_order;
        self.next_order += 1;
        self.entries.insert(release.clone(), Entry { order, budget_kib, used_kib, ran: false, told: false });
    }

    fn ran(&mut self, release: &ReleaseId) {
        if let Some(entry) = self.entries.get_mut(release) {
            entry.ran = true;
        }
    }

    /// Takes a measurement in; gives the version that is over its budget since this one.
    fn measured(&mut self, now_kib: u64) -> Option<Excess> {
        if self.loading > 0 {
            return None;
        }
        let before_kib = self.last_kib.replace(now_kib);
        let ran = self
            .entries
            .iter_mut()
            .filter_map(|(release, entry)| std::mem::take(&mut entry.ran).then_some((release, entry)));
        let newest = ran.max_by_key(|(_, entry)| entry.order);
        let (Some(before_kib), Some((release, entry))) = (before_kib, newest) else { return None };
        entry.used_kib = (entry.used_kib + now_kib).saturating_sub(before_kib);
        let over = entry.used_kib > entry.budget_kib;
        let news = over && !entry.told;
        entry.told = over;
        news.then(|| Excess {
            release: release.clone(),
            used_kib: entry.used_kib,
            budget_kib: entry.budget_kib,
        })
    }
}

/// Measures while inferences run, until the daemon no longer listens.
pub(super) async fn watch(models: Arc<Models>, events: mpsc::Sender<Event>) {
    let memory = &models.memory;
    loop {
        if memory.running.load(Ordering::SeqCst) == 0 {
            memory.work.notified().await;
        }
        let excess = memory.book().measured(proc_self::memory_kib());
        if let Some(Excess { release, used_kib, budget_kib }) = excess {
            tracing::warn!(%release, used_kib, budget_kib, "a version takes more memory than its budget");
            if events.send(Event::MemoryExceeded { release, used_kib, budget_kib }).await.is_err() {
                return;
            }
        }
        sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> ReleaseId {
        text.parse().unwrap()
    }

    fn book(entries: &[(&str, u64)]) -> Book {
        let mut book = Book::default();
        for (name, budget_kib) in entries {
            book.insert(&release(name), *budget_kib, 100);
        }
        assert_eq!(book.measured(1_000), None, "the first measurement is what the others are compared with");
        book
    }

    #[test]
    fn a_version_that_grows_beyond_its_budget_is_named_once() {
        let mut book = book(&[("m@1", 500)]);
        book.ran(&release("m@1"));
        assert_eq!(book.measured(1_400), None);
        book.ran(&release("m@1"));
        let excess = Excess { release: release("m@1"), used_kib: 501, budget_kib: 500 };
        assert_eq!(book.measured(1_401), Some(excess));
        book.ran(&release("m@1"));
        assert_eq!(book.measured(1_500), None, "it was told");
    }

    #[test]
    fn the_version_that_ran_has_grown_and_of_two_the_later() {
        let mut book = book(&[("old@1", 300), ("new@1", 300)]);
        book.ran(&release("old@1"));
        assert_eq!(book.measured(1_150), None);
        book.ran(&release("old@1"));
        book.ran(&release("new@1"));
        let excess = book.measured(1_400).unwrap();
        assert_eq!((excess.release, excess.used_kib), (release("new@1"), 350));
        assert_eq!(book.entries[&release("old@1")].used_kib, 250);
    }

    #[test]
    fn what_a_load_takes_is_not_put_to_those_that_run_meanwhile() {
        let memory = Arc::new(Memory::default());
        let budgets = Budgets { memory_mib: 1, ..Budgets::default() };
        memory.load().done(&release("m@1"), &budgets);
        memory.book().entries.get_mut(&release("m@1")).unwrap().used_kib = 10;
        assert_eq!(memory.book().measured(1_000), None);
        let loading = memory.load();
        drop(memory.run(&release("m@1")));
        assert_eq!(memory.book().measured(9_000_000), None);
        drop(loading);
        drop(memory.run(&release("m@1")));
        assert_eq!(memory.book().measured(9_000_000), None, "measured anew after the load");
        drop(memory.run(&release("m@1")));
        assert_eq!(memory.book().measured(9_002_000).unwrap().used_kib, 2_010);
        assert_eq!(memory.running.load(Ordering::SeqCst), 0);
    }
}
