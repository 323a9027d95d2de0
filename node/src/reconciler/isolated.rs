//! The way to the controller: without one, the agent tries again, later each time and at random.

use super::action::{Action, Happening, Say, seconds};
use super::enrolling::Identity;
use super::{Millis, Moment, Order, Reconciler, SECOND};

/// After the first failure, about so long; after each further one twice as long.
const FIRST: Millis = SECOND;
/// And at most so long: what a fleet of thousands comes back in.
const LONGEST: Millis = 60 * SECOND;

#[derive(Debug)]
pub(super) enum Link {
    Isolated { failures: u32, retry: Millis },
    Connecting { failures: u32 },
    Connected,
    /// Told to connect again so many milliseconds after the end.
    Leaving { wait: Millis },
}

impl Default for Link {
    fn default() -> Self {
        Self::Isolated { failures: 0, retry: 0 }
    }
}

impl Link {
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Connected)
    }

    pub fn is_due(&self, now: Millis, identity: &Identity) -> bool {
        self.due(identity).is_some_and(|due| due <= now)
    }

    pub fn due(&self, identity: &Identity) -> Option<Millis> {
        match self {
            Self::Isolated { retry, .. } if identity.is_valid() => Some(*retry),
            _ => None,
        }
    }

    pub fn connecting(&mut self) {
        if let Self::Isolated { failures, .. } = self {
            *self = Self::Connecting { failures: *failures };
        }
    }

    pub fn disconnected(&mut self, moment: Moment) {
        *self = match self {
            // Said twice.
            Self::Isolated { .. } => return,
            Self::Leaving { wait } => Self::Isolated { failures: 0, retry: moment.after(*wait) },
            Self::Connecting { failures } => {
                let wait = FIRST.saturating_mul(1 << (*failures).min(16)).min(LONGEST);
                Self::Isolated { failures: *failures + 1, retry: moment.after(wait) }
            }
            Self::Connected => Self::Isolated { failures: 1, retry: moment.after(FIRST) },
        };
    }
}

impl Reconciler {
    /// Says what may have been lost: how far the newest assignment came, and what happened meanwhile.
    pub(super) fn connected(&mut self, moment: Moment) {
        if !self.identity.is_valid() {
            self.actions.push(Action::Disconnect);
            return;
        }
        self.link = Link::Connected;
        self.say_progress();
        for (at, happening) in std::mem::take(&mut self.happenings) {
            self.say(Say::Happened { age: seconds(moment.now.saturating_sub(at)), happening });
        }
        if self.lost > 0 {
            self.say(Say::Happened { age: 0, happening: Happening::Lost(self.lost) });
            self.lost = 0;
        }
    }

    /// Management is over.
    pub(super) fn release(&mut self) {
        self.identity = Identity::Released;
        self.link = Link::Leaving { wait: 0 };
        self.actions.extend([Action::ForgetIdentity, Action::Disconnect]);
    }

    pub(super) fn ordered(&mut self, moment: Moment, id: u64, order: Order) {
        let refused = match order {
            Order::Rollback(place) => !self.end_trial_of(moment, place),
            // The identity goes last: an agent that is killed before can be ordered again.
            Order::Release { remove: true } => {
                self.removing = true;
                self.drift.read_at(moment.now);
                false
            }
            Order::Release { remove: false } => {
                self.release();
                false
            }
            Order::Move(wait) => {
                if self.link.is_up() {
                    self.link = Link::Leaving { wait };
                    self.actions.push(Action::Disconnect);
                }
                false
            }
        };
        if refused {
            self.say(Say::OrderRefused { id, detail: "that assignment is not on trial here".into() });
        }
    }
}
