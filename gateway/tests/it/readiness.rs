//! What the gateway says is wrong with it: the same on `/readyz`, in `/status` and to people, while it is so and no longer. What holds for services is in `versions`, for
//! certificates in `acme`.

use crate::harness::{
    Config, Folder, Gateway, Redis, Upstream, eventually, free_address, get, get_admin, ok, probegate, run,
};

/// What it warns of, as reason and what that is about; `None`: it is not ready, or does not say the same everywhere, as between two of the questions.
pub(crate) fn warned(gateway: &Gateway) -> Option<Vec<(String, String)>> {
    let answer = get_admin(gateway.admin(), "/readyz");
    let told = |value: &serde_json::Value| {
        let text = |one: &serde_json::Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
        let each = value["warnings"].as_array().unwrap().iter().map(|one| (text(one, "reason"), text(one, "about")));
        each.collect::<Vec<_>>()
    };
    let own = told(&answer.json());
    let status = get_admin(gateway.admin(), "/status").json();
    let people = run(probegate(["status", "--admin"]).arg(gateway.admin().to_string())).out;
    let shown = people.lines().filter(|line| line.starts_with("gateway")).filter_map(|line| {
        let (about, why) = line.split_once(" warning ")?;
        let reason = why.trim().split(':').next()?.to_owned();
        Some((reason, about.trim().strip_prefix("gateway: ").unwrap_or_default().to_owned()))
    });
    let same = own == told(&status["gateway"]) && own == shown.collect::<Vec<_>>();
    (answer.status == 200 && status["gateway"]["state"] == "ready" && same).then_some(own)
}

/// Waits until it warns of exactly this.
#[track_caller]
pub(crate) fn wait_warned(gateway: &Gateway, of: &[(&str, &str)]) {
    let wanted: Vec<_> = of.iter().map(|(reason, about)| ((*reason).to_owned(), (*about).to_owned())).collect();
    eventually(&format!("it warns of {of:?}"), || (warned(gateway)? == wanted).then_some(()));
}

#[test]
fn a_store_that_is_out_is_a_warning_until_it_is_back() {
    let (app, storage) = (Upstream::answering(|_| ok("answered")), Folder::new());
    let mut redis = Redis::on(free_address(), Folder::new(), &[]);
    let gateway = Gateway::start(
        Config::before(&app)
            .top(&format!(
                "storage: {}\nlimit_store: {{redis: \"{}\", timeout: 900ms}}\nlimits: {{all: {{rate: 100000/s, burst: 100000, shared: true}}}}",
                storage.path().display(),
                redis.url()
            ))
            .service("limits: [all]"),
    );
    assert_eq!(get(gateway.address(), "/").status, 200);
    wait_warned(&gateway, &[]);
    redis.kill();
    // It is found out by those who need it, and traffic goes on.
    eventually("it is found out", || {
        assert_eq!(get(gateway.address(), "/").status, 200);
        (!warned(&gateway)?.is_empty()).then_some(())
    });
    wait_warned(&gateway, &[("store_out", "")]);
    redis.start_again();
    eventually("it is back", || {
        assert_eq!(get(gateway.address(), "/").status, 200);
        warned(&gateway)?.is_empty().then_some(())
    });
}
