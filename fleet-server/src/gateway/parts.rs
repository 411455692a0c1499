//! Metadata files and manifests, in parts.

use bytes::Bytes;
use shared::{
    DeviceId, ReleaseId,
    message::{METADATA_PART_BYTES, MetadataPart},
    topic::Down,
    trust::target_path,
};

use super::send;
use crate::{app::App, broker::Delivery, store::StoreError};

/// Longest name of a metadata file: a model name and a version.
const MAX_NAME_LEN: usize = 128;

/// A metadata file of the repository, or a manifest by the path under which it is listed. Names are looked up and
/// never become paths of the file system.
///
/// # Errors
/// When the database gives no answer.
pub async fn metadata_file(app: &App, name: &str) -> Result<Option<Bytes>, StoreError> {
    if let Some(file) = app.signing.metadata(name) {
        return Ok(Some(file));
    }
    let Some(release) = release_of(name) else { return Ok(None) };
    Ok(app.store.release(&release).await?.map(|row| Bytes::from(row.manifest_json)))
}

/// Answers a request for a part of a file.
pub(super) async fn answer(app: &App, device: &DeviceId, name: String, offset: u64) {
    if name.len() > MAX_NAME_LEN {
        return;
    }
    match metadata_file(app, &name).await {
        Ok(file) => {
            let part = part(name, file.as_ref(), offset);
            send(app, device, Down::Metadata, Delivery::AtMostOnce, &part).await;
        }
        Err(error) => {
            tracing::error!(device.id = %device, error = &error as &dyn std::error::Error, "metadata cannot be read");
        }
    }
}

fn part(name: String, file: Option<&Bytes>, offset: u64) -> MetadataPart {
    let Some(file) = file else { return MetadataPart { name, total_bytes: None, offset, bytes: Vec::new() } };
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
    let end = file.len().min(start.saturating_add(METADATA_PART_BYTES));
    MetadataPart { name, total_bytes: Some(file.len() as u64), offset, bytes: file[start..end].to_vec() }
}

fn release_of(name: &str) -> Option<ReleaseId> {
    let (model, version) = name.strip_suffix(".json")?.split_once('/')?;
    let release: ReleaseId = format!("{model}@{version}").parse().ok()?;
    (target_path(&release) == name).then_some(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_put_together_are_the_file() {
        let file = Bytes::from(vec![7; METADATA_PART_BYTES + 10]);
        let first = part("a".into(), Some(&file), 0);
        let second = part("a".into(), Some(&file), first.bytes.len() as u64);
        assert_eq!((first.bytes.len(), second.bytes.len()), (METADATA_PART_BYTES, 10));
        assert_eq!(second.total_bytes, Some(file.len() as u64));
        assert!(part("a".into(), Some(&file), u64::MAX).bytes.is_empty());
        assert_eq!(part("a".into(), None, 0).total_bytes, None);
    }

    #[test]
    fn only_the_listed_path_of_a_release_names_its_manifest() {
        assert_eq!(release_of("digits/2.json").unwrap().to_string(), "digits@2");
        for wrong in ["digits/02.json", "../digits/2.json", "digits/2", "digits/0.json", "digits/+2.json"] {
            assert!(release_of(wrong).is_none(), "{wrong}");
        }
    }
}
