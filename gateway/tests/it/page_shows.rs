//! What the page shows of services, limits, bans and certificates: the numbers that the admin API tells, in their places.

use std::sync::mpsc;
use std::time::Duration;

use crate::harness::{Authority, Browser, Gateway, Upstream, Wish, exchange, get_admin, ok, wait_ready};
use crate::page::{config, look, nothing_wrong};

/// Waits until what `selector` finds says this, as texts of its parts.
fn says(browser: &mut Browser, selector: &str, parts: &str, expected: &[&str]) {
    let all = format!(
        "[...document.querySelectorAll('{selector}')].map((one) => [...one.{parts}].map((part) => part.textContent).join(' | '))"
    );
    let expected = serde_json::to_string(expected).unwrap();
    browser.wait(&format!("JSON.stringify({all}) === JSON.stringify({expected})"));
}

#[test]
fn probes_rates_limits_bans_and_certificates_are_in_their_places() {
    let app = Upstream::answering(|request| match &*request.target() {
        "/readyz?bad" => b"HTTP/1.1 503 Not now\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/broken" => b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok("{}"),
    });
    let top = "limits: {few: {rate: 1/d, burst: 1}, maybe: {rate: 1/d, mode: shadow}}\nprobes: {cache: off}\n";
    let text = config(&[("shop", &[&app])], "", top)
        .replace("routes: [", "routes: [{path: /few, limits: [few]}, {path: /maybe, limits: [maybe]}, ");
    let issued = Authority::new("Test authority").sign(&Wish::hosts(&["shop.example", "www.example"]).days(-30, 10));
    let gateway = Gateway::with(text).file("cert.pem", &issued.cert).file("key.pem", &issued.key).start();
    wait_ready(&gateway);
    let admin = gateway.admin();
    let ask = |target: &str| {
        exchange(gateway.address(), format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"))
            .status
    };
    let statuses =
        ["/few", "/few", "/few", "/maybe", "/maybe", "/broken", "/readyz?bad", "/readyz", "/readyz"].map(ask);
    assert_eq!(statuses, [200, 200, 429, 200, 200, 500, 503, 200, 200]);
    let ban = format!("PUT /bans/203.0.113.9?reason=scans HTTP/1.1\r\nHost: {admin}\r\nX-Probegate-Control: 1\r\n\r\n");
    assert_eq!(exchange(admin, ban).status, 200);

    let mut browser = Browser::start();
    browser.size(1280, 900);
    look(&mut browser, &gateway);
    // Each limit: what it allows, how often it was asked, and how often it refused.
    says(&mut browser, "#limits tbody th", "childNodes", &["few", "maybe | shadow"]);
    browser.wait("[...document.querySelectorAll('#limits tbody tr')].map((row) => [2, 3].map((at) => row.children[at].textContent).join()).join(' ') === '3,1 2,1'");
    // The ban, with why.
    browser.wait("document.querySelector('#bans tbody th').textContent === '203.0.113.9'");
    browser.wait("document.querySelector('#bans tbody tr').textContent.includes('scans')");
    // The certificate: its end, as the admin API tells it, and that it is near.
    let told = get_admin(admin, "/certificates").json();
    let end = told["certificates"][0]["not_after"].as_u64().unwrap();
    browser.wait("document.querySelector('#certificates tbody th').textContent.startsWith('shop.example')");
    browser.wait(&format!("document.querySelector('#certificates tbody .num').textContent === new Date({end} * 1000).toISOString().slice(0, 10)"));
    browser.wait("document.querySelector('#certificates .badge.warn')");
    browser.wait("document.querySelector('.attention').textContent.includes('The certificate for shop.example ends to be valid in ')");
    // The probe with what the app said lately, and the last refusal.
    let history = ".card .probes [role=img]";
    browser.wait(&format!("[...document.querySelectorAll('{history}')].some((one) => one.getAttribute('aria-label') === 'The last 3 answers: 2 good, 1 bad')"));
    browser.wait(
        "[...document.querySelectorAll('#denials .asked')].some((one) => one.textContent === 'GETshop.example/few')",
    );
    // Rates, errors and latencies, while they are those of the last seconds.
    let figures = "Object.fromEntries([...document.querySelectorAll('.card .figure')].map((one) => [one.querySelector('dt').textContent, one.querySelector('dd').textContent]))";
    // All at once, and while somebody asks: a moment later the window may have moved on.
    let all = format!(
        "((all) => parseFloat(all.Requests) > 0 && parseFloat(all.Errors) > 0 && ['Half within', '99 of 100 within'].every((name) => /^[\\d.]+ (ms|s)$/.test(all[name])))({figures})"
    );
    std::thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        scope.spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(100)) == Err(mpsc::RecvTimeoutError::Timeout) {
                ask("/broken");
            }
        });
        browser.wait(&all);
        drop(stop);
    });
    nothing_wrong(&mut browser, "everything has something to show");
    browser.picture("everything");
}
