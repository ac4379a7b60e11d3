//! Every file in `tests/config/good` compiles and every file in `tests/config/bad` does not; the file beside each says what
//! people read. `UPDATE_GOLDENS=1` writes those files anew: read the difference before you commit it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use probegate_policies::fields::FieldName;
use probegate_policies::limit::Algorithm;
use secrecy::ExposeSecret as _;

use super::*;
use crate::plan::{Delay, Deny, LimitKey, LimitPart, Serve, ServerAddress, Telling, Tells};

/// Surroundings that are the same everywhere.
struct Fixed;

/// Certificates with their keys, each in one text: one for a shop, another one, one that has expired, and one that is not
/// valid yet.
fn made() -> &'static [String; 4] {
    static MADE: LazyLock<[String; 4]> = LazyLock::new(|| {
        let make = |from, until| {
            let names = ["shop.example.com".to_owned(), "*.example.org".to_owned()];
            let mut params = rcgen::CertificateParams::new(names).unwrap();
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap().pem() + &key.serialize_pem()
        };
        [make(2020, 2030), make(2020, 2030), make(2020, 2026), make(2028, 2030)]
    });
    &MADE
}

/// 22 November 2026.
const TODAY: u64 = 1_795_305_600;
const STRONG: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

impl Environment for Fixed {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            "PROBE_TOKEN" => Some(STRONG.into()),
            "WEAK_TOKEN" => Some(b"hunter2".to_vec()),
            "EMPTY_TOKEN" => Some(Vec::new()),
            _ => None,
        }
    }

    fn read(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("tls/shop.pem" | "tls/shop.key" | "tls/ca.pem") => Ok(made()[0].clone().into()),
            Some("tls/other.key") => Ok(made()[1].clone().into()),
            Some("tls/expired.pem" | "tls/expired.key") => Ok(made()[2].clone().into()),
            Some("tls/early.pem" | "tls/early.key") => Ok(made()[3].clone().into()),
            Some("tls/empty.pem") => Ok(Vec::new()),
            Some("secrets/token") => Ok(format!("{STRONG}\n").into()),
            Some("secrets/empty") => Ok(b"\n".to_vec()),
            Some("secrets/two-lines") => Ok(b"one\ntwo\n".to_vec()),
            Some("pages/error.html") => {
                Ok(b"<h1>${status} ${title}</h1><p>${detail} ${request_id} ${retry_after}".to_vec())
            }
            Some("pages/large.html") => Ok(vec![b'x'; 200 << 10]),
            Some("pages/latin1.html") => Ok(b"<p>\xfc".to_vec()),
            Some("pages/empty.html") => Ok(b" \n".to_vec()),
            Some("pages/misspelt.html") => Ok(b"<h1>\n${requst_id}</h1>".to_vec()),
            Some("pages/script.html") => Ok(b"<script>\n\n`${name}`</script>".to_vec()),
            _ => Err(io::Error::from_raw_os_error(2)),
        }
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        Path::new("/etc/probegate").join(path)
    }

    fn is_writable(&self, folder: &Path) -> io::Result<()> {
        if folder.starts_with("/etc/probegate/read-only") { Err(io::Error::from_raw_os_error(13)) } else { Ok(()) }
    }

    fn is_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.starts_with("/etc/probegate/nowhere") { Err(io::Error::from_raw_os_error(2)) } else { Ok(()) }
    }

    fn takes_files(&self, folder: &Path) -> io::Result<()> {
        self.is_folder(folder).and_then(|()| self.is_writable(folder))
    }

    fn is_appendable(&self, file: &Path) -> io::Result<()> {
        self.takes_files(file.parent().unwrap_or(file))
    }

    fn knows_user(&self, name: &str) -> bool {
        !name.ends_with("-of-this-name")
    }

    fn knows_group(&self, name: &str) -> bool {
        self.knows_user(name)
    }

    fn authorities(&self) -> Vec<rustls::pki_types::CertificateDer<'static>> {
        vec![rustls::pki_types::CertificateDer::from_slice(b"an authority")]
    }

    fn unix(&self) -> u64 {
        TODAY
    }

    fn parallelism(&self) -> usize {
        4
    }
}

fn source(text: &str) -> Source {
    Source { name: "test.yaml".to_owned(), text: text.to_owned() }
}

fn plan(text: &str) -> Plan {
    let source = source(text);
    compile(&source, &Fixed).map_err(|problems| problems.render(&source, false)).unwrap().plan
}

