//! Probes as data: whether a flow is open, seen from both of its ends.
//!
//! In: a [`Plan`] of flows to try; what its two ends saw, line by line. Out: the [`Evidence`] of each probe, and the
//! conclusion from it ([`judge`]). Never: a socket, a clock, the kernel: who tries and who watches is elsewhere.

mod judge;
mod observation;
mod plan;
mod report;

pub use judge::{Conclusion, Destination, Disposition, Evidence, Expectation, Finding, Place, Trace, judge};
pub use observation::{
    DESTINATION_SCHEMA, DestinationLine, Line, Listener, Outcome, Refusal, SOURCE_SCHEMA, SourceLine, Tls, TlsVersion,
    TraceVerdict, Watching,
};
pub use plan::{PLAN_SCHEMA, Packet, Plan, PlanError, Probe, Settings, Try, Tuple, tuples};
pub use report::{DestinationReport, SourceReport, evidence, place};
