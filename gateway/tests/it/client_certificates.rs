//! Client certificates: asked for by a listener or by a service, optional or required, and what rules and other services make of them.

use std::sync::Arc;

use crate::harness::{Authority, Client, Config, Folder, Gateway, Issued, Upstream, Wish, ok, probegate, run};

/// Two authorities for clients, and the one of the gateway.
struct World {
    gateway: Authority,
    partners: Authority,
    staff: Authority,
}

impl World {
    fn new() -> Self {
        Self {
            gateway: Authority::new("Gateway"),
            partners: Authority::new("Partners"),
            staff: Authority::new("Staff"),
        }
    }

    /// Starts a gateway with these settings of its listener, and files for everything.
    fn start(&self, config: &str, tls: &str) -> Gateway {
        let issued = self.gateway.issue(&["shop.example", "www.example", "back.example"]);
        let listener = format!("{{certificates: [{{cert: cert.pem, key: key.pem}}]{tls}}}");
        let sets = "client_certificates:\n  partners: {ca: partners.pem, names: [billing@partner.example, acme-robot]}\n  staff: {ca: staff.pem}\n";
        let config = config.replacen(
            "  - address: \"127.0.0.1:0\"\n",
            &format!("  - address: \"127.0.0.1:0\"\n    tls: {listener}\n"),
            1,
        );
        Gateway::with(config + sets)
            .file("cert.pem", &issued.cert)
            .file("key.pem", &issued.key)
            .file("partners.pem", &self.partners.pem)
            .file("staff.pem", &self.staff.pem)
            .start()
    }

    /// Asks for a path; `None`: there was no answer, because the handshake failed.
    fn ask(&self, gateway: &Gateway, certificate: Option<&Issued>, names: (&str, &str), path: &str) -> Option<u16> {
        let config = Arc::new(self.gateway.client(certificate));
        let mut client = Client::connect(gateway.address()).secured(&config, names.0).ok()?;
        // In TLS 1.3 the client learns of a refusal after its own last word.
        if !client.try_send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", names.1)) {
            return None;
        }
        let head = client.try_head()?;
        std::str::from_utf8(&head).unwrap().split(' ').nth(1)?.parse().ok()
    }
}

const ROUTES: &str = "routes:\n  - {path: /partners, allow: {client_certificate: partners}}\n  - {path: /staff, allow: {client_certificate: staff}}\n";

#[test]
fn optional_certificates_are_judged_by_rules() {
    let app = Upstream::answering(|_| ok("in"));
    let world = World::new();
    let gateway = world
        .start(&Config::before(&app).service(ROUTES).to_string(), ", client_certificates: {accept: [partners, staff]}");
    let named = world.partners.sign(&Wish::client("x").also("billing@partner.example"));
    let common = world.partners.sign(&Wish::client("acme-robot"));
    let nameless = world.partners.sign(&Wish::client("somebody"));
    // A common name counts only where there is no other name.
    let disguised = world.partners.sign(&Wish::client("acme-robot").also("other@partner.example"));
    let staff = world.staff.sign(&Wish::client("staff"));
    let names = ("shop.example", "shop.example");
    for (certificate, path, expected) in [
        (None, "/", Some(200)),
        (None, "/partners/none", Some(403)),
        (Some(&named), "/partners/named", Some(200)),
        (Some(&common), "/partners/common", Some(200)),
        (Some(&nameless), "/partners/nameless", Some(403)),
        (Some(&disguised), "/partners/disguised", Some(403)),
        (Some(&staff), "/partners/staff", Some(403)),
        (Some(&staff), "/staff/staff", Some(200)),
        (Some(&named), "/staff/named", Some(403)),
    ] {
        assert_eq!(world.ask(&gateway, certificate, names, path), expected, "{path}");
    }
    assert_eq!(gateway.access("/partners/none")["reason"], "certificate_missing");
    assert_eq!(gateway.access("/partners/staff")["reason"], "certificate_wrong");
    let line = gateway.access("/staff/staff");
    assert_eq!((&line["client_certificate"], &line["tls_version"]), (&"CN=staff".into(), &"TLSv1.3".into()));
    assert_eq!(line["server_name"], "shop.example");
    // One that nobody has signed, or that has expired, ends the handshake, though none would not.
    let stranger = Authority::new("Stranger").sign(&Wish::client("staff"));
    let expired = world.staff.sign(&Wish::client("staff").days(-20, -10));
    for certificate in [&stranger, &expired] {
        assert_eq!(world.ask(&gateway, Some(certificate), names, "/"), None);
    }
    gateway.wait_for_log(|line| line["reason"] == "handshake_failed");
}

