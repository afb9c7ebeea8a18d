//! What `gateway.toml` says, as the parts of the gateway take it.

use std::sync::Arc;

use policy::Quic;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::{
    admin::Hook,
    clock,
    config::{ClientConfig, Config, EncryptedConfig, ProxyConfig, SteeringMode, WebhookConfig},
    gate::Gate,
    handover::Inherited,
    log::{DecisionLog, OpenError, Pseudonyms},
    proxy::{self, Ending, ProxySettings},
    radius,
    sims::Sims,
    webhook::seal::{Seal, SealError},
};

pub(super) fn ending(proxy: Option<&ProxyConfig>) -> Ending {
    let stop = CancellationToken::new();
    let (drain, upgrade) =
        proxy.map(|wanted| (wanted.drain_time, wanted.upgrade_time)).unwrap_or_default();
    Ending::new(stop, drain, upgrade)
}

pub(super) fn of_proxy(wanted: &ProxyConfig, mode: SteeringMode) -> ProxySettings {
    ProxySettings {
        http: wanted.http.clone(),
        https: wanted.https.clone(),
        explicit: wanted.explicit.clone(),
        balancers: wanted.balancers.clone(),
        inspect_quic: wanted.quic == Quic::Inspect,
        mode: match mode {
            SteeringMode::None | SteeringMode::Dns => proxy::Steering::None,
            SteeringMode::Redirect => proxy::Steering::Redirect,
            SteeringMode::Tproxy => proxy::Steering::Tproxy,
        },
        workers: wanted.workers.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        }),
        egress: wanted.egress.clone(),
        limits: wanted.limits,
        mark: None,
    }
}

/// The RADIUS sockets, with the secret of each sender.
pub(super) fn listen_for_records(
    config: &Config,
    sims: Arc<Sims>,
    registry: &Registry,
    inherited: &mut Inherited,
) -> Result<Option<radius::Server>, StartError> {
    let metrics = radius::Metrics::register(registry)?;
    let Some(wanted) = &config.radius else { return Ok(None) };
    let client = |client: &ClientConfig| {
        let secret = radius::Secret::load(&client.secret_file)?;
        let known = radius::Client {
            name: client.name.clone(),
            secret,
            signed: client.signed,
            dated: client.dated,
            keeps_without_indicator: client.keeps_without_indicator,
            lifetime: client.lifetime,
            domain: client.domain.clone().unwrap_or_else(|| config.state.domain.clone()),
        };
        Ok((client.address, known))
    };
    let clients = wanted.clients.iter().map(client).collect::<Result<_, radius::SecretError>>()?;
    let clerk = Arc::new(radius::Clerk::new(clients, sims, metrics, clock::now()));
    Ok(Some(radius::Server::bind(&wanted.listen, &wanted.coa, clerk, inherited)?))
}

pub(super) fn encrypted(
    wanted: Option<&EncryptedConfig>,
    steered_port: Option<u16>,
) -> Result<Option<dns::Encrypted>, dns::InvalidIdentity> {
    let load = |EncryptedConfig { listen, certificate, key }: &EncryptedConfig| {
        let identity = dns::Identity::load(certificate, key)?;
        Ok(dns::Encrypted { listen: listen.clone(), identity, steered_port })
    };
    wanted.map(load).transpose()
}

pub(super) fn hook(config: &WebhookConfig) -> Result<Option<Hook>, SealError> {
    let seals =
        config.key_files.iter().map(|file| Seal::load(file)).collect::<Result<Vec<_>, _>>()?;
    let window = config.window.try_into().unwrap_or(jiff::SignedDuration::MAX);
    let gate = Gate::new(window, WEBHOOKS_REMEMBERED, clock::now());
    Ok((!seals.is_empty()).then(|| Hook::new(seals, gate)))
}

pub(super) fn decision_log(
    config: &Config,
    pseudonyms: Pseudonyms,
    registry: &Registry,
) -> Result<Option<DecisionLog>, StartError> {
    let Some(path) = &config.log.decisions else { return Ok(None) };
    match DecisionLog::open(path, &config.node, config.log.allow_sample, pseudonyms, registry) {
        Ok(log) => Ok(Some(log)),
        Err(OpenError::Log(error)) => Err(error.into()),
        Err(OpenError::Metrics(error)) => Err(error.into()),
    }
}

/// Webhooks within the window that are known again: about 10 MB.
const WEBHOOKS_REMEMBERED: usize = 100_000;
