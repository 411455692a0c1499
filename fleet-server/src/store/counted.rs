//! Which windows of a device were counted, in constant space: of each run of its agent the newest number and, as bits, the
//! numbers before it. Receivers of encrypted packets know repeated ones by the same means (RFC 4303, section 3.4.3).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::ParseIntError,
};

use serde::{Deserialize, Serialize};
use shared::{BootId, DeviceId};

use super::{
    Columns as _, StoreError, Tx, from_json,
    many::{most_rows, pieces, statement},
};

/// Numbers before the newest one that are known one by one. A device has 64 windows under way at most; what comes from
/// further back was counted, or is given up rather than counted twice.
const REACH: u64 = 128;

/// Runs of an agent that are remembered, those that spoke last. Each start leaves windows of the run before it, so more
/// would need a device that starts again and again within one lost acknowledgement.
const RUNS: usize = 16;

/// A message that a device may send more than once.
pub(super) trait Numbered {
    /// Who sent it.
    fn device(&self) -> &DeviceId;
    /// In which run of its agent.
    fn boot(&self) -> &BootId;
    /// Its number within the run.
    fn sequence(&self) -> u64;
}

/// Where it is written down what was counted of a kind of messages: a column of the devices.
#[derive(Debug, Clone, Copy)]
pub(super) enum Book {
    /// Of telemetry.
    Telemetry,
    /// Of windows of counts.
    Sketches,
}

/// What a batch brings of one device that was not counted before.
pub(super) struct News<'a, Row> {
    /// In the order of their coming; never empty.
    pub(super) windows: Vec<&'a Row>,
    /// What was counted, with these.
    pub(super) counted: Counted,
}

/// Those messages of a batch that were never counted, by device. Whoever is unknown is left out.
pub(super) async fn sift<'a, Row: Numbered>(
    tx: &mut Tx,
    book: Book,
    batch: &'a [Row],
) -> Result<BTreeMap<&'a str, News<'a, Row>>, StoreError> {
    let devices: BTreeSet<_> = batch.iter().map(|row| row.device().as_str()).collect();
    let mut counted = counted_of(tx, book, &devices.into_iter().collect::<Vec<_>>()).await?;
    let mut news: BTreeMap<&str, News<'_, Row>> = BTreeMap::new();
    for row in batch {
        let device = row.device().as_str();
        let Some(before) = counted.get_mut(device) else { continue };
        if before.take(row.boot(), row.sequence()) {
            let empty = || News { windows: vec![], counted: Counted::default() };
            news.entry(device).or_insert_with(empty).windows.push(row);
        }
    }
    for (device, news) in &mut news {
        news.counted = counted.remove(*device).unwrap_or_default();
    }
    Ok(news)
}

/// What was counted of these devices.
async fn counted_of(
    tx: &mut Tx,
    book: Book,
    devices: &[&str],
) -> Result<BTreeMap<String, Counted>, StoreError> {
    let select = match book {
        Book::Telemetry => "SELECT devices.id, devices.counted AS book FROM (VALUES",
        Book::Sketches => "SELECT devices.id, devices.sketched AS book FROM (VALUES",
    };
    let mut found = BTreeMap::new();
    for piece in pieces(devices, most_rows(tx)) {
        let after = ") AS keys CROSS JOIN devices WHERE devices.id = keys.column1";
        let mut query = statement(select, piece.len(), 1, after);
        for device in piece {
            query = query.bind((*device).to_owned());
        }
        for row in query.fetch_all(&mut **tx).await? {
            let counted = row.optional_text("book")?.map(|text| from_json("counted", &text)).transpose()?;
            found.insert(row.text("id")?, counted.unwrap_or_default());
        }
    }
    Ok(found)
}

/// What was counted of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Counted {
    /// The one that spoke last comes last.
    runs: Vec<Run>,
}

/// What was counted of one run of its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    boot: BootId,
    newest: u64,
    before: Bits,
}

