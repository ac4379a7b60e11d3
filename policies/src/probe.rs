//! What the gateway itself answers to probes: byte for byte what django-deploy-probes 0.6.3 answers.
//!
//! Invariant: the JSON is Python's, with its separators (`", "` and `": "`) and its escapes (ASCII only), because
//! monitors and deploy scripts compare it as text.

use crate::text::push_hex4;

/// The value of `Cache-Control` on every answer to a probe: Django's `never_cache`.
pub const CACHE_CONTROL: &str = "max-age=0, no-cache, no-store, must-revalidate, private";

/// The probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// Is the process alive?
    Healthz,
    /// May it get traffic?
    Readyz,
    /// Has it finished starting?
    Startupz,
    /// What is it?
    Version,
}

impl ProbeKind {
    /// Every probe.
    pub const ALL: [Self; 4] = [Self::Healthz, Self::Readyz, Self::Startupz, Self::Version];

    /// The name in configuration, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
            Self::Startupz => "startupz",
            Self::Version => "version",
        }
    }

    /// Where it is asked for, unless configured otherwise. Exact: `/healthz/` is another path.
    pub const fn default_path(self) -> &'static str {
        match self {
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::Startupz => "/startupz",
            Self::Version => "/version",
        }
    }
}

/// What `/version` tells. `None`: the key is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// What runs.
    pub service: Box<str>,
    /// Where it runs.
    pub environment: Box<str>,
    /// Which version of it.
    pub version: Box<str>,
    /// Which commit it was built from.
    pub commit: Option<Box<str>>,
    /// Which branch it was built from.
    pub branch: Option<Box<str>>,
    /// When it was built.
    pub build_time: Option<Box<str>>,
    /// Which half of a blue-green pair it is.
    pub slot: Option<Box<str>>,
}

/// The status of the answer to a probe. The version can be told whether or not anything passes.
pub const fn status(kind: ProbeKind, passing: bool) -> u16 {
    match kind {
        ProbeKind::Version => 200,
        ProbeKind::Healthz | ProbeKind::Readyz | ProbeKind::Startupz if passing => 200,
        ProbeKind::Healthz | ProbeKind::Readyz | ProbeKind::Startupz => 503,
    }
}

/// The body of the answer to a probe.
///
/// django-deploy-probes has no failing `healthz`; ours says `fail`, as its checks do.
pub fn body(kind: ProbeKind, passing: bool, version: &VersionInfo) -> Vec<u8> {
    let fixed = match (kind, passing) {
        (ProbeKind::Healthz, true) => r#"{"status": "ok"}"#,
        (ProbeKind::Healthz, false) => r#"{"status": "fail"}"#,
        (ProbeKind::Readyz, true) => r#"{"status": "ready", "checks": {}}"#,
        (ProbeKind::Readyz, false) => r#"{"status": "not_ready", "checks": {}}"#,
        (ProbeKind::Startupz, true) => r#"{"status": "started", "checks": {}}"#,
        (ProbeKind::Startupz, false) => r#"{"status": "not_started", "checks": {}}"#,
        (ProbeKind::Version, _) => return version_body(version),
    };
    fixed.into()
}

fn version_body(info: &VersionInfo) -> Vec<u8> {
    let VersionInfo { service, environment, version, commit, branch, build_time, slot } = info;
    let entries = [
        ("service", Some(service)),
        ("environment", Some(environment)),
        ("version", Some(version)),
        ("commit", commit.as_ref()),
        ("branch", branch.as_ref()),
        ("build_time", build_time.as_ref()),
        ("slot", slot.as_ref()),
    ];
    let mut out = Vec::with_capacity(256);
    let mut before: &[u8] = b"{";
    for (key, value) in entries {
        let Some(value) = value else { continue };
        out.extend_from_slice(before);
        push_json(&mut out, key);
        out.extend_from_slice(b": ");
        push_json(&mut out, value);
        before = b", ";
    }
    out.push(b'}');
    out
}

