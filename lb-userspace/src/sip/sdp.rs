//! The addresses in session descriptions (RFC 8866 §5.2, §5.7): a body that is one, or the parts of a multipart body that
//! are (RFC 2046 §5.1), one level deep.
//!
//! Only `o=`, `c=` and the place of the first `m=` are looked at; everything else is passed line by line.

use super::{
    HeaderField, Lines, Name, Span,
    block::{BLOCK, Block, find},
    chars::{is_token, parse_number, skip_lws, skip_while},
    name_addr::RawParameter,
};

/// Most `o=` and `c=` addresses of one message that are noted.
pub const MAX_SDP_ADDRESSES: usize = 16;
/// Most parts of a multipart body that are looked at.
pub const MAX_BODY_PARTS: usize = 8;
/// Most lines of a body that are looked at.
pub const MAX_SDP_LINES: usize = 1024;

/// What an address in a session description is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SdpLine {
    /// `o=`: names the session, nothing is sent there.
    #[default]
    Origin,
    /// `c=` before the first `m=`: for all media without one of their own.
    Session,
    /// `c=` after an `m=`: for that media alone.
    Media,
}

/// An address in a session description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SdpAddress {
    /// What it is for.
    pub line: SdpLine,
    /// Number of the session description in the message, from 0.
    pub description: u8,
    /// True after `IP6`.
    pub is_ipv6: bool,
    /// The address or name, without the `/` of a multicast address and what follows it.
    pub text: Span,
}

impl SdpAddress {
    /// Offset of the `4` or `6` of `IP4` or `IP6`.
    pub fn family(self) -> usize {
        // Read as `IP`, digit, one space, address.
        self.text.start().saturating_sub(2)
    }
}

/// The addresses of all session descriptions in a message, in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sdp {
    addresses: [SdpAddress; MAX_SDP_ADDRESSES],
    len: u8,
    /// How many session descriptions there are.
    pub descriptions: u8,
    /// Digits of the Content-Length that a part of a multipart body may have, by number of the description.
    pub part_lengths: [Option<Span>; MAX_BODY_PARTS],
    /// True when there is more than the limits allow to look at.
    pub is_beyond_limits: bool,
}

impl Sdp {
    /// Reads the body at `body`, whose Content-Type is `content_type`. Nothing is found in a body of another type, nor in
    /// one that does not begin with `v=`, as one that is compressed or encrypted does not.
    pub fn read(bytes: &[u8], content_type: Span, body: Span) -> Self {
        let mut sdp = Self::default();
        sdp.read_again(bytes, content_type, body);
        sdp
    }

    /// The same in the place of what was read before.
    pub fn read_again(&mut self, bytes: &[u8], content_type: Span, body: Span) {
        self.clear();
        // As nearly everybody writes it.
        if content_type.of(bytes) == b"application/sdp" {
            self.description(bytes, body.start(), body.end(), None);
            return;
        }
        match MediaType::read(bytes, content_type) {
            MediaType::Sdp => {
                self.description(bytes, body.start(), body.end(), None);
            }
            MediaType::Multipart(boundary) => self.parts(bytes, body, boundary),
            MediaType::Other => {}
        }
    }

    /// Forgets what was read.
    pub fn clear(&mut self) {
        // What is behind the numbers is not looked at.
        (self.len, self.descriptions) = (0, 0);
        self.is_beyond_limits = false;
    }

    /// What was found.
    pub fn addresses(&self) -> &[SdpAddress] {
        &self.addresses[..usize::from(self.len)]
    }