#[test]
fn required_certificates_end_the_handshake_of_whoever_has_none() {
    let app = Upstream::answering(|_| ok("in"));
    let world = World::new();
    let gateway = world.start(
        &Config::before(&app).service(ROUTES).to_string(),
        ", client_certificates: {accept: [partners], required: true}",
    );
    let good = world.partners.sign(&Wish::client("acme-robot"));
    let nameless = world.partners.sign(&Wish::client("somebody"));
    let staff = world.staff.sign(&Wish::client("staff"));
    let names = ("shop.example", "shop.example");
    assert_eq!(world.ask(&gateway, Some(&good), names, "/partners"), Some(200));
    for certificate in [None, Some(&nameless), Some(&staff)] {
        assert_eq!(world.ask(&gateway, certificate, names, "/"), None);
    }
    assert_eq!(app.requests().len(), 1);
}

/// Two services of one listener; the second asks for certificates.
fn two(app: &Upstream, required: bool) -> String {
    format!(
        "listeners:\n  - address: \"127.0.0.1:0\"\nadmin: {{address: \"127.0.0.1:0\"}}\nworkers: 1\nservices:\n  \
         shop: {{hosts: [shop.example, www.example], upstream: {{servers: [\"{0}\"]}}}}\n  \
         back: {{hosts: [back.example], upstream: {{servers: [\"{0}\"]}}, client_certificates: {{accept: [staff], required: {required}}}}}\n",
        app.server()
    )
}

#[test]
fn a_service_with_demands_is_reached_over_its_own_connections_only() {
    let app = Upstream::answering(|_| ok("in"));
    let world = World::new();
    let gateway = world.start(&two(&app, true), "");
    let staff = world.staff.sign(&Wish::client("staff"));
    for (certificate, server_name, host, expected) in [
        (None, "shop.example", "shop.example", Some(200)),
        (None, "shop.example", "www.example", Some(200)),
        (None, "www.example", "shop.example", Some(200)),
        (None, "back.example", "back.example", None),
        (Some(&staff), "back.example", "back.example", Some(200)),
        // Neither into it nor out of it.
        (None, "shop.example", "back.example", Some(421)),
        (Some(&staff), "shop.example", "back.example", Some(421)),
        (Some(&staff), "back.example", "shop.example", Some(421)),
    ] {
        let status = world.ask(&gateway, certificate, (server_name, host), "/");
        assert_eq!(status, expected, "{server_name} {host} {}", certificate.is_some());
    }
    gateway.wait_for_log(|line| line["reason"] == "host_misdirected");
}

#[test]
fn a_session_of_one_service_is_not_resumed_at_another() {
    let app = Upstream::answering(|_| ok("in"));
    let world = World::new();
    let gateway = world.start(&two(&app, false), "");
    let staff = world.staff.sign(&Wish::client("staff"));
    let folder = Folder::new();
    let (cert, key) = (folder.write("c.pem", &staff.cert), folder.write("c.key", &staff.key));
    let kept = folder.path().join("session");
    let client = |name: &str, how: &str| {
        let to = gateway.address().to_string();
        let mut command = std::process::Command::new("openssl");
        command.args(["s_client", "-tls1_2", "-connect", &to, "-servername", name, how]).arg(&kept);
        command.arg("-cert").arg(&cert).arg("-key").arg(&key);
        let ended = run(&mut command);
        ended.out + &ended.err
    };
    assert!(client("back.example", "-sess_out").contains("New, TLSv1.2"));
    assert!(client("back.example", "-sess_in").contains("Reused, TLSv1.2"));
    assert!(client("shop.example", "-sess_in").contains("New, TLSv1.2"), "another verification");
}

