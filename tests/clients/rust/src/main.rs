//! What the SDK and clients in Rust make of the wire. Prints a JSON line a finding.

use std::{collections::BTreeSet, env, error::Error, fs};

use base64::{Engine, engine::general_purpose::STANDARD};
use cloudevents::{AttributesReader, Data, Event, binding::http::to_event};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let dump = fs::read_to_string(&arguments[0])?;
    let lines: Vec<Value> = dump.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let (told, wire) = lines.split_first().ok_or("an empty dump")?;
    signatures(told["secret"].as_str().unwrap_or_default(), wire)?;
    sdk(wire);
    nats(wire, &arguments[2]).await
}

fn say(client: &str, n: Option<usize>, mut rest: Value) {
    rest["client"] = client.into();
    rest["n"] = n.into();
    println!("{rest}");
}

fn say_error(client: &str, n: usize, error: &dyn std::fmt::Display) {
    say(client, Some(n), json!({ "error": error.to_string() }));
}

fn body(line: &Value) -> Vec<u8> {
    STANDARD.decode(line["body"].as_str().unwrap_or_default()).expect("the dump is base64")
}

fn headers(line: &Value) -> Outcome<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in line["headers"].as_array().ok_or("no headers")? {
        let (name, value) = (pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default());
        headers.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    Ok(headers)
}

/// First: the library takes a signature for five minutes. (`svix` 2.9.1 does not compile beside today's
/// hyper-util.)
fn signatures(secret: &str, wire: &[Value]) -> Outcome<()> {
    const CLIENT: &str = "rust standardwebhooks 1.0.1";
    let hook = standardwebhooks::Webhook::new(secret)?;
    for (n, line) in wire.iter().enumerate().filter(|(_, line)| line["sink"] == "http") {
        match hook.verify(&body(line), &headers(line)?) {
            Ok(()) => say(CLIENT, Some(n), json!({ "verified": true })),
            Err(error) => say_error(CLIENT, n, &error),
        }
    }
    Ok(())
}

/// Every request, and the documents on the other sinks.
fn sdk(wire: &[Value]) {
    const CLIENT: &str = "rust sdk 0.9.0";
    for (n, line) in wire.iter().enumerate() {
        let is_document = headers(line)
            .is_ok_and(|it| it.get("content-type").is_some_and(|it| it == "application/cloudevents+json"));
        let events = match (line["sink"].as_str(), line["envelope"].as_str()) {
            (_, Some("none")) => continue,
            (_, Some("batch")) => serde_json::from_slice(&body(line)).map_err(Into::into),
            (Some("http"), _) => event(line).map(|it| vec![it]),
            _ if is_document => serde_json::from_slice(&body(line)).map(|it| vec![it]).map_err(Into::into),
            _ => continue,
        };
        match events {
            Ok(events) => events.iter().for_each(|it| tell(CLIENT, n, it)),
            Err(error) => say_error(CLIENT, n, &error),
        }
    }
}

fn event(line: &Value) -> Outcome<Event> {
    Ok(to_event(&headers(line)?, body(line))?)
}

fn tell(client: &str, n: usize, event: &Event) {
    let named = event.iter().filter(|(name, _)| *name != "time");
    let mut attributes: Map<String, Value> =
        named.map(|(name, value)| (name.to_owned(), value.to_string().into())).collect();
    if let Some(media_type) = event.datacontenttype() {
        attributes.insert("datacontenttype".to_owned(), media_type.into());
    }
    let data = match event.data() {
        None => Value::Null,
        Some(Data::Binary(bytes)) => json!({ "base64": STANDARD.encode(bytes) }),
        Some(Data::String(text)) => json!({ "text": text }),
        Some(Data::Json(value)) => json!({ "json": value }),
    };
    say(client, Some(n), json!({ "attributes": attributes, "data": data }));
}

/// Every stored message, in its stream's order.
async fn nats(wire: &[Value], servers: &str) -> Outcome<()> {
    const CLIENT: &str = "async-nats 0.51.0";
    let of_nats = wire.iter().filter(|line| line["sink"] == "nats");
    let name = |line: &Value| {
        let word = |field: &str| line[field].as_str().unwrap_or_default().to_uppercase();
        format!("WIRE_{}_{}", word("pipeline"), word("envelope"))
    };
    let streams: BTreeSet<String> = of_nats.map(name).collect();
    let context = async_nats::jetstream::new(async_nats::connect(servers).await?);
    for stream in streams {
        let read = context.get_stream(&stream).await?;
        let state = read.cached_info().state.clone();
        for sequence in state.first_sequence..=state.last_sequence {
            let message = read.get_raw_message(sequence).await?;
            let headers: Vec<[String; 2]> = message
                .headers
                .iter()
                .flat_map(|(name, values)| values.iter().map(move |it| [name.to_string(), it.to_string()]))
                .collect();
            let value = STANDARD.encode(&message.payload);
            let found = json!({ "stream": stream, "sequence": sequence, "value": value, "headers": headers });
            say(CLIENT, None, found);
        }
    }
    Ok(())
}
