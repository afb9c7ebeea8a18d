//! The files the gateway of a world reads: policy, settings, token; and the certificate its SIMs
//! trust.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use super::{WorldError, during, residents::Residents};
use crate::{authority::Authority, family::Family, operator, pgw};

/// Writes all files of a world.
pub(super) fn write(
    directory: &Path,
    authority: &Authority,
    policy: &str,
    gateway: &str,
) -> Result<(), WorldError> {
    let put = |name: &str, text: &str| fs::write(directory.join(name), text);
    put(AUTHORITY, &authority.pem()).map_err(during("writing the CA certificate"))?;
    put(POLICY, policy).map_err(during("writing the policy"))?;
    put(GATEWAY, gateway).map_err(during("writing the gateway's settings"))?;
    put(operator::KEY_FILE, &format!("whsec_{}\n", operator::KEY))
        .map_err(during("writing the shop's key"))?;
    put(pgw::SECRET_FILE, pgw::SECRET).map_err(during("writing the packet gateway's secret"))?;
    token()
        .and_then(|token| {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(directory.join(TOKEN))?
                .write_all(token.as_bytes())
        })
        .map_err(during("writing the admin token"))?;
    fs::set_permissions(directory, Permissions::from_mode(0o755))
        .map_err(during("opening the directory"))
}

/// The lab's policy: the published table, the operator's portal and its SM-DP+.
pub(super) fn policy(residents: &Residents) -> String {
    let networks = match residents.loopback() {
        None => r#"["100.64.0.0/16", "2001:db8:64::/48"]"#,
        Some(_) => r#"["127.0.0.0/8", "::1/128"]"#,
    };
    let lab = residents.loopback().map_or_else(String::new, |ports| {
        format!(
            "\n[lab]\nnetworks = [\"127.0.0.0/8\", \"::1/128\"]\n\
             ports = {{ \"80\" = {}, \"443\" = {} }}\n",
            ports.http, ports.https
        )
    });
    format!(
        r#"schema = 1
name = "lab"
serial = 1
environment = "lab"
default_class = "unprovisioned"

[dns]
denied = "nxdomain"
denied_ttl = "5s"
max_ttl = "60s"

[http]
denied = "redirect"
portal = "https://portal.acme.example/start"

[[hostset]]
name = "acme"
source = "the lab's fake operator"
[[hostset.host]]
match = "portal.acme.example"
schemes = ["https"]
[[hostset.host]]
match = "smdp.acme.example"
schemes = ["https"]

[[class]]
name = "paid"
priority = 10
action = "open"
[[class.match]]
state = ["active"]

[[class]]
name = "unprovisioned"
priority = 100
action = "garden"
hostsets = ["builtin:mobile-plans", "acme"]
ncsi = "pass"
[[class.match]]
networks = {networks}
{lab}"#
    )
}

/// The gateway's settings.
pub(super) fn gateway(sims: u8, residents: &Residents) -> String {
    let Some(ports) = residents.loopback() else {
        let interfaces: Vec<_> = (1..=sims).map(|number| format!("\"ue{number}\"")).collect();
        return format!(
            r#"node = "lab-1"
environment = "lab"
policy = "{POLICY}"
[steering]
mode = "tproxy"
interfaces = [{}]
install = true
[dns]
listen = ["0.0.0.0:5353", "[::]:5353"]
upstreams = ["udp://198.51.100.53"]
[proxy]
http = ["0.0.0.0:8080", "[::]:8080"]
https = ["0.0.0.0:8443", "[::]:8443"]
quic = "reject"
[admin]
listen = "127.0.0.1:9180"
token_file = "{TOKEN}"
[radius]
listen = ["127.0.0.1:1813"]
coa = ["127.0.0.1:3799"]
clients = [{{ name = "pgw-1", address = "127.0.0.1", secret_file = "{}" }}]
[webhook]
key_files = ["{}"]
[grants]
journal = "grants.jsonl"
"#,
            interfaces.join(", "),
            pgw::SECRET_FILE,
            operator::KEY_FILE,
        );
    };
    let listen = if residents.families().contains(&Family::V6) {
        r#"["127.0.0.1:0", "[::1]:0"]"#
    } else {
        r#"["127.0.0.1:0"]"#
    };
    format!(
        r#"node = "lab-1"
environment = "lab"
policy = "{POLICY}"
[steering]
mode = "none"
[dns]
listen = {listen}
upstreams = ["udp://127.0.0.1:{}"]
[proxy]
http = {listen}
https = {listen}
[admin]
listen = "127.0.0.1:0"
token_file = "{TOKEN}"
"#,
        ports.dns
    )
}

fn token() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) const LOOPBACK: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
pub(super) const AUTHORITY: &str = "ca.pem";
pub(super) const POLICY: &str = "policy.toml";
pub(crate) const GATEWAY: &str = "gateway.toml";
pub(crate) const TOKEN: &str = "admin.token";
