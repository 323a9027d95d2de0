//! Probes: whether a flow is open, seen from both of its ends.
//!
//! In: a [`Plan`] of flows to try. Out: what the source saw ([`probe`]), what the destination saw
//! ([`respond`]), and the conclusion from both ([`judge`]). Never: a lasting change: listeners end
//! with the responder, and marks in the kernel time out.
//!
//! The two ends know each other only through the plan. A flow that should be closed is tried as any
//! program would send it and, where its source enforces, once more past the source's own output, so
//! that an open destination can't hide behind a closed source.

mod marks;
mod respond;
mod socket;
mod source;
mod tls;
mod trace;

pub use respond::{RespondError, respond};
pub use ringwall_probe::{
    Conclusion, DESTINATION_SCHEMA, Destination, DestinationLine, DestinationReport, Disposition, Evidence, Expectation, Finding, Line,
    Listener, Outcome, PLAN_SCHEMA, Packet, Place, Plan, PlanError, Probe, Refusal, SOURCE_SCHEMA, Settings, SourceLine, SourceReport, Tls,
    TlsVersion, Trace, TraceVerdict, Try, Tuple, Watching, evidence, judge, tuples,
};
pub use socket::local_addresses;
pub use source::{ProbeError, probe};
