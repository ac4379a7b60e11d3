//! Pages of our own in front of the real Django.

use serde_json::json;

use crate::django::{Django, ask};
use crate::harness::{APP_TOKEN, Folder, Gateway, probegate, run};

#[test]
fn people_see_our_pages_and_not_django_s_and_its_probes_answer_in_maintenance() {
    let django = Django::start(&[]);
    let storage = Folder::new();
    let config = format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\nadmin: {{address: \"127.0.0.1:0\"}}\nworkers: 1\nstorage: {}\nerror_header: true\n\
         networks: {{office: [127.0.0.3/32]}}\nservices:\n  shop:\n    upstream: {{servers: [\"unix:{}\"]}}\n    \
         error_pages: {{default: error.html}}\n    intercept: [400, 403, 404, 5xx]\n    \
         probes: {{readyz: {{host: shop.example.com, token: {{env: APP_PROBE_TOKEN}}}}}}\n    \
         maintenance: {{retry_after: 2m, allow: {{network: office}}}}\n    routes: [{{path: /api/, intercept: []}}]\n",
        storage.path().display(),
        django.socket().display()
    );
    let page = "<h1>Ours: ${status}</h1>${request_id}";
    let gateway = Gateway::with(config).env("APP_PROBE_TOKEN", APP_TOKEN).file("error.html", page).start();
    let browser = ["-H", "Accept: text/html,*/*;q=0.8"];
    let ours = |target: &str, status: u16, more: &[&str]| {
        let seen = ask(&gateway, target, &[&browser[..], more].concat());
        let line = gateway.wait_for_log(|line| line["target"] == target && line["status"] == status);
        let id = line["request_id"].as_str().unwrap().to_owned();
        assert_eq!((seen.status, seen.text()), (status, format!("<h1>Ours: {status}</h1>{id}")), "{target}");
        (seen, line)
    };
    for (target, status, more) in [
        ("/nothing-here", 404, &[][..]),
        ("/slow?s=never", 400, &[]),
        // Django's page about a form that was forged.
        ("/admin/login/", 403, &["--data", "username=a&password=b"]),
    ] {
        let (seen, line) = ours(target, status, more);
        assert_eq!((&line["origin"], seen.field("x-gateway-error")), (&json!("upstream"), None), "{target}");
        // What speaks of Django's page, and of Django's framing rules, went with it.
        assert_eq!(
            (seen.field("x-frame-options"), seen.field("content-type").as_deref()),
            (None, Some("text/html; charset=utf-8"))
        );
    }
    let problem = ask(&gateway, "/nothing-here", &[]);
    assert_eq!((problem.status, problem.json()["title"].as_str()), (404, Some("Not Found")));
    assert!(ask(&gateway, "/api/x", &browser).text().contains("Not Found"), "Django's own");

    // In maintenance, Django is asked about itself, and by the office.
    let admin = gateway.admin().to_string();
    let switch = |to: &str| run(&mut probegate(["maintenance", to, "shop", "--admin", &admin]));
    assert_eq!(switch("on").code, Some(0));
    let (seen, line) = ours("/?closed", 503, &[]);
    assert_eq!(
        (seen.field("retry-after").as_deref(), seen.field("x-gateway-error").as_deref()),
        (Some("120"), Some("maintenance"))
    );
    assert_eq!((&line["origin"], &line["reason"]), (&json!("gateway"), &json!("maintenance")));
    assert_eq!(ask(&gateway, "/readyz", &browser).status, 200);
    assert!(ask(&gateway, "/", &["--interface", "127.0.0.3"]).text().contains("Hello from Django"));
    assert_eq!(switch("off").code, Some(0));
    assert!(ask(&gateway, "/", &browser).text().contains("Hello from Django"));

    drop(django);
    let (seen, line) = ours("/?gone", 502, &[]);
    assert_eq!(
        (&line["origin"], seen.field("x-gateway-error").as_deref()),
        (&json!("gateway"), Some("upstream_unreachable"))
    );
}
