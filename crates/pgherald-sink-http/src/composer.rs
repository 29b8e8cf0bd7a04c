//! From messages to a request.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request,
    header::{
        AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
    },
};
use pgherald_core::{
    Binding, BoxError, EVENT_BATCH_MEDIA_TYPE, Envelope, FlowContext, Message, Wrapper,
    is_attribute_header,
};

use crate::{
    HttpSettings, access::Access, headers::is_hop_by_hop, schedule::Item, sign::Signer,
    target::Target,
};

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
    /// Every request is a CloudEvents batch, also of one.
    batches: bool,
    flow: (Arc<str>, Arc<str>),
}

impl Composer {
    pub(crate) fn new(settings: Arc<HttpSettings>, context: &FlowContext) -> Self {
        let wrapper = Wrapper::new(Binding::Http, context);
        let batches = settings.request_batches.messages > 1;
        debug_assert!(!batches || context.envelope == Envelope::Structured);
        let flow = (Arc::clone(&context.pipeline), Arc::clone(&context.sink));
        Self { settings, wrapper, batches, flow }
    }

    /// The names of the pipeline and the sink.
    pub(crate) fn flow(&self) -> (&str, &str) {
        (&self.flow.0, &self.flow.1)
    }

    /// The `webhook-id` of a request: the message's id, or the first one's and how many there are.
    pub(crate) fn id(request_batch: &[Item]) -> String {
        match request_batch {
            [single] => single.message.id.to_string(),
            several => format!("{}+{}", several[0].message.id, several.len()),
        }
    }

    /// Where a request goes: a gap may have an address of its own.
    pub(crate) fn target<'a>(access: &'a Access, request_batch: &[Item]) -> &'a Target {
        let is_gap = request_batch.iter().any(|item| item.message.gap().is_some());
        access.gap_target.as_ref().filter(|_| is_gap).unwrap_or(&access.target)
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
    pub(crate) fn check(&self, access: &Access, message: &Message) -> Result<(), BoxError> {
        let headers = self.headers(message)?;
        let limits = &self.settings.header_limits;
        // What the operator sets takes the place of what the message brings along.
        let own = headers.iter().filter(|(name, _)| !access.headers.contains_key(*name));
        limits.check(own, access.header_bytes()).map_err(Into::into)
    }

    /// The request, signed for a time in seconds since 1970.
    ///
    /// # Errors
    /// A message cannot be sent; [`check`](Self::check) says so before.
    pub(crate) fn compose(
        &self,
        access: &Access,
        request_batch: &[Item],
        at_s: u64,
    ) -> Result<Request<Full<Bytes>>, BoxError> {
        let target = Self::target(access, request_batch);
        let (mut headers, body) = (self.head(request_batch)?, self.body(request_batch)?);
        sign(&access.signer, &Self::id(request_batch), at_s, &mut headers, &body)?;
        // What the operator sets stands above what a message brings along.
        for (name, value) in &access.headers {
            headers.insert(name, value.clone());
        }
        if let Some(login) = &target.login {
            headers.insert(AUTHORIZATION, login.clone());
        }
        if body.is_empty() {
            // Without it a request with an empty body has no length, which some receivers refuse.
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.uri.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn head(&self, request_batch: &[Item]) -> Result<HeaderMap, BoxError> {
        let mut headers = match request_batch {
            [single] => self.headers(&single.message)?,
            _ => HeaderMap::from_iter([(USER_AGENT, AGENT)]),
        };
        if self.batches {
            headers.insert(CONTENT_TYPE, BATCH);
        }
        Ok(headers)
    }

    /// The message, or all of them as documents in one, as the CloudEvents JSON format says.
    fn body(&self, request_batch: &[Item]) -> Result<Bytes, BoxError> {
        if !self.batches {
            return Ok(self.wrapper.body(&request_batch[0].message)?.unwrap_or_default());
        }
        let mut body = Vec::new();
        for item in request_batch {
            body.push(if body.is_empty() { b'[' } else { b',' });
            body.extend(self.wrapper.body(&item.message)?.unwrap_or_default());
        }
        body.push(b']');
        Ok(body.into())
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
}

fn sign(
    signer: &Signer,
    id: &str,
    at_s: u64,
    headers: &mut HeaderMap,
    body: &[u8],
) -> Result<(), BoxError> {
    headers.insert(WEBHOOK_ID, HeaderValue::from_str(id)?);
    if signer.signs() {
        let signature = signer.signature(id, at_s, body);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(at_s));
        headers.insert(WEBHOOK_SIGNATURE, HeaderValue::from_str(&signature)?);
    }
    Ok(())
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
