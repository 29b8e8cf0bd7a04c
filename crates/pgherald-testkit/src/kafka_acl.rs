//! Who may do what: ACLs, in Kafka's own protocol, since no client here knows them.

use std::{io, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Error, Kafka, Result, eventually};

const ANSWER: Duration = Duration::from_secs(20);
const DESCRIBE_ACLS: i16 = 29;
const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
/// The last version of all three with fixed lengths.
const VERSION: i16 = 1;
const TOPIC: u8 = 2;
const LITERAL: u8 = 3;
const WRITE: u8 = 4;
const DESCRIBE: u8 = 8;
const ALLOW: u8 = 3;

impl Kafka {
    /// Lets a user write to a topic, and so see it. Needs an authorizer, and that whoever connects
    /// to [`bootstrap`](Self::bootstrap) is a superuser. On return it is in force.
    pub async fn allow_write(&self, user: &str, topic: &str) -> Result<()> {
        self.acl(CREATE_ACLS, user, topic, WRITE).await
    }

    /// Lets a user see a topic and nothing else.
    pub async fn allow_describe(&self, user: &str, topic: &str) -> Result<()> {
        self.acl(CREATE_ACLS, user, topic, DESCRIBE).await
    }

    /// Takes back what [`allow_write`](Self::allow_write) gave. On return it is no longer in force.
    pub async fn revoke_write(&self, user: &str, topic: &str) -> Result<()> {
        self.acl(DELETE_ACLS, user, topic, WRITE).await
    }

    /// The controller changes ACLs and answers at once; the broker that checks them follows.
    async fn acl(&self, what: i16, user: &str, topic: &str, operation: u8) -> Result<()> {
        let acl = acl(&format!("User:{user}"), topic, operation);
        let describe = |why: String| Error::because(format!("cannot change ACLs of {topic}"), why);
        match timeout(ANSWER, change(self.port(), what, &acl)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(code)) => return Err(describe(format!("Kafka's error {code}"))),
            Ok(Err(error)) => return Err(describe(error.to_string())),
            Err(_) => return Err(describe("no answer".into())),
        }
        let in_force = || async {
            let found = count(self.port(), &acl).await;
            found.is_ok_and(|count| (count > 0) == (what == CREATE_ACLS))
        };
        eventually("the broker follows a change of ACLs", ANSWER, in_force).await
    }
}

/// One ACL, or a filter that finds that one: both are written alike.
fn acl(principal: &str, topic: &str, operation: u8) -> Vec<u8> {
    let mut acl = vec![TOPIC];
    text(&mut acl, topic);
    acl.push(LITERAL);
    text(&mut acl, principal);
    text(&mut acl, "*");
    acl.extend([operation, ALLOW]);
    acl
}

fn text(body: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("a short name");
    body.extend(length.to_be_bytes());
    body.extend(text.as_bytes());
}

/// The error code of the answer's only result.
async fn change(port: u16, what: i16, acl: &[u8]) -> io::Result<i16> {
    let mut answer = ask(port, what, &[&1_i32.to_be_bytes(), acl].concat()).await?;
    // The number of results.
    answer.read_i32().await?;
    answer.read_i16().await
}

/// How many topics the broker knows that have this ACL.
async fn count(port: u16, acl: &[u8]) -> io::Result<i32> {
    let mut answer = ask(port, DESCRIBE_ACLS, acl).await?;
    let code = answer.read_i16().await?;
    // An error's text; none if there is no error.
    answer.read_i16().await?;
    match code {
        0 => answer.read_i32().await,
        code => Err(io::Error::other(format!("Kafka's error {code}"))),
    }
}

/// Sends a request, and returns where its answer can be read.
async fn ask(port: u16, what: i16, body: &[u8]) -> io::Result<TcpStream> {
    let mut request = Vec::new();
    request.extend(what.to_be_bytes());
    request.extend(VERSION.to_be_bytes());
    // The correlation id, and no client id.
    request.extend(1_i32.to_be_bytes());
    request.extend((-1_i16).to_be_bytes());
    request.extend(body);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_i32(i32::try_from(request.len()).expect("a short request")).await?;
    stream.write_all(&request).await?;
    // The length, the correlation id and the throttle time.
    for _ in 0..3 {
        stream.read_i32().await?;
    }
    Ok(stream)
}
