//! Dead letters on a real server: kept once, sent again when asked for, copied where they lie.

use std::time::{Duration, UNIX_EPOCH};

use pgherald_core::{
    BatchLimits, Body, Budget, ContentType, DeadLetter, DeadLetters, DeadLettersError, Envelope,
    EventNames, FlowContext, Message, MessageId, Room,
};
use pgherald_postgres::{
    DeadLetterAdmin, DeadLetterStore, Filter, FlowDeadLetters, Identity, PostgresSettings,
    SetupOptions, connect, query, setup,
};
use pgherald_testkit::Postgres;

const ROOM: Room = Room {
    messages: 1_000,
    bytes: 1 << 20,
    first_bytes: usize::MAX,
    budget: pgherald_core::Budget { messages: 1_000, bytes: 1 << 20 },
};
const SECOND: Duration = Duration::from_secs(1);

fn context() -> FlowContext {
    FlowContext {
        pipeline: "p'".into(),
        source: "outbox",
        sink: "bus".into(),
        channels: None,
        envelope: Envelope::Binary,
        events: EventNames::default(),
        budget: Budget { messages: 1_000, bytes: 1 << 20 },
        batch: BatchLimits { messages: 100, bytes: 1 << 20, linger: Duration::ZERO },
        message_bytes_max: 1_000,
    }
}

async fn server() -> (Postgres, PostgresSettings) {
    let postgres = Postgres::start().await.unwrap();
    let settings = PostgresSettings::parse(&postgres.url()).unwrap();
    (postgres, settings)
}

async fn install(settings: &PostgresSettings) {
    setup(settings, &SetupOptions::default(), &mut |_| {}).await.unwrap();
}

fn letters(settings: &PostgresSettings) -> FlowDeadLetters {
    let store = DeadLetterStore::new(settings.clone());
    store.of_flow(&context(), Some("pgherald.outbox".to_owned()), Identity::This)
}

fn message(id: &str, body: Body) -> Message {
    Message {
        id: MessageId::new(format_args!("{id}")),
        channel: "or'ders".into(),
        key: Some("k\\".into()),
        headers: [("a".into(), "b'\"\\".into())].into_iter().collect(),
        content_type: ContentType::BytesAs("x/y".into()),
        body,
        since: UNIX_EPOCH + Duration::from_micros(1_793_424_001_005_999),
    }
}

async fn put(letters: &FlowDeadLetters, message: &Message, reason: &str) {
    letters.put(DeadLetter { message, reason, age: SECOND }).await.unwrap();
}

#[tokio::test]
async fn what_is_kept_comes_back_as_it_was() {
    let (_postgres, settings) = server().await;
    install(&settings).await;
    let letters = letters(&settings);
    let bytes = message("1-1", Body::Payload(vec![0, 255, b'\\', b'\''].into()));
    let tombstone = message("1-2", Body::Tombstone);
    for kept in [&bytes, &tombstone, &bytes] {
        put(&letters, kept, "too 'large'\0").await;
    }
    assert!(letters.next(ROOM).await.unwrap().is_empty(), "nobody asked for them");
    let mut desk = DeadLetterAdmin::open(&settings).await.unwrap();
    let filter = Filter { pipeline: Some("p'".into()), sink: Some("bus".into()) };
    let shown = desk.show(&filter, "1-1").await.unwrap();
    assert_eq!(shown.len(), 1, "one dead letter, however often it is put");
    assert_eq!((shown[0].kept.attempts, shown[0].kept.payload_bytes), (2, 4));
    assert_eq!(shown[0].kept.reason, "too 'large'\u{fffd}");
    assert!(shown[0].kept.first_attempt_at < shown[0].kept.last_attempt_at);
    assert_eq!(desk.replay_all(&filter).await.unwrap(), 2);
    let again = letters.next(ROOM).await.unwrap();
    assert_eq!(again.len(), 2);
    let first = &again[0];
    assert_eq!((first.id, &*first.channel, &first.key), (bytes.id, "or'ders", &bytes.key));
    assert_eq!((first.since, &first.content_type), (bytes.since, &bytes.content_type));
    assert_eq!(first.headers.get("a"), Some("b'\"\\"));
    assert!(matches!(&first.body, Body::Payload(payload) if payload[..] == [0, 255, b'\\', b'\'']));
    assert!(matches!(again[1].body, Body::Tombstone));
    let one = Room { messages: 1, ..ROOM };
    assert_eq!(letters.next(one).await.unwrap().len(), 1);
    letters.done(&[bytes.id]).await.unwrap();
    put(&letters, &tombstone, "again").await;
    assert!(letters.next(ROOM).await.unwrap().is_empty(), "one is done, one was rejected again");
    let mut listed = Vec::new();
    desk.list(&filter, &mut |kept| listed.push(kept)).await.unwrap();
    assert_eq!((listed[0].replayed, listed[1].asked, listed[1].attempts), (true, false, 2));
    let nobody = Filter { sink: Some("other".into()), ..Filter::default() };
    assert!(desk.replay(&nobody, &["1-1".into()]).await.unwrap().is_empty());
    assert_eq!(desk.replay(&filter, &["1-1".into(), "9-9".into()]).await.unwrap(), ["1-1"]);
    assert_eq!(desk.purge_older(&filter, 1).await.unwrap(), 0);
    assert_eq!(desk.purge(&filter, &["1-2".into(), "8-8".into()]).await.unwrap(), ["1-2"]);
    assert_eq!(desk.purge_older(&filter, 0).await.unwrap(), 0, "it waits to be sent again");
    letters.done(&[bytes.id]).await.unwrap();
    assert_eq!(desk.purge_older(&filter, 0).await.unwrap(), 1);
}

