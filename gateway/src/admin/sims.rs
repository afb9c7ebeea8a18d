//! `/v1/sims`: states and grants, by ICCID, IMSI or MSISDN.
//!
//! Identities are personal: each call needs the token, reading too, and none of them is logged. When
//! a change is answered, the kernel and the live sessions are changed already.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, Uri},
};
use dns::Judge;
use jiff::Timestamp;
use policy::{Action, Identity, SimState, Subject, Subscriber};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    Desk,
    body::strict,
    problem::Problem,
    refusals::{Refusal, bad_identity},
};
use crate::{
    clock,
    grants::Grant,
    log::Event,
    sims::{Identities, STORE_TIME, SimId, SimView, Source, StateChange},
    webhook::outbox::Message,
};

/// What a SIM is to be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    state: Option<String>,
    iccid: Option<String>,
    imsi: Option<String>,
    msisdn: Option<String>,
    #[serde(default)]
    create: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    state: Option<String>,
    limit: Option<usize>,
    after: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantWanted {
    seconds: u32,
    bytes: u64,
}

/// `GET /v1/sims`: a page of SIMs, of one state or of all.
pub(super) async fn list(
    State(desk): State<Arc<Desk>>,
    uri: Uri,
    headers: HeaderMap,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    desk.admit(&uri, &headers)?;
    let Query(Page { state, limit, after }) =
        query.map_err(|error| desk.refuse(Refusal::BadBody(error.body_text())))?;
    let state = state.map(|state| desk.state(&state)).transpose()?;
    let limit = limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let (sims, next) = desk.sims().list(after.unwrap_or_default(), limit, state);
    let now = clock::now();
    let sims: Vec<Value> = sims.iter().map(|sim| desk.description_of(sim, now)).collect();
    Ok(Json(json!({ "sims": sims, "next": next })))
}

/// `GET /v1/sims/{id}`.
pub(super) async fn show(
    State(desk): State<Arc<Desk>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    desk.admit(&uri, &headers)?;
    let sim = desk.known(desk.id(&id)?)?;
    Ok(Json(desk.description_of(&sim, clock::now())))
}

/// `PUT /v1/sims/{id}`: sets the state, and says which names are of one SIM.
pub(super) async fn put(
    State(desk): State<Arc<Desk>>,
    Path(id): Path<String>,
    uri: Uri,
    request: Request,
) -> Result<Json<Value>, Problem> {
    desk.admit(&uri, request.headers())?;
    let id = desk.id(&id)?;
    let Wanted { state, iccid, imsi, msisdn, create } =
        strict(request).await.map_err(|refusal| desk.refuse(refusal))?;
    let state = state.map(|state| desk.state(&state)).transpose()?;
    let more = identities(iccid, imsi, msisdn).map_err(|error| desk.refuse(error))?;
    if state.is_none() && more.is_empty() {
        let nothing = "nothing is to be set: give state, iccid, imsi or msisdn";
        return Err(desk.refuse(Refusal::BadBody(nothing.into())));
    }
    if !more.agrees(id.into()) {
        let detail = "the body names the SIM otherwise than the path";
        return Err(desk.refuse(Refusal::BadBody(detail.into())));
    }
    let before = desk.change(id, more, state, create, Source::Api, clock::now()).await?;
    let sim = desk.known(id)?;
    let mut description = desk.description_of(&sim, clock::now());
    if let Value::Object(description) = &mut description {
        description.insert("before".into(), before.map(SimState::label).into());
    }
    Ok(Json(description))
}