    /// Reads a session description at `start..end`.
    fn description(&mut self, bytes: &[u8], start: usize, end: usize, length: Option<Span>) {
        let bytes = bytes.get(..end).unwrap_or_default();
        if bytes.get(start..start + 2) != Some(b"v=") {
            return;
        }
        if let Some(slot) = self.part_lengths.get_mut(usize::from(self.descriptions)) {
            *slot = length;
        }
        let mut level = SdpLine::Session;
        let mut lines = MAX_SDP_LINES;
        let mut line = start;
        let mut window = start;
        while window < end {
            let mut feeds = line_feeds(bytes, window);
            while feeds != 0 {
                let feed = window + feeds.trailing_zeros() as usize;
                feeds &= feeds - 1;
                match bytes.get(line) {
                    Some(b'm') if bytes.get(line + 1) == Some(&b'=') => level = SdpLine::Media,
                    Some(b'c' | b'o') => self.line(bytes, level, line, feed),
                    _ => {}
                }
                line = feed + 1;
                lines -= 1;
                if lines == 0 {
                    self.is_beyond_limits |= line < end;
                    self.descriptions += 1;
                    return;
                }
            }
            window += WINDOW;
        }
        if let Some(b'c' | b'o') = bytes.get(line) {
            self.line(bytes, level, line, end);
        }
        self.descriptions += 1;
    }

    /// Reads a line that may matter. Not inlined: most lines do not.
    #[inline(never)]
    fn line(&mut self, bytes: &[u8], level: SdpLine, start: usize, end: usize) {
        let end = trim_end(bytes, start, end);
        let Some([kind, b'=', content @ ..]) = bytes.get(start..end) else {
            return;
        };
        match kind {
            b'c' => self.address(bytes, level, start + 2, end),
            // `username id version IN IP4 address`. The address is last, and nothing before it has blanks in it: read from
            // the end, it is next to us.
            b'o' => {
                let network =
                    last_blank(content).and_then(|blank| blank.checked_sub(b"IN IP4".len()));
                if let Some(network) = network {
                    self.address(bytes, SdpLine::Origin, start + 2 + network, end);
                }
            }
            _ => {}
        }
    }

    /// Notes the address in `IN IP4 address` at `start..end`. A multicast address has `/` and more after it.
    #[inline(always)]
    fn address(&mut self, bytes: &[u8], line: SdpLine, start: usize, end: usize) {
        /// Letters in upper case, and nothing of the first byte of the address.
        const NETWORK: u64 = u64::from_le_bytes([0xdf, 0xdf, 0xff, 0xdf, 0xdf, 0xff, 0xff, 0]);
        const IPV4: u64 = u64::from_le_bytes(*b"IN IP4 \0");
        const IPV6: u64 = u64::from_le_bytes(*b"IN IP6 \0");
        let Some(network) = bytes.get(start..end).and_then(|text| text.first_chunk()) else {
            return;
        };
        let is_ipv6 = match u64::from_le_bytes(*network) & NETWORK {
            IPV4 => false,
            IPV6 => true,
            _ => return,
        };
        let start = start + b"IN IP4 ".len();
        let text_end = find(bytes, start, end, |block| {
            block.is(b'/').or(block.is(b' ')).bits()
        });
        if text_end == start {
            return;
        }
        match self.addresses.get_mut(usize::from(self.len)) {
            Some(slot) => {
                *slot = SdpAddress {
                    line,
                    description: self.descriptions,
                    is_ipv6,
                    text: Span::new(start, text_end),
                };
                self.len += 1;
            }
            None => self.is_beyond_limits = true,
        }
    }

