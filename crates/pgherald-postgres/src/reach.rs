//! From a URL to a connection: the host that is the primary, and of its addresses one that answers.
//!
//! sqlx connects by name alone, to one address after the other and without a limit for each. So the
//! name is looked up here, and where it has several addresses they race; the one that answers first
//! is what sqlx connects to.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rand::seq::SliceRandom;
use sqlx::{
    ConnectOptions, PgConnection, Row,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    Class, PostgresError, bounded, look,
    relay::{Place, relay},
    target::{Host, Target},
    valve::Valve,
};

/// How much later than the one before an address is tried.
const HEAD_START: Duration = Duration::from_millis(250);

/// What to connect to, and what it is called.
pub(crate) struct Route {
    host: PgConnectOptions,
    place: Place,
    /// sqlx comes to that place by the name alone.
    by_name: bool,
    pub(crate) doing: String,
    pub(crate) within: Duration,
}

impl Route {
    /// Where TLS is asked for, the name stays: the certificate is for it.
    pub(crate) fn options(&self) -> Result<PgConnectOptions, PostgresError> {
        let options = self.host.clone();
        match (&self.place, options.get_ssl_mode()) {
            _ if self.by_name => Ok(options),
            (
                Place::Address(address),
                PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer,
            ) => Ok(options.host(&address.ip().to_string()).port(address.port())),
            (place, _) => relay(options, place.clone(), Arc::default()),
        }
    }

    /// The same for a connection whose server this valve meters; only Linux has the sockets for that.
    pub(crate) fn metered(&self, valve: &Arc<Valve>) -> Result<PgConnectOptions, PostgresError> {
        match cfg!(target_os = "linux") {
            true => relay(self.host.clone(), self.place.clone(), Arc::clone(valve)),
            false => self.options(),
        }
    }
}

/// Connects; of several hosts to the one that is the primary.
pub(crate) async fn reach(target: &Target) -> Result<PgConnection, PostgresError> {
    let (connection, _) = find(target).await?;
    Ok(connection)
}

/// The same without the connection: of several hosts one that is the primary now.
pub(crate) async fn route(target: &Target) -> Result<Route, PostgresError> {
    match &target.hosts[..] {
        [only] => route_to(target, only).await,
        _ => {
            let (_, host) = find(target).await?;
            route_to(target, host).await
        }
    }
}

async fn find(target: &Target) -> Result<(PgConnection, &Host), PostgresError> {
    let mut hosts: Vec<&Host> = target.hosts.iter().collect();
    if target.shuffled {
        hosts.shuffle(&mut rand::rng());
    }
    let mut faults = Vec::new();
    for host in &hosts {
        let connecting = try_host(target, host, hosts.len() > 1);
        match connecting.await {
            Ok(connection) => return Ok((connection, host)),
            Err(fault) => faults.push(fault),
        }
    }
    Err(summary(faults))
}

async fn try_host(
    target: &Target,
    host: &Host,
    one_of_several: bool,
) -> Result<PgConnection, PostgresError> {
    let route = route_to(target, host).await?;
    let options = route.options()?;
    let connecting = bounded(&route.doing, route.within, options.connect());
    let mut connection = connecting.await.map_err(|fault| target.explain(fault))?;
    if one_of_several {
        let asking = look(&mut connection, "SELECT pg_is_in_recovery()");
        let rows = bounded("ask which host is the primary", route.within, asking).await?;
        if rows.first().is_some_and(|row| row.get(0)) {
            let text = format!("{} is a standby", host.shown());
            return Err(PostgresError::blocked(text, "let postgres.url name the primary too"));
        }
    }
    Ok(connection)
}

fn summary(mut faults: Vec<PostgresError>) -> PostgresError {
    if faults.len() <= 1 {
        return faults.pop().unwrap_or_else(|| PostgresError::transient("there is no host"));
    }
    let texts: Vec<String> = faults.iter().map(|fault| fault.text.clone()).collect();
    let first = |class| faults.iter().find(|fault| fault.class == class);
    let worst = first(Class::Transient).or_else(|| first(Class::Blocked));
    worst.map_or_else(
        || PostgresError::transient("there is no host"),
        |fault| PostgresError { text: texts.join("; "), ..fault.clone() },
    )
}

