//! Asks a running instance whether it is alive.

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
/// The answer is short; whoever sends more is somebody else.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// Who answers at an address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A live pgherald; its version, as it introduces itself.
    Alive(String),
    /// Something that is not a live pgherald: the first line of what it said.
    Other(String),
}

/// Asks `/livez` at the address on which an instance listens.
pub(crate) async fn ask(listen: SocketAddr) -> io::Result<Answer> {
    let asked = timeout(ANSWER_TIMEOUT, exchange(reachable(listen))).await;
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

async fn exchange(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn understand(answer: &str) -> Answer {
    let mut lines = answer.lines();
    let first = lines.next().unwrap_or("");
    let server = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("server"))
        .map(|(_, value)| value.trim());
    match server {
        Some(version) if version.starts_with("pgherald/") && first.contains(" 200 ") => {
            Answer::Alive(version.to_owned())
        }
        _ => Answer::Other(first.chars().filter(|c| !c.is_control()).take(80).collect()),
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
    fn only_a_pgherald_that_is_well_counts() {
        let ours = "HTTP/1.1 200 OK\r\nServer: pgherald/1.2.3\r\n\r\nalive\n";
        assert_eq!(understand(ours), Answer::Alive("pgherald/1.2.3".into()));
        let other = "HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n";
        assert_eq!(understand(other), Answer::Other("HTTP/1.1 200 OK".into()));
        assert_eq!(understand(""), Answer::Other(String::new()));
    }
}
