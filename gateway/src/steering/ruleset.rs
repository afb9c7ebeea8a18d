//! The nftables table as text.

use std::{fmt::Write, net::SocketAddr};

use super::SteeringError;
use crate::config::{SteeringConfig, SteeringMode};

/// The table's name, in family `inet`.
pub(super) const TABLE: &str = "postern";

/// The bound addresses of the listeners.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ports {
    /// Of the resolver.
    pub(crate) dns: Vec<SocketAddr>,
    /// Of the resolver over TLS; empty if it is not served.
    pub(crate) dot: Vec<SocketAddr>,
    /// Of the resolver over HTTPS, which is asked by its own address; empty if it is not served.
    pub(crate) doh: Vec<SocketAddr>,
    /// Of the proxy's port 80; empty without a proxy.
    pub(crate) http: Vec<SocketAddr>,
    /// Of the proxy's port 443; empty without a proxy.
    pub(crate) https: Vec<SocketAddr>,
    /// Of the proxy's UDP port 443; empty where QUIC is refused.
    pub(crate) quic: Vec<SocketAddr>,
    /// Of the proxy for clients that know it, which is asked by its own address.
    pub(crate) explicit: Vec<SocketAddr>,
    /// Of the captive-portal API, which is asked by its own address; empty if it is not served.
    pub(crate) captive: Vec<SocketAddr>,
}

/// The whole table, with `note` on it; loading it replaces an older one in one step.
pub(super) fn ruleset(
    config: &SteeringConfig,
    ports: &Ports,
    note: &str,
) -> Result<String, SteeringError> {
    let interfaces = interfaces(config);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ =
        writeln!(text, "add table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{");
    let _ = writeln!(text, "  comment \"{note}\"");
    text.push_str(SETS);
    text.push_str(&match config.mode {
        SteeringMode::Tproxy => tproxy(config, ports, &interfaces)?,
        SteeringMode::Redirect => redirect(ports, &interfaces)?,
        SteeringMode::None | SteeringMode::Dns => String::new(),
    });
    let ours = match config.mode {
        SteeringMode::Tproxy => format!("meta mark {}", config.mark),
        SteeringMode::Redirect | SteeringMode::None | SteeringMode::Dns => {
            "ct status dnat".to_owned()
        }
    };
    let asked = ports.doh.iter().chain(&ports.explicit).chain(&ports.captive);
    let asked_directly: String = asked.map(asked_directly).collect();
    let _ = write!(
        text,
        "
  chain own_input {{
    type filter hook input priority filter; policy accept;
    iifname != {{ {interfaces} }} accept
    {ours} accept
{asked_directly}    icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} accept
    icmpv6 type {{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem }} accept
    icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
    icmp type echo-request limit rate 50/second accept
    icmpv6 type echo-request limit rate 50/second accept
    ct state established,related accept
    meta l4proto tcp counter name refused reject with tcp reset
    counter name refused reject with icmpx admin-prohibited
  }}
  chain garden_forward {{
    type filter hook forward priority filter; policy accept;
    iifname {{ {interfaces} }} goto leaving
    oifname {{ {interfaces} }} goto arriving
  }}
{FORWARDED}}}
"
    );
    Ok(text)
}

/// What refuses the answers of those who were roused, beside the table, for kernels that lack it: under
/// redirection nothing else asks for sockets.
///
/// The kernel forwards no packet that it has a socket for. So an answer that arrives before the socket
/// that roused its subscriber is gone would never come to the refusal, and must not get so far.
pub(super) fn roused(config: &SteeringConfig) -> Option<String> {
    (config.mode == SteeringMode::Redirect).then(|| {
        format!(
            "table inet {TABLE} {{
  chain roused {{
    type filter hook prerouting priority mangle; policy accept;
    iifname {{ {} }} meta l4proto tcp socket transparent 1 counter name refused reject with tcp reset
  }}
}}
",
            interfaces(config)
        )
    })
}

