//! `POST /v1/webhooks/sims`: a signed message of the operator's systems sets the state of a SIM.
//!
//! The signature is the token here. Nothing is read of the body before it holds, and a message is
//! remembered only once it counted, so that one that failed can come again.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Desk, body::octets, problem::Problem, refusals::Refusal};
use crate::{
    clock,
    gate::{Arrival, Gate},
    sims::{Identities, Source},
    webhook::seal::Seal,
};

/// Who may set states by webhook.
pub(crate) struct Hook {
    seals: Vec<Seal>,
    gate: Mutex<Gate>,
}

/// The message, in the form Standard Webhooks recommends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    r#type: String,
    /// When it happened at the sender's. What counts is the order of arrival: clocks differ.
    #[serde(rename = "timestamp")]
    _timestamp: Option<Timestamp>,
    data: Data,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    sim: String,
    state: String,
    #[serde(default)]
    create: bool,
}

/// What is signed beside the body.
struct Seen {
    id: String,
    signed: Timestamp,
    digest: [u8; 32],
}

impl Hook {
    /// For messages signed by one of `seals`, within the window of `gate`.
    pub(crate) fn new(seals: Vec<Seal>, gate: Gate) -> Self {
        Self { seals, gate: Mutex::new(gate) }
    }

    /// Whether the message is one of a known sender's.
    fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<Seen, Refusal> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let parts =
            (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
        let (Some(id), Some(timestamp), Some(signature)) = parts else {
            return Err(Refusal::BadSignature);
        };
        let fits = (1..=ID_MAX).contains(&id.len());
        if !fits || !self.seals.iter().any(|seal| seal.holds(signature, id, timestamp, body)) {
            return Err(Refusal::BadSignature);
        }
        let signed = i64::from_str(timestamp).ok().and_then(|at| Timestamp::from_second(at).ok());
        let signed = signed.ok_or(Refusal::BadSignature)?;
        Ok(Seen { id: id.to_owned(), signed, digest: Sha256::digest(body).into() })
    }

    fn admit(&self, seen: &Seen) -> Result<Arrival, Refusal> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.admit(&seen.id, seen.signed, seen.digest, clock::now()).map_err(Refusal::NotNew)
    }

    fn remember(&self, seen: &Seen) {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.remember(&seen.id, seen.signed, seen.digest);
    }
}

pub(super) async fn receive(
    State(desk): State<Arc<Desk>>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let Some(hook) = &desk.hook else {
        let detail = "no [webhook] key_files are configured";
        return Err(Problem::new(StatusCode::FORBIDDEN, "webhooks are switched off", detail));
    };
    let headers = request.headers().clone();
    let body = octets(request).await.map_err(|refusal| desk.refuse(refusal))?;
    let seen = hook.check(&headers, &body).map_err(|refusal| desk.refuse(refusal))?;
    let arrival = hook.admit(&seen).map_err(|refusal| desk.refuse(refusal))?;
    if arrival == Arrival::New {
        apply(&desk, &body).await?;
    }
    hook.remember(&seen);
    let outcome = match arrival {
        Arrival::New => "done",
        Arrival::Repeated => "repeated",
    };
    Ok(Json(json!({ "outcome": outcome })))
}

async fn apply(desk: &Desk, body: &Bytes) -> Result<(), Problem> {
    let Message { r#type, data: Data { sim, state, create }, .. } = serde_json::from_slice(body)
        .map_err(|_| {
            desk.refuse(Refusal::BadBody("the body is not a message of type sim.state".into()))
        })?;
    if r#type != "sim.state" {
        return Err(desk.refuse(Refusal::BadBody("the type is not sim.state".into())));
    }
    let (id, state) = (desk.id(&sim)?, desk.state(&state)?);
    let more = Identities::default();
    desk.change(id, more, Some(state), create, Source::Webhook, clock::now()).await.map(drop)
}

/// Octets of `webhook-id`.
const ID_MAX: usize = 256;
