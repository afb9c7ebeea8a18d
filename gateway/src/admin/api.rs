//! The routes of the admin API.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Query, Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use dns::Judge;
use policy::{Snapshot, Subject, Subscriber, Target};
use prometheus::{Encoder, TextEncoder};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Desk, Readiness, bindings,
    body::SIM_BODY_MAX,
    emergency, hook,
    problem::Problem,
    rehearsal::{self, Rehearsal},
    sims, status,
};
use crate::{
    clock,
    log::Event,
    reload::{Bundle, ReloadError, Reloaded, Trigger},
    report,
};

pub(super) fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/v1/status", get(status::status))
        .route("/v1/policy", get(policy))
        .route("/v1/policy/reload", post(reload).layer(DefaultBodyLimit::max(CANDIDATE_MAX)))
        .route("/v1/explain", get(explain))
        .route("/v1/emergency", get(emergency::list).post(emergency::open).delete(emergency::close))
        .merge(sim_routes())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(desk)
}

/// What speaks of one SIM: small bodies.
fn sim_routes() -> Router<Arc<Desk>> {
    Router::new()
        .route("/v1/sims", get(sims::list))
        .route("/v1/sims/{id}", get(sims::show).put(sims::put))
        .route("/v1/sims/{id}/grants", post(sims::grant).delete(sims::cancel))
        .route(
            "/v1/bindings/{address}",
            get(bindings::show).put(bindings::put).delete(bindings::delete),
        )
        .route("/v1/webhooks/sims", post(hook::receive))
        .layer(DefaultBodyLimit::max(SIM_BODY_MAX))
}

async fn metrics(State(desk): State<Arc<Desk>>) -> Result<Response, Problem> {
    let mut page = Vec::new();
    let encoder = TextEncoder::new();
    encoder.encode(&desk.registry.gather(), &mut page).map_err(|error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "metrics cannot be written",
            error.to_string(),
        )
    })?;
    Ok(([(header::CONTENT_TYPE, encoder.format_type().to_owned())], page).into_response())
}

/// 200 with one line a check, or 503 with those that fail.
async fn readyz(State(desk): State<Arc<Desk>>) -> Response {
    let checks = desk.readiness.checks(desk.court.snapshot().is_some());
    let ready = checks.iter().all(|(_, holds)| *holds);
    let lines: String = checks
        .iter()
        .map(|(name, holds)| format!("{} {name}\n", if *holds { "ok" } else { "no" }))
        .collect();
    let note = if desk.reloader.restored() { KEPT } else { "" };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, lines + note).into_response()
}

