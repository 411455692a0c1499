//! The HTTPS API: one file per resource, one table of routes.
//!
//! Handlers take what the route's guard let through, ask the store or the executor, and answer. What all requests
//! share happens in the outermost layers: a request id, a bound on the body, problem documents for every error.

// The macro that documents handlers repeats their parameter types in full.
#![allow(unused_qualifications)]
// A problem is made once for a failed request; a box around it would only be in the way.
#![allow(clippy::result_large_err)]

mod audit;
mod challengers;
mod devices;
mod drift;
mod dry_run;
mod enroll;
mod enroll_tokens;
mod events;
mod experiments;
mod freezes;
mod groups;
mod health;
mod layers;
mod metadata;
mod models;
pub mod problem;
mod renew;
mod rollouts;
pub mod routes;
mod selectors;
mod tokens;
mod webhooks;

use std::sync::Arc;

use axum::{Extension, Router, extract::DefaultBodyLimit, middleware};
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, OpenApiVersion,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use crate::{app::App, auth::Permission, config::Limits};
use routes::Table;

pub use audit::AuditView;
pub use challengers::{
    ChallengedView, ChallengerReport, LeftOutView, MatchView, ReasonView, StartChallenger, StopChallenger,
};
pub use devices::{
    AnswerView, AtView, BroughtBy, CustomView, DeliveryView, DeviceList, DeviceStatus, DeviceView,
    EvidenceView, LabelsView, ReleaseFigures, ReleaseOnDevice, SetLabels, SetLimits, SetQuarantine, WhyView,
};
pub use drift::{
    AlarmView, CloseAlarm, DriftReport, DriftView, FeatureBins, FeatureDrift, FeatureReport, RelearnBody,
    RelearntView, SetSettings, SettingsView, StratumReport, VersionDrift, WindowView, WindowsView,
};
pub use enroll_tokens::{CreateEnrollToken, CreatedEnrollToken};
pub use experiments::{
    ExperimentSummaryView, ExperimentView, ReportView, StartExperiment, StopExperimentBody,
};
pub use freezes::{AddFreeze, FreezeView};
pub use groups::{CreateGroup, GroupDevicesView, GroupView};
pub use models::{Figures, ModelSummary, Published, ReleaseView};
pub use rollouts::{
    ApproveBody, ExplainView, ExplainedWave, Order, OrderBody, PlanView, RolloutSummaryView, RolloutView,
    StartRollout, StopBody, Stopped,
};
pub use routes::RouteSpec;
pub use tokens::{CreateToken, CreatedToken, TokenView};
pub use webhooks::{AddWebhook, AddedWebhook, TestedWebhook, WebhookState, WebhookView};

/// What handlers share.
pub type Shared = Arc<App>;

/// Largest body of everything but a publication: a start of a rollout with a long list of devices.
const MAX_BODY_BYTES: usize = 256 * 1_024;

