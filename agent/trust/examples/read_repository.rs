//! Reads a repository that another implementation wrote, as a device would.
//!
//! `read_repository FOLDER DEVICE`: `FOLDER/metadata` holds the metadata with `1.root.json` as the root of
//! enrolment, `FOLDER/targets/<model>/<version>.json` the manifests, `FOLDER/director.json` the desired state.
//! Prints every release that may be installed; ends with an error and its reasons if any is refused.
#![allow(clippy::print_stdout)] // an example that prints

use std::{
    error::Error,
    fs,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use muster_trust::{DiskStore, Floors, MetadataSource, SourceError, Verifier};
use shared::{Timestamp, trust::Signed};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("which folder?")?);
    let device = arguments.next().ok_or("which device?")?.parse()?;
    let (root, order) = (folder.join("metadata/1.root.json"), folder.join("director.json"));
    let (root, order) = (fs::read(root)?, Signed::from_slice(&fs::read(order)?)?);

    let scratch = tempfile::tempdir()?;
    let store = DiskStore::open(scratch.path())?;
    let mut verifier = Verifier::new(device, Folder(folder), store, Floors::default(), Some(&root))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let desired = verifier.verify_desired(order, Timestamp(u64::try_from(now)?)).await?;
    for (assignment, _) in &desired.manifests {
        println!("{}", assignment.release);
    }
    desired.refused.into_iter().next().map_or(Ok(()), |(_, refusal)| Err(refusal.into()))
}

struct Folder(PathBuf);

impl MetadataSource for Folder {
    async fn fetch(&self, name: &str, _max_bytes: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let places = [self.0.join("metadata").join(name), self.0.join("targets").join(name)];
        match places.iter().find(|path| path.is_file()) {
            None => Ok(None),
            Some(path) => fs::read(path)
                .map(Some)
                .map_err(|cause| SourceError::Network { name: name.into(), cause: Box::new(cause) }),
        }
    }
}
