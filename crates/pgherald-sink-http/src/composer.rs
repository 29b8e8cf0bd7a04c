//! From messages to a request.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
};
use pgherald_core::{
    Binding, BoxError, EVENT_BATCH_MEDIA_TYPE, Envelope, FlowContext, Message, Wrapper,
    is_attribute_header,
};

use crate::{HttpSettings, headers::is_hop_by_hop, schedule::Item, target::Target};

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("pgherald/", env!("CARGO_PKG_VERSION")));
const BATCH: HeaderValue = HeaderValue::from_static(EVENT_BATCH_MEDIA_TYPE);
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Turns messages into requests.
#[derive(Clone)]
pub(crate) struct Composer {
    settings: Arc<HttpSettings>,
    wrapper: Wrapper,
    envelope: Envelope,
}

impl Composer {
    pub(crate) fn new(settings: Arc<HttpSettings>, context: &FlowContext) -> Self {
        let wrapper = Wrapper::new(Binding::Http, context);
        Self { settings, wrapper, envelope: context.envelope }
    }

    /// Where a parcel goes: a gap may have an address of its own.
    pub(crate) fn target(&self, parcel: &[Item]) -> &Target {
        let is_gap = parcel.iter().any(|item| item.message.gap().is_some());
        let settings = &self.settings;
        settings.gap_target.as_ref().filter(|_| is_gap).unwrap_or(&settings.target)
    }

    /// Whether a message must not share its request: its own headers travel as headers, which a
    /// batch has for all of its messages together.
    pub(crate) fn is_alone(&self, message: &Message) -> bool {
        message.headers.iter().any(|(name, _)| !is_attribute_header(name))
    }

    /// Whether the message can be sent at all.
    ///
    /// # Errors
    /// It will never be accepted.
    pub(crate) fn check(&self, message: &Message) -> Result<(), BoxError> {
        self.headers(message).map(drop)
    }

    /// The request of a parcel, signed now.
    ///
    /// # Errors
    /// A message cannot be sent; [`check`](Self::check) says so before.
    pub(crate) fn compose(&self, parcel: &[Item]) -> Result<Request<Full<Bytes>>, BoxError> {
        let target = self.target(parcel);
        let (id, mut headers, body) = match parcel {
            [single] => self.single(&single.message)?,
            several => self.batch(several)?,
        };
        self.sign(&id, &mut headers, &body)?;
        // What the operator sets stands above what a message brings along.
        for (name, value) in &self.settings.headers {
            headers.insert(name, value.clone());
        }
        if let Some(login) = &target.login {
            headers.insert(hyper::header::AUTHORIZATION, login.clone());
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.uri.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn single(&self, message: &Message) -> Result<(String, HeaderMap, Bytes), BoxError> {
        let body = self.wrapper.body(message)?.unwrap_or_default();
        Ok((message.id.to_string(), self.headers(message)?, body))
    }

    /// Several documents in one, as the CloudEvents JSON format says.
    fn batch(&self, parcel: &[Item]) -> Result<(String, HeaderMap, Bytes), BoxError> {
        debug_assert_eq!(self.envelope, Envelope::Structured);
        let mut body = Vec::new();
        for item in parcel {
            body.push(if body.is_empty() { b'[' } else { b',' });
            body.extend(self.wrapper.body(&item.message)?.unwrap_or_default());
        }
        body.push(b']');
        let id = format!("{}+{}", parcel[0].message.id, parcel.len());
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, AGENT);
        headers.insert(CONTENT_TYPE, BATCH);
        Ok((id, headers, body.into()))
    }

    fn headers(&self, message: &Message) -> Result<HeaderMap, BoxError> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, AGENT);
        let mut illegal = None;
        self.wrapper.headers(message, &mut |name, value| {
            if let Err(why) = append(&mut headers, name, value) {
                illegal.get_or_insert(why);
            }
        })?;
        illegal.map_or(Ok(headers), |why| Err(why.into()))
    }

    fn sign(&self, id: &str, headers: &mut HeaderMap, body: &[u8]) -> Result<(), BoxError> {
        headers.insert(WEBHOOK_ID, HeaderValue::from_str(id)?);
        let signer = &self.settings.signer;
        if signer.signs() {
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let signature = signer.signature(id, now_s, body);
            headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(now_s));
            headers.insert(WEBHOOK_SIGNATURE, HeaderValue::from_str(&signature)?);
        }
        Ok(())
    }
}

fn append(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), &'static str> {
    const ILLEGAL: &str = "one of its headers has a name or value that HTTP does not take";
    let name: HeaderName = name.parse().map_err(|_| ILLEGAL)?;
    let value = HeaderValue::from_str(value).map_err(|_| ILLEGAL)?;
    if is_hop_by_hop(name.as_str()) {
        return Err("one of its headers concerns the connection, not the message");
    }
    if name == USER_AGENT {
        headers.insert(name, value);
        return Ok(());
    }
    headers.try_append(name, value).map_err(|_| "it has too many headers")?;
    Ok(())
}

#[cfg(test)]
mod tests;
