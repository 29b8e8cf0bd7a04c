//! One request and its answer, signed again where the receiver refused it for its time.

use std::sync::Arc;

use hyper::StatusCode;
use pgherald_core::BoxError;

use crate::{
    access::{Access, LiveAccess},
    client::{Client, Failure},
    clock::{AWAY_S_MIN, DatabaseOffset, database_is_away},
    composer::Composer,
    error::{Class, Fault, HttpError, Said},
    schedule::Item,
    target::Target,
};

/// What became of a request.
pub(crate) enum RequestOutcome {
    /// 2xx.
    Confirmed,
    /// The receiver will never take this, or it cannot be sent.
    Rejected(BoxError),
    /// The session is over.
    Fault {
        fault: Fault,
        /// The request may have arrived.
        sent: bool,
        /// What the receiver said of the messages.
        said: Said,
    },
}

/// Everything that one request needs.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) client: Client,
    pub(crate) composer: Composer,
    pub(crate) access: Arc<LiveAccess>,
    pub(crate) database: DatabaseOffset,
}

impl Exchange {
    /// Sends a request batch and waits for its answer.
    pub(crate) async fn run(&self, request_batch: &[Item]) -> RequestOutcome {
        match self.answered(request_batch).await {
            Ok(()) => RequestOutcome::Confirmed,
            Err(Failed::Illegal(why)) => RequestOutcome::Rejected(why),
            Err(Failed::Answered(Failure { error, sent })) => match error.class() {
                Class::Rejected => RequestOutcome::Rejected(error.into()),
                _ => {
                    let said = if sent { error.said() } else { Said::Unheard };
                    let fault = Fault::new(error, Composer::id(request_batch));
                    RequestOutcome::Fault { fault, sent, said }
                }
            },
        }
    }

    async fn answered(&self, request_batch: &[Item]) -> Result<(), Failed> {
        let unreadable = |fault| Failure { error: HttpError::Secret(fault), sent: false };
        let access = self.access.now().map_err(|fault| Failed::Answered(unreadable(fault)))?;
        let at_s = Composer::target(&access, request_batch).clock.now_s();
        match self.once(&access, request_batch, at_s).await {
            Err(Failed::Answered(failure)) => {
                if failure.error.status().is_some_and(is_about_credentials) {
                    self.access.refused();
                }
                match access.signer.signs() && may_be_about_time(&failure) {
                    true => self.again(&access, request_batch, at_s, failure).await,
                    false => Err(Failed::Answered(failure)),
                }
            }
            answered => answered,
        }
    }

    async fn once(&self, access: &Access, request_batch: &[Item], at_s: u64) -> Result<(), Failed> {
        let request =
            self.composer.compose(access, request_batch, at_s).map_err(Failed::Illegal)?;
        let target = Composer::target(access, request_batch);
        self.client.send(target, request).await.map_err(Failed::Answered)
    }

    /// The request that was signed for `at_s` was refused: the answer's `Date` tells whether for its
    /// time. Only a time that the receiver took is kept.
    async fn again(
        &self,
        access: &Access,
        request_batch: &[Item],
        at_s: u64,
        refused: Failure,
    ) -> Result<(), Failed> {
        let target = Composer::target(access, request_batch);
        let Some(date_s) = refused.error.date_s() else {
            return Err(self.blame_the_clock(target, at_s, refused));
        };
        if date_s.abs_diff(at_s) <= AWAY_S_MIN {
            return Err(Failed::Answered(refused));
        }
        match self.once(access, request_batch, date_s).await {
            Ok(()) => {
                self.corrected(target, date_s);
                Ok(())
            }
            Err(Failed::Answered(failure)) if may_be_about_time(&failure) => {
                Err(self.blame_the_clock(target, at_s, failure))
            }
            failed => failed,
        }
    }

    /// While this machine's clock and the database's differ, nobody knows whether the message or its
    /// time was refused.
    fn blame_the_clock(&self, target: &Target, at_s: u64, failure: Failure) -> Failed {
        let away = database_is_away(&self.database, at_s);
        let (Some(ahead_s), Some(status)) = (away, failure.error.status()) else {
            return Failed::Answered(failure);
        };
        let origin = target.origin.clone();
        let error = HttpError::Clock { origin, status, ahead_s };
        Failed::Answered(Failure { error, ..failure })
    }

    fn corrected(&self, target: &Target, accepted_s: u64) {
        if let Some(ahead_s) = target.clock.correct(accepted_s) {
            let (pipeline, sink) = self.composer.flow();
            tracing::warn!(
                pipeline,
                sink,
                ahead_s,
                "the clock of this machine is wrong by {} s: {} refused a signature for its time; \
                 requests are signed with the receiver's time from now on; set the clock right (NTP)",
                ahead_s.unsigned_abs(),
                target.origin
            );
        }
    }
}

fn is_about_credentials(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// Whether the receiver may have refused the time of the signature: receivers answer with any of
/// these.
fn may_be_about_time(failure: &Failure) -> bool {
    let status = failure.error.status();
    status.is_some_and(|it| it == StatusCode::BAD_REQUEST || is_about_credentials(it))
}

/// Why a request was not taken.
enum Failed {
    /// No request can be made of the message.
    Illegal(BoxError),
    Answered(Failure),
}
