//! One emulated world, built and torn down as a value: namespaces or loopback, servers, resolver,
//! authority, gateway, SIMs.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::{
    authority::Authority,
    family::Family,
    gateway::{Gateway, GatewayError},
    hits::{HitCount, Hits},
    namespace::Namespace,
    origin::Origin,
    pgw::Pgw,
    places::place,
    private,
    sim::{Sim, Way},
    upstream::{Ground, Upstream},
};

pub(crate) mod files;
mod residents;
mod tool;
mod wiring;

use residents::Residents;
use wiring::Wiring;

/// Which form a world takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Network namespaces with real steering; needs a private environment ([`private::enter`]).
    Namespaces,
    /// Everything on the loopback interface, without steering: what needs real packets cannot be
    /// shown.
    Loopback,
}

/// How to build a world.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway's binary.
    pub binary: PathBuf,
    /// Namespaces or loopback.
    pub form: Form,
    /// Number of fake SIMs, 1 to [`World::MOST_SIMS`].
    pub sims: u8,
    /// Policy text in place of the lab's own.
    pub policy: Option<String>,
    /// Whether the gateway is started.
    pub start_gateway: bool,
    /// Whether every host echoes datagrams on port 443; without, a test may listen there itself.
    pub quic_echo: bool,
    /// Whether namespaces have plain names (`ue1`, `gw`, `net`), which allows one world in the
    /// environment only.
    pub plain_names: bool,
    /// Where certificates, policy and logs go; a temporary directory, removed with the world, when
    /// absent.
    pub directory: Option<PathBuf>,
}

impl Options {
    /// Two SIMs, the lab's policy, a running gateway of this binary, in the form this environment
    /// allows.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            form: if private::is_inside() { Form::Namespaces } else { Form::Loopback },
            sims: 2,
            policy: None,
            start_gateway: true,
            quic_echo: true,
            plain_names: false,
            directory: None,
        }
    }

    /// As [`new`](Self::new), with the binary of this build: `POSTERN_BIN`, or `postern` in the
    /// directory that the running test was built into.
    ///
    /// # Panics
    /// When there is no such file; the message says how to make it.
    #[must_use]
    pub fn of_this_build() -> Self {
        let built = || {
            let test = env::current_exe().ok()?;
            test.ancestors().skip(1).take(2).map(|dir| dir.join("postern")).find(|b| b.is_file())
        };
        let binary = env::var_os("POSTERN_BIN").map(PathBuf::from).or_else(built);
        Self::new(
            binary
                .expect("`cargo build -p gateway` makes the binary; POSTERN_BIN may name another"),
        )
    }
}

