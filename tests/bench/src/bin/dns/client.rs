//! A client that asks at a steady rate, whatever the answers do, and times each from when it was
//! handed to the kernel to when the kernel had the answer: how late the client itself comes to see it
//! is not the server's doing. Nor is what it asks late; that is told apart.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use bench::percentile;
use nix::{
    cmsg_space,
    errno::Errno,
    sched::{CpuSet, sched_setaffinity},
    sys::{
        socket::{
            ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg,
            setsockopt, sockopt,
        },
        time::TimeSpec,
    },
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use crate::names::question;

/// How long answers took.
pub(crate) struct Latencies {
    /// When a question was asked, and milliseconds until its answer came.
    answers: Vec<(Duration, f64)>,
    asked: usize,
    /// Questions that were due while the client itself stood still: they were not asked.
    missed: f64,
}

impl Latencies {
    /// Milliseconds within which `share` of the questions were answered that were asked at a time
    /// `when`; what was lost never was.
    pub(crate) fn within(&self, share: f64, when: impl Fn(Duration) -> bool) -> f64 {
        let answers = self.answers.iter().filter(|(asked, _)| when(*asked));
        let mut took: Vec<f64> = answers.map(|(_, took)| *took).collect();
        took.sort_by(f64::total_cmp);
        percentile(&took, share)
    }

    pub(crate) fn lost(&self) -> usize {
        self.asked - self.answered()
    }

    pub(crate) fn answered(&self) -> usize {
        self.answers.iter().filter(|(_, took)| took.is_finite()).count()
    }

    /// From the first question to the last.
    pub(crate) fn span(&self) -> (Duration, Duration) {
        let asked = || self.answers.iter().map(|(asked, _)| *asked);
        (asked().min().unwrap_or_default(), asked().max().unwrap_or_default())
    }

    /// Percent of the questions that were due and not asked.
    pub(crate) fn missed(&self) -> f64 {
        self.missed / (self.asked as f64 + self.missed) * 100.0
    }
}

/// Asks about `names` in turn, `rate` a second; `check` sees the name's place and its answer.
pub(crate) fn ask(
    server: SocketAddr,
    names: &[String],
    rate: f64,
    duration: Duration,
    mut check: impl FnMut(usize, &[u8]),
) -> Latencies {
    let mut core = CpuSet::new();
    core.set(1).unwrap();
    sched_setaffinity(Pid::from_raw(0), &core).unwrap();
    let mut lines: Vec<Line> = (0..LINES).map(|_| Line::to(server)).collect();
    let questions: Vec<Vec<u8>> = names.iter().map(|name| question(name, 0)).collect();
    let (mut told, mut number) =
        (Latencies { answers: Vec::new(), asked: 0, missed: 0.0 }, 0_usize);
    // When the first was due, moved by what the client stood still.
    let mut begun = now();
    let end = begun + duration;
    loop {
        let at = now();
        if at > end + GRACE {
            break;
        }
        let due = |number: usize| begun + Duration::from_secs_f64(number as f64 / rate);
        let behind = at.saturating_sub(due(number));
        if at > end {
            // Only what is open still is waited for.
        } else if behind > STANDSTILL {
            told.missed += behind.as_secs_f64() * rate;
            begun += behind;
        } else {
            let many = (0..BURST).take_while(|more| due(number + more) <= at).count();
            let line = number / BURST % LINES;
            // One burst of places, so that the lines take turns.
            let many = many.min(BURST - number % BURST);
            let places = (number..number + many).map(|number| number % questions.len());
            lines[line].ask(&questions, places, at);
            (told.asked, number) = (told.asked + many, number + many);
        }
        for line in &mut lines {
            line.hear(|place, asked, took, answer| {
                told.answers.push((asked, milliseconds(took)));
                check(place, answer);
            });
        }
    }
    for line in lines {
        let open = line.open.into_iter().flatten().map(|(_, asked)| asked);
        told.answers.extend(open.chain(line.lost).map(|asked| (asked, f64::INFINITY)));
    }
    told
}

/// One of the sockets that questions go by.
struct Line {
    socket: UdpSocket,
    /// By id: the name's place, and when it was asked.
    open: Vec<Option<(usize, Duration)>>,
    next: u16,
    /// When questions were asked whose ids came round before their answers.
    lost: Vec<Duration>,
    messages: Vec<Vec<u8>>,
    buffers: Vec<Vec<u8>>,
    sending: MultiHeaders<SockaddrStorage>,
    receiving: MultiHeaders<SockaddrStorage>,
}

impl Line {
    fn to(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(server).unwrap();
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
        Self {
            socket,
            open: vec![None; 1 << 16],
            next: 0,
            lost: Vec::new(),
            messages: vec![Vec::new(); BURST],
            buffers: vec![vec![0; LONGEST]; BURST],
            sending: MultiHeaders::preallocate(BURST, None),
            receiving: MultiHeaders::preallocate(BURST, Some(cmsg_space!(TimeSpec))),
        }
    }

    /// Asks about the names at `places`. What the kernel has no room for is lost.
    fn ask(&mut self, questions: &[Vec<u8>], places: impl Iterator<Item = usize>, at: Duration) {
        let mut many = 0;
        for (message, place) in self.messages.iter_mut().zip(places) {
            message.clear();
            message.extend_from_slice(&self.next.to_be_bytes());
            message.extend_from_slice(&questions[place][2..]);
            let former = self.open[usize::from(self.next)].replace((place, at));
            self.lost.extend(former.map(|(_, asked)| asked));
            self.next = self.next.wrapping_add(1);
            many += 1;
        }
        if many == 0 {
            return;
        }
        let slices: [[IoSlice<'_>; 1]; BURST] =
            std::array::from_fn(|message| [IoSlice::new(&self.messages[message])]);
        let nobody = [None; BURST];
        let (slices, nobody) = (&slices[..many], &nobody[..many]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let _ = sendmmsg(self.socket.as_raw_fd(), &mut self.sending, slices, nobody, [], flags);
    }

    /// Hands every answer that is there to `take`: to which name's question, when it was asked, how
    /// long it took.
    fn hear(&mut self, mut take: impl FnMut(usize, Duration, Duration, &[u8])) {
        let mut buffers = self.buffers.iter_mut();
        let mut slices: [[IoSliceMut<'_>; 1]; BURST] =
            std::array::from_fn(|_| [IoSliceMut::new(buffers.next().unwrap())]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let descriptor = self.socket.as_raw_fd();
        let heard = match recvmmsg(descriptor, &mut self.receiving, slices.iter_mut(), flags, None)
        {
            Ok(heard) => heard,
            Err(Errno::EAGAIN) => return,
            Err(error) => panic!("{}", io::Error::from(error)),
        };
        for message in heard {
            let arrived = message.cmsgs().unwrap().find_map(|control| {
                let ControlMessageOwned::ScmTimestampns(time) = control else { return None };
                Some(Duration::from(time))
            });
            let answer = message.iovs().next().unwrap();
            let id = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
            if let Some((place, asked)) = self.open[id].take() {
                take(place, asked, arrived.unwrap().saturating_sub(asked), answer);
            }
        }
    }
}

/// Whenever a question was asked.
pub(crate) fn always(_: Duration) -> bool {
    true
}

/// By the clock the kernel stamps datagrams with.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_REALTIME).unwrap().into()
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

const LINES: usize = 4;
/// Datagrams of one system call.
const BURST: usize = 32;
const LONGEST: usize = 1_500;
/// A client so far behind was stopped: what it missed is left out, because asked at once it would be
/// another load.
const STANDSTILL: Duration = Duration::from_micros(500);
/// How long answers are waited for at the end.
const GRACE: Duration = Duration::from_millis(500);