/// The interfaces that subscribers come from, as elements of a set.
fn interfaces(config: &SteeringConfig) -> String {
    config.interfaces.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// `open` passes us by; `watched` is steered, and everything else of it forwarded. Those are networks;
/// a SIM whose class is another than its address alone would say stands in a `sim_` set, which comes
/// first. A `granted` address passes until its time or its quota of bytes is over.
///
/// A SIM's sets are hashed, because they are large and change often: IPv4 by address, IPv6 by /64.
const SETS: &str = "
  set open4 { type ipv4_addr; flags interval; }
  set open6 { type ipv6_addr; flags interval; }
  set watched4 { type ipv4_addr; flags interval; }
  set watched6 { type ipv6_addr; flags interval; }
  set sim_open4 { type ipv4_addr; }
  set sim_open6 { type ipv6_addr; }
  set sim_watched4 { type ipv4_addr; }
  set sim_watched6 { type ipv6_addr; }
  set sim_walled4 { type ipv4_addr; }
  set sim_walled6 { type ipv6_addr; }
  set granted4 { type ipv4_addr; flags timeout; }
  set granted6 { type ipv6_addr; flags timeout; }
  map grant4 { type ipv4_addr : quota; flags timeout; }
  map grant6 { type ipv6_addr : quota; flags timeout; }
  counter steered { }
  counter quic { }
  counter refused { }
";

/// Where a subscriber's packet goes before anything is steered: past us, or on to `steered`.
const PASSING: &str = "    ip saddr @sim_open4 accept
    ip6 saddr & ffff:ffff:ffff:ffff:: @sim_open6 accept
    ip saddr @granted4 accept
    ip6 saddr & ffff:ffff:ffff:ffff:: @granted6 accept
    ip saddr @sim_walled4 goto steered
    ip6 saddr & ffff:ffff:ffff:ffff:: @sim_walled6 goto steered
    ip saddr @sim_watched4 goto steered
    ip6 saddr & ffff:ffff:ffff:ffff:: @sim_watched6 goto steered
    ip saddr @open4 accept
    ip6 saddr @open6 accept
    goto steered
";

/// What is forwarded and what is refused. Bytes of a grant are counted here, once, whichever way
/// they go; a packet that would exceed the quota is refused.
const FORWARDED: &str = "  chain leaving {
    ip saddr @sim_open4 accept
    ip6 saddr & ffff:ffff:ffff:ffff:: @sim_open6 accept
    quota name ip saddr map @grant4 accept
    quota name ip6 saddr & ffff:ffff:ffff:ffff:: map @grant6 accept
    ip saddr @sim_walled4 goto refusal
    ip6 saddr & ffff:ffff:ffff:ffff:: @sim_walled6 goto refusal
    ip saddr @sim_watched4 goto watched
    ip6 saddr & ffff:ffff:ffff:ffff:: @sim_watched6 goto watched
    ip saddr @open4 accept
    ip6 saddr @open6 accept
    ip saddr @watched4 goto watched
    ip6 saddr @watched6 goto watched
    goto refusal
  }
  chain watched {
    udp dport 443 counter name quic reject with icmpx port-unreachable
    accept
  }
  chain refusal {
    udp dport 443 counter name quic reject with icmpx port-unreachable
    meta l4proto tcp counter name refused reject with tcp reset
    counter name refused reject with icmpx admin-prohibited
  }
  chain arriving {
    ip daddr @sim_open4 accept
    ip6 daddr & ffff:ffff:ffff:ffff:: @sim_open6 accept
    quota name ip daddr map @grant4 accept
    quota name ip6 daddr & ffff:ffff:ffff:ffff:: map @grant6 accept
    ip daddr @sim_walled4 counter name refused drop
    ip6 daddr & ffff:ffff:ffff:ffff:: @sim_walled6 counter name refused drop
    ip daddr @sim_watched4 accept
    ip6 daddr & ffff:ffff:ffff:ffff:: @sim_watched6 accept
    ip daddr @open4 accept
    ip6 daddr @open6 accept
    ip daddr @watched4 accept
    ip6 daddr @watched6 accept
    counter name refused drop
  }
";

