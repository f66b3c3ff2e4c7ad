//! Metrics as text, in the two formats that Prometheus reads: OpenMetrics 1.0 and its own older one, 0.0.4.
//!
//! Why not `prometheus-client`: it writes OpenMetrics alone, which scrapers have to ask for. What is different between the two is
//! little: how the names of counters are declared, units, and a line at the end.

use std::fmt::{self, Write};

use crate::stats::Distribution;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What the Accept header field asks for (RFC 9110 §12.5.1): OpenMetrics where it is wanted at least as much as plain text.
    pub fn wanted(accept: &str) -> Self {
        let (mut open_metrics, mut text) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters = parts.filter_map(|part| part.split_once('='));
            let (mut quality, mut version) = (1.0f32, None);
            for (name, value) in parameters {
                let value = value.trim().trim_matches('"');
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.parse().unwrap_or(0.0),
                    "version" => version = Some(value),
                    _ => {}
                }
            }
            match media.as_str() {
                "application/openmetrics-text" if version.is_none_or(|v| v == "1.0.0") => {
                    open_metrics = quality.max(open_metrics);
                }
                "text/plain" => text = quality.max(text),
                _ => {}
            }
        }
        match open_metrics > 0.0 && open_metrics >= text {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    /// The type of the content.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// Writes metrics, family after family.
#[derive(Debug)]
pub(super) struct Encoder {
    format: Format,
    text: String,
}

/// The samples of one name. A family without samples is not written.
#[derive(Debug)]
pub(super) struct Family<'a> {
    encoder: &'a mut Encoder,
    kind: Kind,
    /// Without `_total` and `_info`.
    name: &'static str,
    help: &'static str,
    is_begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Info,
    Histogram,
}

/// A value: whole numbers are written as they are, not rounded to what a float has room for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Whole(u64),
    Float(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self::Whole(value.into())
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => write!(f, "{value}"),
            Self::Float(value) if value.is_nan() => f.write_str("NaN"),
            Self::Float(value) if value.is_infinite() => {
                f.write_str(if *value > 0.0 { "+Inf" } else { "-Inf" })
            }
            Self::Float(value) => write!(f, "{value}"),
        }
    }
}

impl Encoder {
    pub fn new(format: Format) -> Self {
        Self {
            format,
            text: String::new(),
        }
    }

    /// Something that only grows. `name` is without `_total`.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(Kind::Counter, name, help)
    }

    /// Something that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(Kind::Gauge, name, help)
    }

    /// What is told by labels, with the value 1. `name` is without `_info`.
    pub fn info(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(Kind::Info, name, help)
    }

    /// How large values were.
    pub fn histogram(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(Kind::Histogram, name, help)
    }

    fn family(&mut self, kind: Kind, name: &'static str, help: &'static str) -> Family<'_> {
        Family {
            encoder: self,
            kind,
            name,
            help,
            is_begun: false,
        }
    }

    /// All that was written.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn sample(
        &mut self,
        name: &str,
        suffix: &str,
        labels: Labels<'_>,
        last: Option<(&str, &str)>,
        value: Number,
    ) {
        let text = &mut self.text;
        text.push_str(name);
        text.push_str(suffix);
        let mut opening = '{';
        for (label, content) in labels.iter().copied().chain(last) {
            text.push(opening);
            text.push_str(label);
            text.push_str("=\"");
            escape(text, content, true);
            text.push('"');
            opening = ',';
        }
        if opening == ',' {
            text.push('}');
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, " {value}");
    }
}

impl Family<'_> {
    /// A sample of a counter, gauge or info.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Into<Number>) {
        self.begin();
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.encoder
            .sample(self.name, suffix, labels, None, value.into());
    }

    /// A distribution, whose values are `scale` times what they are in base units.
    pub fn distribution(&mut self, labels: Labels<'_>, values: &Distribution, scale: f64) {
        self.begin();
        let mut below = 0;
        for (place, count) in values.counts.iter().enumerate() {
            below += count;
            let bound = values.bounds.get(place).map_or("+Inf".to_owned(), |bound| {
                // A bound is a float also when it is whole (OpenMetrics 1.0, "Canonical Numbers").
                let bound = *bound as f64 / scale;
                match bound.fract() == 0.0 {
                    true => format!("{bound:.1}"),
                    false => bound.to_string(),
                }
            });
            let last = Some(("le", bound.as_str()));
            self.encoder
                .sample(self.name, "_bucket", labels, last, below.into());
        }
        let sum = values.sum as f64 / scale;
        self.encoder
            .sample(self.name, "_sum", labels, None, sum.into());
        self.encoder
            .sample(self.name, "_count", labels, None, below.into());
    }

    /// Declares the family before its first sample.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        let is_open = self.encoder.format == Format::OpenMetrics;
        let (suffix, kind) = match self.kind {
            Kind::Counter => (if is_open { "" } else { "_total" }, "counter"),
            // Not `info`: tools that read the older format only by name stop at a type that they do not know.
            Kind::Info => ("_info", "gauge"),
            Kind::Gauge => ("", "gauge"),
            Kind::Histogram => ("", "histogram"),
        };
        let Self { name, help, .. } = *self;
        let text = &mut self.encoder.text;
        let _ = write!(text, "# HELP {name}{suffix} ");
        escape(text, help, is_open);
        let _ = writeln!(text, "\n# TYPE {name}{suffix} {kind}");
        let unit = ["seconds", "bytes"]
            .into_iter()
            .find(|unit| name.ends_with(&format!("_{unit}")));
        if let (true, Some(unit)) = (is_open, unit) {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
    }
}

