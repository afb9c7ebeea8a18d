use std::{path::Path, time::Duration};

use super::{Config, SteeringMode};

const SAMPLE: &str = r#"
node        = "edge-1"
environment = "production"
policy      = "policy.toml"
[steering]
mode        = "tproxy"
interfaces  = ["ue0"]
[dns]
listen      = ["0.0.0.0:5353", "[::]:5353"]
upstreams   = ["udp://198.51.100.53"]
[proxy]
http        = ["0.0.0.0:8080", "[::]:8080"]
https       = ["0.0.0.0:8443", "[::]:8443"]
quic        = "reject"
[proxy.limits]
hello_time  = "750ms"
[admin]
listen      = "127.0.0.1:9180"
token_file  = "admin.token"
"#;

fn codes(text: &str) -> Vec<&'static str> {
    match Config::parse(Path::new("gateway.toml"), text) {
        Ok((_, warnings)) => warnings.iter().map(|diagnostic| diagnostic.code).collect(),
        Err(diagnostics) => diagnostics.iter().map(|diagnostic| diagnostic.code).collect(),
    }
}

#[test]
fn reads_the_sample() {
    let (config, warnings) = Config::parse(Path::new("/etc/postern/gateway.toml"), SAMPLE).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.policy, Path::new("/etc/postern/policy.toml"));
    assert_eq!(config.steering.mode, SteeringMode::Tproxy);
    assert!(config.steering.install);
    assert_eq!(config.proxy.unwrap().limits.hello_time, Duration::from_millis(750));
    assert_eq!(config.admin.token_file.unwrap(), Path::new("/etc/postern/admin.token"));
}

#[test]
fn refuses_what_it_cannot_mean() {
    for (from, to, expected) in [
        ("node        = \"edge-1\"", "node = \"edge 1\"", "GW0002"),
        ("node        = \"edge-1\"", "node = 1", "GW0001"),
        ("quic        = \"reject\"", "quik = \"reject\"", "GW0001"),
        ("quic        = \"reject\"", "quic = \"perhaps\"", "GW0002"),
        ("[\"ue0\"]", "[]", "GW0004"),
        ("[\"ue0\"]", "[\"ue0\\\" accept\"]", "GW0002"),
        ("\"udp://198.51.100.53\"", "", "GW0004"),
        ("[proxy]", "dns64 = \"64:ff9b::/97\"\n[proxy]", "GW0002"),
        ("[proxy]", "dns64 = \"ff00::/32\"\n[proxy]", "GW0002"),
        ("127.0.0.1:9180", "0.0.0.0:9180", "GW0005"),
        ("127.0.0.1:9180", "localhost:9180", "GW0002"),
        ("750ms", "750", "GW0002"),
        ("750ms", "0s", "GW0002"),
        ("750ms", "25h", "GW0002"),
        ("0.0.0.0:8080", "0.0.0.0:99999", "GW0002"),
    ] {
        let text = SAMPLE.replace(from, to);
        assert_ne!(text, SAMPLE, "{from}");
        assert!(codes(&text).contains(&expected), "{to}: {:?}", codes(&text));
    }
}

#[test]
fn steering_by_dns_alone_names_its_addresses_and_is_called_weak() {
    let steering = |lines: &str| {
        let (before, rest) = SAMPLE.split_once("[steering]").unwrap();
        let (_, after) = rest.split_once("[dns]").unwrap();
        format!("{before}[steering]\n{lines}\n[dns]{after}")
    };
    let text = steering("mode = \"dns\"\naddresses = [\"192.0.2.1\", \"2001:db8::1\"]");
    let (config, warnings) = Config::parse(Path::new("gateway.toml"), &text).unwrap();
    assert_eq!(config.steering.mode, SteeringMode::Dns);
    assert_eq!(config.steering.addresses.len(), 2);
    assert!(!config.steering.install);
    assert!(warnings.iter().any(|found| found.code == "GW0007"), "{warnings:?}");
    for (lines, code) in [
        ("mode = \"dns\"", "GW0004"),
        ("mode = \"dns\"\naddresses = []", "GW0004"),
        ("mode = \"dns\"\naddresses = [\"a.example\"]", "GW0002"),
        ("mode = \"none\"\naddresses = [\"192.0.2.1\"]", "GW0002"),
    ] {
        assert!(codes(&steering(lines)).contains(&code), "{lines}");
    }
}