fn problems(text: &str) -> Vec<String> {
    let problems = compile(&source(text), &Fixed).unwrap_err();
    problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

fn goldens(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(kind);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

/// Compares with the file beside a golden, or writes it.
fn check(file: &Path, rendered: &str) -> Result<(), String> {
    let beside = file.with_extension("stderr");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        if rendered.is_empty() {
            drop(fs::remove_file(beside));
        } else {
            fs::write(beside, rendered).unwrap();
        }
        return Ok(());
    }
    let expected = fs::read_to_string(&beside).unwrap_or_default();
    if expected == rendered {
        return Ok(());
    }
    Err(format!("{} differs; got:\n{rendered}\nexpected:\n{expected}", beside.display()))
}

fn compile_file(file: &Path) -> (Source, Result<Loaded, Problems>) {
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    let source = Source { name, text: fs::read_to_string(file).unwrap() };
    let result = compile(&source, &Fixed);
    (source, result)
}

#[test]
fn bad_files_are_refused_with_the_message_beside_them() {
    let mut differences = Vec::new();
    let files = goldens("bad");
    assert!(files.len() >= 20);
    for file in files {
        let (source, result) = compile_file(&file);
        let Err(problems) = result else { panic!("{} compiles", file.display()) };
        differences.extend(check(&file, &problems.render(&source, false)).err());
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn good_files_compile_with_the_lints_beside_them() {
    let mut differences = Vec::new();
    for file in goldens("good") {
        let (source, result) = compile_file(&file);
        let loaded = result.map_err(|problems| problems.render(&source, false)).unwrap();
        differences.extend(check(&file, &loaded.render_lints(false)).err());
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_problem_has_a_place_in_its_file() {
    for file in goldens("bad") {
        let (source, result) = compile_file(&file);
        for problem in result.unwrap_err().iter() {
            let Some(span) = &problem.span else { continue };
            let line = source.text.split('\n').nth(usize::try_from(span.line).unwrap() - 1).unwrap();
            assert!(
                source.text.get(span.bytes.clone()).is_some_and(|text| line.contains(text)),
                "{file:?}: {problem:?}"
            );
        }
    }
}

#[test]
fn the_default_file_says_what_happens_without_it() {
    let minimal = "services: {app: {upstream: {servers: [\"127.0.0.1:8000\"]}}}";
    let (written, unwritten) = (plan(DEFAULT), plan(minimal));
    // Only the lines on which things stand may differ.
    let text = |plan: &Plan| {
        let debug = format!("{plan:#?}");
        debug.lines().filter(|line| !line.trim().starts_with("line: ")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(text(&written), text(&unwritten));
    assert!(compile(&source(DEFAULT), &Fixed).unwrap().lints.is_empty());
}

#[test]
fn the_default_source_takes_any_server() {
    for server in ["127.0.0.1:9000", "unix:/run/app.sock", "django:8000"] {
        let loaded = compile(&default_source(server), &Fixed).unwrap();
        assert_eq!(&*loaded.plan.services[0].upstream.servers[0].label, server);
    }
    let error = compile(&default_source("a\": b"), &Fixed).unwrap_err();
    assert_eq!(error.iter().count(), 1);
}

#[test]
fn a_whole_configuration_arrives_in_the_plan() {
    let file = goldens("good").into_iter().find(|file| file.ends_with("full.yaml")).unwrap();
    let plan = compile_file(&file).1.unwrap().plan;
    let [shop, api] = plan.services.as_slice() else { panic!("two services") };
    assert_eq!((&*shop.name, shop.handling.max_body, shop.origin.line > 0), ("shop", 10 << 20, true));
    assert_eq!(plan.hosts.find(b"SHOP.example.com"), Some(0));
    assert_eq!(plan.hosts.find(b"a.api.example.com"), Some(1));
    assert_eq!(plan.hosts.find(b"elsewhere.example"), None);
    assert_eq!(shop.upstream.servers[1].address, ServerAddress::Unix("/run/gunicorn.sock".into()));
    assert_eq!(shop.upstream.servers[2].address, ServerAddress::Name("django".into(), 8000));
    assert_eq!(api.upstream.servers[0].key, shop.upstream.servers[0].key);
    assert_ne!(shop.upstream.servers[0].key, shop.upstream.servers[1].key);
    assert_eq!(shop.limits, [0, 3, 4, 5, 6]);
    let admin = &shop.routes[shop.route_table.find(b"/admin/users").unwrap()];
    assert_eq!((admin.deny, admin.allow.to_string().as_str()), (Deny::Hidden, "network office"));
    assert_eq!(shop.probes[1].allow.to_string(), "any [network internal, token probe]");
    assert_eq!(shop.probes[2].allow.origin.line, 0);
    let Serve::Forward(forward) = &shop.probes[1].serve else { panic!("forwarded") };
    let token = forward.token.as_ref().unwrap();
    assert_eq!((&*token.field, token.secret.expose_secret()), ("X-App-Token", STRONG.as_bytes()));
    let Serve::Answer(version) = &shop.probes[3].serve else { panic!("answered") };
    assert_eq!((&*version.service, &*version.version), ("shop", "1.10"));
    assert_eq!(plan.limits[1].quota.limit(), 5);
    assert_eq!(plan.limits[2].quota.limit(), 1);
    assert_eq!((plan.limits[3].delay, plan.limits[3].quota.longest_delay()), (Delay::After(5), 1_500_000_000));
    let client = LimitKey { parts: [LimitPart::ClientIp].into(), v4_prefix: 32, v6_prefix: 56 };
    assert_eq!(plan.limits[0].key, client);
    assert_eq!(
        plan.limits[4].key.to_string(),
        "client_ip, header x-tenant, cookie sessionid, query q, path, method, host, service, route, token, client_certificate (/32, /64)"
    );
    assert_eq!(plan.limits[4].methods, ["DELETE", "PATCH", "POST", "PUT"].map(Box::from));
    assert_eq!(plan.limits[4].tells, Tells { when: Telling::Always, legacy: true });
    let guesses = &plan.limits[5];
    assert_eq!((guesses.shadow, guesses.count.as_ref().unwrap().status.as_slice()), (true, &[401, 403][..]));
    assert_eq!(plan.limits[6].quota.algorithm(), Algorithm::FixedWindow);
    let private: Vec<_> = plan.private_fields.iter().map(FieldName::as_str).collect();
    assert_eq!(private, ["x-probe-token"]);
}

#[test]
fn a_misspelt_definition_is_reported_once_and_not_where_it_is_used() {
    let text = "networks: {office: [203.0.113.7/24]}\nservices:\n  app:\n    upstreem: {servers: [\"127.0.0.1:8000\"]}\n    routes: [{path: /admin, allow: {network: office}}]\n";
    assert_eq!(
        problems(text),
        [
            "networks.office[0]: `203.0.113.7/24` has bits set beyond its prefix",
            "services.app.upstreem: unknown key `upstreem`"
        ]
    );
    let text = "networks: [10.0.0.0/8]\nservices:\n  app:\n    upstream: {servers: [\"a:1\"]}\n    routes: [{path: /admin, allow: {network: office}}]\n";
    assert_eq!(problems(text), ["networks: expected a mapping from names to their definitions, found a list"]);
}

#[test]
fn anchors_aliases_and_flow_style_have_places() {
    let text = "x: 1\nservices:\n  a: {hosts: [é.example, b], upstream: &up {servers: [\"127.0.0.1\"]}}\n  b: {hosts: [b], upstream: *up}\n";
    let found = compile(&source(text), &Fixed).unwrap_err();
    let found: Vec<_> = found.iter().map(|problem| (problem.span.clone().unwrap(), problem.path.to_string())).collect();
    assert!(
        found
            .iter()
            .any(|(span, path)| path == "services.a.upstream.servers[0]" && (span.line, span.column) == (3, 55)),
        "{found:?}"
    );
    assert!(found.iter().any(|(span, path)| path == "services.b.hosts[0]" && span.line == 4), "{found:?}");
}

#[test]
fn no_text_makes_the_reader_panic() {
    let full =
        fs::read_to_string(goldens("good").into_iter().find(|file| file.ends_with("full.yaml")).unwrap()).unwrap();
    for (cut, _) in full.char_indices() {
        let source = source(&full[..cut]);
        if let Err(problems) = compile(&source, &Fixed) {
            assert!(!problems.render(&source, true).is_empty());
        }
    }
    for text in [
        "",
        "\u{feff}services: 1",
        "&a [*a]",
        "- a\n- b",
        "? [1]\n: 2",
        "a: !b c",
        "--- a\n--- b",
        "\0",
        "é: \"",
        "services: {a: {b: &x {c: *x}}}",
    ] {
        let source = source(text);
        let problems = compile(&source, &Fixed).unwrap_err();
        assert!(!problems.render(&source, false).is_empty(), "{text:?}");
    }
}

#[test]
fn no_message_repeats_a_secret() {
    let text = "tokens: {t: {slots: [{name: a, value: \"hunter2 \", expirse: 2020-01-01}, {name: b, value: hunter2, sha256: hunter2}, {name: c, env: hunter2-}]}}";
    let source = source(text);
    let rendered = compile(&source, &Fixed).unwrap_err();
    let shown = rendered.iter().map(ToString::to_string).collect::<String>();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!rendered.render(&source, false).contains("hunter2 \""));
}

#[test]
fn the_schema_describes_every_key() {
    let schema = schema();
    let text = schema.to_string();
    assert!(!text.contains("\"null\""));
    for key in ["listeners", "idle_timeout", "ipv6_prefix", "build_time", "upstream_path"] {
        assert!(text.contains(&format!("\"{key}\":")), "{key}");
    }
    assert_eq!(schema["required"], serde_json::json!(["services"]));
}

#[test]
fn a_file_is_loaded_with_what_lies_beside_it() {
    let folder = std::env::temp_dir().join(format!("probegate-config-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("probegate.yaml");
    fs::write(folder.join("token"), format!("{STRONG}\n")).unwrap();
    let text = "tokens: {probe: {slots: [{name: ci, file: token}]}}\n\
        services: {app: {upstream: {servers: [\"app:8000\"]}, probes: {readyz: {allow: {token: probe}}}}}\n";
    fs::write(&file, text).unwrap();
    let loaded = load(&file).unwrap();
    assert_eq!(loaded.render_lints(false), "");
    fs::remove_dir_all(&folder).unwrap();
    let failure = load(&file).unwrap_err();
    assert!(matches!(failure, Failure::Unreadable { .. }));
    assert!(failure.render(false).contains("probegate init"));
}
