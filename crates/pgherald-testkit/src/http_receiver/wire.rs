//! HTTP/1.1 as a receiver speaks it, by hand: a library would not let it break the rules.

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::{Answer, Received, State};
use crate::{Certificates, Error, Result};

/// No request of ours has a longer head.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// A connection that can be reset.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Request after request, until either side ends the connection.
pub(super) async fn converse(stream: impl Wire, state: &State) {
    let mut stream = BufStream::new(stream);
    while let Ok(Some(request)) = read(&mut stream).await {
        let (number, answer) = state.take(request);
        match give(&mut stream, state, number, answer).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
    }
}

/// One request; `None`: the client has gone.
async fn read(stream: &mut BufStream<impl Wire>) -> io::Result<Option<Received>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("a head without an end"));
        }
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let mut request = parse(&head).ok_or_else(|| io::Error::other("no HTTP"))?;
    let length = request.header("content-length").and_then(|text| text.parse().ok());
    request.body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut request.body).await?;
    request.at = SystemTime::now();
    Ok(Some(request))
}

fn parse(head: &str) -> Option<Received> {
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers = lines.take_while(|line| !line.is_empty()).map(header).collect::<Option<_>>()?;
    Some(Received {
        method,
        path,
        headers,
        body: Vec::new(),
        began: Instant::now(),
        at: SystemTime::now(),
        ended: None,
        answer: Answer::Hang,
    })
}

/// Answers; says whether the connection goes on.
async fn give(
    stream: &mut BufStream<impl Wire>,
    state: &State,
    number: usize,
    mut answer: Answer,
) -> io::Result<bool> {
    while let Answer::After(pause, then) = answer {
        tokio::time::sleep(pause).await;
        answer = *then;
    }
    let (status, more, length, goes_on) = match &answer {
        Answer::Status(status) => (*status, String::new(), 0, true),
        Answer::With(status, name, value) => (*status, format!("{name}: {value}\r\n"), 0, true),
        Answer::Says(status, body) => (*status, String::new(), body.len(), true),
        Answer::Torn(status) => (*status, String::new(), 1_000, false),
        Answer::Reset => {
            send(stream, b"HTTP/1.1 2").await?;
            return reset(stream);
        }
        Answer::Close => return Ok(false),
        Answer::Hang => {
            // Until the client goes: it has nothing more to say on this connection.
            let _ = stream.read_u8().await;
            return Ok(false);
        }
        Answer::After(..) => unreachable!("it was waited for"),
    };
    let head = match status {
        204 => format!("HTTP/1.1 204 It is\r\n{more}\r\n"),
        _ => format!("HTTP/1.1 {status} It is\r\n{more}content-length: {length}\r\n\r\n"),
    };
    state.answered(number);
    send(stream, head.as_bytes()).await?;
    if let Answer::Says(_, body) = &answer {
        send(stream, body.as_bytes()).await?;
    }
    if goes_on { Ok(true) } else { reset(stream) }
}

async fn send(stream: &mut BufStream<impl Wire>, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// The connection ends with an RST when it is dropped.
fn reset(stream: &BufStream<impl Wire>) -> io::Result<bool> {
    stream.get_ref().tcp().set_zero_linger()?;
    Ok(false)
}

/// The server's side of TLS.
pub(super) fn acceptor(
    certificate: &str,
    key: &str,
    clients: Option<&Certificates>,
) -> Result<TlsAcceptor> {
    let wrong = |error: &dyn std::fmt::Display| Error::because("HTTP receiver's TLS", error);
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| wrong(&error))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(made) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(made.authority_pem())?);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build().map_err(|error| wrong(&error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(|error| wrong(&error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<std::result::Result<_, _>>();
    read.map_err(|error| Error::because("certificate", error))
}