    /// Looks for session descriptions among the parts of a multipart body.
    fn parts(&mut self, bytes: &[u8], body: Span, boundary: &[u8]) {
        let bytes = bytes.get(..body.end()).unwrap_or_default();
        let mut lines = MAX_SDP_LINES;
        let mut parts = 0;
        // Start of the part that is being passed; what comes before the first delimiter is no part.
        let mut part = None;
        let mut position = body.start();
        while position < bytes.len() {
            let line_end =
                memchr::memchr(b'\n', &bytes[position..]).map_or(bytes.len(), |at| position + at);
            if let Some(delimiter) = delimiter(&bytes[position..line_end], boundary) {
                if let Some(start) = part {
                    self.part(bytes, start, before_line_end(bytes, start, position));
                    parts += 1;
                }
                if delimiter == Delimiter::Closing {
                    return;
                }
                part = Some((line_end + 1).min(bytes.len()));
                if parts == MAX_BODY_PARTS {
                    self.is_beyond_limits = true;
                    return;
                }
            }
            position = line_end + 1;
            lines -= 1;
            if lines == 0 {
                self.is_beyond_limits |= position < bytes.len();
                return;
            }
        }
        // The closing delimiter is missing.
        if let Some(start) = part {
            self.part(bytes, start, bytes.len());
        }
    }

    /// Reads the part at `start..end` if it is a session description as it stands.
    fn part(&mut self, bytes: &[u8], start: usize, end: usize) {
        let bytes = bytes.get(..end).unwrap_or_default();
        let mut content_type = None;
        let mut length = None;
        let mut lines = Lines::new(bytes, start);
        for HeaderField { name, value, .. } in lines.by_ref().flatten() {
            match name {
                Name::ContentType => content_type = Some(value),
                Name::ContentLength => length = Some(value),
                _ => {}
            }
        }
        let (Some(content_type), Some(body)) = (content_type, lines.body()) else {
            return;
        };
        if let MediaType::Sdp = MediaType::read(bytes, content_type) {
            let length =
                length.filter(|value| parse_number(value.of(bytes), u32::from(u16::MAX)).is_some());
            self.description(bytes, body, end, length);
        }
    }
}

/// Bytes in which line feeds are looked for together.
const WINDOW: usize = 64;

/// Bit n for a line feed at `position + n`, of sixty-four bytes.
#[inline(always)]
fn line_feeds(bytes: &[u8], position: usize) -> u64 {
    let rest = bytes.get(position..).unwrap_or_default();
    if let Some(window) = rest.first_chunk() {
        return line_feeds_of(window);
    }
    match bytes.last_chunk() {
        // Those before `position` fall out.
        Some(last) => line_feeds_of(last).unbounded_shr((WINDOW - rest.len()) as u32),
        None => few_line_feeds(rest),
    }
}

#[inline(always)]
fn line_feeds_of(window: &[u8; WINDOW]) -> u64 {
    let (blocks, _) = window.as_chunks::<BLOCK>();
    let bits = |index: usize| {
        let block = Block::load(&blocks[index]);
        u64::from(block.is(b'\n').bits()) << (BLOCK * index)
    };
    bits(0) | bits(1) | bits(2) | bits(3)
}

#[cold]
#[inline(never)]
fn few_line_feeds(rest: &[u8]) -> u64 {
    let bits = rest.iter().enumerate();
    bits.fold(0, |bits, (index, byte)| {
        bits | u64::from(*byte == b'\n') << index
    })
}

/// Offset of the last blank.
#[inline(always)]
fn last_blank(line: &[u8]) -> Option<usize> {
    // Behind it is an IPv4 address mostly.
    let near = line
        .last_chunk()
        .map_or(0, |last| Block::load(last).is(b' ').bits());
    match near {
        0 => memchr::memrchr(b' ', line),
        _ => Some(line.len() - BLOCK + near.ilog2() as usize),
    }
}

/// `start..end` without the CR and blanks at its end.
#[inline(always)]
fn trim_end(bytes: &[u8], start: usize, end: usize) -> usize {
    let mut end = end;
    while end > start && matches!(bytes[end - 1], b'\r' | b' ' | b'\t') {
        end -= 1;
    }
    end
}

/// The line end before a delimiter belongs to the delimiter (RFC 2046 §5.1.1).
fn before_line_end(bytes: &[u8], start: usize, delimiter: usize) -> usize {
    match bytes.get(start..delimiter) {
        Some([.., b'\r', b'\n']) => delimiter - 2,
        Some([.., b'\n']) => delimiter - 1,
        _ => delimiter,
    }
}

