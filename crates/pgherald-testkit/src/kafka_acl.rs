//! Who may do what: ACLs, in Kafka's own protocol, since no client here knows them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Error, Kafka, Result};

const ANSWER: Duration = Duration::from_secs(20);
const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
/// The last version of both with fixed lengths.
const VERSION: i16 = 1;
const TOPIC: u8 = 2;
const LITERAL: u8 = 3;
const WRITE: u8 = 4;
const DESCRIBE: u8 = 8;
const ALLOW: u8 = 3;

impl Kafka {
    /// Lets a user write to a topic, and so see it. Needs an authorizer, and that whoever connects
    /// to [`bootstrap`](Self::bootstrap) is a superuser.
    pub async fn allow_write(&self, user: &str, topic: &str) -> Result<()> {
        self.acl(CREATE_ACLS, user, topic, WRITE).await
    }

    /// Lets a user see a topic and nothing else.
    pub async fn allow_describe(&self, user: &str, topic: &str) -> Result<()> {
        self.acl(CREATE_ACLS, user, topic, DESCRIBE).await
    }

    /// Takes back what [`allow_write`](Self::allow_write) gave.
    pub async fn revoke_write(&self, user: &str, topic: &str) -> Result<()> {
        self.acl(DELETE_ACLS, user, topic, WRITE).await
    }

    async fn acl(&self, what: i16, user: &str, topic: &str, operation: u8) -> Result<()> {
        let principal = format!("User:{user}");
        let asking = ask(self.port(), request(what, &principal, topic, operation));
        let answer = timeout(ANSWER, asking).await;
        let describe = |why: String| Error::because(format!("cannot change ACLs of {topic}"), why);
        match answer {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(code)) => Err(describe(format!("Kafka's error {code}"))),
            Ok(Err(error)) => Err(describe(error.to_string())),
            Err(_) => Err(describe("no answer".into())),
        }
    }
}

/// One ACL, or a filter that finds that one: both are written alike.
fn request(what: i16, principal: &str, topic: &str, operation: u8) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(what.to_be_bytes());
    body.extend(VERSION.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend((-1_i16).to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.push(TOPIC);
    text(&mut body, topic);
    body.push(LITERAL);
    text(&mut body, principal);
    text(&mut body, "*");
    body.extend([operation, ALLOW]);
    body
}

fn text(body: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("a short name");
    body.extend(length.to_be_bytes());
    body.extend(text.as_bytes());
}

/// The error code of the answer's only result.
async fn ask(port: u16, body: Vec<u8>) -> std::io::Result<i16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_i32(i32::try_from(body.len()).expect("a short request")).await?;
    stream.write_all(&body).await?;
    // The length, the correlation id, the throttle time and the number of results.
    for _ in 0..4 {
        stream.read_i32().await?;
    }
    stream.read_i16().await
}
