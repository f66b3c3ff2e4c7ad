use proptest::prelude::*;

use super::*;

const PARTS: TransactionParts<'static> = TransactionParts {
    branch: b"z9hG4bKabc",
    sent_by_host: b"192.0.2.1",
    sent_by_port: 5060,
    call_id: b"call@192.0.2.1",
    cseq: 1,
    from_tag: b"tag",
    request_uri: b"sip:bob@example.com",
};

fn keys(secret: &str) -> Keys {
    Keys::new(secret.as_bytes(), None)
}

fn rotated(current: &str, previous: &str) -> Keys {
    Keys::new(current.as_bytes(), Some(previous.as_bytes()))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn hexadecimal_digits() {
    for value in [
        0,
        1,
        0x0123_4567_89ab_cdef,
        0xfedc_ba98_7654_3210,
        u64::MAX,
        0x9a9a_9a9a_a9a9_a9a9,
    ] {
        assert_eq!(hex(value), format!("{value:016x}").as_bytes());
        assert_eq!(parse_hex(&hex(value)), Some(value));
        assert_eq!(parse_hex(format!("{value:016X}").as_bytes()), Some(value));
    }
}

/// Fixed values: a change here means that nodes of two versions do not understand each other.
#[test]
fn values_are_the_same_in_every_version() {
    let keys = keys("a fleet secret of enough bytes");
    let id = keys.transaction_id(&PARTS);
    let mac = keys.via_mac(id, address("192.0.2.1:5060"));
    let mut token = [0; FLOW_TOKEN_MAX];
    let flow = FlowToken::new(address("192.0.2.1:5060"), address("10.0.0.1:5060"));
    let len = keys.write_flow_token(&flow, &mut token);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(
        [
            text(&id.to_text()),
            text(&mac),
            text(&keys.to_tag(id)),
            text(&token[..len])
        ],
        GOLDEN
    );
}

/// Computed by a second implementation of SipHash and of the formats.
const GOLDEN: [&str; 4] = [
    "cbc1ccf63ef0d92c",
    "e9715eb07fbf6f28",
    "0fe3f7021ce446e7",
    "JcAAAgETxAoAAAETxCyM9BiVNs-k",
];

#[test]
fn every_part_changes_the_transaction_id() {
    let keys = keys("secret");
    let id = keys.transaction_id(&PARTS);
    let others = [
        TransactionParts {
            branch: b"z9hG4bKabd",
            ..PARTS
        },
        TransactionParts {
            sent_by_host: b"192.0.2.2",
            ..PARTS
        },
        TransactionParts {
            sent_by_port: 5061,
            ..PARTS
        },
        TransactionParts {
            call_id: b"call@192.0.2.2",
            ..PARTS
        },
        TransactionParts { cseq: 2, ..PARTS },
        TransactionParts {
            from_tag: b"",
            ..PARTS
        },
        TransactionParts {
            request_uri: b"sip:eve@example.com",
            ..PARTS
        },
        // The same bytes, cut elsewhere.
        TransactionParts {
            call_id: b"call@192.0.2.1t",
            from_tag: b"ag",
            ..PARTS
        },
    ];
    for other in &others {
        assert_ne!(keys.transaction_id(other), id, "{other:?}");
    }
}

#[test]
fn a_branch_without_magic_cookie_does_not_count() {
    let keys = keys("secret");
    let old = TransactionParts {
        branch: b"1",
        ..PARTS
    };
    let ack = TransactionParts {
        branch: b"",
        ..PARTS
    };
    assert_eq!(keys.transaction_id(&old), keys.transaction_id(&ack));
}

#[test]
fn a_via_mac_holds_for_its_transaction_and_target_only() {
    let keys = keys("secret");
    let id = keys.transaction_id(&PARTS);
    let target = address("192.0.2.1:5060");
    let mac = keys.via_mac(id, target);
    let other = keys.transaction_id(&TransactionParts { cseq: 2, ..PARTS });
    let verify = |id: &[u8], mac: &[u8], target| keys.verify_via_mac(id, mac, address(target));
    assert!(verify(&id.to_text(), &mac, "192.0.2.1:5060"));
    assert!(verify(
        &id.to_text().to_ascii_uppercase(),
        &mac.to_ascii_uppercase(),
        "192.0.2.1:5060"
    ));
    assert!(!verify(&other.to_text(), &mac, "192.0.2.1:5060"));
    assert!(!verify(&id.to_text(), &mac, "192.0.2.1:5061"));
    assert!(!verify(&id.to_text(), &mac, "192.0.2.2:5060"));
    assert!(!verify(&id.to_text(), &mac, "[2001:db8::1]:5060"));
    assert!(!verify(&id.to_text(), &mac[..15], "192.0.2.1:5060"));
    assert!(!verify(&id.to_text()[1..], &mac, "192.0.2.1:5060"));
    assert!(!verify(b"", b"", "192.0.2.1:5060"));
}

#[test]
fn both_secrets_verify_and_the_current_one_signs() {
    let (old, both, new) = (keys("old"), rotated("new", "old"), keys("new"));
    let target = address("192.0.2.1:5060");
    let flow = FlowToken::new(target, address("10.0.0.1:5060"));
    for (signer, verifier, want) in [
        (&old, &both, true),
        (&both, &new, true),
        (&new, &both, true),
        (&both, &old, false),
        (&old, &new, false),
    ] {
        let id = signer.transaction_id(&PARTS);
        let mac = signer.via_mac(id, target);
        assert_eq!(verifier.verify_via_mac(&id.to_text(), &mac, target), want);
        assert_eq!(verifier.is_own_to_tag(&PARTS, &signer.to_tag(id)), want);
        let mut text = [0; FLOW_TOKEN_MAX];
        let len = signer.write_flow_token(&flow, &mut text);
        assert_eq!(verifier.read_flow_token(&text[..len]), want.then_some(flow));
    }
}

#[test]
fn what_is_sealed_is_opened_under_both_secrets() {
    let text = |kind, keys: &Keys| {
        let mut hidden = HiddenText::EMPTY;
        hidden.put(b"10.0.0.1").unwrap();
        let mut text = [0; HIDDEN_MAX];
        let len = keys.write_hidden(kind, &hidden, &mut text);
        text[..len].to_vec()
    };
    let client = address("192.0.2.1:5060");
    let flow = FlowToken::new(client, address("10.0.0.1:5060"));
    let contact = ContactToken::new(ContactOf::Client, client, b"10.0.0.1:5062;ob").unwrap();
    for sealed in [false, true] {
        let [old, both, new] = [keys("old"), rotated("new", "old"), keys("new")]
            .map(|keys| keys.with_sealed_tokens(sealed));
        let swapped = both.swapped().unwrap();
        for (signer, verifier, want) in [
            (&old, &both, Some(Signer::Previous)),
            (&new, &both, Some(Signer::Current)),
            (&old, &swapped, Some(Signer::Current)),
            (&both, &swapped, Some(Signer::Previous)),
            (&swapped, &old, Some(Signer::Current)),
            (&both, &old, None),
            (&old, &new, None),
        ] {
            let mut written = [0; FLOW_TOKEN_MAX];
            let len = signer.write_flow_token(&flow, &mut written);
            let read = verifier.read_signed_flow_token(&written[..len]);
            assert_eq!(read, want.map(|signer| (flow, signer)));
            let mut written = [0; CONTACT_TOKEN_MAX];
            let len = signer.write_contact_token(&contact, &mut written);
            let read = verifier.read_contact_token(&written[..len]);
            assert_eq!(read, want.map(|_| contact));
            for kind in [Hidden::Vias, Hidden::Routes, Hidden::CallId] {
                let read = verifier.read_signed_hidden(kind, &text(kind, signer));
                let read = read.map(|(text, signer)| (text.as_slice().to_vec(), signer));
                assert_eq!(read, want.map(|signer| (b"10.0.0.1".to_vec(), signer)));
            }
        }
    }
}

#[test]
fn other_secrets_are_told_from_the_same() {
    let same = [
        keys("a"),
        keys("b"),
        rotated("a", "b"),
        rotated("a", "c"),
        rotated("b", "a"),
        keys("a").with_distribution_secret(b"b"),
    ];
    for (number, one) in same.iter().enumerate() {
        for (place, other) in same.iter().enumerate() {
            assert_eq!(one.is_same(other), number == place, "{number} {place}");
        }
    }
    // That is what it follows anyway.
    assert!(keys("a").is_same(&keys("a").with_distribution_secret(b"a")));
}

#[test]
fn flow_tokens_keep_addresses_of_both_families() {
    let keys = keys("secret");
    for (client, backend, want_len) in [
        ("192.0.2.1:5060", "10.0.0.1:5080", 28),
        ("[2001:db8::1]:40000", "[2001:db8::2]:5060", 60),
        ("192.0.2.1:5060", "[2001:db8::2]:5060", 60),
    ] {
        let flow = FlowToken::new(address(client), address(backend));
        let mut text = [0; FLOW_TOKEN_MAX];
        let len = keys.write_flow_token(&flow, &mut text);
        assert_eq!(len, want_len);
        assert_eq!(keys.read_flow_token(&text[..len]), Some(flow));
    }
}

#[test]
fn no_changed_flow_token_is_accepted() {
    let keys = keys("secret");
    let flow = FlowToken::new(address("192.0.2.1:5060"), address("10.0.0.1:5060"));
    let mut text = [0; FLOW_TOKEN_MAX];
    let len = keys.write_flow_token(&flow, &mut text);
    let token = &text[..len];
    for at in 0..len {
        for byte in *b"AQgw_09-=%" {
            let mut changed = token.to_vec();
            changed[at] = byte;
            let want = (changed == token).then_some(flow);
            assert_eq!(keys.read_flow_token(&changed), want, "{at} {byte}");
        }
        assert_eq!(keys.read_flow_token(&token[..at]), None);
    }
    assert_eq!(keys.read_flow_token(&[token, b"AAAA"].concat()), None);
    assert_eq!(
        super::Keys::new(b"other", None).read_flow_token(token),
        None
    );
}

fn sealed(secret: &str) -> Keys {
    keys(secret).with_sealed_tokens(true)
}

fn contact(of: ContactOf) -> ContactToken {
    ContactToken::new(of, address("192.0.2.1:40000"), b"192.168.1.5:5062;ob").unwrap()
}

/// Texts that each kind of token is written as.
fn texts(keys: &Keys) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    for kind in [
        FlowKind::Registration,
        FlowKind::FromClient,
        FlowKind::Outbound,
        FlowKind::ToClient,
    ] {
        let flow = FlowToken {
            kind,
            ..FlowToken::new(address("192.0.2.1:5060"), address("10.0.0.1:5060"))
        };
        let mut text = [0; FLOW_TOKEN_MAX];
        let len = keys.write_flow_token(&flow, &mut text);
        assert_eq!(keys.read_flow_token(&text[..len]), Some(flow));
        texts.push(text[..len].to_vec());
    }
    for of in [ContactOf::Client, ContactOf::Backend] {
        let mut text = [0; CONTACT_TOKEN_MAX];
        let len = keys.write_contact_token(&contact(of), &mut text);
        assert_eq!(keys.read_contact_token(&text[..len]), Some(contact(of)));
        texts.push(text[..len].to_vec());
    }
    for kind in [Hidden::Vias, Hidden::Routes, Hidden::CallId] {
        let mut hidden = HiddenText::EMPTY;
        hidden.put(b"<sip:10.0.0.77;lr>").unwrap();
        let mut text = [0; HIDDEN_MAX];
        let len = keys.write_hidden(kind, &hidden, &mut text);
        let read = keys.read_hidden(kind, &text[..len]).unwrap();
        assert_eq!(read.as_slice(), b"<sip:10.0.0.77;lr>");
        texts.push(text[..len].to_vec());
    }
    texts
}

