//! Webhooks out: other systems are told of states that change here.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    sync::mpsc,
    thread,
    time::Duration,
};

use lab::{Hook, World};
use serde_json::Value;

use super::{attach, sim};
use crate::stage::{eventually, metric, options};

#[test]
fn a_system_is_told_again_until_it_listens_and_knows_a_repetition() {
    let world = World::start(lab::Options { start_gateway: false, ..options() }).unwrap();
    // Busy first, then content; gone for good in the end.
    let told = System::listen(&world, &[503, 204, 204, 410, 204]);
    let settings = world.settings_text().unwrap();
    world
        .write_settings(&format!(
            "{settings}[[webhook.to]]\nurl = \"http://{}/sims?from=postern\"\nkey_file = \"shop.key\"\n",
            told.address
        ))
        .unwrap();
    world.gateway().start().unwrap();
    attach(&world);
    let (first, again) = (told.next(), told.next());
    assert_eq!((&first.head["webhook-id"], &first.body), (&again.head["webhook-id"], &again.body));
    assert_ne!(first.head["webhook-timestamp"], again.head["webhook-timestamp"], "never stale");
    assert_eq!(first.path, "POST /sims?from=postern HTTP/1.1");
    for letter in [&first, &again] {
        let part = |name: &str| letter.head[name].as_str().unwrap();
        let expected = Hook::signature(part("webhook-id"), part("webhook-timestamp"), &letter.body);
        assert_eq!(part("webhook-signature"), expected);
    }
    let message: Value = serde_json::from_str(&first.body).unwrap();
    assert_eq!(message["type"], "sim.state.changed");
    let data = &message["data"];
    assert_eq!(data["sim"], format!("iccid:{}", world.ue(1).iccid()));
    assert_eq!((&data["before"], &data["state"]), (&Value::Null, &"unprovisioned".into()));
    assert_eq!((&data["source"], &data["node"]), (&"api".into(), &"lab-1".into()));
    assert_eq!(world.gateway().send_hook(&Hook::of(world.ue(1), "active")).unwrap().status, 200);
    let lifted: Value = serde_json::from_str(&told.next().body).unwrap();
    assert_eq!(lifted["data"]["state"], "active");
    assert_eq!(lifted["data"]["source"], "webhook");
    // The system is gone: it is not asked again for this one.
    world.gateway().send_hook(&Hook::of(world.ue(1), "exhausted")).unwrap();
    told.next();
    assert_eq!(sim(&world)["state"], "exhausted");
    eventually("counted", || {
        let count = |result| metric(&world, "postern_webhooks_total", &[("result", result)]);
        ((count("delivered"), count("refused")) == (2.0, 1.0)).then_some(())
    });
    assert_eq!(metric(&world, "postern_webhooks_waiting", &[]), 0.0);
}

/// The operator's system: it takes messages one by one and answers as it was told to.
struct System {
    address: SocketAddr,
    letters: mpsc::Receiver<Letter>,
}

struct Letter {
    path: String,
    head: Value,
    body: String,
}

impl System {
    fn listen(world: &World, answers: &'static [u16]) -> Self {
        let here = world.gateway().namespace();
        let listener = here.call(|| TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, letters) = mpsc::channel();
        thread::spawn(move || {
            for (stream, status) in listener.incoming().zip(answers) {
                let mut stream = BufReader::new(stream.unwrap());
                let letter = read(&mut stream);
                let answer = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n\r\n");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
                if sender.send(letter).is_err() {
                    return;
                }
            }
        });
        Self { address, letters }
    }

    #[track_caller]
    fn next(&self) -> Letter {
        self.letters.recv_timeout(Duration::from_secs(20)).expect("the system is told")
    }
}

fn read(stream: &mut impl BufRead) -> Letter {
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let path = line();
    let mut head = serde_json::Map::new();
    loop {
        let line = line();
        let Some((name, value)) = line.split_once(": ") else { break };
        head.insert(name.to_ascii_lowercase(), value.into());
    }
    let length = head["content-length"].as_str().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Letter { path, head: head.into(), body: String::from_utf8(body).unwrap() }
}