fn tproxy(
    config: &SteeringConfig,
    ports: &Ports,
    interfaces: &str,
) -> Result<String, SteeringError> {
    let mark = config.mark;
    // What is sent to a subscriber and belongs to a connection of ours to an origin; errors about one
    // are told by the packet that they quote.
    let back = if config.brings_back {
        format!(
            "    iifname != {{ {interfaces} }} meta l4proto {{ tcp, udp, icmp, icmpv6 }} socket \
             transparent 1 socket wildcard 0 meta mark set {mark} accept\n"
        )
    } else {
        String::new()
    };
    let mut text = format!(
        "
  chain divert {{
    type filter hook prerouting priority mangle - 1; policy accept;
{back}    iifname != {{ {interfaces} }} accept
    # without the wildcard test a packet to the listener's own port would be let in
    meta l4proto tcp socket transparent 1 socket wildcard 0 meta mark set {mark} accept
  }}
  chain steer {{
    type filter hook prerouting priority mangle; policy accept;
    iifname != {{ {interfaces} }} accept
{PASSING}  }}
  chain steered {{
"
    );
    for steered in steered(ports) {
        for (family, address) in steered.families()? {
            let Steered { traffic, .. } = steered;
            let keyword = if address.is_ipv4() { "ip" } else { "ip6" };
            let to = target(address);
            let _ = writeln!(
                text,
                "    meta nfproto {family} {traffic} counter name steered tproxy {keyword} to {to} meta mark set {mark} accept"
            );
        }
    }
    text.push_str("  }\n");
    Ok(text)
}

fn redirect(ports: &Ports, interfaces: &str) -> Result<String, SteeringError> {
    let mut text = format!(
        "
  chain steer {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname != {{ {interfaces} }} accept
{PASSING}  }}
  chain steered {{
"
    );
    for steered in steered(ports) {
        for (family, address) in steered.families()? {
            let Steered { traffic, .. } = steered;
            let verb = if address.ip().is_unspecified() {
                format!("redirect to :{}", address.port())
            } else {
                let keyword = if address.is_ipv4() { "ip" } else { "ip6" };
                format!("dnat {keyword} to {address}")
            };
            let _ =
                writeln!(text, "    meta nfproto {family} {traffic} counter name steered {verb}");
        }
    }
    text.push_str("  }\n");
    Ok(text)
}

/// One service with the traffic it takes.
#[derive(Clone, Copy)]
struct Steered<'a> {
    service: &'static str,
    traffic: &'static str,
    addresses: &'a [SocketAddr],
}

fn steered(ports: &Ports) -> impl Iterator<Item = Steered<'_>> {
    [
        ("dns", "meta l4proto { tcp, udp } th dport 53", ports.dns.as_slice()),
        ("dot", "tcp dport 853", ports.dot.as_slice()),
        ("http", "tcp dport 80", ports.http.as_slice()),
        ("https", "tcp dport 443", ports.https.as_slice()),
        ("quic", "udp dport 443", ports.quic.as_slice()),
    ]
    .into_iter()
    .map(|(service, traffic, addresses)| Steered { service, traffic, addresses })
    // Without a proxy, or a certificate, its ports are refused like every other.
    .filter(|steered| !steered.addresses.is_empty())
}

impl<'a> Steered<'a> {
    /// A listener for each family: a family left out would be a hole or a wall.
    fn families(self) -> Result<[(&'static str, &'a SocketAddr); 2], SteeringError> {
        let find = |family, is: fn(&SocketAddr) -> bool| {
            self.addresses
                .iter()
                .find(|address| is(address))
                .ok_or(SteeringError::NoListener { service: self.service, family })
        };
        Ok([
            ("ipv4", find("IPv4", SocketAddr::is_ipv4)?),
            ("ipv6", find("IPv6", SocketAddr::is_ipv6)?),
        ])
    }
}

/// Lets subscribers ask a listener by its own address.
fn asked_directly(address: &SocketAddr) -> String {
    let (family, keyword) = if address.is_ipv4() { ("ipv4", "ip") } else { ("ipv6", "ip6") };
    let (ip, port) = (address.ip(), address.port());
    if ip.is_unspecified() {
        format!("    meta nfproto {family} tcp dport {port} accept\n")
    } else {
        format!("    {keyword} daddr {ip} tcp dport {port} accept\n")
    }
}

fn target(address: &SocketAddr) -> String {
    if address.ip().is_unspecified() { format!(":{}", address.port()) } else { address.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(mode: SteeringMode) -> SteeringConfig {
        SteeringConfig {
            mode,
            interfaces: vec!["ue0".into(), "ue1".into()],
            install: true,
            mark: 7,
            table: 8,
            brings_back: false,
            addresses: Vec::new(),
        }
    }

    fn ports() -> Ports {
        let both = |port: u16| {
            vec![
                format!("0.0.0.0:{port}").parse().unwrap(),
                format!("[::]:{port}").parse().unwrap(),
            ]
        };
        let (dns, http, https) = (both(5353), both(8080), both(8443));
        Ports { dns, http, https, ..Ports::default() }
    }

    #[test]
    fn ends_in_a_refusal_whatever_the_mode() {
        for mode in [SteeringMode::Tproxy, SteeringMode::Redirect] {
            let text = ruleset(&config(mode), &ports(), "note").unwrap();
            for (name, last) in [
                ("garden_forward", "oifname { \"ue0\", \"ue1\" } goto arriving"),
                ("leaving", "goto refusal"),
                ("refusal", "counter name refused reject with icmpx admin-prohibited"),
                ("arriving", "counter name refused drop"),
            ] {
                let (_, chain) = text.split_once(&format!("chain {name} {{")).unwrap();
                let (rules, _) = chain.split_once("\n  }\n").unwrap();
                assert_eq!(rules.lines().last().map(str::trim), Some(last), "{text}");
            }
            assert_eq!(text.matches("nfproto ipv4").count(), 3);
            assert_eq!(text.matches("nfproto ipv6").count(), 3);
        }
    }

    #[test]
    fn only_a_node_that_dials_as_its_subscribers_looks_at_what_comes_from_elsewhere() {
        for brings_back in [false, true] {
            let config = SteeringConfig { brings_back, ..config(SteeringMode::Tproxy) };
            let text = ruleset(&config, &ports(), "note").unwrap();
            let (_, chain) = text.split_once("chain divert {").unwrap();
            let rule = "iifname != { \"ue0\", \"ue1\" } meta l4proto { tcp, udp, icmp, icmpv6 }";
            let before = chain.split("iifname != { \"ue0\", \"ue1\" } accept").next().unwrap();
            assert_eq!(before.contains(rule), brings_back, "{text}");
        }
    }

    #[test]
    fn refuses_a_service_with_one_family() {
        let mut ports = ports();
        ports.https.pop();
        let error = ruleset(&config(SteeringMode::Tproxy), &ports, "note").unwrap_err();
        assert!(error.to_string().contains("no https listener for IPv6"), "{error}");
    }

    #[test]
    fn steers_dns_over_tls_where_it_is_served_and_refuses_it_elsewhere() {
        let both = ["0.0.0.0:8853", "[::]:8853"].map(|address| address.parse().unwrap()).to_vec();
        for mode in [SteeringMode::Tproxy, SteeringMode::Redirect] {
            let without = ruleset(&config(mode), &ports(), "note").unwrap();
            assert!(!without.contains("853 counter"), "{without}");
            let with =
                ruleset(&config(mode), &Ports { dot: both.clone(), ..ports() }, "note").unwrap();
            for family in ["ipv4", "ipv6"] {
                let rule = format!("meta nfproto {family} tcp dport 853 counter name steered");
                assert!(with.contains(&rule), "{with}");
            }
        }
        let one = Ports { dot: both[..1].to_vec(), ..ports() };
        let error = ruleset(&config(SteeringMode::Tproxy), &one, "note").unwrap_err();
        assert!(error.to_string().contains("no dot listener for IPv6"), "{error}");
    }

    #[test]
    fn dns_over_https_is_asked_by_its_own_address_and_never_steered() {
        let doh = ["192.0.2.1:9443", "[::]:9443"].map(|address| address.parse().unwrap()).to_vec();
        for mode in [SteeringMode::Tproxy, SteeringMode::Redirect] {
            let text =
                ruleset(&config(mode), &Ports { doh: doh.clone(), ..ports() }, "note").unwrap();
            let (steering, input) = text.split_once("chain own_input").unwrap();
            assert!(!steering.contains("9443"), "{steering}");
            assert!(input.contains("ip daddr 192.0.2.1 tcp dport 9443 accept\n"), "{input}");
            assert!(input.contains("meta nfproto ipv6 tcp dport 9443 accept\n"), "{input}");
        }
    }

    #[test]
    fn quic_is_steered_where_it_is_looked_into_and_refused_without_a_listener() {
        let both = ["0.0.0.0:8443", "[::]:8443"].map(|address| address.parse().unwrap()).to_vec();
        for mode in [SteeringMode::Tproxy, SteeringMode::Redirect] {
            let without = ruleset(&config(mode), &ports(), "note").unwrap();
            assert!(!without.contains("udp dport 443 counter name steered"), "{without}");
            let quic = Ports { quic: both.clone(), ..ports() };
            let with = ruleset(&config(mode), &quic, "note").unwrap();
            for family in ["ipv4", "ipv6"] {
                let rule = format!("meta nfproto {family} udp dport 443 counter name steered");
                assert!(with.contains(&rule), "{with}");
            }
            // Where nobody listens, a steered datagram goes on to be forwarded.
            for text in [with, without] {
                assert!(text.contains("udp dport 443 counter name quic reject"), "{text}");
            }
        }
    }

    #[test]
    fn a_resolver_alone_steers_dns_alone() {
        let ports = Ports { dns: ports().dns, ..Ports::default() };
        let text = ruleset(&config(SteeringMode::Tproxy), &ports, "note").unwrap();
        assert_eq!(text.matches("tproxy").count(), 2);
    }
}