/// Every route with its permission, its handler and its documentation.
#[must_use]
pub fn table(upload_mib: u32) -> Table {
    Table { router: OpenApiRouter::with_openapi(description()), specs: Vec::new() }
        .open(routes!(health::healthz))
        .open(routes!(health::readyz))
        .open(routes!(health::openapi))
        .open(routes!(enroll::enroll))
        .open(routes!(renew::renew))
        .needs(Permission::Read, routes!(health::metrics))
        .needs(Permission::Read, routes!(models::list))
        .needs(Permission::Read, routes!(models::versions))
        .needs(Permission::Publish, routes!(models::publish).layer(models::upload_limit(upload_mib)))
        .needs(Permission::Read, routes!(models::show))
        .needs(Permission::Read, routes!(models::figures))
        .needs(Permission::Read, routes!(challengers::report))
        .needs(Permission::Operate, routes!(challengers::start))
        .needs(Permission::Operate, routes!(challengers::stop))
        .needs(Permission::Read, routes!(drift::show_drift))
        .needs(Permission::Read, routes!(drift::show_settings))
        .needs(Permission::Operate, routes!(drift::set_settings))
        .needs(Permission::Read, routes!(drift::drift_report))
        .needs(Permission::Read, routes!(drift::drift_windows))
        .needs(Permission::Operate, routes!(drift::relearn_baselines))
        .needs(Permission::Read, routes!(drift::list_alarms))
        .needs(Permission::Read, routes!(drift::show_alarm))
        .needs(Permission::Operate, routes!(drift::acknowledge_alarm))
        .needs(Permission::Operate, routes!(drift::close_alarm))
        .needs(Permission::Read, routes!(rollouts::plan))
        .needs(Permission::Read, routes!(rollouts::list))
        .needs(Permission::Operate, routes!(rollouts::start))
        .needs(Permission::Read, routes!(rollouts::show))
        .needs(Permission::Read, routes!(rollouts::events))
        .needs(Permission::Operate, routes!(rollouts::order))
        .needs(Permission::Approve, routes!(rollouts::approve))
        .needs(Permission::Read, routes!(rollouts::explain))
        .needs(Permission::Operate, routes!(rollouts::stop_everything))
        .needs(Permission::Read, routes!(experiments::list))
        .needs(Permission::Operate, routes!(experiments::start))
        .needs(Permission::Read, routes!(experiments::show))
        .needs(Permission::Operate, routes!(experiments::stop))
        .needs(Permission::Read, routes!(experiments::report))
        .needs(Permission::Read, routes!(devices::list))
        .needs(Permission::Read, routes!(devices::show))
        .needs(Permission::Operate, routes!(devices::changes::set_labels))
        .needs(Permission::Operate, routes!(devices::limits::set_limits))
        .needs(Permission::Operate, routes!(devices::changes::set_quarantine))
        .needs(Permission::Operate, routes!(devices::changes::revoke))
        .needs(Permission::Operate, routes!(devices::changes::pin, devices::changes::unpin))
        .needs(Permission::Read, routes!(devices::at::at))
        .needs(Permission::Read, routes!(devices::why::why))
        .needs(Permission::Read, routes!(groups::list))
        .needs(Permission::Operate, routes!(groups::create))
        .needs(Permission::Read, routes!(groups::show))
        .needs(Permission::Operate, routes!(groups::delete))
        .needs(Permission::Read, routes!(freezes::list))
        .needs(Permission::Operate, routes!(freezes::add))
        .needs(Permission::Operate, routes!(freezes::remove))
        .needs(Permission::Read, routes!(events::list))
        .needs(Permission::Operate, routes!(enroll_tokens::create))
        .needs(Permission::Administer, routes!(tokens::list))
        .needs(Permission::Administer, routes!(tokens::create))
        .needs(Permission::Administer, routes!(tokens::revoke))
        .needs(Permission::Administer, routes!(webhooks::list))
        .needs(Permission::Administer, routes!(webhooks::add))
        .needs(Permission::Administer, routes!(webhooks::remove))
        .needs(Permission::Administer, routes!(webhooks::enable))
        .needs(Permission::Administer, routes!(webhooks::test))
        .needs(Permission::Read, routes!(metadata::show))
        .needs(Permission::Administer, routes!(audit::list))
}

/// The whole API.
pub fn router(app: Shared) -> Router {
    let (router, _) = table(app.limits.upload_mib).router.split_for_parts();
    router
        .fallback(layers::no_such_path)
        .with_state(app.clone())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(Extension(app.clone()))
        .layer(middleware::from_fn_with_state(app, layers::finish))
}

/// The OpenAPI document.
#[must_use]
pub fn openapi() -> OpenApi {
    table(Limits::default().upload_mib).router.split_for_parts().1
}

/// Every route with the permission it needs.
#[must_use]
pub fn route_specs() -> Vec<RouteSpec> {
    table(Limits::default().upload_mib).specs
}

fn description() -> OpenApi {
    let token = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let components = ComponentsBuilder::new().security_scheme("token", token).build();
    OpenApiBuilder::new()
        .openapi(OpenApiVersion::Version31)
        .info(
            InfoBuilder::new()
                .title("Muster")
                .version("1")
                .description(Some("Publishes models, rolls them out, and answers what runs where and why."))
                .build(),
        )
        .components(Some(components))
        .build()
}
