//! Listens, with limits that make a slow or hostile client cheap.

use std::{
    convert::Infallible,
    future, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::Either;
use hyper::{
    Request, Response, body::Incoming, header::HOST, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};

use super::{
    Admin,
    tail::{Body, tail},
};

/// Connections at once; the next one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// From the first byte of a request to its last.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// From accept to close: a connection carries one request. Those who watch flows stay longer, and are
/// fewer ([`super::WATCHERS_MAX`]).
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 64;
const BUFFER_BYTES_MAX: usize = 16 * 1024;
const BIND_RETRY: Duration = Duration::from_secs(2);

/// Serves for ever. If the address cannot be bound, that is logged, and it is tried again.
pub(crate) async fn serve(address: SocketAddr, admin: Arc<Admin>) {
    let listener = bind(address).await;
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let permit = free.clone().acquire_owned().await.expect("is never closed");
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = admin.clone();
                connections.spawn(async move {
                    connection(stream, admin).await;
                    drop(permit);
                });
            }
            // Out of descriptors, or a client that left already: neither is worth an end.
            Err(error) => {
                tracing::debug!(%error, "the admin pages could not accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    let mut failed = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "the admin pages are served");
                return listener;
            }
            Err(error) if !failed => {
                failed = true;
                warn_unbound(address, &error);
            }
            Err(_) => {}
        }
        sleep(BIND_RETRY).await;
    }
}

fn warn_unbound(address: SocketAddr, error: &io::Error) {
    tracing::warn!(
        %address, %error,
        "the admin pages cannot be served; free the address or change admin.listen \
         (tried again every {} s)",
        BIND_RETRY.as_secs()
    );
}

async fn connection(stream: TcpStream, admin: Arc<Admin>) {
    let goes_on = Arc::new(AtomicBool::new(false));
    let streams = Arc::clone(&goes_on);
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&admin, &request);
        streams.store(matches!(response.body(), Either::Right(_)), Ordering::Relaxed);
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = serving => if let Err(error) = served {
            tracing::debug!(%error, "a client of the admin pages was cut off");
        },
        () = overtime(&goes_on) => {}
    }
}

fn answer(admin: &Arc<Admin>, request: &Request<Incoming>) -> Response<Body> {
    match request.uri().path() {
        "/tail" => tail(admin, request),
        path => admin.answer(request.method(), path, request.headers().get(HOST)).map(Either::Left),
    }
}

/// A page has to be fetched in time. Whoever watches stays until he leaves.
async fn overtime(goes_on: &AtomicBool) {
    sleep(CONNECTION_TIMEOUT).await;
    if goes_on.load(Ordering::Relaxed) {
        future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    use super::*;
    use crate::{admin::Hosts, config::AdminAccess, metrics::Exporter, scrub::Scrubber};

    async fn exchange(address: SocketAddr, request: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn who_watches_stays_and_a_page_is_fetched_in_time() {
        let (page, stream) = (AtomicBool::new(false), AtomicBool::new(true));
        let began = Instant::now();
        overtime(&page).await;
        assert_eq!(began.elapsed(), CONNECTION_TIMEOUT);
        let hours = tokio::time::timeout(CONNECTION_TIMEOUT * 1_000, overtime(&stream));
        assert!(hours.await.is_err());
    }

    #[tokio::test]
    async fn slow_clients_do_not_keep_others_out() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        let flows = Vec::new();
        let exporter = Exporter::of(|_| ());
        let (hosts, scrubber) = (Hosts::of(address), Scrubber::default());
        let (access, watchers) = (AdminAccess::default(), Arc::new(Semaphore::new(1)));
        let started = SystemTime::now();
        let admin = Admin { started, flows, exporter, hosts, scrubber, access, watchers };
        let admin = Arc::new(admin);
        let mut server = JoinSet::new();
        server.spawn(serve(address, admin));
        // The address is taken at first.
        tokio::task::yield_now().await;
        drop(free);
        let get = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
        let deadline = Instant::now() + Duration::from_secs(20);
        while exchange(address, get).await.is_err() {
            assert!(Instant::now() < deadline, "the server never came");
            sleep(Duration::from_millis(20)).await;
        }
        let mut slow = Vec::new();
        for _ in 0..CONNECTIONS_MAX + 8 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HT").await.unwrap();
            slow.push(stream);
        }
        let began = Instant::now();
        let answer = exchange(address, get).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("alive\n"), "{answer}");
        assert!(began.elapsed() < CONNECTION_TIMEOUT);
        let huge = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(BUFFER_BYTES_MAX));
        let answer = exchange(address, &huge).await.unwrap_or_default();
        assert!(!answer.contains(" 200 "), "{answer}");
        let head = exchange(address, "HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(head.contains("content-length: 6") && head.ends_with("\r\n\r\n"), "{head}");
    }
}
