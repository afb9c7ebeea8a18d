//! `/v1/bindings`: who is behind an address.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json,
    extract::{Path, Request, State},
    http::{HeaderMap, Uri},
};
use ipnet::IpNet;
use jiff::Timestamp;
use policy::{Identity, SimState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Desk, body::strict, problem::Problem, refusals::Refusal, sims::identities};
use crate::{
    clock,
    sims::{Binding, Prefix, Seconds, Source},
};

/// Who is to be behind an address, and for how long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    iccid: Option<String>,
    imsi: Option<String>,
    msisdn: Option<String>,
    /// Until it is taken away, unless given.
    #[serde(default)]
    seconds: u32,
}

/// `GET /v1/bindings/{address}`: the binding that the address falls under.
pub(super) async fn show(
    State(desk): State<Arc<Desk>>,
    Path(address): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    desk.admit(&uri, &headers)?;
    let network = desk.prefix(&address)?.network();
    let binding = desk.sims().binding(network.addr(), clock::now());
    let binding = binding.ok_or_else(|| desk.refuse(Refusal::UnknownBinding))?;
    Ok(Json(description(&binding)))
}

/// `PUT /v1/bindings/{address}`: an IPv4 address, an IPv6 /64 or a delegated prefix.
pub(super) async fn put(
    State(desk): State<Arc<Desk>>,
    Path(address): Path<String>,
    uri: Uri,
    request: Request,
) -> Result<Json<Value>, Problem> {
    desk.admit(&uri, request.headers())?;
    let prefix = desk.prefix(&address)?;
    let Wanted { iccid, imsi, msisdn, seconds } =
        strict(request).await.map_err(|refusal| desk.refuse(refusal))?;
    let identities = identities(iccid, imsi, msisdn).map_err(|refusal| desk.refuse(refusal))?;
    if identities.is_empty() {
        let nobody = "nobody is named: give iccid, imsi or msisdn";
        return Err(desk.refuse(Refusal::BadBody(nobody.into())));
    }
    let now = clock::now();
    desk.sims()
        .bind(prefix, identities, seconds, Source::Api, now)
        .map_err(|refusal| desk.refuse(Refusal::Full(refusal.to_string())))?;
    desk.settle(vec![prefix.network()]).await?;
    let binding = desk.sims().binding(prefix.network().addr(), now);
    let binding = binding.ok_or_else(|| desk.refuse(Refusal::UnknownBinding))?;
    Ok(Json(description(&binding)))
}

/// `DELETE /v1/bindings/{address}`.
pub(super) async fn delete(
    State(desk): State<Arc<Desk>>,
    Path(address): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    desk.admit(&uri, &headers)?;
    let prefix = desk.prefix(&address)?;
    let unbound = desk.sims().unbind(prefix, Source::Api, clock::now());
    desk.settle(vec![prefix.network()]).await?;
    Ok(Json(json!({ "unbound": unbound })))
}

impl Desk {
    /// The addresses of a path: one address, or a prefix with its length.
    fn prefix(&self, text: &str) -> Result<Prefix, Problem> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| {
            self.refuse(Refusal::BadAddress("no address or prefix is in the path".into()))
        })?;
        Prefix::new(network).map_err(|error| self.refuse(Refusal::BadAddress(error.to_string())))
    }
}

fn description(binding: &Binding) -> Value {
    let Binding { network, identities, state, apn, nas, since, seen, expires } = binding;
    let at = |Seconds(seconds): Seconds| {
        Timestamp::from_second(seconds.into()).ok().map(|at| at.to_string())
    };
    json!({
        "addresses": network.to_string(),
        "iccid": identities.iccid.map(Identity::whole),
        "imsi": identities.imsi.map(Identity::whole),
        "msisdn": identities.msisdn.map(Identity::whole),
        "state": state.map(SimState::label),
        "apn": apn.as_ref().map(policy::Apn::as_str),
        "nas": nas,
        "since": at(*since),
        "seen": at(*seen),
        "expires": expires.and_then(at),
    })
}