/// Which of the readers take a text: flow, contact, and the three kinds of hidden ones.
fn readers(keys: &Keys, text: &[u8]) -> [bool; 5] {
    [
        keys.read_flow_token(text).is_some(),
        keys.read_contact_token(text).is_some(),
        keys.read_hidden(Hidden::Vias, text).is_some(),
        keys.read_hidden(Hidden::Routes, text).is_some(),
        keys.read_hidden(Hidden::CallId, text).is_some(),
    ]
}

#[test]
fn what_was_made_for_one_purpose_is_of_use_for_no_other() {
    for keys in [keys("secret"), sealed("secret")] {
        let taken = texts(&keys)
            .iter()
            .map(|text| readers(&keys, text))
            .collect::<Vec<_>>();
        let only = |reader: usize| {
            let mut only = [false; 5];
            only[reader] = true;
            only
        };
        let want = [0, 0, 0, 0, 1, 1, 2, 3, 4].map(only);
        assert_eq!(taken, want);
    }
}

#[test]
fn no_changed_text_is_taken_and_none_of_another_secret() {
    let (old, other) = (sealed("old"), keys("other"));
    let both = rotated("new", "old");
    for text in texts(&keys("old")).iter().chain(&texts(&old)) {
        assert_ne!(readers(&both, text), [false; 5], "the secret before");
        assert_eq!(readers(&other, text), [false; 5]);
        for at in 0..text.len() {
            for byte in *b"Aw_9" {
                let mut changed = text.clone();
                changed[at] = byte;
                if changed != *text {
                    assert_eq!(readers(&both, &changed), [false; 5], "{at}");
                }
            }
            assert_eq!(readers(&both, &text[..at]), [false; 5]);
        }
        assert_eq!(readers(&both, &[&text[..], b"AAAA"].concat()), [false; 5]);
    }
}