#[tokio::test]
async fn a_replay_has_the_same_envelope() {
    let (_postgres, settings) = server().await;
    install(&settings).await;
    let letters = letters(&settings);
    let kinds = [
        (ContentType::Text, "text"),
        (ContentType::Json, "{\"n\": 1}"),
        (ContentType::Bytes, "bytes"),
        (ContentType::TextAs("application/xml".into()), "<a/>"),
        (ContentType::BytesAs("application/xml".into()), "<a/>"),
        (ContentType::TextAs("application/json".into()), "{}"),
        (ContentType::TextAs("text/plain; charset=utf-8".into()), "{}"),
    ];
    for (n, (content_type, payload)) in kinds.iter().enumerate() {
        let body = Body::Payload((*payload).into());
        let kept =
            Message { content_type: content_type.clone(), ..message(&format!("1-{n}"), body) };
        put(&letters, &kept, "no").await;
    }
    let mut desk = DeadLetterAdmin::open(&settings).await.unwrap();
    desk.replay_all(&Filter::default()).await.unwrap();
    let again = letters.next(ROOM).await.unwrap();
    let again: Vec<_> = again.into_iter().map(|message| message.content_type).collect();
    assert_eq!(again, kinds.map(|(content_type, _)| content_type));
}

#[tokio::test]
async fn what_was_never_fetched_is_copied_inside_the_database() {
    let (_postgres, settings) = server().await;
    install(&settings).await;
    let letters = letters(&settings);
    let mut connection = connect(&settings).await.unwrap();
    let sql = "SELECT pgherald.send('orders', repeat('x', 5000), 'k', '{\"h\": \"v\"}')";
    query(&mut connection, sql).await.unwrap();
    let id = "SELECT (extract(epoch FROM created_at)::numeric * 1000000)::bigint::text || '-' || id \
         FROM pgherald.outbox";
    let id: String = sqlx::Row::get(&query(&mut connection, id).await.unwrap()[0], 0);
    let large = message(&id, Body::Oversize(5_000));
    for reason in ["large", "still large"] {
        put(&letters, &large, reason).await;
    }
    let other = message("7-1", Body::Oversize(5_000));
    let put_other = letters.put(DeadLetter { message: &other, reason: "", age: SECOND });
    let refused = put_other.await.unwrap_err();
    assert!(matches!(refused, DeadLettersError::Blocked(_)), "another row has this number");
    query(&mut connection, "DELETE FROM pgherald.outbox").await.unwrap();
    let mut desk = DeadLetterAdmin::open(&settings).await.unwrap();
    let shown = desk.show(&Filter::default(), &id).await.unwrap().remove(0);
    assert_eq!((shown.kept.channel.as_str(), shown.kept.attempts), ("orders", 2));
    assert_eq!(shown.payload.unwrap().len(), 5_000);
    assert_eq!(shown.kept.content_type.unwrap(), "text/plain; charset=utf-8");
    // Sent again it is still too large for the sink, and its row is gone.
    desk.replay(&Filter::default(), std::slice::from_ref(&id)).await.unwrap();
    let again = letters.next(ROOM).await.unwrap().remove(0);
    assert!(matches!(again.body, Body::Oversize(5_000)), "{again:?}");
    for attempt in 3..5 {
        put(&letters, &again, "as large as ever").await;
        let shown = desk.show(&Filter::default(), &id).await.unwrap().remove(0);
        assert_eq!((shown.kept.attempts, shown.kept.asked), (attempt, false));
        assert_eq!(shown.payload.unwrap().len(), 5_000);
    }
}

#[tokio::test]
async fn what_is_in_the_way_is_told_and_goes_by() {
    let (postgres, settings) = server().await;
    let letters = letters(&settings);
    let kept = message("1-1", Body::Tombstone);
    let letter = DeadLetter { message: &kept, reason: "no", age: SECOND };
    assert!(letters.next(ROOM).await.unwrap().is_empty(), "without a schema there are none");
    let missing = letters.put(letter).await.unwrap_err();
    assert!(
        matches!(missing, DeadLettersError::Blocked(ref why) if why.to_string().contains("pgherald setup"))
    );
    install(&settings).await;
    letters.put(letter).await.unwrap();
    let mut holder = connect(&settings).await.unwrap();
    query(&mut holder, "BEGIN; LOCK TABLE pgherald.dead_letter").await.unwrap();
    let locked = letters.put(letter).await.unwrap_err();
    assert!(matches!(locked, DeadLettersError::Transient(_)), "{locked:?}");
    query(&mut holder, "COMMIT").await.unwrap();
    letters.put(letter).await.unwrap();
    postgres.restart().await.unwrap();
    let mut attempts = 0;
    while letters.put(letter).await.is_err() {
        attempts += 1;
        assert!(attempts < 20, "it finds the server again");
    }
}
