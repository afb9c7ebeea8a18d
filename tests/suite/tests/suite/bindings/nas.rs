//! A NAS, octet by octet, apart from the code it talks to.

use std::{
    net::{SocketAddr, UdpSocket},
    ops::Range,
    time::Duration,
};

use md5::{Digest, Md5};

/// One NAS and its secret.
pub(crate) struct Nas {
    socket: UdpSocket,
    secret: String,
}

impl Nas {
    pub(crate) fn at(server: SocketAddr, secret: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket, secret: secret.to_owned() }
    }

    /// Says that a SIM got an address; whether that was confirmed.
    pub(crate) fn start(&self, sim: u32, address: u32) -> bool {
        self.ask(&self.record(1, sim, address, 1), 5)
    }

    pub(crate) fn stop(&self, sim: u32, address: u32) -> bool {
        self.ask(&self.record(2, sim, address, 2), 5)
    }

    /// Orders a state; whether it was obeyed.
    pub(crate) fn order(&self, sim: u32, state: &str) -> bool {
        let mut body = vec![80, 18];
        body.extend([0; 16]);
        put(&mut body, 11, state.as_bytes());
        put(&mut body, 26, &vendor(sim));
        let mut packet = packet(43, 3, &body);
        let tag = hmac(self.secret.as_bytes(), &packet);
        packet[22..38].copy_from_slice(&tag);
        self.sign(&mut packet);
        self.ask(&packet, 44)
    }

    /// Sends a Start for each number, and returns those that were confirmed when `enough` were.
    pub(crate) fn storm(&self, numbers: Range<u32>, enough: usize) -> Vec<u32> {
        let sent: Vec<u32> = numbers.collect();
        let mut confirmed = Vec::new();
        let mut reply = [0; 64];
        for window in sent.chunks(100) {
            for number in window {
                let identifier = u8::try_from(number % 100).unwrap();
                self.socket.send(&self.record(1, *number, *number, identifier)).unwrap();
            }
            for _ in window {
                if confirmed.len() >= enough {
                    return confirmed;
                }
                self.socket.recv(&mut reply).unwrap();
                let of = |number: &&u32| **number % 100 == u32::from(reply[1]);
                confirmed.push(*window.iter().find(of).unwrap());
            }
        }
        confirmed
    }

    fn ask(&self, request: &[u8], code: u8) -> bool {
        self.socket.send(request).unwrap();
        let mut reply = [0; 4096];
        let length = self.socket.recv(&mut reply).unwrap();
        length >= 20 && reply[0] == code && reply[1] == request[1]
    }

    fn record(&self, status: u8, sim: u32, address: u32, identifier: u8) -> Vec<u8> {
        let mut body = Vec::new();
        put(&mut body, 40, &[0, 0, 0, status]);
        put(&mut body, 44, format!("session-{sim}-{address}").as_bytes());
        put(&mut body, 8, &(0x6440_0000 + address).to_be_bytes());
        put(&mut body, 26, &vendor(sim));
        let mut packet = packet(4, identifier, &body);
        self.sign(&mut packet);
        packet
    }

    fn sign(&self, packet: &mut [u8]) {
        let digest = Md5::new().chain_update(&*packet).chain_update(&self.secret).finalize();
        packet[4..20].copy_from_slice(&digest);
    }
}

/// The IMSI of a SIM of this world.
pub(crate) fn imsi(sim: u32) -> String {
    format!("00101{sim:010}")
}

/// The address that a number stands for.
pub(crate) fn address(number: u32) -> String {
    std::net::Ipv4Addr::from_bits(0x6440_0000 + number).to_string()
}

fn vendor(sim: u32) -> Vec<u8> {
    let mut value = 10_415_u32.to_be_bytes().to_vec();
    put(&mut value, 1, imsi(sim).as_bytes());
    value
}

fn packet(code: u8, identifier: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![code, identifier, 0, 0];
    packet.extend([0; 16]);
    packet.extend(body);
    let length = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet
}

fn put(body: &mut Vec<u8>, kind: u8, value: &[u8]) {
    body.extend([kind, u8::try_from(value.len() + 2).unwrap()]);
    body.extend(value);
}

/// HMAC-MD5 with a key of at most one block (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> [u8; 16] {
    let pad = |with: u8| -> Vec<u8> {
        (0..64).map(|at| key.get(at).copied().unwrap_or_default() ^ with).collect()
    };
    let inner = Md5::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Md5::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}
