//! The switch between releases of the real Django of `examples/django`: a good one, one that is not ready, and one whose pages fail, while clients ask.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::django::Django;
use crate::harness::{APP_TOKEN, Client, Folder, Gateway, eventually, probegate, run};

/// A release of the example whose settings differ by these lines.
fn release(code: &Folder, version: &'static str, settings: &str) -> Django {
    let name = format!("release_{}", version.replace('.', "_"));
    code.write(&format!("{name}.py"), format!("from config.settings import *\n{settings}\n"));
    let path = code.path().display().to_string();
    // A worker that is replaced in between is another subject.
    let more = ("GUNICORN_CMD_ARGS", "--max-requests 0");
    Django::start(&[("APP_VERSION", version), ("PYTHONPATH", &path), ("DJANGO_SETTINGS_MODULE", &name), more])
}

#[test]
fn no_get_fails_whatever_is_deployed() {
    let (code, storage) = (Folder::new(), Folder::new());
    // Pages that fail, and probes that do not.
    let urls = "from django.urls import include, path\n\
                def fail(request, **_):\n    raise RuntimeError('broken')\n\
                urlpatterns = [path('', include('django_deploy_probes.urls')), path('', fail), path('whoami', fail)]\n";
    code.write("broken_urls.py", urls);
    let unready = "DEPLOY_PROBES = {**DEPLOY_PROBES, 'READY_CHECKS': ['redis'], \
                   'REDIS': {'default': {'LOCATION': 'redis://127.0.0.1:1/0'}}}";
    let blue = release(&code, "1.0.0", "");
    let green = release(&code, "2.0.0", "");
    let sick = release(&code, "3.0.0", unready);
    let broken = release(&code, "4.0.0", "ROOT_URLCONF = 'broken_urls'");
    let slot =
        |name: &str, django: &Django| format!("      {name}: {{servers: [\"unix:{}\"]}}\n", django.socket().display());
    let probe = |kind: &str| {
        format!(
            "      {kind}: {{host: shop.example.com, timeout: 20s, token: {{header: X-Probe-Token, env: APP_PROBE_TOKEN}}}}\n"
        )
    };
    let config = format!(
        "listeners:\n  - address: \"127.0.0.1:0\"\nadmin: {{address: \"127.0.0.1:0\"}}\nworkers: 2\nstorage: {}\n\
         services:\n  shop:\n    slots:\n{}{}{}{}    active: blue\n    probes:\n{}",
        storage.path().display(),
        slot("blue", &blue),
        slot("green", &green),
        slot("sick", &sick),
        slot("broken", &broken),
        ["healthz", "readyz", "startupz", "version"].map(probe).concat(),
    );
    let gateway = Gateway::with(config).env("APP_PROBE_TOKEN", APP_TOKEN).start();
    let (admin, address) = (gateway.admin().to_string(), gateway.address());
    let switch = |arguments: &[&str]| {
        let arguments = [&["switch", "shop"], arguments, &["--admin", &admin]].concat();
        run(probegate(arguments).env_remove("PROBEGATE_ADMIN_TOKEN"))
    };
    let stop = AtomicBool::new(false);
    let statuses: Mutex<BTreeMap<u16, usize>> = Mutex::default();
    let total = || statuses.lock().unwrap().values().sum::<usize>();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::SeqCst) {
                    client.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
                    let status = client.response().status;
                    *statuses.lock().unwrap().entry(status).or_default() += 1;
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let good = switch(&["green", "--version", "2.0.0", "--percent", "50", "--step", "500ms", "--bake", "1s"]);
            assert_eq!(good.code, Some(0), "{good:?}");
            let unready = switch(&["sick", "--version", "3.0.0"]);
            assert!(unready.code == Some(1) && unready.err.contains("readyz answers with status 503"), "{unready:?}");
            let wrong = switch(&["broken", "--version", "4.0.1"]);
            assert!(wrong.code == Some(1) && wrong.err.contains("it is version 4.0.0"), "{wrong:?}");
            let broken = switch(&["broken", "--version", "4.0.0", "--bake", "60s"]);
            assert!(broken.code == Some(3) && broken.err.contains("requests went wrong"), "{broken:?}");
            let before = total();
            eventually("clients are answered afterwards", || (total() > before + 20).then_some(()));
        }));
        stop.store(true, Ordering::SeqCst);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    let statuses = statuses.into_inner().unwrap();
    assert_eq!(statuses.keys().copied().collect::<Vec<_>>(), [200], "{statuses:?}");
    // Some of them met the broken release, and were answered by the one before.
    eventually("answers that the old slot gave", || {
        let log = gateway.access_log();
        log.iter().any(|line| line["upstream_tries"] == 2 && line["upstream_slot"] == "green").then_some(())
    });
}
