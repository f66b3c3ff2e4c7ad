//! The grammar of header values that hold no URI, and of Call-Info. Each function reads a whole value: `Some(())` for one
//! that is as it should be.

use super::{
    cursor::{Cursor, is_lws, is_token, is_u32, trim},
    uri,
};

/// Elements with commas between them. `empty` says whether there may be none.
fn list<'a>(
    value: &'a [u8],
    empty: bool,
    mut element: impl FnMut(&mut Cursor<'a>) -> Option<()>,
) -> Option<()> {
    let mut cursor = Cursor::new(trim(value));
    if cursor.at_end() {
        return empty.then_some(());
    }
    loop {
        element(&mut cursor)?;
        cursor.lws();
        if cursor.at_end() {
            return Some(());
        }
        cursor.expect(b',')?;
        cursor.lws();
    }
}

/// One element and nothing after it.
fn single<'a>(value: &'a [u8], element: impl FnOnce(&mut Cursor<'a>) -> Option<()>) -> Option<()> {
    let mut cursor = Cursor::new(trim(value));
    element(&mut cursor)?;
    cursor.lws();
    cursor.at_end().then_some(())
}

fn any(_: &[u8], _: Option<&[u8]>) -> Option<()> {
    Some(())
}

/// A token with parameters.
fn token_with_parameters(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.token()?;
    cursor.parameters(any)
}

/// `type/subtype` with parameters.
fn media<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let kind = cursor.token()?;
    cursor.lws();
    cursor.expect(b'/')?;
    cursor.lws();
    let subtype = cursor.token()?;
    cursor.parameters(any)?;
    Some((kind, subtype))
}

/// RFC 3261 §20.15. A wildcard describes what is accepted, not what is there.
pub(super) fn content_type(value: &[u8]) -> Option<()> {
    single(value, |cursor| {
        let (kind, subtype) = media(cursor)?;
        (kind != b"*" && subtype != b"*").then_some(())
    })
}

/// True for `application/sdp`, whatever its parameters.
pub(super) fn is_sdp(value: &[u8]) -> bool {
    media(&mut Cursor::new(trim(value))).is_some_and(|(kind, subtype)| {
        kind.eq_ignore_ascii_case(b"application") && subtype.eq_ignore_ascii_case(b"sdp")
    })
}

/// RFC 3261 §20.11.
pub(super) fn content_disposition(value: &[u8]) -> Option<()> {
    single(value, token_with_parameters)
}

/// RFC 3261 §20.1.
pub(super) fn accept(value: &[u8]) -> Option<()> {
    list(value, true, |cursor| media(cursor).map(|_| ()))
}

/// Accept-Encoding and Accept-Language (RFC 3261 §20.2, §20.3), and Allow-Events.
pub(super) fn tokens_with_parameters(value: &[u8]) -> Option<()> {
    list(value, true, token_with_parameters)
}

/// Tokens with commas between them.
pub(super) fn tokens(value: &[u8], empty: bool) -> Option<()> {
    list(value, empty, |cursor| cursor.token().map(|_| ()))
}

/// RFC 6665 §8.2.1.
pub(super) fn event(value: &[u8]) -> Option<()> {
    single(value, token_with_parameters)
}

/// RFC 3323 §4.2 has semicolons between the values; commas are seen as well.
pub(super) fn privacy(value: &[u8]) -> Option<()> {
    value
        .split(|byte| matches!(byte, b';' | b','))
        .map(trim)
        .all(|token| !token.is_empty() && token.iter().all(|byte| is_token(*byte)))
        .then_some(())
}

/// delta-seconds (RFC 3261 §20.19).
pub(super) fn expires(value: &[u8]) -> Option<()> {
    is_u32(value).then_some(())
}

/// Session-Expires and Min-SE (RFC 4028 §4, §5).
pub(super) fn session_timer(value: &[u8]) -> Option<()> {
    single(value, |cursor| {
        cursor.digits().filter(|digits| is_u32(digits))?;
        cursor.parameters(|name, value| {
            if !name.eq_ignore_ascii_case(b"refresher") {
                return Some(());
            }
            let value = value?;
            (value.eq_ignore_ascii_case(b"uac") || value.eq_ignore_ascii_case(b"uas")).then_some(())
        })
    })
}

/// `digits[.digits]`, and once more for the delay (RFC 3261 §20.38).
pub(super) fn timestamp(value: &[u8]) -> Option<()> {
    single(value, |cursor| {
        cursor.digits()?;
        if cursor.eat(b'.') {
            cursor.digits();
        }
        if cursor.lws() {
            cursor.digits();
            if cursor.eat(b'.') {
                cursor.digits();
            }
        }
        Some(())
    })
}

