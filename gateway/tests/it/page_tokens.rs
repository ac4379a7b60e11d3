//! The page where tokens are asked for in two fields, and where there is no place for one more who listens.

use crate::harness::{
    Authority, Browser, Gateway, TOKEN, Upstream, exchange, get_admin, ok, wait_for_metric, wait_ready,
};
use crate::page::{config, listen, nothing_wrong, page, start};

const RELOADS: &str = "probegate_reloads_total";

#[test]
fn each_token_goes_out_in_the_field_of_its_set_and_reloads_take_the_one_for_changes() {
    const READER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";
    let app = Upstream::answering(|_| ok("answered"));
    let issued = Authority::new("Test").issue(&["shop.example"]);
    let top = "tokens:\n  viewers: {slots: [{name: page, env: READ_TOKEN}]}\n  operators: {header: X-Operator-Token, slots: [{name: people, env: PROBE_TOKEN}]}\n";
    let gateway = Gateway::with(config(
        &[("shop", &[&app])],
        ", tokens: {read: viewers, write: operators}, open_metrics: true",
        top,
    ))
    .env("PROBE_TOKEN", TOKEN)
    .env("READ_TOKEN", READER)
    .file("cert.pem", &issued.cert)
    .file("key.pem", &issued.key)
    .start();
    wait_ready(&gateway);
    let schemes = get_admin(gateway.admin(), "/openapi.json").json()["components"]["securitySchemes"].clone();
    assert_eq!(
        (&schemes["read"]["name"], &schemes["write"]["name"]),
        (&"x-probe-token".into(), &"x-operator-token".into())
    );
    let mut browser = Browser::start();
    browser.size(1000, 700);
    let enter = |browser: &mut Browser, form: &str, token: &str| {
        browser.wait(&format!("document.querySelector('{form} input')"));
        browser.eval(&format!(
            "(() => {{ const field = document.querySelector('{form} input'); field.value = ''; field.focus(); }})()"
        ));
        browser.types(token);
        browser.press("Enter", false);
    };
    let press = "[...document.querySelectorAll('button')].find((one) => one.textContent === 'Reload')";
    for token in [READER, TOKEN] {
        browser.open(&page(&gateway));
        enter(&mut browser, ".locked", token);
        browser.wait("document.querySelector('.going.live') && document.querySelector('.card')");
    }
    // Whoever may look alone is refused, after the question, and asked for a token that may.
    browser.open(&page(&gateway));
    enter(&mut browser, ".locked", READER);
    browser.wait(&format!("document.querySelector('.going.live') && {press}"));
    browser.eval(&format!("{press}.click()"));
    browser.wait("document.querySelector('dialog .go')");
    wait_for_metric(&gateway, RELOADS, 0.0);
    browser.eval("document.querySelector('dialog .go').click()");
    browser.wait("document.querySelector('dialog').textContent.includes('this token is for reading')");
    wait_for_metric(&gateway, RELOADS, 0.0);
    enter(&mut browser, "dialog", TOKEN);
    browser.wait("document.getElementById('said').textContent === 'The configuration is reloaded.'");
    wait_for_metric(&gateway, RELOADS, 1.0);
}

#[test]
fn where_there_are_no_events_the_page_asks_now_and_then() {
    let app = Upstream::answering(|_| ok("answered"));
    let gateway = start(&[("shop", &[&app])], "", "");
    let all: Vec<_> = (0..16).map(|_| listen(gateway.admin())).collect();
    assert!(all.iter().all(|(_, head)| head.starts_with("HTTP/1.1 200")), "all places are taken");
    let mut browser = Browser::start();
    browser.open(&page(&gateway));
    browser.wait("document.querySelector('.card') && document.querySelector('.going')");
    assert_eq!(browser.eval("document.querySelector('.going.lost') === null"), true);
    // What is turned meanwhile is shown by a later question.
    let admin = gateway.admin();
    exchange(
        admin,
        format!("PUT /services/shop/maintenance HTTP/1.1\r\nHost: {admin}\r\nX-Probegate-Control: 1\r\n\r\n"),
    );
    browser.wait("document.getElementById('service-shop').classList.contains('note')");
    nothing_wrong(&mut browser, "without events");
}
