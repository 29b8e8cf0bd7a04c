//! Asks the running instance, over its admin port.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long the instance may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What answered at the address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InstanceAnswer {
    /// A pgherald.
    Pgherald(Reply),
    /// Something else: the first line of what it said.
    Other(String),
}

/// The answer of a pgherald.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// As it introduces itself: `pgherald/` and its version.
    pub(crate) server: String,
    pub(crate) body: String,
}

/// Asks for a page with `GET`. Only an answer of status 200 counts; one of more than `bytes_max` bytes
/// is cut.
///
/// # Errors
/// Nobody answers within 5 s.
pub(crate) async fn get(
    listen: SocketAddr,
    path: &str,
    bytes_max: u64,
) -> io::Result<InstanceAnswer> {
    let asked = timeout(ANSWER_TIMEOUT, exchange(reachable(listen), path, bytes_max)).await;
    let answer = asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(understand(&answer))
}

/// The address to connect to for one that may mean "every interface".
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn exchange(address: SocketAddr, path: &str, bytes_max: u64) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(bytes_max).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn understand(answer: &str) -> InstanceAnswer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut lines = head.lines();
    let first = lines.next().unwrap_or("");
    let server = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("server"))
        .map(|(_, value)| value.trim());
    match server {
        Some(server) if server.starts_with("pgherald/") && first.contains(" 200 ") => {
            InstanceAnswer::Pgherald(Reply { server: server.to_owned(), body: body.to_owned() })
        }
        _ => InstanceAnswer::Other(first.chars().filter(|c| !c.is_control()).take(80).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_is_reached_on_loopback() {
        for (listen, target) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.1.2.3:4", "10.1.2.3:4")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), target);
        }
    }

    #[test]
    fn only_a_pgherald_that_answers_200_counts() {
        let ours = "HTTP/1.1 200 OK\r\nServer: pgherald/1.2.3\r\n\r\nalive\n";
        let reply = Reply { server: "pgherald/1.2.3".into(), body: "alive\n".into() };
        assert_eq!(understand(ours), InstanceAnswer::Pgherald(reply));
        let other = "HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n";
        assert_eq!(understand(other), InstanceAnswer::Other("HTTP/1.1 200 OK".into()));
        let refused = "HTTP/1.1 421 Misdirected Request\r\nServer: pgherald/1.2.3\r\n\r\n";
        let first = "HTTP/1.1 421 Misdirected Request";
        assert_eq!(understand(refused), InstanceAnswer::Other(first.into()));
        assert_eq!(understand(""), InstanceAnswer::Other(String::new()));
    }
}