/// What a Content-Type says, as far as it matters here.
enum MediaType<'a> {
    /// `application/sdp`
    Sdp,
    /// `multipart/` anything, and its boundary.
    Multipart(&'a [u8]),
    /// Anything else.
    Other,
}

impl<'a> MediaType<'a> {
    fn read(bytes: &'a [u8], value: Span) -> Self {
        let (start, end) = (value.start(), value.end());
        let type_end = skip_while(bytes, start, end, is_token);
        let slash = skip_lws(bytes, type_end, end);
        if bytes.get(slash) != Some(&b'/') || slash >= end {
            return Self::Other;
        }
        let subtype = skip_lws(bytes, slash + 1, end);
        let subtype_end = skip_while(bytes, subtype, end, is_token);
        let main = &bytes[start..type_end];
        if main.eq_ignore_ascii_case(b"multipart") {
            return boundary(bytes, subtype_end, end).map_or(Self::Other, Self::Multipart);
        }
        let is_sdp = main.eq_ignore_ascii_case(b"application")
            && bytes[subtype..subtype_end].eq_ignore_ascii_case(b"sdp");
        if is_sdp { Self::Sdp } else { Self::Other }
    }
}

/// Value of the parameter `boundary`, without its quotes.
fn boundary(bytes: &[u8], start: usize, end: usize) -> Option<&[u8]> {
    /// RFC 2046 §5.1.1.
    const LONGEST: usize = 70;
    let mut position = start;
    loop {
        position = skip_lws(bytes, position, end);
        if bytes.get(position..end)?.first() != Some(&b';') {
            return None;
        }
        let parameter = RawParameter::parse(bytes, position, end)?;
        position = parameter.end;
        if parameter.name.of(bytes).eq_ignore_ascii_case(b"boundary") {
            let value = match parameter.value?.of(bytes) {
                [b'"', inner @ .., b'"'] => inner,
                value => value,
            };
            let fits = (1..=LONGEST).contains(&value.len()) && !value.contains(&b'\\');
            return fits.then_some(value);
        }
    }
}

/// A line between two parts, or after the last one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delimiter {
    Between,
    Closing,
}