/// `Sat, 13 Nov 2010 23:29:00 GMT` and no other form (RFC 3261 §20.17). The day of the week is not compared with the date.
pub(super) fn date(value: &[u8]) -> Option<()> {
    const DAYS: [&[u8]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
    const MONTHS: [&[u8]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let number = |range: std::ops::Range<usize>, most: u32| {
        let digits = value.get(range)?;
        let number = digits.iter().try_fold(0, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + u32::from(digit & 0xf))
        })?;
        (number <= most).then_some(number)
    };
    let is = |range: std::ops::Range<usize>, text: &[u8]| (value.get(range)? == text).then_some(());
    DAYS.contains(&value.get(..3)?).then_some(())?;
    is(3..5, b", ")?;
    number(5..7, 31).filter(|day| *day > 0)?;
    is(7..8, b" ")?;
    MONTHS.contains(&value.get(8..11)?).then_some(())?;
    is(11..12, b" ")?;
    number(12..16, 9999)?;
    is(16..17, b" ")?;
    number(17..19, 23)?;
    is(19..20, b":")?;
    number(20..22, 59)?;
    is(22..23, b":")?;
    number(23..25, 60)?;
    (value.get(25..)? == b" GMT").then_some(())
}

/// `<URI>` with parameters, and commas between them (RFC 3261 §20.9).
pub(super) fn call_info(value: &[u8]) -> Option<()> {
    list(value, false, |cursor| {
        cursor.expect(b'<')?;
        let uri = cursor.take_while(|byte| byte != b'>');
        cursor.expect(b'>')?;
        let is_uri = matches!(
            uri::check(uri),
            Ok(()) | Err(uri::UriFault::User | uri::UriFault::Headers)
        );
        is_uri.then_some(())?;
        cursor.parameters(any)
    })
}

/// `SIP/2.0` at the start of a Via value.
pub(super) fn via_protocol(value: &[u8]) -> Option<()> {
    let mut cursor = Cursor::new(value);
    let name = cursor.token()?;
    cursor.lws();
    cursor.expect(b'/')?;
    cursor.lws();
    let version = cursor.token()?;
    (name.eq_ignore_ascii_case(b"SIP") && version == b"2.0").then_some(())
}

/// `word[@word]` (RFC 3261 §25.1).
pub(super) fn call_id(value: &[u8]) -> Option<()> {
    let mut words = value.splitn(2, |byte| *byte == b'@');
    words
        .all(|word| {
            !word.is_empty()
                && word.iter().all(|byte| {
                    is_token(*byte)
                        || matches!(
                            byte,
                            b'(' | b')'
                                | b'<'
                                | b'>'
                                | b':'
                                | b'\\'
                                | b'"'
                                | b'/'
                                | b'['
                                | b']'
                                | b'?'
                                | b'{'
                                | b'}'
                        )
                })
        })
        .then_some(())
}