/// A string as Python's `json.dumps` writes it.
pub(crate) fn push_json(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(br#"\""#),
            '\\' => out.extend_from_slice(br"\\"),
            '\n' => out.extend_from_slice(br"\n"),
            '\r' => out.extend_from_slice(br"\r"),
            '\t' => out.extend_from_slice(br"\t"),
            '\u{8}' => out.extend_from_slice(br"\b"),
            '\u{c}' => out.extend_from_slice(br"\f"),
            ' '..='~' => out.extend(u8::try_from(c)),
            _ => {
                // Beyond the basic plane as a surrogate pair.
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(br"\u");
                    push_hex4(out, *unit);
                }
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> VersionInfo {
        VersionInfo {
            service: "django-app".into(),
            environment: "local".into(),
            version: "unknown".into(),
            commit: None,
            branch: None,
            build_time: None,
            slot: None,
        }
    }

    fn text(kind: ProbeKind, passing: bool, version: &VersionInfo) -> String {
        String::from_utf8(body(kind, passing, version)).unwrap()
    }

    #[test]
    fn bodies_and_statuses_are_those_of_the_contract() {
        let cases = [
            (ProbeKind::Healthz, true, 200, r#"{"status": "ok"}"#),
            (ProbeKind::Healthz, false, 503, r#"{"status": "fail"}"#),
            (ProbeKind::Readyz, true, 200, r#"{"status": "ready", "checks": {}}"#),
            (ProbeKind::Readyz, false, 503, r#"{"status": "not_ready", "checks": {}}"#),
            (ProbeKind::Startupz, true, 200, r#"{"status": "started", "checks": {}}"#),
            (ProbeKind::Startupz, false, 503, r#"{"status": "not_started", "checks": {}}"#),
            (
                ProbeKind::Version,
                true,
                200,
                r#"{"service": "django-app", "environment": "local", "version": "unknown"}"#,
            ),
            (
                ProbeKind::Version,
                false,
                200,
                r#"{"service": "django-app", "environment": "local", "version": "unknown"}"#,
            ),
        ];
        for (kind, passing, code, expected) in cases {
            assert_eq!(text(kind, passing, &info()), expected);
            assert_eq!(status(kind, passing), code);
        }
    }

    #[test]
    fn build_information_keeps_its_order_and_leaves_out_what_is_unknown() {
        let version = VersionInfo {
            commit: Some("abc".into()),
            build_time: Some("2026-11-22T00:00:00Z".into()),
            slot: Some("blue".into()),
            ..info()
        };
        let expected = concat!(
            r#"{"service": "django-app", "environment": "local", "version": "unknown", "commit": "abc", "#,
            r#""build_time": "2026-11-22T00:00:00Z", "slot": "blue"}"#
        );
        assert_eq!(text(ProbeKind::Version, true, &version), expected);
    }

    #[test]
    fn strings_are_escaped_as_python_escapes_them() {
        // json.dumps("\"\\/\n\r\t\b\f\x00\x1f\x7fé€😀")
        let version = VersionInfo { service: "\"\\/\n\r\t\u{8}\u{c}\0\u{1f}\u{7f}é€😀".into(), ..info() };
        let expected = r#"{"service": "\"\\/\n\r\t\b\f\u0000\u001f\u007f\u00e9\u20ac\ud83d\ude00", "#;
        assert!(text(ProbeKind::Version, true, &version).starts_with(expected));
        let parsed: serde_json::Value = serde_json::from_slice(&body(ProbeKind::Version, true, &version)).unwrap();
        assert_eq!(parsed["service"], *version.service);
    }

    #[test]
    fn names_are_the_default_paths_without_their_slash() {
        for kind in ProbeKind::ALL {
            assert_eq!(kind.default_path().strip_prefix('/'), Some(kind.name()));
        }
    }
}