/// `--` and the boundary, with `--` after the last part; blanks may follow.
fn delimiter(line: &[u8], boundary: &[u8]) -> Option<Delimiter> {
    let rest = line.strip_prefix(b"--")?.strip_prefix(boundary)?;
    match rest.trim_ascii_end() {
        b"" => Some(Delimiter::Between),
        b"--" => Some(Delimiter::Closing),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(content_type: &str, body: &str) -> Vec<String> {
        let text = format!("{content_type}{body}");
        let bytes = text.as_bytes();
        let content_type = Span::new(0, content_type.len());
        let sdp = Sdp::read(
            bytes,
            content_type,
            Span::new(content_type.end(), bytes.len()),
        );
        let shown = sdp.addresses().iter().map(|address| {
            assert_eq!(
                bytes[address.family()],
                if address.is_ipv6 { b'6' } else { b'4' }
            );
            let length = sdp.part_lengths[usize::from(address.description)];
            format!(
                "{}{}{:?} {}{}",
                address.description,
                if address.is_ipv6 { "v6" } else { "v4" },
                address.line,
                String::from_utf8_lossy(address.text.of(bytes)),
                length.map_or(String::new(), |length| format!(
                    " of {}",
                    String::from_utf8_lossy(length.of(bytes))
                ))
            )
        });
        let mut shown: Vec<_> = shown.collect();
        if sdp.is_beyond_limits {
            shown.push("beyond".into());
        }
        shown
    }

    const SDP: &str = "v=0\r\no=- 1 2 IN IP4 192.168.1.5\r\ns=-\r\nc=IN IP4 192.168.1.6\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\nm=video 4002 RTP/AVP 96\r\nc=IN IP6 2001:db8::1\r\n";
    const FOUND: [&str; 3] = [
        "0v4Origin 192.168.1.5",
        "0v4Session 192.168.1.6",
        "0v6Media 2001:db8::1",
    ];

    #[test]
    fn addresses_and_their_levels() {
        for content_type in [
            "application/sdp",
            "Application/SDP",
            "application/sdp;charset=utf-8",
            "application/sdp ; charset=\"utf-8\"",
            "application / sdp",
            "application/\r\n sdp",
        ] {
            assert_eq!(read(content_type, SDP), FOUND, "{content_type}");
        }
        assert_eq!(read("application/sdp", &SDP.replace('\r', "")), FOUND);
        assert_eq!(read("application/sdp", SDP.trim_end()), FOUND);
    }

    #[test]
    fn what_is_no_session_description() {
        for content_type in [
            "",
            "application",
            "application/",
            "application/sdpx",
            "application/sdp-x",
            "text/sdp",
            "application/isup",
            "multipart/mixed",
            "multipart/mixed;boundary",
            "multipart/mixed;boundary=",
            "multipart/mixed;boundary=\"\"",
        ] {
            assert_eq!(read(content_type, SDP), [""; 0], "{content_type}");
        }
        for body in [
            "",
            "v",
            "c=IN IP4 192.0.2.1\r\n",
            "\r\nv=0\r\nc=IN IP4 192.0.2.1\r\n",
        ] {
            assert_eq!(read("application/sdp", body), [""; 0], "{body:?}");
        }
    }

    #[test]
    fn single_lines() {
        for (line, want) in [
            ("c=IN IP4 192.0.2.1", Some("0v4Session 192.0.2.1")),
            ("c=IN IP4 192.0.2.1 ", Some("0v4Session 192.0.2.1")),
            ("c=in ip4 192.0.2.1\t", Some("0v4Session 192.0.2.1")),
            ("c=IN IP4 224.2.1.1/127/3", Some("0v4Session 224.2.1.1")),
            ("c=IN IP6 FF15::101/3", Some("0v6Session FF15::101")),
            ("c=IN IP4 0.0.0.0", Some("0v4Session 0.0.0.0")),
            (
                "c=IN IP4 phone.example.com",
                Some("0v4Session phone.example.com"),
            ),
            ("o=a b 1 IN IP6 ::1", Some("0v6Origin ::1")),
            ("o=IN IP4 192.0.2.1", Some("0v4Origin 192.0.2.1")),
            ("c=IN IP4 ", None),
            ("c=IN IP4", None),
            ("c=IN IP4 /127", None),
            ("c=IN IP5 192.0.2.1", None),
            ("c=IN  IP4 192.0.2.1", None),
            ("c= IN IP4 192.0.2.1", None),
            ("c=TN RFC2543 +1-201-406-4090", None),
            ("o=192.0.2.1", None),
            ("o=", None),
            ("o= ", None),
            ("o=N IP4 192.0.2.1", None),
            ("C=IN IP4 192.0.2.1", None),
            ("a=c=IN IP4 192.0.2.1", None),
        ] {
            let want: Vec<_> = want.into_iter().collect();
            for end in ["\r\n", "\n", ""] {
                let body = format!("v=0\r\n{line}{end}");
                assert_eq!(read("application/sdp", &body), want, "{line:?}");
            }
        }
    }

    #[test]
    fn parts_of_a_multipart_body() {
        let other = "Content-Type: application/isup\r\n\r\nv=0\r\nc=IN IP4 192.0.2.9\r\n\0\x01\n";
        let body = |boundary: &str, header: &str| {
            format!(
                "preamble\r\n--{boundary}\r\n{other}\r\n--{boundary}  \r\n{header}\r\n\r\n{SDP}\r\n--{boundary}--\r\n\
                 epilogue\r\n--{boundary}\r\nc:application/sdp\r\n\r\n{SDP}"
            )
        };
        for (content_type, boundary) in [
            ("multipart/mixed;boundary=xyz", "xyz"),
            ("multipart/mixed ; x=y ; BOUNDARY = \"x y:z\"", "x y:z"),
            (
                "Multipart/Related;boundary=--;type=\"application/sdp\"",
                "--",
            ),
        ] {
            for header in [
                "Content-Type: application/sdp",
                "c : Application/SDP",
                "X: y\nc:\n application/sdp",
            ] {
                let body = body(boundary, header);
                assert_eq!(read(content_type, &body), FOUND, "{content_type} {header}");
                let cut = body.split(&format!("--{boundary}--")).next().unwrap();
                assert_eq!(read(content_type, cut), FOUND, "{content_type} {header}");
            }
            for header in ["Content-Type: text/plain", "X: y", ""] {
                assert_eq!(read(content_type, &body(boundary, header)), [""; 0]);
            }
        }
        // Delimiters of something else, and one level only.
        let inner =
            "Content-Type: multipart/mixed;boundary=in\r\n\r\n--in\r\nc:application/sdp\r\n\r\n";
        for (boundary, header) in [
            ("xy", "c: application/sdp"),
            ("xyz1", "c: application/sdp"),
            ("xyz", inner),
        ] {
            assert_eq!(
                read("multipart/mixed;boundary=xyz", &body(boundary, header)),
                [""; 0]
            );
        }
    }

    #[test]
    fn each_part_is_a_description_of_its_own() {
        let part = |length: &str| {
            format!("--b\r\nc:application/sdp\r\n{length}\r\nv=0\r\nc=IN IP4 192.0.2.1\r\n")
        };
        let body = part("l: 25\r\n") + &part("") + &part("Content-Length: x\r\n") + "--b--";
        assert_eq!(
            read("multipart/mixed;boundary=b", &body),
            [
                "0v4Session 192.0.2.1 of 25",
                "1v4Session 192.0.2.1",
                "2v4Session 192.0.2.1"
            ]
        );
    }

    #[test]
    fn limits() {
        let many = |count| format!("v=0\r\n{}", "c=IN IP4 192.0.2.1\r\n".repeat(count));
        assert_eq!(read("application/sdp", &many(MAX_SDP_ADDRESSES)).len(), 16);
        let beyond = read("application/sdp", &many(MAX_SDP_ADDRESSES + 1));
        assert_eq!(beyond[MAX_SDP_ADDRESSES..], ["beyond"]);

        let lines = |count| format!("v=0\n{}", "a=\n".repeat(count - 1));
        assert_eq!(read("application/sdp", &lines(MAX_SDP_LINES)), [""; 0]);
        assert_eq!(
            read("application/sdp", &lines(MAX_SDP_LINES + 1)),
            ["beyond"]
        );
        let multipart = "multipart/mixed;boundary=b";
        assert_eq!(read(multipart, &lines(MAX_SDP_LINES + 1)), ["beyond"]);

        let parts = |count| {
            format!(
                "{}--b--",
                "--b\r\nc:application/sdp\r\n\r\nv=0\r\n".repeat(count)
            )
        };
        assert_eq!(read(multipart, &parts(MAX_BODY_PARTS)), [""; 0]);
        assert_eq!(read(multipart, &parts(MAX_BODY_PARTS + 1)), ["beyond"]);
    }

    proptest! {
        #[test]
        fn no_body_panics(
            content_type in "(application/sdp|multipart/mixed;boundary=b)?[ -~\r\n]{0,20}",
            pieces in proptest::collection::vec(
                proptest::sample::select(&["v=0", "\r\n", "\n", "c=IN IP4 ", "o=", " ", "192.0.2.1", "/", "--b", "--", "c:application/sdp", "\r\n\r\n", "m="][..]),
                0..40
            ),
        ) {
            read(&content_type, &pieces.concat());
        }
    }
}
