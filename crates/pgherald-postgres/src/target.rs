//! What a connection URL means: which hosts, and with what each is connected to.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::LazyLock,
    time::Duration,
};

use pgherald_core::{NamedFile, is_loopback};
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::{
    CONNECT_TIMEOUT, PostgresError,
    certificates::TlsFile,
    parameters::{Handling, handling, objection},
    relay::Place,
    url::{UrlParts, encode},
};

/// One database, on one host or on the one of several that is the primary.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) hosts: Vec<Host>,
    /// How long connecting to one host may take.
    pub(crate) connect_within: Duration,
    /// Whether the hosts are tried in a random order.
    pub(crate) shuffled: bool,
    /// The URL says how the connection is encrypted.
    pub(crate) says_sslmode: bool,
    /// The files that the URL names.
    files: Vec<TlsFile>,
    database: Box<str>,
    shown: Box<str>,
}

/// One host, and what sqlx connects to it with.
#[derive(Clone)]
pub(crate) struct Host {
    /// A name, an address, or the directory of a socket.
    pub(crate) name: String,
    /// Where it is, if the URL says so; the name is then only for the certificate.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    /// Its `Debug` prints the password.
    pub(crate) options: PgConnectOptions,
}

impl Target {
    /// # Errors
    /// Everything that is wrong with the URL, one text each, without the password.
    pub(crate) fn parse(url: &str) -> Result<Self, Vec<String>> {
        let parts = UrlParts::split(url).map_err(|text| vec![text])?;
        let mut wrong: Vec<String> =
            parts.parameters.iter().filter_map(|(name, value)| objection(name, value)).collect();
        wrong.extend(unfit(&parts));
        let hosts = match hosts(&parts) {
            Ok(hosts) => hosts,
            Err(text) => {
                wrong.push(text);
                return Err(wrong);
            }
        };
        let database = database(&hosts);
        let target = Self {
            shown: show(&database, &hosts).into(),
            database: database.into(),
            files: files(&parts),
            connect_within: connect_within(&parts),
            shuffled: parts.value("load_balance_hosts") == Some("random"),
            says_sslmode: parts.value("sslmode").is_some(),
            hosts,
        };
        if !target.is_loopback() && !target.says_sslmode {
            wrong.push(
                "needs an explicit sslmode for a server that is not on loopback: append \
                 ?sslmode=verify-full"
                    .to_owned(),
            );
        }
        if wrong.is_empty() { Ok(target) } else { Err(wrong) }
    }

    /// Whether every host is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.hosts.iter().all(|host| match host.address {
            Some(address) => address.is_loopback(),
            None => host.is_socket() || is_loopback(&host.name),
        })
    }

    pub(crate) fn ssl_mode(&self) -> PgSslMode {
        self.hosts.first().map_or(PgSslMode::Prefer, |host| host.options.get_ssl_mode())
    }

    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The database on one of its hosts, in words.
    pub(crate) fn of(&self, host: &Host) -> String {
        format!("{} at {}", self.database, host.shown())
    }

    /// # Errors
    /// Blocked: a file that the URL names is of no use now.
    pub(crate) fn verify_files(&self) -> Result<(), PostgresError> {
        self.files.iter().try_for_each(TlsFile::verify)
    }

    /// Says what else decides how the connection is encrypted.
    pub(crate) fn explain(&self, mut fault: PostgresError) -> PostgresError {
        let from_environment = std::env::var_os("PGSSLMODE").is_some() && !self.says_sslmode;
        if from_environment && fault.text.contains("TLS") {
            fault.fix = "PGSSLMODE in the environment asks for TLS: unset it, or write sslmode \
                         into postgres.url"
                .to_owned();
        }
        fault
    }
}

/// Those that are looked at: without TLS none is read.
fn files(parts: &UrlParts<'_>) -> Vec<TlsFile> {
    if matches!(parts.value("sslmode"), Some("disable" | "allow")) {
        return Vec::new();
    }
    let named = |name: &str| {
        let path = parts.value(name).filter(|path| *path != "system")?;
        let inline = path.trim_start().starts_with("-----BEGIN");
        (!inline).then(|| NamedFile::new(format!("{name} of postgres.url"), path))
    };
    let certificates = [named("sslrootcert"), named("sslcert")].into_iter().flatten();
    let keys = named("sslkey").map(TlsFile::Key);
    certificates.map(TlsFile::Certificate).chain(keys).collect()
}

