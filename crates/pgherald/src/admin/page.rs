//! The page that a person reads at a glance.

use std::{
    fmt::{self, Write},
    time::SystemTime,
};

use super::flows::FlowDocument;
use crate::length::Length;

const STYLE: &str = "\
:root{color-scheme:light dark;--fg:#1a1f26;--bg:#fff;--soft:#667;--line:#dde;--good:#0a7d33;--warn:#9a6400;--bad:#c0202a}
@media(prefers-color-scheme:dark){:root{--fg:#e6e9ee;--bg:#14171c;--soft:#99a;--line:#2c323b;--good:#4cc878;--warn:#e5a93c;--bad:#ff6b70}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);margin:2rem auto;max-width:70rem;padding:0 1rem}
h1{font-size:1.4rem;margin:0}p{color:var(--soft);margin:.2rem 0 1.5rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.45rem .8rem .45rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:500}td.n{font-variant-numeric:tabular-nums}
.running,.standby,.ready{color:var(--good)}.attaching,.draining,.stalled{color:var(--warn)}.blocked,.halted,.unready{color:var(--bad)}
b{font-weight:600}small{color:var(--soft);display:block}a{color:inherit}";

/// Renders the page.
pub(super) fn render(
    version: &str,
    now: SystemTime,
    started: SystemTime,
    flows: &[FlowDocument<'_>],
) -> String {
    let mut page = String::with_capacity(4096);
    write(&mut page, version, now, started, flows).expect("text grows without errors");
    page
}

fn write(
    page: &mut String,
    version: &str,
    now: SystemTime,
    started: SystemTime,
    flows: &[FlowDocument<'_>],
) -> fmt::Result {
    let unready = flows.iter().filter(|flow| !flow.ready).count();
    let (class, headline) = match unready {
        0 => ("ready", "ready".to_owned()),
        n => ("unready", format!("{n} of {} flows not ready", flows.len())),
    };
    write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"refresh\" content=\"2\"><title>pgherald: {headline}</title>\
         <style>{STYLE}</style></head><body>\
         <h1>pgherald <b class=\"{class}\">{headline}</b></h1>\
         <p>version {}, up {} \u{b7} <a href=\"/status\">status</a> \u{b7} \
         <a href=\"/metrics\">metrics</a> \u{b7} <a href=\"/readyz\">readyz</a></p>\
         <table><thead><tr><th>flow</th><th>channels</th><th>state</th><th>since</th>\
         <th>in flight</th><th>latest gap</th></tr></thead><tbody>",
        Escaped(version),
        Length(now.duration_since(started).unwrap_or_default()),
    )?;
    for flow in flows {
        row(page, now, flow)?;
    }
    page.write_str("</tbody></table></body></html>\n")
}

/// Why, whose matter it is, and for how long.
fn reason(flow: &FlowDocument<'_>) -> String {
    match (&flow.reason, flow.reason_owner) {
        (Some(reason), Some(owner)) => {
            format!("{reason} ({owner}, for {} s)", flow.reason_age.as_secs())
        }
        _ => String::new(),
    }
}

fn row(page: &mut String, now: SystemTime, flow: &FlowDocument<'_>) -> fmt::Result {
    let since = now.duration_since(flow.since_time).unwrap_or_default();
    write!(
        page,
        "<tr><td><b>{}</b> \u{2192} <b>{}</b><small>{} \u{2192} {}</small></td><td>{}</td>\
         <td><b class=\"{}\">{}</b><small>{}</small></td><td class=\"n\">{}</td>\
         <td class=\"n\">{}<small>{} bytes</small></td><td>",
        Escaped(flow.pipeline),
        Escaped(flow.sink),
        Escaped(flow.source),
        Escaped(flow.kind),
        Escaped(&flow.channels.join(", ")),
        flow.state,
        flow.state,
        Escaped(&reason(flow)),
        Length(since),
        flow.in_flight_messages,
        flow.in_flight_bytes,
    )?;
    if let Some(gap) = flow.gaps.last() {
        let ago = now.duration_since(gap.to).unwrap_or_default();
        write!(page, "{}, {} ago", gap.reason.as_str(), Length(ago))?;
        match gap.from {
            Some(_) => write!(page, "<small>{:.3} s long</small>", gap.seconds())?,
            None => page.write_str("<small>everything before</small>")?,
        }
    }
    page.write_str("</td></tr>")
}

/// Text that cannot become markup.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_becomes_markup() {
        let hostile = "<script>alert('&\"')</script>\u{1b}[0m";
        let text = Escaped(hostile).to_string();
        assert_eq!(text, "&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;\u{fffd}[0m");
    }
}
