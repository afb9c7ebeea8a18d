//! Who is tried, and the recipe of each: a list of names, the hosts dialled by their own resolution
//! wherever the program can, and time limits of five seconds.

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use bench::network::{GATEWAY, GATEWAY_ADDRESS, command, end, ip};

use crate::{
    rows::Part,
    scene::{NAME_SERVER, NAMES, Scene},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Postern,
    Haproxy,
    Nginx,
    Sniproxy,
    Sslh,
    Squid,
}

/// A program that takes the subscriber's connections; it ends with this value.
pub(crate) struct Running(Option<Child>);

impl Program {
    pub(crate) const EACH: [Self; 6] =
        [Self::Postern, Self::Haproxy, Self::Nginx, Self::Sniproxy, Self::Sslh, Self::Squid];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postern => "postern",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Sniproxy => "sniproxy",
            Self::Sslh => "sslh",
            Self::Squid => "squid",
        }
    }

    /// Whether it takes part in what a row tries.
    pub(crate) fn does(self, part: Part) -> bool {
        match part {
            Part::Tls => true,
            // It tells HTTP from other protocols, but no host from another, and dials the addresses
            // of its recipe.
            Part::Http | Part::Resolution => self != Self::Sslh,
            // The others leave it to a packet filter.
            Part::Rest => self == Self::Postern,
        }
    }

    /// One line that says which version this is.
    pub(crate) fn version(self) -> String {
        let mut asked = match self {
            Self::Postern => {
                let mut asked = Command::new(postern());
                asked.arg("--version");
                asked
            }
            Self::Haproxy | Self::Nginx | Self::Squid => {
                let mut asked = Command::new(self.name());
                asked.arg("-v");
                asked
            }
            Self::Sniproxy | Self::Sslh => {
                let mut asked = Command::new(self.name());
                asked.arg("-V");
                asked
            }
        };
        let said = asked.stdin(Stdio::null()).output().expect("the program is installed");
        let said = [said.stdout, said.stderr].concat();
        String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
    }

    /// Starts it in the gateway's namespace, and steers ports 80 and 443 to it.
    pub(crate) fn start(self, scene: &Scene) -> Running {
        let folder = scene.folder().join(self.name());
        fs::create_dir_all(&folder).expect("a folder");
        let place = folder.display().to_string();
        let file = |name: &str, text: String| {
            fs::write(folder.join(name), text).expect("a file of the run");
            folder.join(name)
        };
        file("names", listed().map(|name| format!("{name}\n")).collect());
        let mut command = match self {
            Self::Postern => {
                file("policy.toml", policy());
                let mut command = command(GATEWAY, postern());
                command.args(["run", "--log", "error", "--config"]);
                command.arg(file("gateway.toml", gateway()));
                command
            }
            Self::Haproxy => {
                let mut command = command(GATEWAY, "haproxy");
                command.args(["-db", "-f"]).arg(file("haproxy.cfg", haproxy(&place)));
                command
            }
            Self::Nginx => {
                let mut command = command(GATEWAY, "nginx");
                command.args(["-e", &format!("{place}/log"), "-c"]);
                command.arg(file("nginx.conf", nginx(&place)));
                command
            }
            Self::Sniproxy => {
                let mut command = command(GATEWAY, "sniproxy");
                command.args(["-f", "-c"]).arg(file("sniproxy.conf", sniproxy(&place)));
                command
            }
            Self::Sslh => {
                let mut command = command(GATEWAY, "sslh");
                command.arg(format!("-F{}", file("sslh.cfg", sslh()).display()));
                command
            }
            Self::Squid => {
                certificate(&place);
                let mut command = command(GATEWAY, "squid");
                command.args(["-N", "-d", "1", "-f"]).arg(file("squid.conf", squid(&place)));
                command
            }
        };
        command.stdout(file_for(&folder, "stdout")).stderr(file_for(&folder, "stderr"));
        let running = Running(Some(command.spawn().expect("the program is installed")));
        let said = || fs::read_to_string(folder.join("stderr")).unwrap_or_default();
        assert!(self.gets_ready(&folder), "{} does not listen: {}", self.name(), said());
        if self != Self::Postern {
            steer();
        }
        running
    }

    /// Waits until it takes connections; false if it does not after ten seconds.
    fn gets_ready(self, folder: &Path) -> bool {
        // Asked by name, not by a connection: one that nobody steered ends squid's listener.
        let at = format!("{GATEWAY_ADDRESS}:443");
        (0..100).any(|_| {
            let is_ready = if self == Self::Postern {
                // Its steering is there by then, too.
                let said = fs::read_to_string(folder.join("stdout"));
                said.is_ok_and(|said| said.contains("READY"))
            } else {
                let found = command(GATEWAY, "ss").args(["-Hltn", "src", &at]).output();
                found.is_ok_and(|found| !found.stdout.is_empty())
            };
            if !is_ready {
                thread::park_timeout(Duration::from_millis(100));
            }
            is_ready
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(end);
        let _ = command(GATEWAY, "nft").args(["flush", "ruleset"]).status();
        let _ = ip(&["-n", GATEWAY, "rule", "flush", "table", "1"]);
    }
}

/// What the recipes of the others have in front: everything for the two ports comes to the program,
/// nothing else is forwarded.
fn steer() {
    let rules = "add table inet recipe; \
        add chain inet recipe in { type nat hook prerouting priority dstnat; }; \
        add rule inet recipe in iifname g1 tcp dport { 80, 443 } redirect; \
        add chain inet recipe through { type filter hook forward priority 0; policy drop; }";
    let status = command(GATEWAY, "nft").arg(rules).status();
    assert!(status.is_ok_and(|status| status.success()), "nft takes the rules");
}

fn listed() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name).filter(|name| *name != "denied.example")
}

