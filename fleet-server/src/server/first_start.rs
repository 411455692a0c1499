//! What the first start leaves for the operator: a token, and a context file that the command line reads.

use super::{StartError, addresses::Bound};
use crate::{
    app::App,
    auth::{Role, new_api_token, shown_prefix},
    cli::Context,
    data_dir::{DataDir, read_secret, write_atomically, write_secret},
    store::{NewToken, Store, StoreError},
};

/// Name of the admin's context file in the data directory.
pub const ADMIN_CONTEXT: &str = "admin-context.toml";

/// Writes where the server listens, and at the first start makes the admin's token. Returns it that once.
pub(super) async fn prepare(
    app: &App,
    data_dir: &DataDir,
) -> Result<Option<String>, StartError> {
    if !app.store.tokens().await?.is_empty() {
        refresh_context(app, data_dir)?;
        return Ok(None);
    }
    let token = new_api_token();
    let new = NewToken {
        name: "admin".into(),
        prefix: shown_prefix(&token),
        hash: app.token_key.hash(&token),
        role: Role::Admin,
        expires_at: None,
    };
    // The file first: a token in the database that nobody has would lock everybody out.
    write_context(app, data_dir, &token)?;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    Store::insert_token(&mut tx, &new, now).await?;
    Store::audit(&mut tx, now, "server", "token.create", "admin", "first start").await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(Some(token))
}

/// Tells where the server listens. The last step of a start: whoever finds the file finds a server that works.
pub(super) fn announce(data_dir: &DataDir, bound: &Bound) -> Result<(), StartError> {
    let endpoints = serde_json::json!({
        "http": bound.http,
        "mqtt": bound.mqtt,
        "url": bound.endpoints.url,
        "mqtt_address": bound.endpoints.mqtt,
    });
    write_atomically(&data_dir.join("endpoints.json"), endpoints.to_string().as_bytes())?;
    Ok(())
}

/// The address may have changed since the last start; the token did not.
fn refresh_context(app: &App, data_dir: &DataDir) -> Result<(), StartError> {
    let path = data_dir.join(ADMIN_CONTEXT);
    if !path.exists() {
        return Ok(());
    }
    let text = read_secret(&path)?;
    match Context::parse(&String::from_utf8_lossy(&text)) {
        Ok(context) => write_context(app, data_dir, &context.token),
        // A file that the operator changed is his.
        Err(_) => Ok(()),
    }
}

fn write_context(app: &App, data_dir: &DataDir, token: &str) -> Result<(), StartError> {
    let context = Context {
        server: app.endpoints.url.clone(),
        token: token.to_owned(),
        ca: app.authority.pem().to_owned(),
    };
    Ok(write_secret(&data_dir.join(ADMIN_CONTEXT), context.to_toml().as_bytes())?)
}