/// Why a world could not be built or changed.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// Namespaces were asked for outside a private environment.
    #[error("network namespaces are made in a private environment only")]
    NotPrivate,
    /// More SIMs than there are addresses.
    #[error("{asked} SIMs asked for, 1 to {most} are possible", most = World::MOST_SIMS)]
    SimCount {
        /// The number asked for.
        asked: u8,
    },
    /// A program the lab needs is not installed.
    #[error("`{program}` is not installed; install the package {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program the lab ran failed.
    #[error("`{command}` failed: {message}")]
    Failed {
        /// The command line.
        command: String,
        /// What it wrote to its standard error.
        message: String,
    },
    /// A file, a socket or a thread could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What the lab was doing.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The certificate authority could not be made.
    #[error("the certificate authority could not be made: {0}")]
    Authority(#[from] rcgen::Error),
    /// The gateway did not do what it was told.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

/// A built world. Dropping it stops the gateway and removes the namespaces.
#[derive(Debug)]
pub struct World {
    sims: Vec<Sim>,
    gateway: Arc<Gateway>,
    pgw: Pgw,
    residents: Residents,
    hits: Hits,
    upstream: Upstream,
    families: Vec<Family>,
    form: Form,
    policy: String,
    wiring: Option<Wiring>,
    directory: PathBuf,
    _temporary: Option<TempDir>,
}

impl World {
    /// The most SIMs one world has.
    pub const MOST_SIMS: u8 = 100;

    /// Builds a world and, unless told otherwise, waits until its gateway is ready.
    ///
    /// # Errors
    /// When the environment refuses a part of it, or the gateway does not start.
    pub fn start(options: Options) -> Result<Self, WorldError> {
        if !(1..=Self::MOST_SIMS).contains(&options.sims) {
            return Err(WorldError::SimCount { asked: options.sims });
        }
        raise_descriptor_limit();
        let (directory, temporary) = directory(options.directory.as_deref())?;
        let authority = Arc::new(Authority::new()?);
        let hits = Hits::default();
        let origin = Origin::new(Arc::clone(&authority), hits.clone());
        let (wiring, upstream, residents, families) = match options.form {
            Form::Namespaces => {
                let wiring = Wiring::build(&prefix(options.plain_names), options.sims)?;
                let upstream = Upstream::new(Ground::Internet);
                let net = Namespace::enter(&wiring.name("net")).map_err(during("entering net"))?;
                let residents =
                    Residents::settle_internet(net, origin, upstream.clone(), options.quic_echo)?;
                (Some(wiring), upstream, residents, Family::BOTH.to_vec())
            }
            Form::Loopback => {
                let upstream = Upstream::new(Ground::Loopback);
                let net = Namespace::here("net").map_err(during("starting a thread"))?;
                let residents = Residents::settle_loopback(net, origin, upstream.clone())?;
                let families = residents.families();
                (None, upstream, residents, families)
            }
        };

        let policy = options.policy.unwrap_or_else(|| files::policy(&residents));
        files::write(&directory, &authority, &policy, &files::gateway(options.sims, &residents))?;
        let place = match &wiring {
            Some(wiring) => Namespace::enter(&wiring.name("gw")),
            None => Namespace::here("gw"),
        };
        let place = Arc::new(place.map_err(during("entering gw"))?);
        let gateway = Arc::new(Gateway::new(options.binary, directory.clone(), place));
        let tls = authority.client();
        let mut sims = Vec::new();
        for number in 1..=options.sims {
            let (namespace, way) = match &wiring {
                Some(wiring) => {
                    (Namespace::enter(&wiring.name(&format!("ue{number}"))), Way::Routed)
                }
                None => (Namespace::here("ue"), Way::Loopback(Arc::clone(&gateway))),
            };
            let namespace = Arc::new(namespace.map_err(during("entering a SIM's namespace"))?);
            sims.push(Sim::new(number, namespace, way, Arc::clone(&tls)));
        }
        let world = Self {
            sims,
            pgw: Pgw::new(Arc::clone(&gateway)),
            gateway,
            residents,
            hits,
            upstream,
            families,
            form: options.form,
            policy,
            wiring,
            directory,
            _temporary: temporary,
        };
        if options.start_gateway {
            world.gateway.start()?;
        }
        Ok(world)
    }

    /// The fake SIM of that number, from 1.
    ///
    /// # Panics
    /// When the world has no such SIM.
    #[must_use]
    pub fn ue(&self, number: u8) -> &Sim {
        let sim = usize::from(number).checked_sub(1).and_then(|index| self.sims.get(index));
        sim.unwrap_or_else(|| panic!("the world has no SIM {number}"))
    }

    /// The gateway.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The operator's packet gateway.
    #[must_use]
    pub fn pgw(&self) -> &Pgw {
        &self.pgw
    }

    /// The namespace of the emulated Internet.
    #[must_use]
    pub fn net(&self) -> &Namespace {
        self.residents.namespace()
    }

    /// Which form the world has.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The address families the world has: both, unless the loopback form runs where `::1` does not
    /// exist.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// What a host of the emulated Internet saw since the start.
    ///
    /// # Panics
    /// When there is no such host.
    #[must_use]
    pub fn hits(&self, host: &str) -> HitCount {
        let place = place(host).unwrap_or_else(|| panic!("no host {host} in the world"));
        let addresses: Vec<_> = match self.form {
            Form::Namespaces => Family::BOTH.map(|family| place.address(family)).to_vec(),
            Form::Loopback => files::LOOPBACK.to_vec(),
        };
        self.hits.of(host, &addresses)
    }

    /// Connections (datagrams, for UDP) the emulated Internet took on one address and port.
    #[must_use]
    pub fn connections_to(&self, address: std::net::SocketAddr) -> u64 {
        self.hits.connections_to(address)
    }

    /// How often the gateway asked the upstream resolver for a name, by any type or by one (`"A"`,
    /// `"AAAA"`…).
    #[must_use]
    pub fn upstream_questions(&self, name: &str, kind: Option<&str>) -> u64 {
        self.upstream.questions(name, kind)
    }

    /// Packets with a SIM's source address that the emulated Internet received, both families.
    /// `None` in the loopback form.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn leaked_packets(&self) -> Result<Option<u64>, WorldError> {
        self.wiring.as_ref().map(Wiring::leaked_packets).transpose()
    }

    /// The policy text the world started with.
    #[must_use]
    pub fn policy_text(&self) -> &str {
        &self.policy
    }

    /// Replaces the policy file by atomic rename; the gateway may notice by itself.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_policy(&self, text: &str) -> Result<(), WorldError> {
        let new = self.directory.join("policy.toml.new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, self.policy_file()))
            .map_err(during("replacing the policy"))
    }

    /// The policy file.
    #[must_use]
    pub fn policy_file(&self) -> PathBuf {
        self.directory.join(files::POLICY)
    }

    /// The text of the gateway's settings file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn settings_text(&self) -> Result<String, WorldError> {
        fs::read_to_string(self.directory.join(files::GATEWAY))
            .map_err(during("reading the settings"))
    }

    /// Replaces the gateway's settings file; the gateway reads it when it starts.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_settings(&self, text: &str) -> Result<(), WorldError> {
        fs::write(self.directory.join(files::GATEWAY), text)
            .map_err(during("replacing the settings"))
    }

    /// The directory with the CA certificate, the gateway's two files and its log.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The certificate of the lab's authority, PEM.
    #[must_use]
    pub fn authority_file(&self) -> PathBuf {
        self.directory.join(files::AUTHORITY)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.gateway.kill();
    }
}

/// A thousand held sessions take two descriptors each in this process.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With the limit as it was, small worlds still work.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn directory(asked: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), WorldError> {
    if let Some(asked) = asked {
        return Ok((asked.to_owned(), None));
    }
    let temporary = tempfile::Builder::new()
        .prefix("postern-lab-")
        .tempdir()
        .map_err(during("making a temporary directory"))?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

/// A prefix for namespace names that no other world of this process has.
fn prefix(plain: bool) -> String {
    if plain {
        return String::new();
    }
    format!("w{}-", WORLDS.fetch_add(1, Ordering::Relaxed))
}

fn during(what: &'static str) -> impl FnOnce(io::Error) -> WorldError {
    move |source| WorldError::Io { what, source }
}

static WORLDS: AtomicU32 = AtomicU32::new(1);

#[cfg(test)]
mod tests;
