//! What a worker counts besides outcomes and backends.

use crate::nat::{Fix, Indicator};

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterKind {
    /// Only grows; a rate makes sense.
    Counter,
    /// A level: how many there are now.
    Gauge,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident $name:literal $kind:ident,)*) => {
        /// Something that a worker counts.
        #[repr(u16)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        impl Counter {
            /// All of them, in the order of the file.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name in statistics and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Whether it only grows.
            pub const fn kind(self) -> CounterKind {
                match self {
                    $(Self::$variant => CounterKind::$kind,)*
                }
            }
        }
    };
}

counters! {
    /// Frames taken from an RX ring.
    RxAfXdp "rx_af_xdp" Counter,
    /// Bytes of these frames, from the Ethernet header on.
    RxAfXdpBytes "rx_af_xdp_bytes" Counter,
    /// Datagrams taken from a kernel socket.
    RxKernel "rx_kernel" Counter,
    /// Bytes of their payloads.
    RxKernelBytes "rx_kernel_bytes" Counter,
    /// Frames put on a TX ring.
    TxAfXdp "tx_af_xdp" Counter,
    /// Bytes of these frames, from the Ethernet header on.
    TxAfXdpBytes "tx_af_xdp_bytes" Counter,
    /// Datagrams given to a kernel socket.
    TxKernel "tx_kernel" Counter,
    /// Bytes of their payloads.
    TxKernelBytes "tx_kernel_bytes" Counter,
    /// Sent through the kernel because there is no route.
    NextHopNoRoute "next_hop_no_route" Counter,
    /// Sent through the kernel because the MAC address of the next hop is not known; it asks for it.
    NextHopNoNeighbour "next_hop_no_neighbour" Counter,
    /// Sent through the kernel because the way leads through an interface without AF_XDP.
    NextHopOtherInterface "next_hop_other_interface" Counter,
    /// Sent through the kernel because the next hop is this host.
    NextHopLocal "next_hop_local" Counter,
    /// Sent through the kernel, as fragments, because the datagram is larger than the MTU.
    LargerThanMtu "larger_than_mtu" Counter,
    /// Not sent: the TX ring was full.
    TxRingFull "tx_ring_full" Counter,
    /// Not sent by AF_XDP: no chunk was free.
    TxNoChunk "tx_no_chunk" Counter,
    /// System calls that made the kernel send.
    TxKick "tx_kick" Counter,
    /// Of these, the ones that the kernel answered with "try again".
    TxKickAgain "tx_kick_again" Counter,
    /// System calls that made the kernel look at the fill ring.
    FillWakeup "fill_wakeup" Counter,
    /// Turns of the worker that found nothing to do.
    PollIdle "poll_idle" Counter,
    /// Turns of the worker that found datagrams.
    Batches "batches" Counter,
    /// Nanoseconds of these.
    BusyNs "busy_ns" Counter,
    /// Frames from an RX ring that were handed to another worker because this one was full.
    HandedOver "handed_over" Counter,
    /// Frames that another worker has handed to this one, which then counts all that becomes of them.
    TakenOver "taken_over" Counter,
    /// Frames from an RX ring that were lost because the worker that had the call had no room for them.
    HandoverFull "handover_full" Counter,
    /// Frames from an RX ring that are not for a listener.
    FrameNotOurs "frame_not_ours" Counter,
    /// Frames from an RX ring that are broken.
    FrameBroken "frame_broken" Counter,
    /// Datagrams with a wrong UDP checksum that we would have had to answer: not answered. One that is sent on keeps its
    /// wrong checksum and is not counted.
    BadUdpChecksum "bad_udp_checksum" Counter,
    /// Messages of clients that an indicator of far-end NAT matched.
    NatMatched "nat_matched" Counter,
    /// Of these, those that `contact-private` matched.
    NatContactPrivate "nat_contact_private" Counter,
    /// Those that `received` matched.
    NatReceived "nat_received" Counter,
    /// Those that `via-private` matched.
    NatViaPrivate "nat_via_private" Counter,
    /// Those that `sdp-private` matched.
    NatSdpPrivate "nat_sdp_private" Counter,
    /// Those that `via-port` matched.
    NatViaPort "nat_via_port" Counter,
    /// Those that `contact-address` matched.
    NatContactAddress "nat_contact_address" Counter,
    /// Those that `contact-port` matched.
    NatContactPort "nat_contact_port" Counter,
    /// Those that `source-private` matched.
    NatSourcePrivate "nat_source_private" Counter,
    /// Those that `sdp-address` matched.
    NatSdpAddress "nat_sdp_address" Counter,
    /// Those that `ipv6-local` matched.
    NatIpv6Local "nat_ipv6_local" Counter,
    /// Messages that the fix `rport` changed.
    NatFixRport "nat_fix_rport" Counter,
    /// Messages that the fix `contact` changed.
    NatFixContact "nat_fix_contact" Counter,
    /// Messages that the fix `contact-alias` changed.
    NatFixContactAlias "nat_fix_contact_alias" Counter,
    /// Messages that the fix `sdp` changed.
    NatFixSdp "nat_fix_sdp" Counter,
    /// Messages with more Contacts or SDP than is looked at.
    NatBeyondLimits "nat_beyond_limits" Counter,
    /// Messages that were copied for a trace.
    TraceCopied "trace_copied" Counter,
    /// Messages that were not copied for a trace because its queue was full: who looks is too slow.
    TraceDropped "trace_dropped" Counter,
    /// Messages that were not copied for a trace because there were more in a second than it may have.
    TraceLimited "trace_limited" Counter,
    /// Messages that were copied for HEP.
    HepCopied "hep_copied" Counter,
    /// Messages that were not copied for HEP because its queue was full.
    HepDropped "hep_dropped" Counter,
    /// HEP packets that were sent to the collector, one for each message as it came and one as it left.
    HepSent "hep_sent" Counter,
    /// HEP packets that could not be sent.
    HepSendError "hep_send_error" Counter,
    /// Errors while receiving from a kernel socket.
    KernelReceiveError "kernel_receive_error" Counter,
    /// Datagrams that a kernel socket refused to send.
    KernelSendError "kernel_send_error" Counter,
    /// Datagrams that a kernel socket had no room for.
    KernelWouldBlock "kernel_would_block" Counter,
    /// Steered frames that the kernel could not put into a chunk: no chunk in the fill ring, or too large.
    XskRxDropped "xsk_rx_dropped" Counter,
    /// Steered frames that found the RX ring full.
    XskRxRingFull "xsk_rx_ring_full" Counter,
    /// How often the kernel found the fill ring empty.
    XskFillRingEmpty "xsk_fill_ring_empty" Counter,
    /// How often the kernel found the TX ring empty.
    XskTxRingEmpty "xsk_tx_ring_empty" Counter,
    /// Descriptors in the fill ring that the kernel refused: a bug.
    XskRxInvalid "xsk_rx_invalid" Counter,
    /// Descriptors in the TX ring that the kernel refused: a bug.
    XskTxInvalid "xsk_tx_invalid" Counter,
    /// Chunks of the UMEM.
    FramesTotal "frames_total" Gauge,
    /// Chunks that nobody uses.
    FramesFree "frames_free" Gauge,
    /// Chunks that the kernel may receive into.
    FramesInFill "frames_in_fill" Gauge,
    /// Chunks with a received frame, waiting for or held by the worker.
    FramesInRx "frames_in_rx" Gauge,
    /// Chunks on a TX or completion ring.
    FramesInTx "frames_in_tx" Gauge,
}