async fn route_to(target: &Target, host: &Host) -> Result<Route, PostgresError> {
    let within = target.connect_within;
    let doing = format!("connect to {}", target.of(host));
    target.verify_files()?;
    if let Some(place) = host.place() {
        return Ok(Route { host: host.options.clone(), place, by_name: true, doing, within });
    }
    let addresses = match host.address {
        Some(address) => vec![SocketAddr::new(address, host.port)],
        None => resolve(host, &doing, within).await?,
    };
    let address = match addresses[..] {
        [only] => only,
        _ => race(&addresses, &doing, within).await?,
    };
    let by_name = host.address.is_none() && address == addresses[0];
    let doing = format!("{doing} ({})", address.ip());
    let place = Place::Address(address);
    Ok(Route { host: host.options.clone(), place, by_name, doing, within })
}

async fn resolve(
    host: &Host,
    doing: &str,
    within: Duration,
) -> Result<Vec<SocketAddr>, PostgresError> {
    let name = &host.name;
    let failed = |why: String, fix: &str| PostgresError {
        class: Class::Transient,
        text: format!("cannot {doing}: the name {name:?} {why}"),
        fix: fix.to_owned(),
    };
    match timeout(within, lookup_host((name.as_str(), host.port))).await {
        Ok(Ok(found)) => {
            let mut addresses: Vec<SocketAddr> = Vec::new();
            found.for_each(|address| {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            });
            match addresses.is_empty() {
                true => Err(failed("has no address".into(), "mend the host in postgres.url")),
                false => Ok(addresses),
            }
        }
        Ok(Err(error)) => Err(failed(
            format!("was not resolved: {error}"),
            "see that the host in postgres.url is right, and what the name servers say",
        )),
        Err(_) => Err(failed(
            format!(
                "was not resolved: the name servers gave no answer within {} s",
                within.as_secs_f32()
            ),
            "see that those of /etc/resolv.conf can be reached",
        )),
    }
}

/// The address that answers first; each one begins a little later than the one before.
async fn race(
    addresses: &[SocketAddr],
    doing: &str,
    within: Duration,
) -> Result<SocketAddr, PostgresError> {
    let mut attempts = JoinSet::new();
    for (place, address) in addresses.iter().copied().enumerate() {
        let start = HEAD_START * u32::try_from(place).unwrap_or(u32::MAX);
        attempts.spawn(async move {
            sleep(start).await;
            match timeout(within, TcpStream::connect(address)).await {
                Ok(Ok(_)) => Ok(address),
                Ok(Err(error)) => Err(format!("{address}: {error}")),
                Err(_) => Err(format!("{address}: no answer within {} s", within.as_secs_f32())),
            }
        });
    }
    let mut faults = Vec::new();
    while let Some(ended) = attempts.join_next().await {
        match ended {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(fault)) => faults.push(fault),
            Err(_) => {}
        }
    }
    faults.sort();
    Err(PostgresError::transient(format!("cannot {doing}: {}", faults.join(", "))))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_silent_address_does_not_hold_the_others_up() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answers = server.local_addr().unwrap();
        let silent: SocketAddr = ([192, 0, 2, 1], answers.port()).into();
        let began = tokio::time::Instant::now();
        let within = Duration::from_secs(20);
        assert_eq!(race(&[silent, answers], "connect", within).await, Ok(answers));
        assert!(began.elapsed() < Duration::from_secs(10));
        drop(server);
        let fault = race(&[silent, answers], "connect to d", Duration::from_secs(1)).await;
        let text = fault.unwrap_err().text;
        assert!(text.contains("192.0.2.1") && text.contains("127.0.0.1"), "{text}");
    }
}
