//! FreeRADIUS in front of us, as the operator's AAA server that forwards accounting.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{
    node::{EMBEDDED, Node, SECRET},
    radclient,
};
use crate::stage::eventually;

#[test]
fn freeradius_forwards_and_confirms_only_what_is_stored() {
    let node = Node::start(EMBEDDED);
    let aaa = Aaa::before(node.accounting());
    let (answered, said) = radclient(aaa.address, NAS_SECRET, &record("Start", 1, PROXY_STATES));
    assert!(answered, "{said}\n{}", aaa.log());
    // What the NAS's own proxy wrote comes back unchanged and in order; FreeRADIUS's own is taken
    // off again, or it would not have known the answer as one.
    let (_, answer) = said.split_once("Received Accounting-Response").unwrap();
    let states: Vec<_> = answer.lines().filter(|line| line.contains("Proxy-State")).collect();
    assert_eq!(states.len(), 2, "{said}");
    assert!(states[0].ends_with("0x01") && states[1].ends_with("0xfffe00"), "{said}");
    assert_eq!(node.class("100.64.0.1"), "bound");
    // Both families, behind one NAS-Identifier of many.
    let v6 = "NAS-Identifier = \"pgw-7\"\nFramed-IPv6-Prefix = 2001:db8:64:7::/64\n";
    let (answered, said) = radclient(aaa.address, NAS_SECRET, &record("Start", 2, v6));
    assert!(answered, "{said}");
    assert_eq!(node.class("2001:db8:64:7:1:2:3:4"), "bound");
    // While we are away nobody says that the record is kept; the same one comes again.
    let address = node.accounting();
    node.kill();
    let (answered, said) = radclient(aaa.address, NAS_SECRET, &record("Stop", 1, ""));
    assert!(!answered, "{said}");
    node.rewrite("listen      = [\"127.0.0.1:0\"]\ncoa", &format!("listen = [\"{address}\"]\ncoa"));
    node.restart();
    assert_eq!(node.class("100.64.0.1"), "bound");
    eventually("the AAA server tries again", || {
        radclient(aaa.address, NAS_SECRET, &record("Stop", 1, "")).0.then_some(())
    });
    assert_eq!(node.class("100.64.0.1"), "unknown");
}

/// A running FreeRADIUS that forwards all accounting.
struct Aaa {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Aaa {
    fn before(gateway: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = SETTINGS
            .replace("FOLDER", folder.path().to_str().unwrap())
            .replace("HOME_PORT", &gateway.port().to_string())
            .replace("OUR_PORT", &address.port().to_string())
            .replace("HOME_SECRET", SECRET)
            .replace("NAS_SECRET", NAS_SECRET);
        fs::write(folder.path().join("radiusd.conf"), settings).unwrap();
        fs::write(folder.path().join("dictionary"), "").unwrap();
        let log = log_of(folder.path());
        let child = Command::new("freeradius")
            .args(["-f", "-n", "radiusd", "-d"])
            .arg(folder.path())
            .arg("-l")
            .arg(&log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let aaa = Self { child, address, folder };
        eventually("FreeRADIUS is ready", || {
            aaa.log().contains("Ready to process requests").then_some(())
        });
        aaa
    }

    fn log(&self) -> String {
        fs::read_to_string(log_of(self.folder.path())).unwrap_or_default()
    }
}

impl Drop for Aaa {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_of(folder: &Path) -> std::path::PathBuf {
    folder.join("log")
}

/// One record as `radclient` reads it, of the SIM of this number at the address of this number.
fn record(status: &str, number: u8, more: &str) -> String {
    format!(
        "Acct-Status-Type = {status}\nAcct-Session-Id = \"session-{number}\"\n\
         NAS-IP-Address = 192.0.2.10\nFramed-IP-Address = 100.64.0.{number}\n\
         3GPP-IMSI = \"00101000000000{number}\"\n{more}"
    )
}

const PROXY_STATES: &str = "Proxy-State = 0x01\nProxy-State = 0xfffe00\n";
/// What the NAS shares with FreeRADIUS.
const NAS_SECRET: &str = "nas-secret";

const SETTINGS: &str = r#"
libdir           = /usr/lib/freeradius
raddbdir         = FOLDER
run_dir          = FOLDER
db_dir           = FOLDER
logdir           = FOLDER
max_request_time = 5
cleanup_delay    = 0
proxy_requests   = yes
security {
    allow_core_dumps = no
}
home_server postern {
    type            = acct
    ipaddr          = 127.0.0.1
    port            = HOME_PORT
    secret          = HOME_SECRET
    response_window = 2
    zombie_period   = 1
    revive_interval = 10
    status_check    = none
}
home_server_pool postern {
    type        = fail-over
    home_server = postern
}
realm postern {
    acct_pool = postern
}
client nas {
    ipaddr = 127.0.0.1
    secret = NAS_SECRET
}
modules {
    always ok {
        rcode = ok
    }
}
server default {
    listen {
        type   = acct
        ipaddr = 127.0.0.1
        port   = OUR_PORT
    }
    preacct {
        update control {
            Proxy-To-Realm := "postern"
        }
    }
    accounting {
        ok
    }
}
"#;