/// `POST /v1/sims/{id}/grants`.
pub(super) async fn grant(
    State(desk): State<Arc<Desk>>,
    Path(id): Path<String>,
    uri: Uri,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Problem> {
    desk.admit(&uri, request.headers())?;
    let sim = desk.known(desk.id(&id)?)?;
    let GrantWanted { seconds, bytes } =
        strict(request).await.map_err(|refusal| desk.refuse(refusal))?;
    let now = clock::now();
    desk.may_have_grant(&sim)?;
    let grant = desk
        .grants
        .begin(sim.identities, seconds, bytes, now)
        .map_err(|refused| desk.refuse(Refusal::Grant(refused)))?;
    desk.note_grant(&sim, "grant-begun", now);
    desk.settle(sim.networks).await?;
    Ok((StatusCode::CREATED, Json(json!({ "grant": grant_description(&grant) }))))
}

/// `DELETE /v1/sims/{id}/grants`: the flow was cancelled.
pub(super) async fn cancel(
    State(desk): State<Arc<Desk>>,
    Path(id): Path<String>,
    uri: Uri,
    request: Request,
) -> Result<Json<Value>, Problem> {
    desk.admit(&uri, request.headers())?;
    let sim = desk.known(desk.id(&id)?)?;
    let now = clock::now();
    let ended = desk.grants.end(sim.identities, now);
    if ended.is_some() {
        desk.note_grant(&sim, "grant-cancelled", now);
        desk.settle(sim.networks).await?;
    }
    Ok(Json(json!({ "ended": ended.as_ref().map(grant_description) })))
}

impl Desk {
    /// Sets the state of a SIM and what names it, tells kernel and sessions, and writes it down.
    /// Returns the state before.
    pub(super) async fn change(
        &self,
        id: SimId,
        more: Identities,
        state: Option<SimState>,
        create: bool,
        source: Source,
        at: Timestamp,
    ) -> Result<Option<SimState>, Problem> {
        let sims = self.sims();
        if sims.sim(id).is_none() && !create {
            return Err(self.refuse(Refusal::UnknownSim));
        }
        if !more.is_empty() {
            let identities = more.or(id.into());
            sims.learn(identities, source, at)
                .map_err(|full| self.refuse(Refusal::Full(full.to_string())))?;
        }
        let mut before = sims.sim(id).and_then(|sim| sim.state);
        if let Some(state) = state {
            let changed = sims
                .set_state(id, state, source, at)
                .map_err(|full| self.refuse(Refusal::Full(full.to_string())))?;
            before = changed.before;
            if changed.before != Some(changed.after) {
                let sim = self.pseudonyms.of_text(&id.whole());
                let (state, told_by) = (state.label(), source);
                let source = source.label();
                self.audit.write(&Event::SimState { sim, state, source }, at);
                self.tell(id, changed, told_by, at);
            }
        }
        let networks = sims.sim(id).map(|sim| sim.networks).unwrap_or_default();
        self.settle(networks).await?;
        Ok(before)
    }

    /// Makes kernel and sessions agree with the table, and waits until what changed is stored,
    /// before the call is answered.
    pub(super) async fn settle(&self, networks: Vec<ipnet::IpNet>) -> Result<(), Problem> {
        let mark = self.sims().mark();
        self.lift
            .settle(networks)
            .await
            .map_err(|error| self.refuse(Refusal::Kernel(error.to_string())))?;
        timeout(STORE_TIME, self.sims().stored(mark))
            .await
            .map_err(|_| self.refuse(Refusal::NotStored))
    }

    /// Tells other systems of a change.
    fn tell(&self, sim: SimId, change: StateChange, source: Source, at: Timestamp) {
        let StateChange { before, after, .. } = change;
        if let Some(outbox) = &self.outbox {
            outbox.put(Message { sim, before, after, source, at });
        }
    }

    fn may_have_grant(&self, sim: &SimView) -> Result<(), Problem> {
        if !self.lift.steers() {
            return Err(self.refuse(Refusal::NoSteering));
        }
        let snapshot = self.court.snapshot();
        let policy = snapshot.as_deref().map(policy::Snapshot::policy);
        let class =
            policy.and_then(|policy| policy.class_of(Subject::Subscriber(&subscriber(sim))));
        match class.map(policy::Class::action) {
            Some(Action::Garden | Action::Observe) => Ok(()),
            Some(Action::Open) => Err(self.refuse(Refusal::AlreadyOpen)),
            Some(Action::Drop) | None => Err(self.refuse(Refusal::Barred)),
        }
    }

    fn note_grant(&self, sim: &SimView, what: &'static str, now: Timestamp) {
        if let Some(id) = sim.identities.primary() {
            let sim = self.pseudonyms.of_text(&id.whole());
            self.audit.write(&Event::Grant { sim, what }, now);
        }
    }

    /// The SIM of a path.
    pub(super) fn id(&self, text: &str) -> Result<SimId, Problem> {
        SimId::parse(text).map_err(|error| self.refuse(bad_identity(&error)))
    }

    /// A state by its name.
    pub(super) fn state(&self, name: &str) -> Result<SimState, Problem> {
        SimState::from_label(name).ok_or_else(|| {
            let all = SimState::ALL.map(SimState::label).join(", ");
            self.refuse(Refusal::BadBody(format!("state is one of {all}")))
        })
    }

    /// The SIM of this name.
    pub(super) fn known(&self, id: SimId) -> Result<SimView, Problem> {
        self.sims().sim(id).ok_or_else(|| self.refuse(Refusal::UnknownSim))
    }

    fn description_of(&self, sim: &SimView, now: Timestamp) -> Value {
        let SimView { identities, state, source, changed, networks } = sim;
        let snapshot = self.court.snapshot();
        let policy = snapshot.as_deref().map(policy::Snapshot::policy);
        let class =
            policy.and_then(|policy| policy.class_of(Subject::Subscriber(&subscriber(sim))));
        let grant = self.grants.active(*identities, now);
        json!({
            "iccid": identities.iccid.map(Identity::whole),
            "imsi": identities.imsi.map(Identity::whole),
            "msisdn": identities.msisdn.map(Identity::whole),
            "state": state.map(SimState::label),
            "source": state.map(|_| source.label()),
            "changed": state.and_then(|_| Timestamp::from_millisecond(*changed).ok()).map(|at| at.to_string()),
            "addresses": networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "class": class.map(policy::Class::name),
            "action": class.map(|class| class.action().label()),
            "grant": grant.as_ref().map(grant_description),
        })
    }
}

/// A SIM as the policy sees it: at its first address, or by what is known of it alone.
pub(super) fn subscriber(sim: &SimView) -> Subscriber {
    let SimView { identities: Identities { iccid, imsi, .. }, state, networks, .. } = sim;
    let mut subscriber =
        networks.first().map_or_else(Subscriber::default, |at| Subscriber::at(at.network()));
    if let Some(iccid) = iccid {
        subscriber = subscriber.with_iccid(*iccid);
    }
    if let Some(imsi) = imsi {
        subscriber = subscriber.with_imsi(*imsi);
    }
    state.iter().fold(subscriber, |subscriber, state| subscriber.with_state(*state))
}

/// Identities of a body.
pub(super) fn identities(
    iccid: Option<String>,
    imsi: Option<String>,
    msisdn: Option<String>,
) -> Result<Identities, Refusal> {
    fn parse<I: Identity>(text: Option<String>) -> Result<Option<I>, Refusal> {
        let parsed = text.map(|text| I::parse(&text)).transpose();
        parsed.map_err(|error| Refusal::BadIdentity(error.to_string()))
    }
    Ok(Identities { iccid: parse(iccid)?, imsi: parse(imsi)?, msisdn: parse(msisdn)? })
}

fn grant_description(grant: &Grant) -> Value {
    let Grant { number, ends, bytes, used } = grant;
    json!({ "id": format!("{number:016x}"), "ends": ends.to_string(), "bytes": bytes, "used": used })
}

/// SIMs of a page, unless asked otherwise.
const PAGE: usize = 100;
/// Most SIMs of a page.
const PAGE_MAX: usize = 1000;
