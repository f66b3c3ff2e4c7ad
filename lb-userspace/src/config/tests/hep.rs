//! `hep`.

use super::*;

fn text(text: &str) -> String {
    format!("{GOOD}hep: {text}\n")
}

#[test]
fn a_collector() {
    assert_eq!(parse(GOOD, "f").unwrap().hep, None);
    let default = Hep {
        collector: "192.0.2.50:9060".parse().unwrap(),
        sample: 1.0,
        id: 2001,
        password_file: None,
        password: None,
    };
    let config = parse(&text("{ collector: 192.0.2.50:9060 }"), "f");
    assert_eq!(config.unwrap().hep, Some(default));
    let all = "{ collector: \"[2001:db8::50]:9060\", sample: 0.25, id: 7, password_file: /etc/p }";
    let hep = parse(&text(all), "f").unwrap().hep.unwrap();
    assert_eq!(hep.collector, "[2001:db8::50]:9060".parse().unwrap());
    assert_eq!((hep.sample, hep.id), (0.25, 7));
    assert_eq!(hep.password_file, Some("/etc/p".into()));
    let whole = parse(&text("{ collector: 192.0.2.50:9060, sample: 1 }"), "f");
    assert_eq!(whole.unwrap().hep.unwrap().sample, 1.0);
}

#[test]
fn mistakes() {
    let share = "is not a share of calls; write a number above 0 and up to 1, without quotes; leave out \"hep\" for none";
    let address = "is not an address and port; write IP:PORT, such as 192.0.2.50:9060 or \"[2001:db8::50]:9060\"";
    for (given, problem) in [
        (
            "{}",
            "f:13:6: hep.collector: is missing; write IP:PORT, such as 192.0.2.50:9060 or \"[2001:db8::50]:9060\"".to_owned(),
        ),
        (
            "{ collector: homer.example.com:9060 }",
            format!("f:13:19: hep.collector: \"homer.example.com:9060\" {address}"),
        ),
        (
            "{ collector: 192.0.2.50 }",
            format!("f:13:19: hep.collector: \"192.0.2.50\" {address}"),
        ),
        (
            "{ collector: 203.0.113.10:5060 }",
            "f:13:19: hep.collector: \"203.0.113.10:5060\" is listener \"public\", so copies would be taken for SIP and \
             copied again; write the collector's own address"
                .to_owned(),
        ),
        (
            "{ collector: 192.0.2.50:9060, sample: 0 }",
            format!("f:13:44: hep.sample: 0 {share}"),
        ),
        (
            "{ collector: 192.0.2.50:9060, sample: 1.5 }",
            format!("f:13:44: hep.sample: 1.5 {share}"),
        ),
        (
            "{ collector: 192.0.2.50:9060, sample: half }",
            format!("f:13:44: hep.sample: \"half\" {share}"),
        ),
        (
            "{ collector: 192.0.2.50:9060, id: -1 }",
            "f:13:40: hep.id: -1 is not a whole number from 0 to 4294967295; write one, without quotes".to_owned(),
        ),
        (
            "{ colector: 192.0.2.50:9060 }",
            "f:13:8: hep.colector: this key is not known; did you mean collector?".to_owned(),
        ),
    ] {
        let error = parse(&text(given), "f").unwrap_err().to_string();
        assert!(error.lines().any(|line| line == problem), "{error}");
    }
}

#[test]
fn the_password_is_read_and_not_shown() {
    use std::os::unix::fs::PermissionsExt;
    let dir = std::env::temp_dir().join(format!("siplb-config-hep-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = |name: &str, text: &str, mode| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let password = file("password", "myhep\n", 0o600);
    let open = file("open", "myhep\n", 0o644);
    let load_with = |password: &Path| {
        let hep = format!("{{ collector: 192.0.2.50:9060, password_file: {password:?} }}");
        load(&file("siplb.yaml", &text(&hep), 0o644))
    };
    let hep = load_with(&password).unwrap().hep.unwrap();
    assert_eq!(hep.password.as_ref().unwrap().as_bytes(), b"myhep");
    assert!(!format!("{hep:?}").contains("myhep"), "{hep:?}");
    let error = load_with(&open).unwrap_err().to_string();
    assert!(
        error.contains("hep.password_file: ") && error.contains("can be read or written by others"),
        "{error}"
    );
    std::fs::remove_dir_all(dir).unwrap();
}
