//! The routes of a service.

use probegate_policies::access::Rule;
use probegate_policies::route::{PathPrefix, RouteTable};

use super::{Context, Definitions, action, edits, handling, limit, pages, rule};
use crate::config::shape::List;
use crate::config::value::{DenyWord, Leaf};
use crate::config::{ConfigPath, lint, raw};
use crate::plan;

/// The routes, and the table that finds them. The table is missing when two routes have the same path.
pub(super) fn routes(
    raw: Option<List<raw::Route>>,
    path: &ConfigPath,
    probes: &[plan::Probe],
    base: &plan::Handling,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> (Vec<plan::Route>, Option<RouteTable>) {
    let mut routes: Vec<lint::WrittenRoute> = Vec::new();
    for (index, route) in raw.into_iter().flatten() {
        let raw::Route {
            path: prefix,
            allow,
            deny,
            limits,
            max_body,
            buffering,
            compression,
            bandwidth,
            request_headers,
            response_headers,
            host,
            files,
            security_headers,
            cors,
            strip_prefix,
            add_prefix,
            redirect,
            error_pages,
            intercept,
        } = route;
        let path = path.index(index);
        let has_rule = allow.is_some() || cx.is_broken(&path.key("allow"));
        let allow = allow.map_or_else(Rule::anyone, |allow| rule::rule(allow, &path.key("allow"), definitions, cx));
        let beside = action::Beside {
            guarded: has_rule,
            asking: [
                ("host", host.is_some()),
                ("request_headers", request_headers.is_some()),
                ("buffering", buffering.is_some()),
            ],
            answering: [
                ("bandwidth", bandwidth.is_some()),
                ("compression", compression.is_some()),
                ("response_headers", response_headers.is_some()),
                ("security_headers", security_headers.is_some()),
                ("cors", cors.is_some()),
            ],
        };
        let mut handling =
            handling::handling(max_body.as_ref(), buffering.as_ref(), compression, bandwidth.as_ref(), &path, base, cx);
        let written = edits::Written {
            request_headers,
            response_headers,
            host,
            security_headers,
            cors,
            rewrite: edits::rewrite(strip_prefix, add_prefix, prefix.as_ref(), &path, cx),
            redirect,
            files: files.is_some(),
        };
        handling.edits = edits::edits(written, &path, base.edits.as_ref(), definitions, cx);
        let action = action::action(files, &path, beside, cx);
        let redirects = handling.edits.as_ref().is_some_and(|edits| edits.redirect.is_some());
        if intercept.is_some() && (redirects || !action.asks_app()) {
            pages::nothing_to_intercept(&path, cx);
        }
        handling.errors = pages::errors(error_pages, intercept, &path, base.errors.as_ref(), cx);
        let limits = limit::indices(limits, &path.key("limits"), &definitions.limits, cx);
        if deny.is_some() && !has_rule {
            cx.key_error(
                &path.key("deny"),
                "`deny` without `allow` denies nobody",
                "say with `allow` who may enter, or remove `deny`",
            );
        }
        let deny = deny.map_or(plan::Deny::Forbidden, |Leaf(DenyWord(deny))| deny);
        let Some(Leaf(prefix)) = cx.required(prefix, &path, "path", "path: /admin/") else {
            continue;
        };
        let path = path.key("path");
        if routes.iter().any(|other| other.route.path == prefix) {
            cx.error(&path, format!("a route for `{prefix}` exists already"), "put both into one route");
        }
        let origin = cx.origin(&path);
        routes.push(lint::WrittenRoute {
            route: plan::Route { path: prefix, allow, deny, limits, handling, action, origin },
            path,
            has_rule,
        });
    }
    lint::routes(&routes, probes, cx);
    let routes: Vec<_> = routes.into_iter().map(|written| written.route).collect();
    let prefixes: Vec<(PathPrefix, usize)> =
        routes.iter().enumerate().map(|(index, route)| (route.path.clone(), index)).collect();
    (routes, RouteTable::new(prefixes).ok())
}
