//! Tests of the whole: small policies, and machines that are played by threads.