/// A scheme and what it needs (RFC 3261 §20.7, §20.28, RFC 7616 §3.4). Of other schemes than Digest only that there is
/// something.
pub(super) fn authorization(value: &[u8]) -> Option<()> {
    const NEEDED: [&[u8]; 5] = [b"username", b"realm", b"nonce", b"uri", b"response"];
    let mut cursor = Cursor::new(value);
    let scheme = cursor.token()?;
    cursor.peek().filter(|byte| is_lws(*byte))?;
    let parameters = trim(cursor.rest());
    if !scheme.eq_ignore_ascii_case(b"Digest") {
        return (!parameters.is_empty()).then_some(());
    }
    let mut found = 0;
    list(parameters, false, |cursor| {
        let (name, value) = cursor.parameter()?;
        value?;
        let place = NEEDED
            .iter()
            .position(|needed| name.eq_ignore_ascii_case(needed));
        found |= place.map_or(0, |place| 1 << place);
        Some(())
    })?;
    (found == (1 << NEEDED.len()) - 1).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reads: impl Fn(&[u8]) -> Option<()>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(reads(text.as_bytes()), Some(()), "{text:?}");
        }
        for text in bad {
            assert_eq!(reads(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn types() {
        check(
            content_type,
            &[
                "application/sdp",
                "text / html ; charset=\"a;b\";x",
                "multipart/mixed;boundary=a=b;",
                "multipart/mixed;\r\n boundary=\"--a\"",
            ],
            &[
                "",
                "text",
                "text/",
                "*/*",
                "text/*",
                "text/html,text/plain",
                "text/html;=a",
                "a/b;c=",
                "a/b;c=\"d",
            ],
        );
        check(
            accept,
            &["", "application/sdp", "a/b;q=0.5, */*", "text/*;level=1"],
            &["text", "a/b,", ",a/b", "a/b c/d"],
        );
        check(
            content_disposition,
            &["session", "session; handling=optional"],
            &["", "a b", "a,b", "\"a\""],
        );
        for (value, want) in [
            ("application/sdp", true),
            (" APPLICATION / SDP ; a=b", true),
            ("application/sdp2", false),
            ("text/sdp", false),
            ("", false),
        ] {
            assert_eq!(is_sdp(value.as_bytes()), want, "{value}");
        }
    }

    #[test]
    fn lists() {
        check(
            |value| tokens(value, true),
            &["", "a", "100rel , timer"],
            &[",", "a,", "a b", "a;b"],
        );
        check(|value| tokens(value, false), &["a"], &["", " "]);
        check(
            tokens_with_parameters,
            &["", "gzip;q=1.0, identity", "en-gb"],
            &["a,,b", "a;;", "a b"],
        );
        check(event, &["presence", "dialog;id=7"], &["", "a,b", ";id=7"]);
        check(
            privacy,
            &["id", "header; user ;critical", "id,critical"],
            &["", "id;", "a b"],
        );
        check(
            call_info,
            &["<http://a/b.jpg>;purpose=icon, <sip:x>", "<tel:1>"],
            &["", "http://a", "<http://a", "<>", "<a>", "<sip:>"],
        );
    }

    #[test]
    fn numbers_and_times() {
        check(
            expires,
            &["0", "4294967295", "0003600"],
            &["", "-1", "1.5", "4294967296", "1 2", "Thu, 01 Dec"],
        );
        check(
            session_timer,
            &["1800", "1800;refresher=UAC", "90 ; x"],
            &[
                "",
                "x",
                "1800;refresher=me",
                "1800;refresher",
                "4294967296",
                "1800 90",
            ],
        );
        check(
            timestamp,
            &["54", "54.", "54.21 0.5", "54 3", "54 .5"],
            &["", "x", ".5", "1 2 3", "1..2"],
        );
        check(
            date,
            &[
                "Sat, 13 Nov 2010 23:29:00 GMT",
                "Fri, 01 Jan 2010 00:00:60 GMT",
            ],
            &[
                "",
                "Fri, 01 Jan 2010 16:00:00 EST",
                "Fri, 01 Jan 2010 16:00:00 GMT ",
                "Fri, 1 Jan 2010 16:00:00 GMT",
                "fri, 01 Jan 2010 16:00:00 GMT",
                "Fri, 32 Jan 2010 16:00:00 GMT",
                "Fri, 00 Jan 2010 16:00:00 GMT",
                "Fri, 01 Foo 2010 16:00:00 GMT",
                "Fri, 01 Jan 2010 24:00:00 GMT",
                "Friday, 01-Jan-10 16:00:00 GMT",
                "Fri, 01 Jan 2010 16:00:00",
            ],
        );
    }

    #[test]
    fn identifiers_and_credentials() {
        check(
            call_id,
            &[
                "a",
                "a84b4c76e66710@192.168.1.5",
                "word%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
            ],
            &["", "a b", "a@", "@a", "a@b@c", "a,b", "a;b", "\u{fc}"],
        );
        check(
            authorization,
            &[
                "Digest username=\"a\", realm=\"b, c\", nonce=\"\", uri=\"sip:x\", response=\"\"",
                "DIGEST username=\"a\",realm=\"b\",nonce=\"c\",uri=sip:x ,response=\"d\",nc=00000001,qop=auth",
                "NoOneKnowsThisScheme opaque-data=here",
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            ],
            &[
                "",
                "Digest",
                "Digest ",
                "Basic ",
                "\"Digest\" username=\"a\"",
                "Digest username=\"a\"",
                "Digest username=\"a\", realm=\"b\", nonce=\"c\", uri=\"sip:x\"",
                "Digest username=\"a\" realm=\"b\" nonce=\"c\" uri=\"sip:x\" response=\"d\"",
                "Digest username=\"a, realm=\"b\", nonce=\"c\", uri=\"sip:x\", response=\"d\"",
                "Digest username, realm=\"b\", nonce=\"c\", uri=\"sip:x\", response=\"d\"",
            ],
        );
    }
}