/// Label values and, in OpenMetrics, help have their quotes escaped as well.
fn escape(to: &mut String, text: &str, quotes: bool) {
    for letter in text.chars() {
        match letter {
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '"' if quotes => to.push_str("\\\""),
            letter => to.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(format: Format) -> String {
        let mut out = Encoder::new(format);
        let mut counter = out.counter("x_received_bytes", "Bytes \"in\" \\ all\nof them.");
        counter.sample(&[("path", "a\"b\\c\nd"), ("queue", "0")], u64::MAX);
        counter.sample(&[("path", "ü"), ("queue", "1")], 0u64);
        out.gauge("x_none", "Never written.");
        out.gauge("x_up", "Up.").sample(&[], true);
        out.gauge("x_share", "Share.").sample(&[], 0.25);
        out.info("x_build", "Version.")
            .sample(&[("version", "1")], true);
        let values = Distribution {
            name: "times".into(),
            bounds: vec![1_000, 2_500_000, 3_000_000_000],
            counts: vec![1, 0, 2, 3],
            sum: 12_000_000_000,
        };
        out.histogram("x_time_seconds", "Time.")
            .distribution(&[("queue", "0")], &values, 1e9);
        out.finish()
    }

    #[test]
    fn text_format() {
        let wanted = r#"# HELP x_received_bytes_total Bytes "in" \\ all\nof them.
# TYPE x_received_bytes_total counter
x_received_bytes_total{path="a\"b\\c\nd",queue="0"} 18446744073709551615
x_received_bytes_total{path="ü",queue="1"} 0
# HELP x_up Up.
# TYPE x_up gauge
x_up 1
# HELP x_share Share.
# TYPE x_share gauge
x_share 0.25
# HELP x_build_info Version.
# TYPE x_build_info gauge
x_build_info{version="1"} 1
# HELP x_time_seconds Time.
# TYPE x_time_seconds histogram
x_time_seconds_bucket{queue="0",le="0.000001"} 1
x_time_seconds_bucket{queue="0",le="0.0025"} 1
x_time_seconds_bucket{queue="0",le="3.0"} 3
x_time_seconds_bucket{queue="0",le="+Inf"} 6
x_time_seconds_sum{queue="0"} 12
x_time_seconds_count{queue="0"} 6
"#;
        assert_eq!(encode(Format::Text), wanted);
    }

    #[test]
    fn open_metrics_declares_otherwise_and_has_the_same_samples() {
        let (text, open) = (encode(Format::Text), encode(Format::OpenMetrics));
        let samples = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(samples(&text), samples(&open));
        let comments = open.lines().filter(|line| line.starts_with('#'));
        assert_eq!(
            comments.collect::<Vec<_>>(),
            [
                r#"# HELP x_received_bytes Bytes \"in\" \\ all\nof them."#,
                "# TYPE x_received_bytes counter",
                "# UNIT x_received_bytes bytes",
                "# HELP x_up Up.",
                "# TYPE x_up gauge",
                "# HELP x_share Share.",
                "# TYPE x_share gauge",
                "# HELP x_build_info Version.",
                "# TYPE x_build_info gauge",
                "# HELP x_time_seconds Time.",
                "# TYPE x_time_seconds histogram",
                "# UNIT x_time_seconds seconds",
                "# EOF",
            ]
        );
        assert!(open.ends_with("# EOF\n"));
    }

    #[test]
    fn odd_numbers() {
        for (number, text) in [
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (1e-9, "0.000000001"),
        ] {
            assert_eq!(Number::from(number).to_string(), text);
        }
    }

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        for (accept, wanted) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8",
                Format::OpenMetrics,
            ),
            // Prometheus 2.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text; version=0.0.1", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=nonsense", Format::Text),
            (
                "application/openmetrics-text;q=0.3, text/plain;q=0.5",
                Format::Text,
            ),
            (
                "text/plain;q=0.5, application/openmetrics-text;q=0.5",
                Format::OpenMetrics,
            ),
            (";;;,=,;q", Format::Text),
        ] {
            assert_eq!(Format::wanted(accept), wanted, "{accept}");
        }
    }
}
