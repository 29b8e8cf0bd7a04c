//! What the suite has to know of a kind of destination.

use std::sync::Arc;

use pgherald_core::{FlowContext, Message, Sink};

use super::Arrival;
use crate::FaultProxy;

/// The channel of the suite's messages, unless a case says otherwise.
pub const CHANNEL: &str = "events";

/// A real server of one kind, with a proxy in front of it, that the suite breaks and repairs.
///
/// A *place* is what a sink's configuration names: a topic, a stream, a path. The suite gives each
/// case a place with a name of its own, made of lower-case letters, digits and dashes.
#[expect(async_fn_in_trait, reason = "the suite awaits them in the test's own task")]
pub trait Destination {
    /// The messages of one batch. A sink that sends one request a message says 1.
    const BATCH_MESSAGES: usize = 100;

    /// Whether a place can be full. Otherwise that case is left out.
    const CAN_BE_FULL: bool = true;

    /// Whether [`read`](Self::read) returns arrivals of different units in the order in which they
    /// came. Kafka has no order between partitions.
    const READS_IN_ORDER: bool = true;

    /// Whether nothing that a dropped writer sent can arrive after the next writer is open. False
    /// where opening a writer speaks to nobody, as over HTTP.
    const FENCES: bool = true;

    /// Whether the case of a halt waits in every test run until the flow offers its message again: 30 s.
    /// Otherwise only `cargo xtask prove` waits. True in crates whose other tests take as long.
    const ALWAYS_HEALS_A_HALT: bool = false;

    /// A sink into this place, which connects through [`proxy`](Self::proxy). Its template, if there
    /// is one, has `{channel}` in it: with the channels that `context` lists the place is a
    /// configured one, and where it lists none the message names it.
    fn sink(&self, place: &str, context: FlowContext) -> Arc<dyn Sink>;

    /// Makes a place for [`CHANNEL`]. It takes payloads of 10,000 bytes, and none of
    /// [`too_large`](Self::too_large).
    async fn make(&self, place: &str);

    /// Everything that the place holds or received, in order, read past the proxy.
    async fn read(&self, place: &str) -> Vec<Arrival>;

    /// The bytes of a payload that a place does not take.
    fn too_large(&self) -> usize;

    /// From now on the place takes payloads of [`too_large`](Self::too_large), too. All other places may
    /// do so as well.
    async fn widen(&self, place: &str);

    /// Changes a message so that it names a destination, or brings a header, that is illegal here.
    /// False: there is nothing illegal in this kind.
    fn spoil(&self, message: &mut Message) -> bool;

    /// Takes away the right to write to this place.
    async fn deny(&self, place: &str);

    /// Gives it back.
    async fn grant(&self, place: &str);

    /// Makes the place full: it takes nothing more. All other places may be full as well.
    async fn fill(&self, place: &str);

    /// The place takes messages again; what it holds stays.
    async fn empty(&self, place: &str);

    /// Between the sinks and the server.
    fn proxy(&self) -> &FaultProxy;

    /// Ends the server as a power cut would; what it confirmed has to survive.
    async fn kill(&self);

    /// Starts it again.
    async fn start_again(&self);

    /// Freezes it: connections stay open, and nothing is answered.
    fn pause(&self);

    /// Goes on where it froze.
    fn resume(&self);
}