#[test]
fn a_plain_listener_is_no_way_around_a_required_certificate() {
    let app = Upstream::answering(|_| ok("in"));
    let world = World::new();
    let plain = crate::harness::free_address();
    let config = two(&app, true).replacen("admin:", &format!("  - address: \"{plain}\"\nadmin:"), 1);
    let gateway = world.start(&config, "");
    for (host, status) in [("shop.example", 200), ("back.example", 403)] {
        let response = crate::harness::exchange(plain, format!("GET /plain HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(response.status, status, "{host}");
    }
    gateway.wait_for_log(|line| line["reason"] == "certificate_missing");
}

#[test]
fn explain_pretends_certificates_and_server_names() {
    let world = World::new();
    let issued = world.gateway.issue(&["shop.example", "back.example"]);
    let folder = Folder::new();
    folder.write("cert.pem", &issued.cert);
    folder.write("key.pem", &issued.key);
    folder.write("ca.pem", &world.staff.pem);
    let file = folder.write(
        "probegate.yaml",
        "listeners: [{address: \"127.0.0.1:8443\", tls: {certificates: [{cert: cert.pem, key: key.pem}]}}]\n\
         client_certificates: {staff: {ca: ca.pem}, other: {ca: ca.pem}}\n\
         services:\n  shop: {hosts: [shop.example], upstream: {servers: [\"127.0.0.1:1\"]}}\n  \
         back:\n    hosts: [back.example]\n    upstream: {servers: [\"127.0.0.1:1\"]}\n    \
         client_certificates: {accept: [staff, other]}\n    routes: [{path: /in, allow: {client_certificate: staff}}]\n",
    );
    let said = |arguments: &[&str], url: &str| {
        let file = file.to_str().unwrap();
        let all = [&["explain", "-c", file][..], arguments, &["GET", url]].concat();
        run(&mut probegate(all)).out
    };
    let url = "https://back.example/in";
    assert!(said(&[], url).contains("certificate_missing"));
    assert!(said(&["--client-certificate", "other"], url).contains("certificate_wrong"));
    assert!(said(&["--client-certificate", "other,staff"], url).contains("passes"));
    assert!(said(&["--client-certificate", "nobody"], url).contains("no client certificate `nobody`"));
    assert!(said(&["--server-name", "shop.example"], url).contains("host_misdirected"));
}

#[test]
fn a_reload_judges_the_certificates_of_open_connections_again() {
    let app = Upstream::answering(|_| ok("in"));
    let world = World::new();
    let config = Config::before(&app).service(ROUTES).to_string();
    let gateway = world.start(&config, ", client_certificates: {accept: [partners, staff]}");
    let open = |certificate: Option<&Issued>| {
        let config = Arc::new(world.gateway.client(certificate));
        Client::connect(gateway.address()).secured(&config, "shop.example").unwrap()
    };
    let ask = |client: &mut Client, path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
        client.response().status
    };
    let staff = world.staff.sign(&Wish::client("staff"));
    let (mut known, mut nobody) = (open(Some(&staff)), open(None));
    assert_eq!((ask(&mut known, "/staff"), ask(&mut known, "/partners")), (200, 403));
    assert_eq!(ask(&mut nobody, "/"), 200);
    // The sets change places.
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    let (rest, sets) = text.split_once("client_certificates:\n").unwrap();
    let (partners, others) = sets.split_once("  staff:").unwrap();
    reload(&gateway, &format!("{rest}client_certificates:\n  staff:{}\n{partners}", others.trim_end()));
    assert_eq!((ask(&mut known, "/partners"), ask(&mut known, "/staff")), (403, 200));
    // Now a certificate is demanded.
    reload(&gateway, &text.replace("accept: [partners, staff]", "accept: [staff], required: true"));
    assert_eq!((ask(&mut known, "/staff"), ask(&mut nobody, "/")), (200, 403));
    // And another one.
    reload(&gateway, &text.replace("accept: [partners, staff]", "accept: [partners], required: true"));
    assert_eq!(ask(&mut known, "/"), 403);
}

#[test]
fn a_new_demand_binds_connections_for_names_that_have_no_certificate_any_more() {
    let app = Upstream::answering(|_| ok("in"));
    let world = World::new();
    let gateway = world.start(&Config::before(&app).to_string(), "");
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    let staff = world.staff.sign(&Wish::client("staff"));
    let open = |certificate: Option<&Issued>, name: &str| {
        Client::secure(gateway.address(), &Arc::new(world.gateway.client(certificate)), name)
    };
    let ask = |client: &mut Client, host: &str| {
        client.send(format!("GET /{host} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.response().status
    };
    let mut nobody = open(None, "shop.example");
    assert_eq!(ask(&mut nobody, "before.example"), 200);
    let issued = world.gateway.issue(&["new.example"]);
    let folder = gateway.config_path().parent().unwrap();
    std::fs::write(folder.join("new.pem"), &issued.cert).unwrap();
    std::fs::write(folder.join("new.key"), &issued.key).unwrap();
    let demand = "{cert: new.pem, key: new.key}], client_certificates: {accept: [staff], required: true}";
    let demanding = text.replace("{cert: cert.pem, key: key.pem}]", demand);
    assert_ne!(demanding, text);
    reload(&gateway, &demanding);
    for host in ["shop.example", "new.example", "any.example"] {
        assert_eq!(ask(&mut nobody, host), 403, "{host}");
        assert_eq!(gateway.access(&format!("/{host}"))["reason"], "certificate_missing");
    }
    // A connection with a certificate: asked for again, also when the name has gone.
    let mut known = open(Some(&staff), "new.example");
    assert_eq!(ask(&mut known, "new.example"), 200);
    let demand = ", client_certificates: {accept: [staff], required: true}}";
    reload(&gateway, &text.replace("key: key.pem}]}", &format!("key: key.pem}}]{demand}")));
    assert_eq!((ask(&mut known, "new.example"), ask(&mut nobody, "other.example")), (200, 403));
    reload(&gateway, &text);
    assert_eq!((ask(&mut known, "new.example"), ask(&mut nobody, "any.example")), (200, 200));
}

#[test]
fn a_listener_that_comes_to_demand_certificates_demands_them_of_open_plain_connections() {
    let app = Upstream::answering(|_| ok("in"));
    let world = World::new();
    let gateway = world.start(&Config::before(&app).to_string(), "");
    let secure = std::fs::read_to_string(gateway.config_path()).unwrap();
    let plain: String = secure.split_inclusive('\n').filter(|line| !line.contains("tls:")).collect();
    assert_ne!(plain, secure);
    reload(&gateway, &plain);
    let mut client = Client::connect(gateway.address());
    let mut ask = |path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
        client.response().status
    };
    assert_eq!(ask("/plain"), 200);
    let demanding = |demand: &str| {
        secure
            .replace("key: key.pem}]}", &format!("key: key.pem}}], client_certificates: {{accept: [staff]{demand}}}}}"))
    };
    for (config, path, status) in [
        (&secure, "/secure", 200),
        (&demanding(""), "/optional", 200),
        (&demanding(", required: true"), "/required", 403),
        (&plain, "/plain-again", 200),
    ] {
        reload(&gateway, config);
        assert_eq!(ask(path), status, "{path}");
    }
    assert_eq!(gateway.access("/required")["reason"], "certificate_missing");
}

/// Puts another configuration in force.
fn reload(gateway: &Gateway, config: &str) {
    let reloaded = |line: &String| line.contains("configuration reloaded");
    let before = gateway.log_lines().into_iter().filter(reloaded).count();
    std::fs::write(gateway.config_path(), config).unwrap();
    gateway.signal("HUP");
    crate::harness::eventually("the configuration is reloaded", || {
        (gateway.log_lines().into_iter().filter(reloaded).count() > before).then_some(())
    });
}
