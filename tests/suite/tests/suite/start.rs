//! A start that cannot be: exit code 2, everything that is wrong on standard error, and no trace in
//! the kernel.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::Path,
    process::{Command, Stdio},
};

use lab::World;

use crate::{
    repository::{files, top},
    stage::{BING, Family, assert_garden, assert_refused, at, kernel, options},
    tool::{finish, postern},
};

#[test]
fn wrong_policy_ends_the_start_with_every_finding() {
    let world = dark();
    // What the policies include lies beside them.
    let beside = world.policy_file().parent().unwrap().join("parts");
    fs::create_dir(&beside).unwrap();
    for file in files("tests/data/policies/bad/parts") {
        fs::copy(top().join(&file), beside.join(file.file_name().unwrap())).unwrap();
    }
    for file in files("tests/data/policies/bad") {
        let path = top().join(&file);
        if path.parent().is_some_and(|folder| folder.ends_with("parts")) {
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let (code, checked) = finish(postern().args(["check", "--format", "json"]).arg(&path));
        let found: serde_json::Value = serde_json::from_str(&checked).unwrap();
        let errors: Vec<_> = found["diagnostics"].as_array().unwrap().iter().collect();
        if code == 0 {
            continue;
        }
        fs::copy(&path, world.policy_file()).unwrap();
        let said = fails(&world, &mut run(&world));
        for error in &errors {
            let code = error["code"].as_str().unwrap();
            let named = Path::new(error["file"].as_str().unwrap()).file_name();
            let copy = Some("policy.toml".as_ref());
            let name = if named == path.file_name() { copy } else { named };
            let name = name.unwrap().to_str().unwrap();
            let line = format!("{name}:{}:{}", error["line"], error["column"]);
            assert!(said.contains(&format!("[{code}]")), "{}: {code} in\n{said}", file.display());
            assert!(said.contains(&line), "{}: {line} in\n{said}", file.display());
        }
        assert_eq!(said.matches("--> ").count(), errors.len(), "{}:\n{said}", file.display());
    }
}

#[test]
fn file_that_cannot_be_read_is_named() {
    let world = dark();
    fs::remove_file(world.policy_file()).unwrap();
    let said = one_line(&fails(&world, &mut run(&world)));
    assert!(said.contains("policy.toml") && said.contains("No such file"), "{said}");

    fs::create_dir(world.policy_file()).unwrap();
    let said = one_line(&fails(&world, &mut run(&world)));
    assert!(said.contains("policy.toml") && said.contains("directory"), "{said}");

    let mut elsewhere = postern();
    elsewhere.args(["run", "--config", "/nowhere/gateway.toml"]);
    let said = one_line(&fails(&world, &mut elsewhere));
    assert!(said.contains("/nowhere/gateway.toml") && said.contains("No such file"), "{said}");
}

#[test]
fn wrong_settings_end_the_start_with_every_finding() {
    let world = dark();
    let settings = world.settings_text().unwrap();
    let unknown = settings.replace("quic = \"reject\"", "quik = \"reject\"");
    world.write_settings(&unknown).unwrap();
    let said = fails(&world, &mut run(&world));
    assert!(said.contains("unknown field `quik`"), "{said}");

    let wrong = settings
        .replace("quic = \"reject\"", "quic = \"perhaps\"")
        .replace("interfaces = [\"ue1\"", "interfaces = [\"ue 1\"")
        .replace("udp://198.51.100.53", "udp://nowhere")
        .replace("127.0.0.1:9180", "192.0.2.1:9180");
    world.write_settings(&wrong).unwrap();
    let said = fails(&world, &mut run(&world));
    for word in ["perhaps", "ue 1", "udp://nowhere", "192.0.2.1:9180"] {
        assert!(said.contains(word), "{word} in\n{said}");
    }
}

#[test]
fn policy_for_another_environment_is_refused() {
    let world = dark();
    let text = world.policy_text().replace("environment = \"lab\"", "environment = \"staging\"");
    fs::write(world.policy_file(), text).unwrap();
    let said = one_line(&fails(&world, &mut run(&world)));
    assert!(said.contains("staging") && said.contains("lab"), "{said}");
}

#[test]
fn taken_port_is_named() {
    let world = dark();
    for (taken, wanted) in [
        ("0.0.0.0:8443", "0.0.0.0:8443"),
        ("[::1]:8443", "[::]:8443"),
        ("0.0.0.0:8080", "0.0.0.0:8080"),
        ("[::1]:8080", "[::]:8080"),
        ("0.0.0.0:5353", "0.0.0.0:5353"),
        ("[::1]:5353", "[::]:5353"),
        ("127.0.0.1:9180", "127.0.0.1:9180"),
    ] {
        let stream = world.gateway().namespace().call(move || TcpListener::bind(taken).unwrap());
        assert_names_taken(&world, wanted);
        drop(stream);
    }
    for (taken, wanted) in [("0.0.0.0:5353", "0.0.0.0:5353"), ("[::1]:5353", "[::]:5353")] {
        let datagrams = world.gateway().namespace().call(move || UdpSocket::bind(taken).unwrap());
        assert_names_taken(&world, wanted);
        drop(datagrams);
    }
    world.gateway().start().unwrap();
    assert_garden(&world);
}

#[test]
fn missing_nft_is_named_with_its_package() {
    let world = dark();
    for (program, package) in [("nft", "nftables"), ("ip", "iproute2")] {
        let said = one_line(&fails(&world, &mut without(&world, program)));
        assert!(said.contains(&format!("`{program}`")), "{said}");
        assert!(said.contains(&format!("install the package {package}")), "{said}");
    }
}

#[test]
fn missing_right_is_named_with_its_cure() {
    let world = dark();
    // CAP_NET_RAW alone is enough for a transparent socket, not for the steering.
    for missing in ["-net_admin", "-net_admin,-net_raw"] {
        let mut weak = Command::new("setpriv");
        weak.args(["--bounding-set", missing, "--inh-caps", missing]);
        weak.arg(postern().get_program()).args(["run", "--config"]);
        weak.arg(world.directory().join("gateway.toml"));
        let said = one_line(&fails(&world, &mut weak));
        assert!(said.contains("CAP_NET_ADMIN"), "{missing}: {said}");
    }
}

#[test]
fn failed_start_over_a_dead_gateway_leaves_the_garden_shut() {
    let world = World::start(options()).unwrap();
    world.gateway().kill();
    fs::write(world.policy_file(), "schema = 1\n").unwrap();
    let (code, said) = end(&world, &mut run(&world));
    assert_eq!(code, 2, "{said}");
    for family in Family::BOTH {
        for port in [22, 80, 443] {
            assert_refused("after a failed start", &world.ue(1).connect(at(BING, family, port)));
        }
    }
    assert_eq!(world.leaked_packets().unwrap(), Some(0));
}

#[track_caller]
fn assert_names_taken(world: &World, address: &str) {
    let said = one_line(&fails(world, &mut run(world)));
    assert!(said.contains(address), "{address}: {said}");
    let why = ["another process has the port", "Address already in use"];
    assert!(why.iter().any(|why| said.contains(why)), "{address}: {said}");
}

/// A world without a gateway.
fn dark() -> World {
    let mut options = options();
    options.start_gateway = false;
    World::start(options).unwrap()
}

fn run(world: &World) -> Command {
    let mut command = postern();
    command.args(["run", "--config"]).arg(world.directory().join("gateway.toml"));
    command
}

/// The gateway on a machine without `program`, with everything else in its place.
fn without(world: &World, program: &str) -> Command {
    let script = "
        program=$1; shift
        for folder in /usr/sbin /usr/bin /sbin /bin; do
            [ -e \"$folder/$program\" ] || continue
            folder=$(realpath \"$folder\")
            mkdir -p \"$HIDING$folder\"
            find \"/proc/1/root$folder\" -mindepth 1 -maxdepth 1 ! -name \"$program\" \\
                -exec ln -sf -t \"$HIDING$folder\" {} + || exit 9
            hidden=\"$hidden $folder\"
        done
        for folder in $(printf '%s\\n' $hidden | sort -u); do
            mount --bind \"$HIDING$folder\" \"$folder\" || exit 9
        done
        exec \"$@\"";
    let hiding = world.directory().join(format!("without-{program}"));
    let mut command = Command::new("unshare");
    command.env("HIDING", hiding).args(["--mount", "sh", "-c", script, "sh", program]);
    command.arg(postern().get_program()).args(["run", "--config"]);
    command.arg(world.directory().join("gateway.toml"));
    command
}

/// Runs what must not become a gateway, in the gateway's namespace; what it said.
fn fails(world: &World, command: &mut Command) -> String {
    let before = kernel(world);
    let (code, said) = end(world, command);
    assert_eq!(code, 2, "{said}");
    assert!(!said.contains("READY") && !said.contains("panicked"), "{said}");
    assert_eq!(kernel(world), before, "{said}");
    said
}

fn end(world: &World, command: &mut Command) -> (i32, String) {
    // A gateway that starts all the same is a failure, not a test that never ends.
    let mut own = Command::new("timeout");
    own.args(["--kill-after=1", "20"]).arg(command.get_program()).args(command.get_args());
    own.stdin(Stdio::null());
    own.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    world.gateway().namespace().call(move || finish(&mut own))
}

/// The one line that is not the log.
#[track_caller]
fn one_line(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("error")).collect();
    let [line] = lines[..] else { panic!("expected one line, saw:\n{said}") };
    line.to_owned()
}
