//! Where metadata comes from. Nobody trusts the source: it may lie, be silent or send without end.

use std::{error::Error, sync::Arc};

use sigstore_tuf::{Repository, transport::FetchFuture};
use thiserror::Error;

/// Fetches files by name, over whatever link the device has.
pub trait MetadataSource: Send + Sync {
    /// The file `name`, for example `timestamp.json`, `3.root.json` or `digits/2.json`; `None` if there is no
    /// such file. It reads at most `max_bytes` and fails where there is more.
    fn fetch(
        &self,
        name: &str,
        max_bytes: u64,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, SourceError>> + Send;
}

/// Why a file did not come.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The link or the server failed; another attempt may succeed.
    #[error("cannot fetch {name}")]
    Network {
        /// Which file.
        name: String,
        /// What happened.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The source offers more than this file may have.
    #[error("{name} is longer than {max_bytes} bytes")]
    TooLong {
        /// Which file.
        name: String,
        /// Its bound.
        max_bytes: u64,
    },
}

/// Fetches, and does not rely on the source to keep the bound.
pub(crate) async fn fetch_bounded<S: MetadataSource>(
    source: &S,
    name: &str,
    max_bytes: u64,
) -> Result<Option<Vec<u8>>, SourceError> {
    match source.fetch(name, max_bytes).await? {
        Some(bytes) if bytes.len() as u64 > max_bytes => {
            Err(SourceError::TooLong { name: name.into(), max_bytes })
        }
        other => Ok(other),
    }
}

/// The source as the metadata library wants it.
pub(crate) struct Adapter<S>(pub(crate) Arc<S>);

impl<S: MetadataSource> Repository for Adapter<S> {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move {
            fetch_bounded(&*self.0, name, max_length)
                .await
                .map_err(|error| sigstore_tuf::Error::transport_with_source(name, error))
        })
    }

    /// Targets are fetched by their own name and checked by digest, outside the library.
    fn fetch_target<'a>(&'a self, path: &'a str, _max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { Err(sigstore_tuf::Error::transport(format!("{path} is not fetched here"))) })
    }
}
