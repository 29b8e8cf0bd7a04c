//! The `http` table, checked.

use std::{fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

use hyper::header::AUTHORIZATION;
use pgherald_core::{BatchLimits, Envelope, FlowContext, Problems, Secret};

use crate::{
    HttpConfig,
    access::AccessSettings,
    clock::SigningClock,
    config::Address,
    headers::{self, HeaderLimits},
    sign::Signer,
    target::Target,
};

const TIMEOUT_MS: RangeInclusive<u64> = 100..=600_000;
/// Each request is a connection at the receiver.
const CONCURRENCY: RangeInclusive<usize> = 1..=1_024;
/// Ours alone have about 600 bytes.
const HEADER_BYTES_MAX: RangeInclusive<usize> = 1_000..=1_048_576;
const RETRY_MAX_SECONDS: RangeInclusive<u64> = 1..=31_536_000;
/// `retry_max_seconds` where nobody says otherwise.
const RETRY_MAX: Duration = Duration::from_secs(3_600);

/// A checked `http` table; made by [`HttpConfig::resolve`].
#[derive(Clone)]
pub struct HttpSettings {
    pub(crate) access: AccessSettings,
    pub(crate) timeout: Duration,
    pub(crate) concurrency: usize,
    pub(crate) tls: TlsFiles,
    pub(crate) request_batches: ParcelLimits,
    pub(crate) header_limits: HeaderLimits,
    /// After so long of answers that ask for another attempt a message counts as rejected.
    pub(crate) retry_max: Duration,
}

/// How much goes into one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParcelLimits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// TLS files.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSettings").finish_non_exhaustive()
    }
}

impl ParcelLimits {
    /// Several messages share a request only as a CloudEvents batch, which is structured.
    fn of(envelope: Envelope, batch: BatchLimits) -> Self {
        let messages = match envelope {
            Envelope::Structured => batch.messages,
            Envelope::Binary | Envelope::None => 1,
        };
        Self { messages, bytes: batch.bytes }
    }
}

pub(crate) fn resolve(
    config: &HttpConfig,
    key: &str,
    context: &FlowContext,
    problems: &mut Problems,
) -> Option<HttpSettings> {
    let url = address(config.url.as_ref(), "url", key, problems);
    if config.url.is_none() {
        let why = "missing: where messages go, such as \"https://svc.internal/events\"";
        problems.add(format!("{key}.url"), why);
    }
    let gap_url = match &config.gap_url {
        None => Some(None),
        address_of_gaps => address(address_of_gaps.as_ref(), "gap_url", key, problems).map(Some),
    };
    let headers = headers::resolve(&config.headers, config.bearer_token.as_ref(), key, problems);
    let timeout_ms = within("timeout_ms", config.timeout_ms, TIMEOUT_MS, key, problems);
    let concurrency = within("concurrency", config.concurrency, CONCURRENCY, key, problems);
    let one = within("header_bytes_max", config.header_bytes_max, HEADER_BYTES_MAX, key, problems);
    let all =
        within("headers_bytes_max", config.headers_bytes_max, HEADER_BYTES_MAX, key, problems);
    let retry_max = retry_max(config, key, problems);
    let secret = secret(config, &format!("{key}.secret"), problems);
    let tls = tls(config, &format!("{key}.tls"), problems);
    let settings = HttpSettings {
        access: AccessSettings {
            url: url?,
            gap_url: gap_url?,
            headers: headers?,
            bearer_token: config.bearer_token.clone(),
            secret: secret?,
            clocks: Default::default(),
        },
        timeout: Duration::from_millis(timeout_ms?),
        concurrency: concurrency?,
        tls: tls?,
        request_batches: ParcelLimits::of(context.envelope, context.batch),
        header_limits: HeaderLimits { one_bytes: one?, all_bytes: all? },
        retry_max: retry_max?,
    };
    without_contradiction(&settings, config, key, problems).then_some(settings)
}

/// The address, looked at if it stands in the configuration.
fn address(
    address: Option<&Address>,
    name: &'static str,
    key: &str,
    problems: &mut Problems,
) -> Option<Secret> {
    let secret = &address?.0;
    match secret.literal().map(|text| Target::parse(text, name, &SigningClock::default())) {
        Some(Err(why)) => {
            problems.add(format!("{key}.{name}"), why);
            None
        }
        Some(Ok(_)) | None => Some(secret.clone()),
    }
}

fn within<N: PartialOrd + fmt::Display>(
    name: &str,
    written: N,
    range: RangeInclusive<N>,
    key: &str,
    problems: &mut Problems,
) -> Option<N> {
    if range.contains(&written) {
        return Some(written);
    }
    let why = format!("must lie between {} and {}", range.start(), range.end());
    problems.add(format!("{key}.{name}"), why);
    None
}

fn retry_max(config: &HttpConfig, key: &str, problems: &mut Problems) -> Option<Duration> {
    match config.retry_max_seconds {
        None => Some(RETRY_MAX),
        Some(seconds) => within("retry_max_seconds", seconds, RETRY_MAX_SECONDS, key, problems)
            .map(Duration::from_secs),
    }
}

fn secret(config: &HttpConfig, key: &str, problems: &mut Problems) -> Option<Option<Secret>> {
    let literal = config.secret.as_ref().and_then(Secret::literal);
    match literal.map(Signer::parse) {
        Some(Err(why)) => {
            problems.add(key, why);
            None
        }
        Some(Ok(_)) | None => Some(config.secret.clone()),
    }
}

fn tls(config: &HttpConfig, key: &str, problems: &mut Problems) -> Option<TlsFiles> {
    let Some(tls) = &config.tls else { return Some(TlsFiles::default()) };
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
    Some(TlsFiles { ca: tls.ca_file.clone(), client })
}

/// What is right by itself and wrong together, as far as it stands in the configuration.
fn without_contradiction(
    settings: &HttpSettings,
    config: &HttpConfig,
    key: &str,
    problems: &mut Problems,
) -> bool {
    let access = &settings.access;
    let secrets = [("url", Some(&access.url)), ("gap_url", access.gap_url.as_ref())];
    let written = secrets.into_iter().filter_map(|(name, secret)| Some((name, secret?.literal()?)));
    let targets: Vec<Target> = written
        .filter_map(|(name, text)| Target::parse(text, name, &SigningClock::default()).ok())
        .collect();
    let are_all_known = targets.len() == 1 + usize::from(access.gap_url.is_some());
    let mut is_right = true;
    if config.tls.is_some() && are_all_known && !targets.iter().any(|target| target.is_tls) {
        let why = "has no meaning with http://: write https://, or take the table out";
        problems.add(format!("{key}.tls"), why);
        is_right = false;
    }
    let authorized = access.bearer_token.is_some()
        || access.headers.iter().any(|(name, _)| *name == AUTHORIZATION);
    for target in targets.iter().filter(|target| target.login.is_some() && authorized) {
        let why = "holds user information, and bearer_token or headers.authorization is set too: \
                   keep one way to authenticate";
        problems.add(format!("{key}.{}", target.key), why);
        is_right = false;
    }
    is_right
}
