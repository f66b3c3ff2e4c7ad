//! Captures, and what tshark says about them.
