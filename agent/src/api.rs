//! The server's HTTP API, as far as a device uses it: it posts one document and reads the answer or the refusal.

use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::clock;

/// The whole exchange takes one round trip; a server that needs longer is not there.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What of a problem report (RFC 9457) is worth telling.
#[derive(Debug, Default, Deserialize)]
struct Problem {
    detail: Option<String>,
    title: Option<String>,
    hint: Option<String>,
}

/// Posts `request` to `path` below `url`.
///
/// # Errors
/// When the server cannot be reached, is not the one that `tls` trusts, or refuses.
pub async fn post<Q: Serialize, A: DeserializeOwned>(
    tls: rustls::ClientConfig,
    url: &str,
    path: &str,
    request: &Q,
) -> anyhow::Result<A> {
    let client =
        reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(TIMEOUT).no_proxy().build()?;
    let answer = client.post(format!("{url}{path}")).json(request).send().await;
    let answer = answer.map_err(|error| unreachable_server(url, error))?;
    if answer.status().is_success() {
        return answer.json().await.context("the server's answer is not the one that was expected");
    }
    let status = answer.status();
    let Problem { detail, title, hint } = answer.json().await.unwrap_or_default();
    let what = detail.or(title).unwrap_or_else(|| status.to_string());
    let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
    Err(anyhow!("the server refused: {what}{hint}"))
}

fn unreachable_server(url: &str, error: reqwest::Error) -> anyhow::Error {
    let reason = format!("{:#}", anyhow!(error));
    let doubt = clock::doubt(&reason, clock::system_now());
    anyhow!("cannot reach the server at {url}: {reason}{doubt}")
}
