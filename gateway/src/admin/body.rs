//! Bodies of requests: JSON, whole, nothing unknown in it.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
};
use serde::de::DeserializeOwned;

use super::refusals::Refusal;

/// Reads the body after the token was seen; its length is bounded by the route.
pub(super) async fn strict<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let body = octets(request).await?;
    // What serde says may quote the body, and the body may name a SIM: only the place is told.
    serde_json::from_slice(&body).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => {
                "has a field that is missing, unknown or of another type"
            }
            serde_json::error::Category::Eof
            | serde_json::error::Category::Io
            | serde_json::error::Category::Syntax => "is not JSON",
        };
        let (line, column) = (error.line(), error.column());
        Refusal::BadBody(format!("the body {what}, at line {line}, column {column}"))
    })
}

/// The body as it came.
pub(super) async fn octets(request: Request) -> Result<Bytes, Refusal> {
    Bytes::from_request(request, &()).await.map_err(|error| Refusal::TooLarge(error.body_text()))
}

/// Octets of a body that speaks of one SIM.
pub(super) const SIM_BODY_MAX: usize = 4 * 1024;