/// Bit `n` stands for the number `newest - 1 - n`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Bits(u128);

impl Counted {
    /// True when this window was not counted before; from now on it was.
    pub(super) fn take(&mut self, boot: &BootId, sequence: u64) -> bool {
        let mut run = match self.runs.iter().position(|run| run.boot == *boot) {
            Some(at) => self.runs.remove(at),
            None => {
                self.make_room();
                self.runs.push(Run { boot: boot.clone(), newest: sequence, before: Bits::default() });
                return true;
            }
        };
        let is_new = run.take(sequence);
        self.runs.push(run);
        is_new
    }

    fn make_room(&mut self) {
        let too_many = (self.runs.len() + 1).saturating_sub(RUNS);
        self.runs.drain(..too_many);
    }
}

impl Run {
    fn take(&mut self, sequence: u64) -> bool {
        if sequence > self.newest {
            let ahead = sequence - self.newest;
            self.before = self.before.moved_on(ahead);
            self.newest = sequence;
            return true;
        }
        match self.newest - sequence {
            0 => false,
            back if back > REACH => false,
            back => self.before.set(back - 1),
        }
    }
}

impl Bits {
    /// The same numbers seen from one that is `ahead` of the newest, which becomes one of them.
    fn moved_on(self, ahead: u64) -> Self {
        let shift =
            |bits: u128, by: u64| u32::try_from(by).ok().and_then(|by| bits.checked_shl(by)).unwrap_or(0);
        Self(shift(self.0, ahead) | shift(1, ahead - 1))
    }

    /// Sets a bit below [`REACH`]; true when it was not set.
    fn set(&mut self, number: u64) -> bool {
        let bit = 1_u128 << number;
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new
    }
}

impl TryFrom<String> for Bits {
    type Error = ParseIntError;

    fn try_from(text: String) -> Result<Self, ParseIntError> {
        u128::from_str_radix(&text, 16).map(Self)
    }
}

impl From<Bits> for String {
    fn from(bits: Bits) -> Self {
        bits.to_string()
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn boot(number: usize) -> BootId {
        BootId::new(format!("boot-{number}")).unwrap()
    }

    fn reread(counted: &Counted) -> Counted {
        serde_json::from_str(&serde_json::to_string(counted).unwrap()).unwrap()
    }

    #[test]
    fn what_is_far_behind_is_not_counted_again() {
        let mut counted = Counted::default();
        assert!(counted.take(&boot(1), 1_000));
        assert!(counted.take(&boot(1), 1_000 - REACH));
        assert!(!counted.take(&boot(1), 1_000 - REACH), "once only");
        assert!(!counted.take(&boot(1), 1_000 - REACH - 1), "nobody knows whether it was counted");
        assert!(counted.take(&boot(1), u64::MAX) && !counted.take(&boot(1), u64::MAX));
        assert!(!counted.take(&boot(1), 1_000));
    }

    #[test]
    fn the_runs_that_spoke_last_are_remembered_and_no_others() {
        let mut counted = Counted::default();
        for number in 0..RUNS {
            assert!(counted.take(&boot(number), 1));
        }
        assert!(!counted.take(&boot(0), 1), "it spoke again");
        assert!(counted.take(&boot(RUNS), 1));
        assert!(!counted.take(&boot(0), 1) && !counted.take(&boot(RUNS), 1));
        assert_eq!(counted.runs.len(), RUNS);
        assert!(counted.take(&boot(1), 1), "the one that had been silent longest is forgotten");
    }

    proptest! {
        #[test]
        fn in_any_order_within_reach_each_number_counts_once(
            said in prop::collection::vec((0_usize..3, 1_u64..=REACH), 1..600),
        ) {
            let (mut counted, mut seen) = (Counted::default(), BTreeSet::new());
            for (number, sequence) in said {
                prop_assert_eq!(counted.take(&boot(number), sequence), seen.insert((number, sequence)));
                counted = reread(&counted);
            }
        }
    }
}