#[test]
fn reads_the_proxys_other_ways_in() {
    let more = "quic = \"inspect\"\nexplicit = [\"0.0.0.0:3128\", \"[::]:3128\"]\n\
                proxy_protocol = [\"192.0.2.0/28\"]";
    let text = SAMPLE.replace("quic        = \"reject\"", more);
    let (config, _) = Config::parse(Path::new("gateway.toml"), &text).unwrap();
    let proxy = config.proxy.unwrap();
    assert_eq!(proxy.quic, policy::Quic::Inspect);
    assert_eq!((proxy.explicit.len(), proxy.balancers.len()), (2, 1));
    let wrong = text.replace("192.0.2.0/28", "192.0.2.0/33");
    assert!(codes(&wrong).contains(&"GW0002"));
}

#[test]
fn origins_are_dialled_from_the_subscribers_own_address_where_that_can_be() {
    let with = |line: &str| {
        SAMPLE.replace("quic        = \"reject\"", &format!("quic = \"reject\"\n{line}"))
    };
    for (line, is_own) in [
        ("", false),
        ("source = \"gateway\"\negress = [\"192.0.2.7\"]", false),
        ("source = \"subscriber\"", true),
    ] {
        let (config, _) = Config::parse(Path::new("gateway.toml"), &with(line)).unwrap();
        assert_eq!(config.steering.brings_back, is_own, "{line}");
        let egress = config.proxy.unwrap().egress;
        assert_eq!(matches!(egress, crate::proxy::Egress::Subscriber), is_own, "{egress:?}");
    }
    for line in ["source = \"sim\"", "source = \"subscriber\"\negress = [\"192.0.2.7\"]"] {
        assert!(codes(&with(line)).contains(&"GW0002"), "{line}");
    }
    let redirected = with("source = \"subscriber\"").replace("\"tproxy\"", "\"redirect\"");
    assert!(codes(&redirected).contains(&"GW0002"));
}

#[test]
fn reads_encrypted_listeners_and_limits_of_the_resolver() {
    let more = r#"
[dns.tls]
listen = ["0.0.0.0:8853", "[::]:8853"]
certificate = "dns.pem"
key = "dns.key"
[dns.https]
listen = ["192.0.2.1:9443"]
certificate = "dns.pem"
key = "dns.key"
[dns.limits]
qps_per_subscriber = 7
udp_threads = 3
"#;
    let text = format!("{SAMPLE}{more}");
    let (config, _) = Config::parse(Path::new("/etc/postern/gateway.toml"), &text).unwrap();
    let tls = config.dns.tls.unwrap();
    assert_eq!(tls.certificate, Path::new("/etc/postern/dns.pem"));
    assert_eq!(tls.listen, ["0.0.0.0:8853", "[::]:8853"].map(|address| address.parse().unwrap()));
    assert_eq!(config.dns.https.unwrap().listen.len(), 1);
    assert_eq!(config.dns.limits.questions_per_second, 7);
    assert_eq!(config.dns.limits.udp_threads, 3);
    for (from, to, expected) in [
        ("qps_per_subscriber = 7", "qps_per_subscriber = 0", "GW0002"),
        ("udp_threads = 3", "udp_threads = 0", "GW0002"),
        ("udp_threads = 3", "udp_threads = 257", "GW0002"),
        ("[\"192.0.2.1:9443\"]", "[]", "GW0004"),
        ("[\"192.0.2.1:9443\"]", "[\"dns.example\"]", "GW0002"),
        ("certificate", "certificat", "GW0001"),
    ] {
        assert!(codes(&text.replace(from, to)).contains(&expected), "{to}");
    }
}

#[test]
fn reports_every_mistake_at_once() {
    let text = SAMPLE
        .replace("edge-1", "edge 1")
        .replace("127.0.0.1:9180", "0.0.0.0:9180")
        .replace("750ms", "soon");
    assert_eq!(codes(&text).len(), 3);
}

#[test]
fn unknown_keys_hide_no_other_finding() {
    let text = SAMPLE.replace("750ms", "soon");
    let text = format!("colour = 1\n{text}\n[[extra]]\nkey = 1\n");
    let mut found = codes(&text);
    found.sort_unstable();
    assert_eq!(found, ["GW0001", "GW0001", "GW0002"]);
}

#[test]
fn says_what_this_version_does_not_serve() {
    let text = format!("{SAMPLE}\n[state]\nengine = \"embedded\"\npath = \"state.redb\"\n");
    assert_eq!(codes(&text), [""; 0]);
}
