//! Labs: hosts as network namespaces joined by veth pairs, with real SIPp in them.