impl Host {
    pub(crate) fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }

    /// Where it is, if no name has to be looked up.
    pub(crate) fn place(&self) -> Option<Place> {
        if self.is_socket() {
            let path = format!("{}/.s.PGSQL.{}", self.name, self.port);
            return Some(Place::Socket(path.into()));
        }
        let ip = self.name.parse().ok().filter(|_| self.address.is_none())?;
        Some(Place::Address(SocketAddr::new(ip, self.port)))
    }

    /// `db:5432`, `[::1]:5432`, `/var/run/postgresql`.
    pub(crate) fn shown(&self) -> String {
        match &self.name {
            socket if self.is_socket() => socket.clone(),
            address if address.contains(':') => format!("[{address}]:{}", self.port),
            name => format!("{name}:{}", self.port),
        }
    }
}

/// What the sessions of this process call themselves: nobody else's do, also after the process id is
/// used again.
pub(crate) fn application_name() -> &'static str {
    static NAME: LazyLock<String> =
        LazyLock::new(|| format!("pgherald/{}/{:016x}", std::process::id(), rand::random::<u64>()));
    &NAME
}

fn database(hosts: &[Host]) -> String {
    let options = hosts.first().map(|host| &host.options);
    options.map_or_else(String::new, |options| {
        options.get_database().unwrap_or(options.get_username()).to_owned()
    })
}

fn show(database: &str, hosts: &[Host]) -> String {
    let hosts: Vec<String> = hosts.iter().map(Host::shown).collect();
    format!("{database} at {}", hosts.join(","))
}

/// Values of our own parameters that will not do.
fn unfit(parts: &UrlParts<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    match parts.value("target_session_attrs") {
        None | Some("any" | "read-write" | "primary") => {}
        Some("read-only" | "standby" | "prefer-standby") => wrong.push(
            "asks for a standby, where nothing is announced and nothing can be written: \
             target_session_attrs=primary"
                .to_owned(),
        ),
        Some(_) => wrong.push(
            "has an unknown target_session_attrs: one of any, read-write, primary".to_owned(),
        ),
    }
    if parts.value("connect_timeout").is_some_and(|seconds| seconds.parse::<u32>().is_err()) {
        wrong.push("has a connect_timeout that is not a number of seconds".to_owned());
    }
    if parts.value("load_balance_hosts").is_some_and(|how| !["disable", "random"].contains(&how)) {
        wrong.push("has an unknown load_balance_hosts: one of disable, random".to_owned());
    }
    if parts.value("sslrootcert") == Some("system") && parts.value("sslmode") != Some("verify-full")
    {
        wrong.push("has sslrootcert=system, which needs sslmode=verify-full".to_owned());
    }
    wrong
}

/// As libpq has it, for each host; 0 and nothing: our own limit.
fn connect_within(parts: &UrlParts<'_>) -> Duration {
    let written = parts.value("connect_timeout").and_then(|seconds| seconds.parse::<u64>().ok());
    match written {
        None | Some(0) => CONNECT_TIMEOUT,
        Some(seconds) => Duration::from_secs(seconds.clamp(1, 60)),
    }
}

fn list<'a>(parts: &'a UrlParts<'_>, name: &str) -> Option<Vec<&'a str>> {
    parts.value(name).map(|value| value.split(',').collect())
}

fn hosts(parts: &UrlParts<'_>) -> Result<Vec<Host>, String> {
    let addresses = list(parts, "hostaddr");
    let names: Vec<&str> = match list(parts, "host") {
        Some(names) => names,
        None => parts.hosts.iter().map(|(name, _)| &**name).collect(),
    };
    let names = match &addresses {
        Some(addresses) if names == [""] => addresses.clone(),
        _ => names,
    };
    if names.iter().any(|name| name.is_empty()) {
        return Err("names no host: postgres://user@host/database".to_owned());
    }
    if addresses.as_ref().is_some_and(|addresses| addresses.len() != names.len()) {
        return Err("has not as many hostaddr as hosts".to_owned());
    }
    let ports = list(parts, "port");
    let mut hosts = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let written = match &ports {
            Some(ports) if ports.len() == 1 => Some(ports[0]),
            Some(ports) => Some(*ports.get(place).ok_or("has not as many ports as hosts")?),
            None => parts.hosts.get(place).and_then(|(_, port)| *port),
        };
        let port = match written.filter(|port| !port.is_empty()) {
            None => None,
            Some(port) => Some(port.parse().map_err(|_| UNREADABLE)?),
        };
        let address = match addresses.as_ref().map(|addresses| addresses[place]) {
            None => None,
            Some(address) => Some(address.parse().map_err(|_| "has a hostaddr that is none")?),
        };
        hosts.push(host(parts, name, port, address)?);
    }
    Ok(hosts)
}

const UNREADABLE: &str = "cannot be read as a URL: check the host and the port, and write special \
     characters of the password percent-encoded (/ as %2F, @ as %40)";

