//! The `nats` table, checked.

use std::path::PathBuf;

use async_nats::ServerAddr;
use pgherald_core::{FlowContext, Problems, Secret, Template};

use crate::{
    Mode, NatsConfig,
    servers::redact,
    subject::{Subjects, legal},
};

/// A checked `nats` table; made by [`NatsConfig::resolve`].
#[derive(Clone)]
pub struct NatsSettings {
    pub(crate) servers: Vec<Server>,
    pub(crate) login: Login,
    pub(crate) tls: Option<Tls>,
    pub(crate) subjects: Subjects,
    /// Of JetStream, where it is not the server's own.
    pub(crate) domain: Option<String>,
    /// What inboxes begin with.
    pub(crate) inbox_prefix: Option<String>,
    /// `None`: core mode.
    pub(crate) stream: Option<StreamName>,
}

impl std::fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsSettings").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// The stream, and whether it may be created.
#[derive(Clone, Debug)]
pub(crate) struct StreamName {
    pub(crate) name: String,
    pub(crate) create: bool,
}

/// One server, its credentials taken out of its address.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: ServerAddr,
    /// `host:port`, for people.
    pub(crate) name: String,
    pub(crate) login: Option<Login>,
}

/// How to say who we are.
#[derive(Clone)]
pub(crate) enum Login {
    Nobody,
    User { name: String, password: Secret },
    Token(Secret),
    Credentials(PathBuf),
    Nkey(PathBuf),
}

/// TLS files.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) ca: Option<PathBuf>,
    /// Before the server says anything.
    pub(crate) first: bool,
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

pub(crate) fn resolve(
    config: &NatsConfig,
    key: &str,
    context: &FlowContext,
    problems: &mut Problems,
) -> Option<NatsSettings> {
    let servers = servers(config, &format!("{key}.servers"), problems);
    let login = login(config, key, problems);
    let tls = tls(config, &format!("{key}.tls"), problems);
    let gap_subject = gap_subject(config, &format!("{key}.gap_subject"), problems);
    let template = template(config, &format!("{key}.subject"), problems);
    let stream = stream(config, key, problems);
    let domain = domain(config, &format!("{key}.domain"), problems);
    let inbox_prefix = inbox_prefix(config, &format!("{key}.inbox_prefix"), problems);
    let subjects = Subjects::new(template?, gap_subject?, context);
    let stream = stream?;
    if stream.as_ref().is_some_and(|stream| stream.create) {
        creatable(&subjects, key, problems)?;
    }
    Some(NatsSettings {
        servers: servers?,
        login: login?,
        tls: tls?,
        subjects,
        domain: domain?,
        inbox_prefix: inbox_prefix?,
        stream,
    })
}

fn servers(config: &NatsConfig, key: &str, problems: &mut Problems) -> Option<Vec<Server>> {
    let listed = config.servers.as_ref().map_or(&[][..], |servers| &servers.0.0);
    if listed.is_empty() {
        problems.add(key, "missing: name at least one server, such as \"nats://nats:4222\"");
        return None;
    }
    let mut known = Vec::new();
    for url in listed {
        match server(url) {
            Ok(server) => known.push(server),
            Err(why) => problems.add(key, format!("\"{}\" {why}", redact(url))),
        }
    }
    (known.len() == listed.len()).then_some(known)
}

fn server(url: &str) -> Result<Server, &'static str> {
    let parsed: ServerAddr = url
        .parse()
        .map_err(|_| "is no server address: write nats://host:4222 or tls://host:4222")?;
    if !matches!(parsed.scheme(), "nats" | "tls") {
        return Err("has an unknown scheme: use nats:// or tls://");
    }
    if parsed.host().is_empty() {
        return Err("names no host: write nats://host:4222");
    }
    let login = match (parsed.username(), parsed.password()) {
        (None, None) => None,
        (Some(token), None) => Some(Login::Token(Secret::new(percent_decoded(token)))),
        (name, Some(password)) => Some(Login::User {
            name: percent_decoded(name.unwrap_or_default()),
            password: Secret::new(percent_decoded(password)),
        }),
    };
    let host = parsed.host();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let name = format!("{host}:{}", parsed.port());
    let address = format!("{}://{name}", parsed.scheme());
    let address = address.parse().expect("a parsed address without its user information");
    Ok(Server { address, name, login })
}

fn percent_decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn login(config: &NatsConfig, key: &str, problems: &mut Problems) -> Option<Login> {
    let by_user = config.user.is_some() || config.password.is_some();
    let kinds = [
        ("user", by_user),
        ("token", config.token.is_some()),
        ("credentials_file", config.credentials_file.is_some()),
        ("nkey_file", config.nkey_file.is_some()),
    ];
    let set: Vec<_> = kinds.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    if set.len() > 1 {
        let all = set.join(", ");
        problems.add(key, format!("{all} exclude each other: keep one way to authenticate"));
        return None;
    }
    match (&config.user, &config.password) {
        (Some(_), None) => {
            problems
                .add(format!("{key}.password"), "missing: user needs password or password_file");
            return None;
        }
        (None, Some(_)) => {
            problems.add(format!("{key}.user"), "missing: password needs user");
            return None;
        }
        (Some(name), Some(password)) => {
            return Some(Login::User { name: name.clone(), password: password.clone() });
        }
        (None, None) => {}
    }
    let token = config.token.clone().map(Login::Token);
    let credentials = config.credentials_file.clone().map(Login::Credentials);
    let nkey = config.nkey_file.clone().map(Login::Nkey);
    Some(token.or(credentials).or(nkey).unwrap_or(Login::Nobody))
}

