//! `/v1/emergency`: classes that are open for a while.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, Uri},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Desk, api::bad_request, problem::Problem};
use crate::{
    clock,
    emergency::{Opening, OpeningError},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    class: String,
    seconds: u64,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    class: Option<String>,
}

pub(super) async fn list(State(desk): State<Arc<Desk>>) -> Json<Value> {
    Json(json!({ "openings": desk.reloader.openings() }))
}

pub(super) async fn open(
    State(desk): State<Arc<Desk>>,
    uri: Uri,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<Value>, Problem> {
    desk.admit(&uri, &headers)?;
    let body = Bytes::from_request(request, &()).await.map_err(|error| {
        Problem::new(error.status(), "the body cannot be read", error.body_text())
    })?;
    let Wish { class, seconds, reason } =
        serde_json::from_slice(&body).map_err(|error| bad_request(error.to_string()))?;
    let opening = Opening::new(class, seconds, reason, clock::now()).map_err(refused)?;
    desk.reloader.open(opening.clone()).await.map_err(refused)?;
    Ok(Json(json!({ "outcome": "opened", "opening": opening })))
}

pub(super) async fn close(
    State(desk): State<Arc<Desk>>,
    uri: Uri,
    headers: HeaderMap,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    desk.admit(&uri, &headers)?;
    let Query(Which { class }) = which.map_err(|error| bad_request(error.body_text()))?;
    let closed = desk.reloader.close(class.as_deref()).await.map_err(refused)?;
    let outcome = if closed.is_empty() { "nothing-open" } else { "closed" };
    Ok(Json(json!({ "outcome": outcome, "closed": closed })))
}

fn refused(error: OpeningError) -> Problem {
    let status = match &error {
        OpeningError::Time { .. } | OpeningError::Reason => StatusCode::BAD_REQUEST,
        OpeningError::NoClass { .. } => StatusCode::NOT_FOUND,
        OpeningError::Action { .. } => StatusCode::CONFLICT,
        OpeningError::NoPolicy => StatusCode::SERVICE_UNAVAILABLE,
        OpeningError::Keep { .. } | OpeningError::Kernel(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    Problem::new(status, "nothing is changed", error.to_string() + &cause.unwrap_or_default())
}
