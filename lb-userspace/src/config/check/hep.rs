//! HEP: a collector that is somebody else.

use std::net::SocketAddr;

use super::{Checker, PATH, Wanted, is_unicast, path};
use crate::config::{Hep, Listener, locate::Path, text};

const COLLECTOR: Wanted = Wanted::new(
    "an address and port",
    "IP:PORT, such as 192.0.2.50:9060 or \"[2001:db8::50]:9060\"",
);
const SAMPLE: Wanted = Wanted::new(
    "a share of calls",
    "a number above 0 and up to 1, without quotes; leave out \"hep\" for none",
);

impl Checker {
    pub(super) fn hep(
        &mut self,
        at: &Path,
        field: text::Field<text::Hep>,
        listeners: &[Option<Listener>],
    ) -> Option<Hep> {
        let fields = &mut self.fields;
        let text = fields.section(at, field)?;
        let collector_at = at.key("collector");
        let collector = fields.required(&collector_at, text.collector, COLLECTOR, |text| {
            let address: SocketAddr = text.parse().ok()?;
            (address.port() != 0 && is_unicast(address.ip())).then_some(address)
        });
        let sample_at = at.key("sample");
        let sample = fields.given(&sample_at, text.sample, SAMPLE).unwrap_or(1.0);
        if !(sample > 0.0 && sample <= 1.0) {
            fields.refuse(&sample_at, sample, SAMPLE);
        }
        let id = fields.number(&at.key("id"), text.id, 0..=u32::MAX);
        let password_at = at.key("password_file");
        let password_file = fields.optional(&password_at, text.password_file, PATH, path);
        let collector = collector?;
        let mut listeners = listeners.iter().flatten();
        if let Some(listener) = listeners.find(|listener| listener.address == collector) {
            let what = format!(
                "\"{collector}\" is listener {:?}, so copies would be taken for SIP and copied again; write the collector's own \
                 address",
                listener.name
            );
            fields.problems.add(&collector_at, what);
        }
        Some(Hep {
            collector,
            sample,
            id: id.unwrap_or(Hep::DEFAULT_ID),
            password_file,
            password: None,
        })
    }
}
