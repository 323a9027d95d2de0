//! Who the agent is: without an identity it asks for one, at half of a certificate's life for the next.
//!
//! What is enforced goes on whatever becomes of the identity. One that was revoked or given up takes no
//! assignment and opens no connection.

use super::action::Happening;
use super::{Action, Millis, Moment, Reconciler, SECOND};

/// Between two tries to renew.
const RENEW_AGAIN: Millis = 60 * SECOND;

#[derive(Debug)]
pub(super) enum Identity {
    None {
        /// When to ask; `None` while it is being asked for.
        retry: Option<Millis>,
    },
    Valid {
        /// When to renew; `None` while it is being renewed.
        renew: Option<Millis>,
    },
    /// The controller does not know it any more.
    Revoked,
    /// An operator ended management.
    Released,
}

impl Identity {
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::Valid { .. })
    }

    pub fn due(&self) -> Option<Millis> {
        match self {
            Self::None { retry } => *retry,
            Self::Valid { renew } => *renew,
            Self::Revoked | Self::Released => None,
        }
    }
}

impl Reconciler {
    pub(super) fn enrolled(&mut self, moment: Moment, valid: Millis) {
        if !matches!(self.identity, Identity::Released) {
            self.identity = Identity::Valid { renew: Some(moment.now.saturating_add(valid / 2)) };
        }
    }

    pub(super) fn pending(&mut self, moment: Moment, retry: Millis) {
        if let Identity::None { retry: due } = &mut self.identity {
            *due = Some(moment.after(retry.max(SECOND)));
        }
    }

    pub(super) fn not_renewed(&mut self, moment: Moment) {
        if let Identity::Valid { renew } = &mut self.identity {
            *renew = Some(moment.after(RENEW_AGAIN));
        }
    }

    pub(super) fn revoked(&mut self, moment: Moment, detail: String) {
        if matches!(self.identity, Identity::Released) {
            return;
        }
        self.identity = Identity::Revoked;
        self.report(moment, Happening::Trouble { kind: "identity", detail });
        if self.link.is_up() {
            self.actions.push(Action::Disconnect);
        }
    }

    /// Asks for an identity or the next one when it is time.
    pub(super) fn identify(&mut self, moment: Moment) {
        let due = match &mut self.identity {
            Identity::None { retry: due } | Identity::Valid { renew: due } => due,
            Identity::Revoked | Identity::Released => return,
        };
        if due.take_if(|due| *due <= moment.now).is_some() {
            let is_first = matches!(self.identity, Identity::None { .. });
            self.actions.push(if is_first { Action::Enrol } else { Action::Renew });
        }
    }
}
