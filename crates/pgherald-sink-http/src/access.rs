//! Where requests go, and with which headers, credentials and signatures: as the configuration says,
//! or as files say that may be replaced while requests are sent.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use pgherald_core::{FileFault, NamedFile, Secret, WatchedSecret};

use crate::{
    clock::SigningClock,
    headers::{bearer, line_bytes, sensitive},
    sign::Signer,
    target::Target,
};

/// `webhook-id`, `webhook-timestamp`, `host` and the names of the rest, at their longest.
const WEBHOOK_BYTES: usize = 400;

/// Everything that may be secret, as it is now.
pub(crate) struct Access {
    pub(crate) target: Target,
    /// Where gaps go instead.
    pub(crate) gap_target: Option<Target>,
    /// Of every request.
    pub(crate) headers: HeaderMap,
    pub(crate) signer: Signer,
}

/// Where it is read from.
#[derive(Clone)]
pub(crate) struct AccessSettings {
    pub(crate) url: Secret,
    pub(crate) gap_url: Option<Secret>,
    pub(crate) headers: Vec<(HeaderName, Secret)>,
    pub(crate) bearer_token: Option<Secret>,
    pub(crate) secret: Option<Secret>,
    /// Of `url` and of `gap_url`.
    pub(crate) clocks: [SigningClock; 2],
}

impl Access {
    /// The target of messages, and that of gaps if it is another one.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(&self.target).chain(&self.gap_target)
    }

    pub(crate) fn uses_tls(&self) -> bool {
        self.targets().any(|target| target.is_tls)
    }

    /// What a request's head has at most beside the headers of its message.
    pub(crate) fn header_bytes(&self) -> usize {
        let set: usize = self.headers.iter().map(|(name, value)| line_bytes(name, value)).sum();
        let login = self.targets().filter_map(|it| it.login.as_ref()).map(HeaderValue::len).max();
        set + login.unwrap_or_default() + self.signer.signature_bytes() + WEBHOOK_BYTES
    }
}

impl AccessSettings {
    /// Reads every file.
    ///
    /// # Errors
    /// One of them is of no use now.
    pub(crate) fn read(&self) -> Result<Access, FileFault> {
        self.build(&self.secrets().map(Secret::read).collect::<Result<Vec<_>, _>>()?)
    }

    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let headers = self.headers.iter().map(|(_, value)| value);
        std::iter::once(&self.url)
            .chain(&self.gap_url)
            .chain(headers)
            .chain(&self.bearer_token)
            .chain(&self.secret)
    }

    /// From the texts of all secrets, in their order.
    fn build(&self, texts: &[Arc<str>]) -> Result<Access, FileFault> {
        const HEADER: &str = "holds what no header may: use printable ASCII, without line breaks";
        let mut texts = texts.iter();
        let mut next = || texts.next().map(|text| &**text).unwrap_or_default();
        let [messages, gaps] = &self.clocks;
        let target = Target::parse(next(), "url", messages);
        let target = target.map_err(|why| fault(&self.url, &why))?;
        let mut gap_target = None;
        if let Some(url) = &self.gap_url {
            let parsed = Target::parse(next(), "gap_url", gaps);
            gap_target = Some(parsed.map_err(|why| fault(url, &why))?);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let text = sensitive(next()).ok_or_else(|| fault(value, HEADER))?;
            headers.insert(name, text);
        }
        if let Some(token) = &self.bearer_token {
            let text = bearer(next()).ok_or_else(|| fault(token, HEADER))?;
            headers.insert(AUTHORIZATION, text);
        }
        let signer = match &self.secret {
            None => Signer::default(),
            Some(secret) => Signer::parse(next()).map_err(|why| fault(secret, &why))?,
        };
        Ok(Access { target, gap_target, headers, signer })
    }
}

/// What is wrong with the content of a secret's file.
fn fault(secret: &Secret, why: &str) -> FileFault {
    let fix = "put the right content into it";
    match secret.file() {
        Some(file) => file.fault(why, fix),
        // What stands in the configuration was looked at when that was read.
        None => NamedFile::new("http", "").fault(why, fix),
    }
}

/// The access of now: files are looked at once a second at most, and again after a refusal.
pub(crate) struct LiveAccess {
    settings: AccessSettings,
    watched: Vec<WatchedSecret>,
    has_files: bool,
    known: Mutex<Option<Known>>,
}

struct Known {
    texts: Vec<Arc<str>>,
    access: Arc<Access>,
}

impl LiveAccess {
    /// Reads nothing yet.
    pub(crate) fn new(settings: AccessSettings) -> Self {
        let watched = settings.secrets().cloned().map(WatchedSecret::new).collect();
        let has_files = settings.secrets().any(|secret| secret.file().is_some());
        Self { settings, watched, has_files, known: Mutex::default() }
    }

    /// # Errors
    /// A file is of no use now.
    pub(crate) fn now(&self) -> Result<Arc<Access>, FileFault> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|_| !self.has_files) {
            return Ok(Arc::clone(&known.access));
        }
        let texts: Vec<_> =
            self.watched.iter().map(WatchedSecret::read).collect::<Result<_, _>>()?;
        if let Some(known) = known.as_ref().filter(|known| known.texts == texts) {
            return Ok(Arc::clone(&known.access));
        }
        let access = Arc::new(self.settings.build(&texts)?);
        *known = Some(Known { texts, access: Arc::clone(&access) });
        Ok(access)
    }

    /// A receiver refused the credentials: the next request reads the files again.
    pub(crate) fn refused(&self) {
        self.watched.iter().for_each(WatchedSecret::refused);
    }
}