async fn policy(State(desk): State<Arc<Desk>>) -> Result<Json<Value>, Problem> {
    let snapshot = desk.court.snapshot().ok_or_else(no_policy)?;
    Ok(Json(description(&snapshot)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadQuery {
    dry_run: Option<String>,
}

async fn reload(
    State(desk): State<Arc<Desk>>,
    uri: Uri,
    headers: HeaderMap,
    query: Result<Query<ReloadQuery>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    desk.admit(&uri, &headers)?;
    let Query(query) = query.map_err(|error| bad_request(error.body_text()))?;
    let rehearse = match query.dry_run.as_deref() {
        None | Some("0" | "false") => false,
        Some("1" | "true" | "") => true,
        Some(_) => return Err(bad_request("dry_run is 0 or 1")),
    };
    // Read after the token was seen: nobody else may fill our memory.
    let body = Bytes::from_request(request, &()).await.map_err(|error| {
        Problem::new(error.status(), "the body cannot be read", error.body_text())
    })?;
    let reloaded = match (body.is_empty(), rehearse) {
        (true, _) => desk.reloader.reload(Trigger::Admin, rehearse).await,
        (false, true) => {
            let candidate =
                Bundle::from_json(&body).map_err(|error| bad_request(error.to_string()))?;
            desk.reloader.rehearse(candidate).await
        }
        (false, false) => {
            return Err(bad_request(
                "a policy is taken from the node's own file; only a dry run takes another",
            ));
        }
    };
    match reloaded {
        Ok(Reloaded::Published { snapshot, warnings, closed }) => Ok(Json(json!({
            "outcome": "published",
            "policy": description(&snapshot),
            "sessions_closed": closed,
            "warnings": warnings.iter().map(report::diagnostic).collect::<Vec<_>>(),
        }))),
        Ok(Reloaded::Rehearsed { candidate, running, warnings, sessions }) => {
            let rehearsal = Rehearsal { candidate, running, warnings, sessions };
            Ok(Json(rehearsal::report(rehearsal, &desk).await))
        }
        Ok(Reloaded::Unchanged { snapshot }) => {
            Ok(Json(json!({ "outcome": "unchanged", "policy": description(&snapshot) })))
        }
        Err(error) => Err(refused(&error)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuery {
    ip: Option<std::net::IpAddr>,
    class: Option<String>,
    /// Needs the token: the answer tells about a person.
    sim: Option<String>,
    target: String,
}

async fn explain(
    State(desk): State<Arc<Desk>>,
    uri: Uri,
    headers: HeaderMap,
    query: Result<Query<ExplainQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|error| bad_request(error.body_text()))?;
    let snapshot = desk.court.snapshot().ok_or_else(no_policy)?;
    let target = Target::parse(&query.target).map_err(|error| bad_request(error.to_string()))?;
    let subscriber: Subscriber;
    let subject = match (query.ip, query.class.as_deref(), query.sim.as_deref()) {
        (Some(ip), None, None) => {
            subscriber = desk.court.subscriber(ip);
            Subject::Subscriber(&subscriber)
        }
        (None, None, Some(sim)) => {
            desk.admit(&uri, &headers)?;
            subscriber = sims::subscriber(&desk.known(desk.id(sim)?)?);
            Subject::Subscriber(&subscriber)
        }
        (None, Some(class), None) if snapshot.policy().class(class).is_some() => {
            Subject::Class(class)
        }
        (None, Some(class), None) => {
            let detail = format!("the policy in force has no class `{class}`");
            return Err(Problem::new(StatusCode::NOT_FOUND, "no such class", detail));
        }
        (None, None, None)
        | (Some(_), Some(_), _)
        | (Some(_), _, Some(_))
        | (_, Some(_), Some(_)) => {
            return Err(bad_request("give one of ip, class and sim"));
        }
    };
    let explanation = policy::explain(snapshot.policy(), subject, &target, clock::now());
    let mut report = report::explanation(&target, &explanation);
    if let Value::Object(report) = &mut report {
        report.insert("policy".into(), description(&snapshot));
    }
    Ok(Json(report))
}

async fn unknown(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no such path",
        format!("{} is not served here", uri.path()),
    )
}

async fn wrong_method(uri: Uri) -> Problem {
    let detail = format!("{} takes another method", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong method", detail)
}

impl Desk {
    /// Whether the call carries the token.
    pub(super) fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match &self.token {
            Some(token) if token.admits(sent) => return Ok(()),
            Some(_) => {}
            None => {
                let detail = "no [admin] token_file is configured; send SIGHUP to reload";
                return Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    "changes are switched off",
                    detail,
                ));
            }
        }
        self.audit.write(&Event::AdminRefused { path: unnamed(uri.path()) }, clock::now());
        let detail = "send the admin token: Authorization: Bearer …";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "no valid token", detail))
    }
}

/// The path without whoever it names.
fn unnamed(path: &str) -> &str {
    PERSONAL.iter().find(|kind| path.starts_with(**kind)).copied().unwrap_or(path)
}

impl Readiness {
    pub(super) fn checks(&self, policy: bool) -> [(&'static str, bool); 3] {
        use std::sync::atomic::Ordering::Acquire;
        [
            ("policy", policy),
            ("listeners", self.listening.load(Acquire)),
            ("not-stopping", !self.stopping.load(Acquire)),
        ]
    }
}

pub(super) fn description(snapshot: &Snapshot) -> Value {
    let policy = snapshot.policy();
    json!({
        "name": policy.name(),
        "serial": policy.serial(),
        "environment": policy.environment().label(),
        "sha256": policy.sha256().to_string(),
        "generation": snapshot.generation(),
        "classes": policy.classes().iter().map(|class| json!({
            "name": class.name(),
            "priority": class.priority(),
            "action": class.action().label(),
            "hostsets": class.hostsets().collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn refused(error: &ReloadError) -> Problem {
    let diagnostics = match error {
        ReloadError::Invalid { diagnostics, parts, .. } => {
            diagnostics.iter().map(|found| report::placed_diagnostic(found, &**parts)).collect()
        }
        ReloadError::Read { .. }
        | ReloadError::TooLarge { .. }
        | ReloadError::Environment { .. }
        | ReloadError::NoMapping { .. }
        | ReloadError::Rollback { .. }
        | ReloadError::Unsigned { .. }
        | ReloadError::BadSignature { .. }
        | ReloadError::Steering(_) => Vec::new(),
    };
    let mut detail = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        detail.push_str(&format!(": {cause}"));
    }
    Problem::new(StatusCode::CONFLICT, "the last good policy stays", detail)
        .with_diagnostics(diagnostics)
}

fn no_policy() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no policy", "no policy is in force")
}

pub(super) fn bad_request(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "cannot be understood", detail)
}

/// Below the checks of `/readyz`: it serves, and somebody should look.
const KEPT: &str =
    "note the policy file was refused; the kept copy of the last good one is in force\n";
/// Octets of a candidate: a policy with all its files, as JSON writes it.
const CANDIDATE_MAX: usize = 2 * policy::limits::MAX_DOCUMENT;
/// What stands in front of an identity or an address in a path.
const PERSONAL: [&str; 2] = ["/v1/sims/", "/v1/bindings/"];
/// Octets of a request's body.
const BODY_MAX: usize = 64 * 1024;