#[test]
fn what_is_sealed_says_nothing_and_is_the_same_everywhere() {
    for text in texts(&sealed("secret")) {
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for clear in [&[192, 0, 2, 1][..], &[10, 0, 0, 1], b"192.168", b"10.0.0"] {
            assert!(!bytes.windows(clear.len()).any(|window| window == clear));
        }
        assert!(text.len().is_multiple_of(4), "even");
    }
    assert_eq!(texts(&sealed("secret")), texts(&sealed("secret")));
    // Fixed values: nodes of two versions have to understand each other.
    let golden =
        |keys: &Keys, number: usize| String::from_utf8(texts(keys)[number].clone()).unwrap();
    let (plain, sealed) = (keys("a secret of a fleet"), sealed("a secret of a fleet"));
    assert_eq!(
        [
            golden(&sealed, 1),
            golden(&plain, 4),
            golden(&sealed, 5),
            golden(&plain, 6)
        ],
        [
            "qI3T-dBBG7M42gLdt-X1eL8DW0UMD9s3TsgKCqAA",
            "KMAAAgGcQDE5Mi4xNjguMS41OjUwNjI7b2IAAP08k_27Db27",
            "yNObMFfxevsdEc8DNZSQrqcphjPuU0iY5qlyrwUq8gnWkJVj5mQwWjni",
            "GCTR96HLretqYinG9VpE1DbThz8BiSEl3o8BMR-Zw2slsT5d"
        ]
    );
}

