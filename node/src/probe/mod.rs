//! Probes: whether a flow is open, seen from both of its ends.
//!
//! In: a [`Plan`] of flows to try. Out: what the source saw ([`probe`]), what the destination saw
//! ([`respond`]), and the conclusion from both ([`judge`]). Never: a lasting change: listeners end
//! with the responder, and marks in the kernel time out.
//!
//! The two ends know each other only through the plan. A flow that should be closed is tried as any
//! program would send it and, where its source enforces, once more past the source's own output, so
//! that an open destination can't hide behind a closed source.

mod judge;
mod marks;
mod observation;
mod plan;
mod report;
mod respond;
mod socket;
mod source;
mod tls;
mod trace;

pub use judge::{Conclusion, Destination, Disposition, Evidence, Expectation, Finding, Place, Trace, judge};
pub use observation::{
    DESTINATION_SCHEMA, DestinationLine, Line, Listener, Outcome, Refusal, SOURCE_SCHEMA, SourceLine, Tls, TlsVersion,
    TraceVerdict, Watching,
};
pub use plan::{PLAN_SCHEMA, Packet, Plan, PlanError, Probe, Settings, Try, Tuple, tuples};
pub use report::{DestinationReport, SourceReport, evidence};
pub use respond::{RespondError, respond};
pub use socket::local_addresses;
pub use source::{ProbeError, probe};