fn host(
    parts: &UrlParts<'_>,
    name: &str,
    port: Option<u16>,
    address: Option<IpAddr>,
) -> Result<Host, String> {
    let options = PgConnectOptions::from_str(&single(parts, name, port)).map_err(|_| {
        const MODES: [&str; 6] =
            ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
        match parts.value("sslmode").filter(|mode| !MODES.contains(mode)) {
            Some(mode) => format!("has an unknown sslmode {mode:?}: one of {}", MODES.join(", ")),
            None => UNREADABLE.to_owned(),
        }
    })?;
    let mut options = options
        .application_name(application_name())
        .extra_float_digits(None)
        .disable_statement_logging();
    if !name.starts_with('/') {
        // sqlx would keep the brackets of an address.
        options = options.host(name);
    }
    if let Some(file) = parts.value("sslrootcert").filter(|file| *file != "system") {
        options = options.ssl_root_cert(file);
    }
    Ok(Host { name: name.to_owned(), address, port: options.get_port(), options })
}

/// The URL of one host as sqlx takes it, with the parameters that it knows.
fn single(parts: &UrlParts<'_>, name: &str, port: Option<u16>) -> String {
    let mut url = String::from("postgres://");
    if let Some(user) = parts.user {
        url = url + user + "@";
    }
    url += &match name.contains(':') {
        true => format!("[{name}]"),
        false => encode(name),
    };
    if let Some(port) = port {
        url += &format!(":{port}");
    }
    url = url + "/" + parts.path + "?";
    let driver =
        parts.parameters.iter().filter(|(name, _)| handling(name) == Some(Handling::Driver));
    for (name, value) in driver {
        url += &format!("{}={}&", encode(name), encode(value));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(url: &str) -> String {
        Target::parse(url).err().unwrap_or_else(|| panic!("{url} is fine")).join("\n")
    }

    #[test]
    fn what_is_refused_and_why() {
        for (url, part) in [
            ("mysql://u@h/d", "does not begin with postgres://"),
            ("postgres:///app?sslmode=require", "names no host"),
            ("postgres://u:hunter2@db/app", "needs an explicit sslmode"),
            ("postgres://u:hunter2@db/app?sslmode=full", "unknown sslmode \"full\""),
            ("postgres://u:hunter2@db:x/app?sslmode=require", "check the host and the port"),
            ("postgres://u:hunter2/x@db/app?sslmode=require", "percent-encoded"),
            ("postgres://u:hunter2@127.0.0.1/a?ssl=hunter2", "unknown parameter \"ssl\""),
            ("postgres://u@a,b/d?sslmode=require&target_session_attrs=standby", "=primary"),
            ("postgres://u@a,b/d?sslmode=require&port=1,2,3", ""),
            ("postgres://u@a/d?sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
            ("postgres://u@127.0.0.1/d?connect_timeout=soon", "number of seconds"),
        ] {
            if !part.is_empty() {
                let text = wrong(url);
                assert!(text.contains(part), "{url}: {text}");
                assert!(!text.contains("hunter2"), "{text}");
            }
        }
    }

    #[test]
    fn loopback_needs_no_sslmode() {
        for (url, shown) in [
            ("postgres://u@localhost/d", "d at localhost:5432"),
            ("postgres://u@127.0.0.1:5433/d", "d at 127.0.0.1:5433"),
            ("postgres://u@[::1]/d", "d at [::1]:5432"),
            ("postgres://u@%2Fvar%2Frun/d", "d at /var/run"),
            ("postgresql:///d?host=/var/run", "d at /var/run"),
            ("postgres://u@127.0.0.1:1,[::1]:2/d", "d at 127.0.0.1:1,[::1]:2"),
            ("postgres://u@/d?host=127.0.0.1,localhost&port=7", "d at 127.0.0.1:7,localhost:7"),
            ("postgres://u@/d?hostaddr=127.0.0.1", "d at 127.0.0.1:5432"),
        ] {
            assert_eq!(
                Target::parse(url).map(|target| target.shown().to_owned()),
                Ok(shown.into())
            );
        }
        assert!(Target::parse("postgres://u@db/d?sslmode=verify-full&sslrootcert=system").is_ok());
    }

    #[test]
    fn what_libpq_users_write() {
        let target = Target::parse(
            "postgres://u:p@a:1,b/d?sslmode=require&target_session_attrs=read-write\
             &connect_timeout=3&keepalives=1&keepalives_idle=30&channel_binding=prefer",
        );
        let target = target.unwrap();
        assert_eq!(target.connect_within, Duration::from_secs(3));
        let hosts: Vec<_> = target.hosts.iter().map(Host::shown).collect();
        assert_eq!(hosts, ["a:1", "b:5432"]);
    }
}
