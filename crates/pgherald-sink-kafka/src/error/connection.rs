//! What librdkafka says of connections, in words for an operator.

/// What the brokers' TLS says of the client's certificate, if that is the trouble: librdkafka takes
/// it for a lost connection.
pub(super) fn refused_certificate(reason: &str) -> Option<&str> {
    /// Bad, unsupported, revoked, expired, unknown, of an unknown authority, missing.
    const ALERTS: [&str; 7] = ["42", "43", "44", "45", "46", "48", "116"];
    let (before, number) = reason.split_once(": SSL alert number ")?;
    let number = number.split(|c: char| !c.is_ascii_digit()).next()?;
    let said = before.rsplit("::").next().unwrap_or(before);
    ALERTS.contains(&number).then_some(said)
}

/// What it may mean that a broker hung up soon: librdkafka says so in its log alone. `sasl`: this client
/// says who it is.
pub(crate) fn hung_up(line: &str, sasl: bool) -> Option<String> {
    let (line, when) = line.rsplit_once(" (after ").filter(|_| line.contains("Disconnected"))?;
    let (milliseconds, state) = when.split_once("ms in state ")?;
    let soon = milliseconds.parse().is_ok_and(|milliseconds: u32| milliseconds < 2000);
    let said = match state {
        _ if state.starts_with("APIVERSION_QUERY") => {
            "hangs up at the first word, it may expect TLS: add the tls table, or name a port without TLS"
        }
        _ if state.starts_with("SSL_HANDSHAKE") => {
            "hangs up in the TLS handshake, it may not speak TLS: name its TLS port, or remove the tls table"
        }
        _ if state.starts_with("UP") && soon && !sasl => {
            "hangs up at the first question, it may expect SASL: add the sasl table, or name a port without SASL"
        }
        _ => return None,
    };
    let line = line.split_once("]: ").map_or(line, |(_, line)| line);
    let line = line.split_once("://").map_or(line, |(_, line)| line);
    let address = line.split_once(['/', ' ']).map_or(line, |(address, _)| address);
    Some(format!("{} {said}", address.trim_end_matches(':')))
}

/// librdkafka's sentence without its advice, which names properties that are tables here, and without
/// how long it took, which makes each one different.
pub(crate) fn plain(reason: &str) -> &str {
    let end = [", verify that ssl.ca.location", " (after "].map(|tail| reason.find(tail));
    &reason[..end.into_iter().flatten().min().unwrap_or(reason.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_hangs_up_soon_may_expect_something_else() {
        let line = |state: &str| {
            format!(
                "[thrd:a:1/bootstrap]: a:1/bootstrap: Disconnected: connection closed by peer: receive 0 \
                after POLLIN (after {state})"
            )
        };
        let said = |state: &str, sasl| hung_up(&line(state), sasl).unwrap_or_default();
        let tls = said("6ms in state APIVERSION_QUERY, 1 identical error(s) suppressed)", false);
        assert!(tls.starts_with("a:1 hangs up at the first word, it may expect TLS"), "{tls}");
        assert!(said("6ms in state UP)", false).contains("may expect SASL"));
        let plain = said("2ms in state SSL_HANDSHAKE)", false);
        assert!(plain.contains("may not speak TLS"), "{plain}");
        for (state, sasl) in [("6ms in state UP)", true), ("9000ms in state UP)", false)] {
            assert_eq!(said(state, sasl), "", "{state}");
        }
        assert_eq!(
            hung_up("a:1/1: Connect to ipv4#1 failed (after 1ms in state CONNECT)", false),
            None
        );
    }
}
