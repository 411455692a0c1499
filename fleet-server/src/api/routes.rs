//! The route table: every route with the permission it needs, its handler and its documentation in one place.
//!
//! A route cannot be added without saying who may use it, and the same table drives the test that tries every route
//! with every role.

use axum::{
    extract::Request,
    http::{StatusCode, header},
    middleware::{self, Next},
    response::Response,
};
use serde::Serialize;
use utoipa::openapi::{PathItem, security::SecurityRequirement};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt};

use super::{Shared, problem::Problem};
use crate::{
    auth::{API_PREFIX, Permission, Role},
    store::TokenRow,
};

/// Writing down when a token was used costs a commit; to the minute is enough.
const TOUCH_EVERY_MS: u64 = 60_000;

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteSpec {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// With parameters in braces.
    pub path: String,
    /// What it needs; nothing for the few that must work without a token.
    pub permission: Option<Permission>,
}

/// Who makes a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Name of the token.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// Routes, their documentation and their permissions.
#[derive(Default)]
pub struct Table {
    pub(super) router: OpenApiRouter<Shared>,
    pub(super) specs: Vec<RouteSpec>,
}

impl Table {
    /// Adds routes that need `permission`.
    #[must_use]
    pub fn needs(mut self, permission: Permission, routes: UtoipaMethodRouter<Shared>) -> Self {
        let (schemas, mut paths, methods) = routes;
        for (path, item) in &mut paths.paths {
            self.specs.extend(specs(path, item, Some(permission)));
            document(item, permission);
        }
        let guard = middleware::from_fn(move |request, next| guard(permission, request, next));
        self.router = self.router.routes((schemas, paths, methods).layer(guard));
        self
    }

    /// Adds routes that anyone may use.
    #[must_use]
    pub fn open(mut self, routes: UtoipaMethodRouter<Shared>) -> Self {
        for (path, item) in &routes.1.paths {
            self.specs.extend(specs(path, item, None));
        }
        self.router = self.router.routes(routes);
        self
    }
}

fn specs(path: &str, item: &PathItem, permission: Option<Permission>) -> Vec<RouteSpec> {
    let methods = [("GET", &item.get), ("POST", &item.post), ("PUT", &item.put), ("DELETE", &item.delete)];
    methods
        .into_iter()
        .filter(|(_, operation)| operation.is_some())
        .map(|(method, _)| RouteSpec { method, path: path.to_owned(), permission })
        .collect()
}

fn document(item: &mut PathItem, permission: Permission) {
    let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
    for operation in operations.into_iter().flatten() {
        operation.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
        let roles: Vec<_> =
            Role::ALL.into_iter().filter(|role| role.grants(permission)).map(|r| r.to_string()).collect();
        let needs = format!("Roles: {}.", roles.join(", "));
        let text = operation.description.take().unwrap_or_default();
        operation.description = Some(format!("{text}\n\n{needs}").trim().to_owned());
    }
}

async fn guard(permission: Permission, mut request: Request, next: Next) -> Result<Response, Problem> {
    let app = request.extensions().get::<Shared>().cloned();
    let app = app.expect("the outermost layer puts the server's state into every request");
    let token = bearer(&request).ok_or_else(no_token)?;
    let row = find(&app, token).await?;
    if !row.role.grants(permission) {
        return Err(forbidden(row.role, permission));
    }
    request.extensions_mut().insert(Caller { name: row.name, role: row.role });
    Ok(next.run(request).await)
}

fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

async fn find(app: &Shared, token: &str) -> Result<TokenRow, Problem> {
    let known = token.starts_with(API_PREFIX);
    let row = if known { app.store.token_by_hash(&app.token_key.hash(token)).await? } else { None };
    let now = app.clock.now();
    let row = row.filter(|row| row.is_valid(now)).ok_or_else(bad_token)?;
    let idle_ms = row.last_used.map_or(u64::MAX, |last| now.as_millis().saturating_sub(last.as_millis()));
    if idle_ms >= TOUCH_EVERY_MS {
        // The time of the last use is for people; a database that only reads still serves those who look.
        if let Err(error) = app.store.touch_token(&row.id, now).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the use of a token was not noted");
        }
    }
    Ok(row)
}

fn no_token() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "no_token", "the request carries no token")
        .hint("send 'Authorization: Bearer <token>'; on the command line give --context or set MUSTER_TOKEN")
}

fn bad_token() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "bad_token", "the token is unknown, expired or revoked")
        .hint("ask an admin for a new one: muster token create NAME --role ROLE")
}

fn forbidden(role: Role, permission: Permission) -> Problem {
    let detail = format!("the role {role} does not include the permission to {}", words(permission));
    let roles: Vec<_> =
        Role::ALL.into_iter().filter(|role| role.grants(permission)).map(|r| r.to_string()).collect();
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
        .hint(format!("use a token with the role {}", roles.join(" or ")))
}

fn words(permission: Permission) -> &'static str {
    match permission {
        Permission::Read => "look",
        Permission::Operate => "change devices and rollouts",
        Permission::Publish => "publish models",
        Permission::Approve => "approve",
        Permission::Administer => "administer",
    }
}
