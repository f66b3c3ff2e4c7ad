//! One name for each thing that can become of a datagram.

/// How an outcome ends for the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeClass {
    /// Sent on.
    Forward,
    /// Answered by us.
    Reply,
    /// Not wanted, nothing sent.
    Drop,
    /// For us and dealt with, nothing sent.
    Absorb,
}
