//! The page for people: one HTML document with its style and script in it. It asks `/api/live` and `/api/cps` of the same address,
//! and its policy keeps it from anything else.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = concat!(
    include_str!("page/graph.js"),
    include_str!("page/tables.js"),
    include_str!("page/page.js")
);

/// The document.
pub(super) const HTML: &str = concat!(
    r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>siplb</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Cpath d='M4 16h7m0 0 8-9h9M11 16h17M11 16l8 9h9' fill='none' stroke='%230a66c2' stroke-width='4' stroke-linecap='round' stroke-linejoin='round'/%3E%3C/svg%3E">
<style>"#,
    include_str!("page/style.css"),
    "</style>\n</head>\n",
    include_str!("page/page.html"),
    "<script>",
    include_str!("page/graph.js"),
    include_str!("page/tables.js"),
    include_str!("page/page.js"),
    "</script>\n</html>\n"
);

/// Its Content-Security-Policy: nothing but what is in it, and questions to where it came from. The icon is in it too, as `data:`.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; connect-src 'self'; img-src data:; style-src {}; script-src {}; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands between two marks that the document has once.
    fn between<'a>(begin: &str, end: &str) -> &'a str {
        let (before, rest) = HTML.split_once(begin).unwrap();
        let (inside, after) = rest.split_once(end).unwrap();
        for mark in [begin, end] {
            assert!(!before.contains(mark) && !inside.contains(mark) && !after.contains(mark));
        }
        inside
    }

    #[test]
    fn the_policy_is_that_of_what_the_document_has() {
        assert_eq!(between("<style>", "</style>"), STYLE);
        assert_eq!(between("<script>", "</script>"), SCRIPT);
        assert!(POLICY.starts_with("default-src 'none'; connect-src 'self'; "));
        assert_eq!(POLICY.matches("sha256-").count(), 2);
        assert!(!POLICY.contains("unsafe"));
    }

    /// The policy would keep the browser from doing it, which nobody would notice before a browser is there.
    #[test]
    fn nothing_comes_from_elsewhere_and_no_text_becomes_html() {
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "setTimeout(\"",
            "DOMParser",
            "createContextualFragment",
        ] {
            assert!(!SCRIPT.contains(word), "{word}");
        }
        let text = HTML.replace("http://www.w3.org/2000/svg", "");
        for word in [
            "http://",
            "https://",
            "//cdn",
            "@import",
            "url(",
            " style=",
            " onclick=",
            " onload=",
        ] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
