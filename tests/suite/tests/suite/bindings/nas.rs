//! A NAS and an order system, octet by octet, apart from the code they talk to.

use std::{
    net::{SocketAddr, UdpSocket},
    ops::Range,
    time::Duration,
};

use lab::radius::{Request, Status};

use super::node::SECRET;

/// One NAS and its secret.
pub(crate) struct Nas {
    socket: UdpSocket,
}

impl Nas {
    pub(crate) fn at(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket }
    }

    /// Says that a SIM got an address; whether that was confirmed.
    pub(crate) fn start(&self, sim: u32, address: u32) -> bool {
        self.ask(&record(Status::Start, sim, address, 1).signed(SECRET)) == Some(5)
    }

    pub(crate) fn stop(&self, sim: u32, address: u32) -> bool {
        self.ask(&record(Status::Stop, sim, address, 2).signed(SECRET)) == Some(5)
    }

    /// Orders a state; whether it was obeyed.
    pub(crate) fn order(&self, sim: u32, state: &str) -> bool {
        self.ask(&order(sim, state, 3).signed(SECRET)) == Some(44)
    }

    /// Says a thing without waiting for an answer.
    pub(crate) fn say(&self, request: &[u8]) {
        self.socket.send(request).unwrap();
    }

    /// Sends a Start for each number, and returns those that were confirmed when `enough` were.
    pub(crate) fn storm(&self, numbers: Range<u32>, enough: usize) -> Vec<u32> {
        let sent: Vec<u32> = numbers.collect();
        let mut confirmed = Vec::new();
        let mut reply = [0; 64];
        for window in sent.chunks(100) {
            for number in window {
                let identifier = u8::try_from(number % 100).unwrap();
                self.say(&record(Status::Start, *number, *number, identifier).signed(SECRET));
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

    /// The code of the answer, if one comes.
    pub(crate) fn ask(&self, request: &[u8]) -> Option<u8> {
        self.say(request);
        self.heard().filter(|(_, identifier)| *identifier == request[1]).map(|(code, _)| code)
    }

    /// Code and identifier of what is heard next.
    pub(crate) fn heard(&self) -> Option<(u8, u8)> {
        let mut reply = [0; 4096];
        let length = self.socket.recv(&mut reply).ok()?;
        (length >= 20).then_some((reply[0], reply[1]))
    }

    /// How long an answer is waited for from here on.
    pub(crate) fn be_patient(&self, patience: Duration) {
        self.socket.set_read_timeout(Some(patience)).unwrap();
    }
}

/// What a NAS says of a SIM that has an address.
pub(crate) fn record(status: Status, sim: u32, address: u32, identifier: u8) -> Request {
    Request::accounting(identifier, status)
        .with(44, format!("session-{sim}-{address}").as_bytes())
        .with(8, &(0x6440_0000 + address).to_be_bytes())
        .with_imsi(&imsi(sim))
}

/// An order that puts a SIM in a state.
pub(crate) fn order(sim: u32, state: &str, identifier: u8) -> Request {
    Request::change(identifier).with(11, state.as_bytes()).with_imsi(&imsi(sim))
}

/// The IMSI of a SIM of this world.
pub(crate) fn imsi(sim: u32) -> String {
    format!("00101{sim:010}")
}

/// The address that a number stands for.
pub(crate) fn address(number: u32) -> String {
    std::net::Ipv4Addr::from_bits(0x6440_0000 + number).to_string()
}
