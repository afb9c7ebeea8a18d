//! Who is measured, each with one worker thread and the same 101 names.

use std::{env, fs, io, net::SocketAddr, path::Path, process::Child};

use bench::{
    garden::{self, PORT, names},
    network::{GATEWAY, GATEWAY_ADDRESS, ORIGIN_ADDRESS, command, end, is_free, listens},
};

/// A way from the client to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The kernel forwards; nothing reads anything.
    Direct,
    /// Tokio's own copy loop, without reading a name.
    Null,
    /// Refuses everything, one connection after the other, unread: the four system calls alone.
    Floor,
    Haproxy,
    /// As it comes: when the origin has ended, both connections are closed at once. A subscriber that
    /// still speaks then gets a reset, which may cost it what it has not read (RFC 9112 section 9.6).
    Nginx,
    /// Passes on the end of each direction by itself, as HAProxy and ours do.
    NginxHalf,
    Sniproxy,
    /// Ours as it was: the binary that `POSTERN_FORMER` names.
    Former,
    Postern,
}

/// A running peer; it ends with this value.
pub(crate) struct Peer {
    child: Option<Child>,
    /// Where the client connects to.
    pub(crate) address: SocketAddr,
}

impl Kind {
    pub(crate) const EACH: [Self; 9] = [
        Self::Direct,
        Self::Null,
        Self::Floor,
        Self::Haproxy,
        Self::Nginx,
        Self::NginxHalf,
        Self::Sniproxy,
        Self::Former,
        Self::Postern,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Null => "null",
            Self::Floor => "floor",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::NginxHalf => "nginx-half",
            Self::Sniproxy => "sniproxy",
            Self::Former => "former",
            Self::Postern => "postern",
        }
    }

    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::EACH.into_iter().find(|kind| kind.name() == word)
    }

    /// Whether it refuses names that are not listed.
    pub(crate) fn judges(self) -> bool {
        !matches!(self, Self::Direct | Self::Null)
    }

    /// Whether it is measured although nobody names it.
    pub(crate) fn is_usual(self) -> bool {
        self != Self::Former
    }

    /// Whether it relays.
    pub(crate) fn relays(self) -> bool {
        self != Self::Floor
    }

    /// Starts it in the gateway's namespace, with its files in `folder`.
    pub(crate) fn start(self, folder: &Path) -> Peer {
        let near: SocketAddr = format!("{GATEWAY_ADDRESS}:{PORT}").parse().expect("an address");
        let far: SocketAddr = format!("{ORIGIN_ADDRESS}:{PORT}").parse().expect("an address");
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).expect("a file of the run");
            path
        };
        let mut command = match self {
            Self::Direct => return Peer { child: None, address: far },
            Self::Null => {
                let mut command = command(GATEWAY, env::current_exe().expect("this program"));
                command.args(["null", &near.to_string(), &far.to_string()]);
                command
            }
            Self::Floor => {
                let mut command = command(GATEWAY, env::current_exe().expect("this program"));
                command.args(["floor", &near.to_string()]);
                command
            }
            Self::Haproxy => {
                file("names", &names().join("\n"));
                let path = file("haproxy.cfg", &haproxy(folder, near, far));
                let mut command = command(GATEWAY, "haproxy");
                command.args(["-db", "-f"]).arg(path);
                command
            }
            Self::Nginx | Self::NginxHalf => {
                let half = if self == Self::NginxHalf { "on" } else { "off" };
                let path = file("nginx.conf", &nginx(folder, near, far, half));
                let mut command = command(GATEWAY, "nginx");
                command.arg("-e").arg(folder.join("nginx.log")).arg("-c").arg(path);
                command
            }
            Self::Sniproxy => {
                let path = file("sniproxy.conf", &sniproxy(folder, near, far));
                let mut command = command(GATEWAY, "sniproxy");
                command.args(["-f", "-c"]).arg(path);
                command
            }
            Self::Former | Self::Postern => {
                file("policy.toml", &garden::policy());
                let path = file("gateway.toml", &garden::gateway(near, 1));
                let of = if self == Self::Former { "POSTERN_FORMER" } else { "POSTERN_BIN" };
                let mut command = command(GATEWAY, env::var_os(of).expect(of));
                command.args(["run", "--log", "error", "--config"]).arg(path);
                command
            }
        };
        command.stdout(io::stderr());
        let child = command.spawn().expect("the peer is installed");
        let mut peer = Peer { child: Some(child), address: near };
        peer.wait(folder);
        peer
    }
}

impl Peer {
    /// The process that was started.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Waits until it takes connections.
    fn wait(&mut self, folder: &Path) {
        let ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
        let listens = listens(GATEWAY, PORT) && !self.child.as_mut().is_some_and(ended);
        let log = if listens { None } else { fs::read_to_string(folder.join("nginx.log")).ok() };
        assert!(listens, "the peer does not listen: {}", log.unwrap_or_default());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            end(child);
            assert!(is_free(GATEWAY, PORT), "the peer does not end");
        }
    }
}

fn haproxy(folder: &Path, near: SocketAddr, far: SocketAddr) -> String {
    let names = folder.join("names");
    format!(
        "global\n  nbthread 1\n  maxconn 9850\n  maxpipes 32\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n\
         \x20 option splice-auto\n  option splice-request\n  option splice-response\n\
         frontend tls\n  bind {near} backlog 4096\n  tcp-request inspect-delay 5s\n\
         \x20 tcp-request content accept if {{ req.ssl_hello_type 1 }} {{ req.ssl_sni -f {} }}\n\
         \x20 tcp-request content reject if {{ req.ssl_hello_type 1 }}\n\
         \x20 tcp-request content reject if WAIT_END\n  default_backend origin\n\
         backend origin\n  server origin {far}\n",
        names.display()
    )
}

fn nginx(folder: &Path, near: SocketAddr, far: SocketAddr, half_close: &str) -> String {
    let lines: String = names().iter().map(|name| format!("    {name} {far};\n")).collect();
    let log = folder.join("nginx.log");
    let (log, pid) = (log.display(), folder.join("nginx.pid"));
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\nuser root;\n\
         error_log {log} crit;\npid {};\nevents {{ worker_connections 20000; multi_accept on; }}\n\
         stream {{\n  map_hash_bucket_size 128;\n  map $ssl_preread_server_name $origin {{\n    \
         default \"\";\n{lines}  }}\n  server {{\n    listen {near} backlog=4096;\n    ssl_preread on;\n\
         \x20   tcp_nodelay on;\n    proxy_pass $origin;\n    proxy_half_close {half_close};\n  }}\n}}\n",
        pid.display()
    )
}

fn sniproxy(folder: &Path, near: SocketAddr, far: SocketAddr) -> String {
    let lines: String =
        names().iter().map(|name| format!("  ^{}$ {far}\n", name.replace('.', "\\\\."))).collect();
    format!(
        "user root\npidfile {}\nerror_log {{ filename /dev/null }}\n\
         listener {near} {{\n  proto tls\n  access_log {{ filename /dev/null }}\n}}\n\
         table {{\n{lines}}}\n",
        folder.join("sniproxy.pid").display()
    )
}