#[test]
fn a_contact_that_is_too_long_has_no_token() {
    let client = address("[2001:db8::1]:5060");
    let longest = [b'x'; CONTACT_REST_MAX];
    let token = ContactToken::new(ContactOf::Client, client, &longest).unwrap();
    for keys in [keys("secret"), sealed("secret")] {
        let mut text = [0; CONTACT_TOKEN_MAX];
        let len = keys.write_contact_token(&token, &mut text);
        assert_eq!(keys.read_contact_token(&text[..len]), Some(token));
    }
    assert!(ContactToken::new(ContactOf::Client, client, &[b'x'; CONTACT_REST_MAX + 1]).is_none());
    assert!(ContactToken::new(ContactOf::Client, client, b"a\0b").is_none());
    let mut hidden = HiddenText::EMPTY;
    assert!(hidden.put(&[b'x'; HIDDEN_TEXT_MAX]).is_some());
    assert!(hidden.put(b"x").is_none());
    let mut text = [0; HIDDEN_MAX];
    let keys = keys("secret");
    let len = keys.write_hidden(Hidden::Vias, &hidden, &mut text);
    let read = keys.read_hidden(Hidden::Vias, &text[..len]).unwrap();
    assert_eq!(read.as_slice(), [b'x'; HIDDEN_TEXT_MAX]);
}

#[test]
fn nothing_secret_is_printed() {
    let secret = "0123456789abcdef";
    let printed = format!("{:?}", rotated(secret, secret));
    assert_eq!(printed, "Keys { previous: true, .. }");
}

proptest! {
    #[test]
    fn random_text_is_no_flow_token(text in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assert_eq!(readers(&keys("secret"), &text), [false; 5]);
    }

    #[test]
    fn hexadecimal_text_is_read_back(value: u64) {
        prop_assert_eq!(parse_hex(&hex(value)), Some(value));
    }
}

#[test]
fn key_ids_tell_secrets_apart_and_are_those_of_all_nodes() {
    let (one, other) = (&b"0123456789abcdef"[..], &b"0123456789abcdeg"[..]);
    let keys = Keys::new(one, Some(other));
    let (current, previous) = keys.ids();
    // What metrics of another version say: never change it.
    assert_eq!(current.to_string(), "5fc67b4c");
    assert_eq!(Keys::new(one, None).ids(), (current, None));
    assert_eq!(Keys::new(other, None).ids(), (previous.unwrap(), None));
    assert_ne!(Some(current), previous);
    assert_eq!(
        keys.swapped().unwrap().ids(),
        (previous.unwrap(), Some(current))
    );
    // The id is none of the values that are used.
    assert!(!keys.distribution_key().starts_with(&current.0));
}
