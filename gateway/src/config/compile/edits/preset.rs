//! Headers that are there together: what browsers are told to be careful with, and who may read answers (CORS).

use std::fmt::Write as _;
use std::time::Duration;

use probegate_policies::cors::Origins;
use probegate_policies::fields::FieldName;

use crate::config::compile::Context;
use crate::config::shape::{List, Preset};
use crate::config::value::{FieldOrAny, Flag, FramesWord, Leaf, Method, OriginWord, Seconds, ValueOrOff};
use crate::config::{ConfigPath, raw};
use crate::plan::{Cors, SecurityGroups};

/// The groups of the preset.
pub(super) fn security(raw: Preset<raw::SecurityHeaders>) -> SecurityGroups {
    let raw::SecurityHeaders {
        content_type_options,
        referrer_policy,
        frames,
        permissions_policy,
        cross_origin_opener_policy,
    } = match raw {
        Preset::Off => return Vec::new(),
        Preset::On(raw) => raw,
    };
    let mut groups = SecurityGroups::new();
    if content_type_options.is_none_or(|Leaf(Flag(flag))| flag) {
        groups.push(vec![("X-Content-Type-Options", "nosniff".into())]);
    }
    let frames = frames.map_or(FramesWord::Deny, |Leaf(frames)| frames);
    let frames = match frames {
        FramesWord::Deny => Some(("DENY", "frame-ancestors 'none'")),
        FramesWord::SameOrigin => Some(("SAMEORIGIN", "frame-ancestors 'self'")),
        FramesWord::Off => None,
    };
    // A policy beats the older header: where the app has said either, nothing is added to it.
    groups.extend(
        frames.map(|(old, new)| vec![("X-Frame-Options", old.into()), ("Content-Security-Policy", new.into())]),
    );
    for (name, raw, default) in [
        ("Referrer-Policy", referrer_policy, "strict-origin-when-cross-origin"),
        ("Permissions-Policy", permissions_policy, "camera=(), geolocation=(), microphone=()"),
        ("Cross-Origin-Opener-Policy", cross_origin_opener_policy, "same-origin"),
    ] {
        let value = raw.map_or_else(|| Some(default.into()), |Leaf(ValueOrOff(value))| value);
        groups.extend(value.map(|value| vec![(name, value)]));
    }
    groups
}

/// The groups as field lines, without those of which a field is said otherwise.
pub(super) fn lines(groups: &SecurityGroups, said: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut text = String::new();
    for group in groups.iter().filter(|group| !group.iter().any(|(name, _)| said(name))) {
        for (name, value) in group {
            let written = write!(text, "{name}: {value}\r\n");
            debug_assert!(written.is_ok());
        }
        text.push_str("\r\n");
    }
    text.into_bytes()
}

/// The fields of CORS in answers: the gateway's alone where it speaks of it.
pub(super) const CORS_FIELDS: [&str; 7] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-allow-private-network",
];

/// The names of [`CORS_FIELDS`].
pub(super) fn cors_fields() -> impl Iterator<Item = FieldName> {
    CORS_FIELDS.iter().filter_map(|name| name.parse().ok())
}

/// Who may read answers.
pub(super) fn cors(raw: raw::Cors, path: &ConfigPath, cx: &mut Context<'_>) -> Option<Cors> {
    let raw::Cors { origins, methods, headers, expose, credentials, max_age } = raw;
    let origins = cx.required(origins, path, "origins", "origins: [\"https://shop.example.com\"]")?;
    let credentials = credentials.is_some_and(|Leaf(Flag(flag))| flag);
    let at = path.key("origins");
    if origins.is_empty() {
        cx.error(&at, "`origins` is empty: nobody could read anything", "name an origin, or remove `cors`");
    }
    let (mut any, mut patterns) = (None, Vec::new());
    for (index, Leaf(origin)) in origins {
        let at = at.index(index);
        match origin {
            OriginWord::Any => any = Some(at),
            OriginWord::Pattern(pattern) => {
                if pattern.is_null() && credentials {
                    let hint = "remove it, or remove `credentials`";
                    cx.error(&at, "anybody can have the origin `null`, and would act as your users", hint);
                }
                patterns.push(pattern);
            }
        }
    }
    if let Some(at) = &any {
        if credentials {
            let hint = "name the origins that may, or remove `credentials`";
            cx.error(at, "`*` with `credentials` would let every site act as your users", hint);
        } else if !patterns.is_empty() {
            cx.error(at, "`*` stands beside origins, which then mean nothing", "keep one of the two");
        }
    }
    let list = |names: Vec<Box<str>>| names.join(", ").into_boxed_str();
    let methods = methods.map_or_else(
        || vec!["GET".into(), "HEAD".into(), "POST".into()],
        |methods| methods.into_iter().map(|(_, Leaf(Method(method)))| method).collect(),
    );
    let mut names = |raw: Option<List<Leaf<FieldOrAny>>>, key: &str| -> Box<str> {
        let mut names = Vec::new();
        for (index, Leaf(FieldOrAny(name))) in raw.into_iter().flatten() {
            if credentials && &*name == "*" {
                let hint = "with `credentials`, browsers take `*` for a header of that name: list the headers";
                cx.error(&path.key(key).index(index), format!("`{key}: [\"*\"]` means nothing here"), hint);
            }
            names.push(name);
        }
        list(names)
    };
    let (headers, expose) = (names(headers, "headers"), names(expose, "expose"));
    Some(Cors {
        origins: if any.is_some() { Origins::Any } else { Origins::Listed(patterns.into()) },
        methods: list(methods),
        headers,
        expose,
        credentials,
        max_age: max_age.map_or(Duration::from_secs(600), |Leaf(Seconds(age))| age).as_secs(),
    })
}
