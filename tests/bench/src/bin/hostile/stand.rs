//! Three namespaces with a real TLS server at the end and Postern in the middle.

use std::{
    env, fs, io,
    net::SocketAddr,
    path::Path,
    process::{Child, Stdio},
};

use bench::{
    garden::{self, PORT},
    network::{self, GATEWAY, GATEWAY_ADDRESS, ORIGIN, ORIGIN_ADDRESS, command, end, listens},
};
use tempfile::TempDir;

/// What stands at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// One connection after the other, renegotiation and all, as a fuzzer needs it.
    OpenSsl,
    /// Many at once, and HTTP beside.
    Nginx,
}

/// Where the tools are run.
pub(crate) struct Stand {
    folder: TempDir,
    postern: Option<Child>,
}

/// A server; it ends with this value.
pub(crate) struct Serving(Option<Child>);

impl Server {
    pub(crate) const EACH: [Self; 2] = [Self::OpenSsl, Self::Nginx];
}

impl Stand {
    pub(crate) fn set() -> io::Result<Self> {
        network::make()?;
        let folder = tempfile::tempdir()?;
        let mut made = command(ORIGIN, "openssl");
        made.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
        made.args(["-subj", "/CN=hostile", "-addext", &format!("subjectAltName=DNS:{}", name())]);
        made.args(["-keyout", "key.pem", "-out", "pem"]).current_dir(folder.path());
        assert!(made.stderr(Stdio::null()).status()?.success(), "openssl makes a certificate");
        let near = format!("{GATEWAY_ADDRESS}:{PORT}").parse().map_err(io::Error::other)?;
        let settings = folder.path().join("gateway.toml");
        let both = format!("[proxy]\nhttp = [\"{GATEWAY_ADDRESS}:{HTTP}\"]");
        fs::write(&settings, garden::gateway(near, 2).replace("[proxy]", &both))?;
        // Listed for both schemes.
        let policy = garden::policy().replace("[\"https\"]", "[\"http\", \"https\"]");
        fs::write(folder.path().join("policy.toml"), policy)?;
        let mut postern = command(GATEWAY, env::var_os("POSTERN_BIN").expect("POSTERN_BIN"));
        postern.args(["run", "--log", "error", "--config"]).arg(settings).stdout(Stdio::null());
        let postern = Some(postern.spawn()?);
        assert!(listens(GATEWAY, PORT) && listens(GATEWAY, HTTP), "Postern does not listen");
        Ok(Self { folder, postern })
    }

    /// Starts the server.
    pub(crate) fn serve(&self, server: Server) -> Serving {
        let mut command = match server {
            Server::OpenSsl => {
                let mut command = command(ORIGIN, "openssl");
                command.args(["s_server", "-accept", &format!("{ORIGIN_ADDRESS}:{PORT}"), "-www"]);
                command.args(["-key", "key.pem", "-cert", "pem", "-client_renegotiation"]);
                command.args(["-cipher", "ALL:@SECLEVEL=0", "-quiet"]);
                command
            }
            Server::Nginx => {
                let path = self.folder().join("nginx.conf");
                fs::write(&path, nginx(self.folder())).expect("a file");
                let mut command = command(ORIGIN, "nginx");
                command.arg("-e").arg(self.folder().join("log")).arg("-c").arg(path);
                command
            }
        };
        let command = command.current_dir(self.folder());
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let serving = Serving(Some(command.spawn().expect("the server is installed")));
        assert!(listens(ORIGIN, PORT), "the server does not listen");
        serving
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The server.
    pub(crate) fn straight(&self) -> SocketAddr {
        format!("{ORIGIN_ADDRESS}:{PORT}").parse().expect("an address")
    }

    /// Postern.
    pub(crate) fn through(&self) -> SocketAddr {
        format!("{GATEWAY_ADDRESS}:{PORT}").parse().expect("an address")
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.postern.take().into_iter().for_each(end);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(end);
    }
}

/// The name everything asks for.
pub(crate) fn name() -> String {
    garden::names().into_iter().next().unwrap_or_default()
}

/// The port of HTTP that belongs to a way of reaching the server.
pub(crate) fn http_of(to: SocketAddr) -> SocketAddr {
    let is_through = to.ip().to_string() == GATEWAY_ADDRESS;
    SocketAddr::new(to.ip(), if is_through { HTTP } else { 80 })
}

fn nginx(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\nworker_processes 1;\nuser root;\nerror_log {folder}/log crit;\npid {folder}/pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n  server {{\n    listen {ORIGIN_ADDRESS}:80;\n    \
         listen {ORIGIN_ADDRESS}:{PORT} ssl http2;\n    \
         ssl_certificate {folder}/pem;\n    ssl_certificate_key {folder}/key.pem;\n    \
         ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;\n    ssl_ciphers ALL:@SECLEVEL=0;\n    \
         location / {{ return 200 \"it works\\n\"; }}\n  }}\n}}\n"
    )
}

const HTTP: u16 = 8080;
