//! The real django-ratelimit as the oracle for fixed windows: the same clients at the same seconds, and the same decisions, ends of windows included.

use std::net::IpAddr;
use std::process::Command;

use probegate_policies::client::{Identity, Known, Source};
use probegate_policies::limit::{KeyPart, Quota, Seed, Table, window};
use probegate_policies::now::Now;
use serde_json::{Value, json};

use crate::harness::{Folder, run, venv};

/// Asks the package about each request, at the second that it is told. Its cache keeps the same time.
const SCRIPT: &str = r#"
import json, sys, time
from unittest import mock
from django.conf import settings
settings.configure(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})
import django
django.setup()
from django.test import RequestFactory
from django_ratelimit import core

told = []
for number, trace in enumerate(json.load(open(sys.argv[1]))):
    for second, address in trace["requests"]:
        request = RequestFactory(REMOTE_ADDR=address).get("/")
        with mock.patch("time.time", return_value=second + 0.5):
            usage = core.get_usage(request, group=str(number), key="ip", rate=trace["rate"], increment=True)
        told.append([usage["should_limit"], usage["count"], second + usage["time_left"]])
json.dump(told, sys.stdout)
"#;

#[test]
fn fixed_windows_decide_as_django_ratelimit_does() {
    let seed =
        std::env::var("PROBEGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("PROBEGATE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let clients = [
        "127.0.0.1",
        "203.0.113.10",
        "198.51.100.255",
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8:0:1::",
        "2001:db8:1:2:3:4:5:6",
    ];
    let rates = ["5/m", "3/10s", "1/s", "10/h", "2/d", "100/5m", "4/90s"];
    let traces: Vec<(&str, Vec<(u64, &str)>)> = (0..60)
        .map(|_| {
            let mut second = 1_700_000_000 + random.u64(0..100_000_000);
            let requests = (0..random.usize(5..60)).map(|_| {
                second += if random.bool() { 0 } else { random.u64(0..40) };
                (second, clients[random.usize(..clients.len())])
            });
            let requests = requests.collect();
            (rates[random.usize(..rates.len())], requests)
        })
        .collect();
    let folder = Folder::new();
    let asked: Vec<Value> = traces.iter().map(|(rate, requests)| json!({"rate": rate, "requests": requests})).collect();
    let asked = folder.write("traces.json", Value::from(asked).to_string());
    let script = folder.write("ask.py", SCRIPT);
    let python = venv("PROBEGATE_TEST_RATELIMIT_VENV", "ratelimit", "gateway/tests/ratelimit.txt").join("bin/python");
    let ended = run(Command::new(python).arg(script).arg(asked));
    let told: Vec<Value> = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
    let mut told = told.iter();
    for (rate, requests) in &traces {
        let quota = Quota::fixed_window(rate.parse().unwrap());
        let table = Table::new(100, Seed([1, 2, 3, 4]));
        for (second, address) in requests {
            let ip: IpAddr = address.parse().unwrap();
            let identity = Identity::Known(Known { ip, source: Source::Peer });
            let mut key = table.build_key(&quota);
            key.part(&KeyPart::Client { identity: &identity, v4_prefix: 32, v6_prefix: 64 });
            let decision = table.admit(key.finish(), &quota, Now { nanos: 1, unix: *second });
            let theirs = told.next().unwrap();
            let about = format!("seed {seed}, {rate} from {address} at {second}: {theirs} {decision:?}");
            assert_eq!(decision.admitted, theirs[0] == false, "{about}");
            let count = u32::try_from(theirs[1].as_u64().unwrap()).unwrap();
            assert_eq!(decision.remaining, quota.limit().saturating_sub(count), "{about}");
            // The end belongs to the window: it is over a second later.
            assert_eq!(second + decision.reset / 1_000_000_000, theirs[2].as_u64().unwrap() + 1, "{about}");
        }
    }
    assert_eq!(told.len(), 0);
    assert_eq!(window::end(1_700_000_000, 60, 0), 1_700_000_040);
}
