//! What the machine around the process does to it: a log that nobody takes, signals, a configuration
//! that is about to change.

use super::*;

const SOON: Duration = Duration::from_secs(60);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn dropped_lines(port: u16) -> u64 {
    let page = get(port, "/metrics").unwrap_or_default();
    let line = page.lines().find_map(|line| line.strip_prefix("pgherald_log_lines_dropped_total "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
}

/// Ends with its test, also with one that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn exit_code(Running(child): &mut Running) -> Option<i32> {
    let mut ended = None;
    until("the process ends", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    ended.and_then(|status| status.code())
}

/// Runs with this standard error until lines are lost, and then drains as if nothing had happened.
fn survives(name: &str, stderr: impl Into<Stdio>) {
    let scratch = Scratch::new(name);
    let port = free_port();
    let config = scratch.file("a.toml", &secretive(&scratch, port));
    let mut command = pgherald(&config, &["run"]);
    command.stdout(Stdio::null()).stderr(stderr).env("RUST_LOG", "trace");
    let mut child = Running(command.spawn().unwrap());
    drop(command);
    until_alive(port);
    // Every SIGHUP now tells of some hundred mistakes.
    let keys = (0..300).map(|n| format!("unknown_{n} = true\n")).collect::<String>();
    scratch.file("a.toml", &keys);
    until("lines are lost and counted", || {
        signal(&child.0, "HUP");
        dropped_lines(port) > 0
    });
    assert!(get(port, "/livez").unwrap().starts_with("HTTP/1.1 200"));
    signal(&child.0, "TERM");
    assert_eq!(exit_code(&mut child), Some(0), "{name}");
}

#[test]
fn a_log_that_nobody_takes_ends_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    survives("closed", writer);
    survives("full", fs::File::options().write(true).open("/dev/full").unwrap());
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    survives("unread", writer);
    drop(reader);
}

#[test]
fn a_command_whose_output_nobody_takes_ends_as_usual() {
    let scratch = Scratch::new("stdout");
    let config = scratch.file("a.toml", &secretive(&scratch, free_port()));
    for arguments in [&["config"][..], &["setup", "--print"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = pgherald(&config, arguments).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", said(&output));
        assert!(!said(&output).contains("panicked"), "{}", said(&output));
    }
}

#[test]
fn signals_validate_drain_or_mean_nothing() {
    let scratch = Scratch::new("signals");
    let port = free_port();
    let config = scratch.file("a.toml", &secretive(&scratch, port));
    let log = scratch.0.join("log");
    let said = || fs::read_to_string(&log).unwrap();
    let mut child = Running(
        pgherald(&config, &["run"]).stderr(fs::File::create(&log).unwrap()).spawn().unwrap(),
    );
    until_alive(port);
    for name in ["USR1", "USR2", "HUP"] {
        signal(&child.0, name);
    }
    let good = "SIGHUP: secrets and certificates are good";
    until("what is good is told", || said().contains(good));
    assert!(get(port, "/livez").unwrap().contains("alive"));

    fs::remove_file(scratch.0.join("token")).unwrap();
    signal(&child.0, "HUP");
    until("a secret that is gone is named", || {
        let named =
            |line: &str| line.contains("SIGHUP") && line.contains("sinks.c.nats.token_file");
        said().lines().any(named)
    });
    scratch.file("a.toml", &secretive(&scratch, port).replace("3000", "4000"));
    // `secretive` has written the former secret.
    scratch.file("token", "an0ther-secret\n");
    signal(&child.0, "HUP");
    until("another configuration is told", || said().contains("takes effect at the next start"));
    assert_eq!(said().matches(good).count(), 2, "{}", said());
    assert!(!said().contains("an0ther-secret"), "{}", said());

    signal(&child.0, "QUIT");
    assert_eq!(exit_code(&mut child), Some(0), "{}", said());
    assert!(said().contains("SIGQUIT") && said().contains("pgherald has stopped"), "{}", said());
}

#[test]
fn health_needs_the_address_and_nothing_else() {
    let scratch = Scratch::new("health");
    let port = free_port();
    let text = secretive(&scratch, port);
    let config = scratch.file("a.toml", &text);
    let mut child = Running(
        pgherald(&config, &["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(),
    );
    until_alive(port);
    // What the next deployment brings, while this one runs.
    fs::remove_file(scratch.0.join("token")).unwrap();
    let unknown = text.replace("subject", "subjekt");
    let torn = text.replace("/app\"", "/app");
    let other = text.replace("[postgres]", "[postgress]").replace("drain_deadline_ms", "drain");
    for (name, text) in [("gone", &text), ("key", &unknown), ("torn", &torn), ("table", &other)] {
        let config = scratch.file(&format!("{name}.toml"), text);
        let output = pgherald(&config, &["health"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {}", said(&output));
    }
    let missing = Path::new("/does/not/exist.toml");
    let mut by_variable = pgherald(missing, &["health"]);
    by_variable.env("PGHERALD__ADMIN__LISTEN", format!("127.0.0.1:{port}"));
    let output = by_variable.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    by_variable.env("PGHERALD__ADMIN__LISTEN", "here");
    let output = by_variable.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("  admin.listen: an address with a port"), "{}", said(&output));
    signal(&child.0, "TERM");
    assert_eq!(exit_code(&mut child), Some(0));
}
