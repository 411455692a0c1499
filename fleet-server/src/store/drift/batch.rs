//! What a batch of windows adds to the sums of strata, added up before it is stored.

use std::collections::BTreeMap;

use fleet_core::drift::{ALL, Place, Sums};
use shared::{ReleaseId, Timestamp};

use super::{
    super::{StoreError, Tx},
    strata::{Catalog, Named, Word},
    summed::{add_to_sums, mixed},
};

/// Which sum.
type Of<'a> = (&'a ReleaseId, String, Place);

/// Sums of strata, each with whose word the stratum is.
#[derive(Default)]
pub(super) struct Batch<'a>(BTreeMap<Of<'a>, (Word<'a>, Sums)>);

impl<'a> Batch<'a> {
    /// Adds a window to the sum of all devices and to those of its device's strata.
    pub(super) fn add(
        &mut self,
        (device, strata): (&'a str, &[Named]),
        (release, place): (&'a ReleaseId, Place),
        window: &Sums,
    ) -> Result<(), StoreError> {
        let named = strata.iter().map(|of| (of.stratum.clone(), Word::of(of, device)));
        for (stratum, word) in named.chain([(ALL.to_owned(), Word::Operator)]) {
            match self.0.get_mut(&(release, stratum.clone(), place)) {
                Some((before, sum)) => {
                    sum.add(window).map_err(mixed)?;
                    before.join(word);
                }
                None => {
                    self.0.insert((release, stratum, place), (word, window.clone()));
                }
            }
        }
        Ok(())
    }

    /// Stores them. How many were added to another stratum, or to none.
    pub(super) async fn store(self, tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
        let (mut catalog, mut left_out) = (Catalog::default(), 0);
        for ((release, stratum, place), (word, sum)) in self.0 {
            let kept = catalog.kept_as(tx, release, &stratum, &word, now).await?;
            left_out += u64::from(kept.as_ref() != Some(&stratum));
            if let Some(stratum) = kept {
                add_to_sums(tx, release, &stratum, place, sum).await?;
            }
        }
        Ok(left_out)
    }
}