fn postern() -> std::ffi::OsString {
    env::var_os("POSTERN_BIN").expect("POSTERN_BIN")
}

fn file_for(folder: &Path, name: &str) -> fs::File {
    fs::File::create(folder.join(name)).expect("a file of the run")
}

fn gateway() -> String {
    format!(
        "node = \"evasions\"\nenvironment = \"lab\"\npolicy = \"policy.toml\"\n\
         [steering]\nmode = \"tproxy\"\ninterfaces = [\"g1\"]\n\
         [dns]\nlisten = [\"0.0.0.0:5353\", \"[::]:5353\"]\nupstreams = [\"udp://{NAME_SERVER}\"]\n\
         [proxy]\nhttp = [\"0.0.0.0:8080\", \"[::]:8080\"]\nhttps = [\"0.0.0.0:8443\", \"[::]:8443\"]\n\
         [admin]\nlisten = \"127.0.0.1:9180\"\n"
    )
}

fn policy() -> String {
    let hosts = listed().map(|name| {
        format!("[[hostset.host]]\nmatch = \"{name}\"\nschemes = [\"http\", \"https\"]\n")
    });
    format!(
        "schema = 1\nname = \"evasions\"\nserial = 1\nenvironment = \"lab\"\ndefault_class = \"garden\"\n\
         [http]\ndenied = \"close\"\n\
         [[class]]\nname = \"garden\"\npriority = 1\naction = \"garden\"\nhostsets = [\"list\"]\n\
         [[class.match]]\nnetworks = [\"10.9.1.0/24\", \"fd00:9:1::/64\"]\n\
         [[hostset]]\nname = \"list\"\nsource = \"bench\"\nreviewed = 2026-11-01\n{}\
         [lab]\nnetworks = [\"10.9.2.0/24\", \"fd00:9:2::/64\"]\n",
        hosts.collect::<String>()
    )
}

fn haproxy(folder: &str) -> String {
    let dial = |kind: &str, name: &str, when: &str| {
        format!(
            "  {kind} do-resolve(txn.to,network,ipv4) {name}{when}\n  {kind} set-dst var(txn.to){when}\n"
        )
    };
    let listed = format!(" if {{ req.ssl_hello_type 1 }} {{ req.ssl_sni -i -f {folder}/names }}");
    format!(
        "global\n  nbthread 1\n\
         resolvers network\n  nameserver origin {NAME_SERVER}:53\n\
         defaults\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  \
         timeout http-request 5s\n\
         frontend tls\n  mode tcp\n  bind 10.9.1.1:443\n  bind [fd00:9:1::1]:443\n  \
         tcp-request inspect-delay 5s\n{}  tcp-request content accept{listed}\n  \
         tcp-request content reject if {{ req.ssl_hello_type 1 }}\n  \
         tcp-request content reject if WAIT_END\n  default_backend tls\n\
         backend tls\n  mode tcp\n  server any 0.0.0.0:443\n\
         frontend http\n  mode http\n  bind 10.9.1.1:80\n  bind [fd00:9:1::1]:80\n  \
         http-request deny unless {{ req.hdr(host),host_only -i -f {folder}/names }}\n{}  \
         default_backend http\n\
         backend http\n  mode http\n  server any 0.0.0.0:80\n",
        dial("tcp-request content", "req.ssl_sni", &listed),
        dial("http-request", "req.hdr(host),host_only", ""),
    )
}

