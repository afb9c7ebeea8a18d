//! An upgrade under load: `tests/bench/upgrade` starts it in namespaces of its own. Sessions are
//! held open, transfers run with every octet checked, new connections come all the time; meanwhile
//! another process takes over. It fails when one session is dropped, one octet is wrong, or one
//! connection is refused.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and ends where it cannot go on"
)]

use std::{
    env, fs,
    io::{BufRead, BufReader, Lines, Write},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, ExitCode, Stdio},
    time::Duration,
};

use bench::{
    garden::{self, PORT},
    hello::Order,
    load,
    network::{self, CLIENT, GATEWAY, GATEWAY_ADDRESS, ORIGIN, ORIGIN_ADDRESS, command, end},
    origin, usage,
};
use tokio::{io::Interest, task::JoinSet};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
    match words.as_slice() {
        ["origin", on] => runtime.block_on(origin::serve(address(on))).expect("serve"),
        ["hold", to] => runtime.block_on(hold(address(to))),
        ["transfer", to] => runtime.block_on(transfer(address(to))),
        ["connect", to] => runtime.block_on(connect(address(to))),
        [] => return conduct(),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn conduct() -> ExitCode {
    network::make().expect("namespaces; run tests/bench/upgrade");
    let folder = tempfile::tempdir().expect("a folder");
    let near: SocketAddr = format!("{GATEWAY_ADDRESS}:{PORT}").parse().expect("an address");
    let mut origin = command(ORIGIN, env::current_exe().expect("this program"));
    let origin = origin.args(["origin", &format!("{ORIGIN_ADDRESS}:{PORT}")]).spawn();
    let origin = origin.expect("the origin");
    assert!(network::listens(ORIGIN, PORT), "the origin does not listen");
    fs::write(folder.path().join("policy.toml"), garden::policy()).expect("a file");
    let settings = folder.path().join("gateway.toml");
    fs::write(&settings, garden::gateway(near, 2)).expect("a file");
    let mut first = command(GATEWAY, env::var_os("POSTERN_BIN").expect("POSTERN_BIN"));
    first.args(["run", "--log", "info", "--config"]).arg(settings).stdout(Stdio::piped());
    let mut first = first.spawn().expect("Postern");
    let mut said = BufReader::new(first.stdout.take().expect("a pipe")).lines();
    await_ready(&mut said);

    let (mut holder, mut held) = client("hold", near);
    println!("held open: {}", line(&mut held));
    let (transferrer, mut transferred) = client("transfer", near);
    let (mut connector, mut connected) = client("connect", near);
    println!("{}", line(&mut transferred));
    let signalled = Command::new("kill").args(["-USR2", &first.id().to_string()]).status();
    assert!(signalled.is_ok_and(|status| status.success()), "no signal");
    await_ready(&mut said);
    let family = usage::family(first.id());
    let successor = family.into_iter().find(|pid| *pid != first.id()).expect("a successor");
    println!(
        "another process serves; the first has {} descriptors",
        usage::descriptors(first.id())
    );
    let transfers = line(&mut transferred);
    println!("{transfers}");
    let connections = asked(&mut connector, &mut connected);
    println!("{connections}");
    let dropped = asked(&mut holder, &mut held);
    println!("{dropped}");
    let is_there = first.try_wait().is_ok_and(|status| status.is_none());
    println!("the first process is there as long as its sessions are: {is_there}");
    for child in [holder, transferrer, connector] {
        end(child);
    }
    let ended = first.wait().expect("the first process ends with its last session");
    println!("the first process ended: {ended}");
    let _ = Command::new("kill").arg(successor.to_string()).status();
    end(origin);
    let good = dropped.starts_with("dropped: 0 ")
        && transfers.ends_with("wrong or missing octets: 0")
        && connections.contains("failed: 0")
        && is_there
        && ended.success();
    println!("{}", if good { "nobody noticed" } else { "FAILED" });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Holds sessions open, and says how many; asked, says how many are gone.
async fn hold(to: SocketAddr) {
    let held = load::hold(to, &garden::names(), HELD).await;
    println!("{}", held.len());
    let _ = std::io::stdin().read_line(&mut String::new());
    let mut dropped = HELD - held.len();
    for stream in &held {
        let octet = stream.try_io(Interest::READABLE, || {
            socket2::SockRef::from(stream).peek(&mut [std::mem::MaybeUninit::uninit()])
        });
        // Nothing to read and no end: the session is open.
        let is_open = octet.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        dropped += usize::from(!is_open);
    }
    println!("dropped: {dropped} of {HELD} sessions");
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Transfers that last over the upgrade.
async fn transfer(to: SocketAddr) {
    let mut running = JoinSet::new();
    for number in 0..TRANSFERS {
        let name = garden::names().into_iter().nth(number).unwrap_or_default();
        let seed = 1 + u64::try_from(number).unwrap_or_default();
        let order = Order { octets: TRANSFER_OCTETS, seed, holds: false };
        running.spawn(async move { load::checked(to, &name, order, BETWEEN_BLOCKS).await });
    }
    // A moment, so that all are under way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("transfers under way: {TRANSFERS} of {TRANSFER_OCTETS} octets");
    let (mut broken, mut wrong) = (0, 0);
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(Ok(octets)) => wrong += octets,
            Ok(Err(_)) | Err(_) => broken += 1,
        }
    }
    println!("transfers broken: {broken}; wrong or missing octets: {wrong}");
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// New connections all the time, until asked how many failed.
async fn connect(to: SocketAddr) {
    let (mut good, mut bad) = (0, 0);
    let mut asked = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    while !asked.is_finished() {
        let run = load::connections(to, garden::names(), 200, 8, 1024).await;
        good += run.good;
        bad += run.bad;
    }
    let _ = (&mut asked).await;
    println!("new connections meanwhile: {good}; failed: {bad}");
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn await_ready(said: &mut Lines<BufReader<ChildStdout>>) {
    assert!(said.any(|line| line.is_ok_and(|line| line == "READY")), "Postern is not ready");
}

fn client(role: &str, to: SocketAddr) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = command(CLIENT, env::current_exe().expect("this program"));
    command.args([role, &to.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("a client");
    let said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    (child, said)
}

fn asked(child: &mut Child, said: &mut Lines<BufReader<ChildStdout>>) -> String {
    let stdin = child.stdin.as_mut().expect("a pipe");
    stdin.write_all(b"\n").expect("the client listens");
    line(said)
}

fn line(said: &mut Lines<BufReader<ChildStdout>>) -> String {
    said.next().and_then(Result::ok).expect("the client's word")
}

/// Sessions held open; two descriptors each must fit the usual hard limit of 20,000.
const HELD: usize = 9_800;
const TRANSFERS: usize = 8;
/// Octets of one transfer.
const TRANSFER_OCTETS: u64 = 200_000_000;
/// Makes a transfer last for some ten seconds.
const BETWEEN_BLOCKS: Duration = Duration::from_millis(2);