fn tls(config: &NatsConfig, key: &str, problems: &mut Problems) -> Option<Option<Tls>> {
    let Some(tls) = &config.tls else { return Some(None) };
    let client = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
        (None, None) => None,
        (Some(_), None) => {
            problems.add(format!("{key}.key_file"), "missing: cert_file needs key_file");
            return None;
        }
        (None, Some(_)) => {
            problems.add(format!("{key}.cert_file"), "missing: key_file needs cert_file");
            return None;
        }
    };
    Some(Some(Tls { ca: tls.ca_file.clone(), first: tls.first, client }))
}

fn gap_subject(config: &NatsConfig, key: &str, problems: &mut Problems) -> Option<Option<String>> {
    let Some(subject) = &config.gap_subject else { return Some(None) };
    if subject.contains(['{', '}']) {
        problems
            .add(key, "takes all gaps of the sink and knows no placeholders: write one subject");
        return None;
    }
    if let Err(why) = legal(subject) {
        problems.add(key, format!("is no subject: {why}"));
        return None;
    }
    Some(Some(subject.clone()))
}

fn template(config: &NatsConfig, key: &str, problems: &mut Problems) -> Option<Template> {
    let Some(text) = &config.subject else {
        problems.add(key, "missing: where messages go, such as \"app.{channel}\"");
        return None;
    };
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(why) => {
            problems.add(key, why.to_string());
            return None;
        }
    };
    let illegal = |c: &char| matches!(c, '*' | '>') || !c.is_ascii_graphic();
    if let Some(bad) = template.literals().flat_map(str::chars).find(illegal) {
        problems.add(key, format!("holds {bad:?}, which no published subject may: take it out"));
        return None;
    }
    if text.starts_with(['.', '{']) || text.ends_with('.') || text.contains("..") {
        problems
            .add(key, "needs a literal beginning and no empty token: such as \"app.{channel}\"");
        return None;
    }
    Some(template)
}

fn stream(config: &NatsConfig, key: &str, problems: &mut Problems) -> Option<Option<StreamName>> {
    let at = format!("{key}.stream");
    match (config.mode, &config.stream) {
        (Mode::Core, None) if config.create_stream => {
            let text =
                "has no meaning with mode = \"core\": take it out, or use mode = \"jetstream\"";
            problems.add(format!("{key}.create_stream"), text);
            None
        }
        (Mode::Core, None) => Some(None),
        (Mode::Core, Some(_)) => {
            let text =
                "has no meaning with mode = \"core\": take it out, or use mode = \"jetstream\"";
            problems.add(at, text);
            None
        }
        (Mode::Jetstream, None) => {
            problems.add(
                at,
                "missing: name the stream that takes the subjects, or use mode = \"core\" \
                 (at most once)",
            );
            None
        }
        (Mode::Jetstream, Some(name)) if !legal_stream(name) => {
            problems.add(at, "is no stream name: no blanks, dots, slashes, '*' or '>'");
            None
        }
        (Mode::Jetstream, Some(name)) => {
            Some(Some(StreamName { name: name.clone(), create: config.create_stream }))
        }
    }
}

fn domain(config: &NatsConfig, key: &str, problems: &mut Problems) -> Option<Option<String>> {
    let Some(domain) = &config.domain else { return Some(None) };
    if config.mode == Mode::Core {
        let why = "has no meaning with mode = \"core\": take it out, or use mode = \"jetstream\"";
        problems.add(key, why);
        return None;
    }
    if !legal_stream(domain) {
        problems.add(key, "is no domain: one name as jetstream.domain of the server has it");
        return None;
    }
    Some(Some(domain.clone()))
}

fn inbox_prefix(config: &NatsConfig, key: &str, problems: &mut Problems) -> Option<Option<String>> {
    let Some(prefix) = &config.inbox_prefix else { return Some(None) };
    if let Err(why) = legal(prefix) {
        problems
            .add(key, format!("is no beginning of a subject, such as \"_INBOX_bridge\": {why}"));
        return None;
    }
    Some(Some(prefix.clone()))
}

fn legal_stream(name: &str) -> bool {
    const ILLEGAL: [char; 5] = ['.', '*', '>', '/', '\\'];
    !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && !ILLEGAL.contains(&c))
}

fn creatable(subjects: &Subjects, key: &str, problems: &mut Problems) -> Option<()> {
    if subjects.bind_narrowly() {
        return Some(());
    }
    problems.add(
        format!("{key}.create_stream"),
        "needs a subject whose first token is literal, such as \"app.{channel}\": otherwise the \
         stream would take every subject of the account",
    );
    None
}