fn nginx(folder: &str) -> String {
    let targets: String = listed().map(|name| format!("    {name} {name}:443;\n")).collect();
    let names = listed().collect::<Vec<_>>().join(" ");
    let listen = |port: u16, word: &str| {
        format!("    listen 10.9.1.1:{port}{word};\n    listen [fd00:9:1::1]:{port}{word};\n")
    };
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off;\nworker_processes 1;\nuser root;\nerror_log {folder}/log crit;\n\
         pid {folder}/pid;\nevents {{ }}\n\
         stream {{\n  resolver {NAME_SERVER} ipv6=off;\n  map_hash_bucket_size 128;\n  \
         map $ssl_preread_server_name $target {{\n    default \"\";\n{targets}  }}\n  \
         server {{\n{}    ssl_preread on;\n    preread_timeout 5s;\n    proxy_pass $target;\n  }}\n}}\n\
         http {{\n  resolver {NAME_SERVER} ipv6=off;\n  access_log off;\n  client_header_timeout 5s;\n  \
         server {{\n{}    return 444;\n  }}\n  \
         server {{\n{}    server_name {names};\n    location / {{ proxy_pass http://$host; }}\n  }}\n}}\n",
        listen(443, ""),
        listen(80, " default_server"),
        listen(80, ""),
    )
}

fn sniproxy(folder: &str) -> String {
    let table: String =
        listed().map(|name| format!("  ^{}$ *\n", name.replace('.', "\\\\."))).collect();
    let listen = |protocol: &str, port: u16| {
        ["10.9.1.1", "[fd00:9:1::1]"]
            .map(|address| {
                format!(
                    "listener {address}:{port} {{\n  proto {protocol}\n  table list\n  \
                     access_log {{ filename /dev/null }}\n}}\n"
                )
            })
            .concat()
    };
    format!(
        "user root\npidfile {folder}/pid\nerror_log {{ filename {folder}/log }}\n\
         resolver {{\n  nameserver {NAME_SERVER}\n  mode ipv4_only\n}}\n\
         {}{}table list {{\n{table}}}\n",
        listen("tls", 443),
        listen("http", 80),
    )
}

fn sslh() -> String {
    let routes = NAMES.iter().filter(|(name, _)| *name != "denied.example");
    let routes = routes.filter_map(|(name, addresses)| Some((name, addresses.split(' ').next()?)));
    let routes = routes.map(|(name, address)| {
        format!(
            "  {{ name: \"tls\"; host: \"{address}\"; port: \"443\"; sni_hostnames: [ \"{name}\" ]; }},\n"
        )
    });
    // Whatever matches nothing goes to the last of the list: a port where nobody is.
    format!(
        "foreground: true;\ninetd: false;\nnumeric: true;\ntransparent: false;\ntimeout: 5;\n\
         on_timeout: \"anyprot\";\n\
         listen: ( {{ host: \"10.9.1.1\"; port: \"443\"; }}, {{ host: \"fd00:9:1::1\"; port: \"443\"; }} );\n\
         protocols: (\n{}  {{ name: \"anyprot\"; host: \"127.0.0.1\"; port: \"9\"; }}\n);\n",
        routes.collect::<String>()
    )
}

fn squid(folder: &str) -> String {
    let names = listed().collect::<Vec<_>>().join(" ");
    format!(
        "http_port 3128\n\
         http_port 10.9.1.1:80 intercept\nhttp_port [fd00:9:1::1]:80 intercept\n\
         https_port 10.9.1.1:443 intercept ssl-bump generate-host-certificates=off tls-cert={folder}/pem\n\
         https_port [fd00:9:1::1]:443 intercept ssl-bump generate-host-certificates=off tls-cert={folder}/pem\n\
         dns_nameservers {NAME_SERVER}\nhost_verify_strict on\nrequest_start_timeout 5 seconds\n\
         acl hello at_step SslBump1\nacl list ssl::server_name {names}\nacl sites dstdomain {names}\n\
         acl tls port 443\nacl opening method CONNECT\nacl web port 80\n\
         ssl_bump peek hello\nssl_bump splice list\nssl_bump terminate all\n\
         http_access deny opening !tls\nhttp_access allow opening\nhttp_access allow sites web\n\
         http_access deny all\n\
         cache deny all\npid_filename none\ncache_log /dev/null\naccess_log none\n\
         shutdown_lifetime 0 seconds\ncoredump_dir /\n"
    )
}

/// The certificate that squid wants for its port and, with this recipe, shows to nobody.
fn certificate(folder: &str) {
    let file = format!("{folder}/pem");
    let mut made = Command::new("openssl");
    made.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    made.args(["-days", "2", "-subj", "/CN=squid", "-keyout", &file, "-out", &file]);
    let made = made.stdin(Stdio::null()).stderr(Stdio::null());
    let text = made.status().is_ok_and(|status| status.success());
    assert!(text, "openssl makes a certificate");
}
