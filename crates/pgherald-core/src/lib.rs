//! Ordering, backpressure and delivery between a source and a sink.
//!
//! Data goes one way, as [`Batch`]es from a [`Session`] through a window to a [`Writer`]; one
//! [`Checkpoint`] comes back, through [`Settled`]. Core owns all waiting and all replay, knows no
//! PostgreSQL and no broker.

mod backoff;
mod batch;
mod clock;
mod context;
mod dead_letters;
mod envelope;
mod event_names;
mod finding;
mod flow;
mod gap;
mod host;
mod id;
mod json;
mod list;
mod media_type;
mod message;
mod metrics;
mod named_file;
mod outcomes;
mod pem;
mod percent;
mod secret;
mod settled;
mod sink;
mod source;
mod state;
mod template;
mod time;
mod tls;
mod uri;
mod window;

pub use self::{
    backoff::{Backoff, Reconnect},
    batch::{Batch, BatchLimits, Budget, Checkpoint, Room},
    clock::{Clock, clock},
    context::FlowContext,
    dead_letters::{DeadLetter, DeadLetters, DeadLettersError},
    envelope::{Binding, Envelope, WrapError, Wrapper, check_event, is_attribute_header},
    event_names::{EventNames, EventNamesConfig},
    finding::{Finding, Level, Problem, Problems},
    flow::{Flow, FlowEnd, FlowSettings, OnRejected, Seen, Tap, Watcher},
    gap::{GAP_TYPE, Gap, GapReason, RejectedMessage},
    host::is_loopback,
    id::{ID_BYTES_MAX, MessageId},
    list::StringList,
    media_type::{EVENT_BATCH_MEDIA_TYPE, EVENT_MEDIA_TYPE, is_media_type, is_other_event_format},
    message::{Body, ContentType, Headers, Message},
    metrics::describe_metrics,
    named_file::{FileFault, NamedFile},
    outcomes::Outcomes,
    pem::Pem,
    secret::{REDACTED, Secret, WatchedSecret},
    settled::Settled,
    sink::{
        Confirmation, ConnectionState, Event, Only, Open, Opened, Ordering, Outcome, Published,
        Sink, SinkError, Writer,
    },
    source::{Attached, Session, Source, SourceError},
    state::{FlowState, FlowStatus, GAPS_REMEMBERED, OldestMessage, Owner},
    template::{Placeholder, Template, TemplateError, TemplatePart},
    time::{Rfc3339, rfc3339},
    tls::mend_tls,
};

/// Any error, for the chain that the binary prints.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