impl Counter {
    /// Counts the messages that an indicator matched.
    pub const fn of_indicator(indicator: Indicator) -> Self {
        match indicator {
            Indicator::ContactPrivate => Self::NatContactPrivate,
            Indicator::Received => Self::NatReceived,
            Indicator::ViaPrivate => Self::NatViaPrivate,
            Indicator::SdpPrivate => Self::NatSdpPrivate,
            Indicator::ViaPort => Self::NatViaPort,
            Indicator::ContactAddress => Self::NatContactAddress,
            Indicator::ContactPort => Self::NatContactPort,
            Indicator::SourcePrivate => Self::NatSourcePrivate,
            Indicator::SdpAddress => Self::NatSdpAddress,
            Indicator::Ipv6Local => Self::NatIpv6Local,
        }
    }

    /// Counts the messages that a fix changed.
    pub const fn of_fix(fix: Fix) -> Self {
        match fix {
            Fix::Rport => Self::NatFixRport,
            Fix::Contact => Self::NatFixContact,
            Fix::ContactAlias => Self::NatFixContactAlias,
            Fix::Sdp => Self::NatFixSdp,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_counter_has_a_name_and_a_place_of_its_own() {
        let names = Counter::ALL
            .iter()
            .map(|counter| counter.name())
            .collect::<HashSet<_>>();
        assert_eq!(names.len(), Counter::ALL.len());
        for (place, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, place);
        }
    }

    #[test]
    fn indicators_and_fixes_have_counters_of_their_names() {
        for indicator in Indicator::ALL {
            let name = format!("nat_{}", indicator.name().replace('-', "_"));
            assert_eq!(Counter::of_indicator(indicator).name(), name);
        }
        for fix in Fix::ALL {
            let name = format!("nat_fix_{}", fix.name().replace('-', "_"));
            assert_eq!(Counter::of_fix(fix).name(), name);
        }
    }
}
