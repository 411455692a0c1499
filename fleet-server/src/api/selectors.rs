//! Which devices a request means.

use fleet_core::Selector;
use shared::GroupName;

use super::{
    Shared,
    groups::no_group,
    problem::{Answer, Problem},
};

/// Stands before the name of a group where a selector is expected.
const GROUP: &str = "group:";

/// The selector that `text` is, or that the group has whose name stands in it as `group:NAME`. Every part of a request
/// that takes a selector is read here.
///
/// # Errors
/// Says what is wrong with the text and where, or that there is no such group.
pub(super) async fn resolve_selector(app: &Shared, text: &str) -> Answer<Selector> {
    let text = text.trim();
    let Some(name) = text.strip_prefix(GROUP) else { return parse(text) };
    let name = GroupName::new(name.trim()).map_err(|error| {
        Problem::bad_request("bad_selector", error.to_string())
            .hint("a group stands alone: write group:NAME, or make a group with the narrower selector")
    })?;
    let group = app.store.group(&name).await?.ok_or_else(|| no_group(&name))?;
    parse(&group.selector)
}

fn parse(text: &str) -> Answer<Selector> {
    Selector::parse(text).map_err(|error| Problem::bad_request("bad_selector", error.to_string()))
}
