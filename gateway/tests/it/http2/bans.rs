//! Bans are asked about for each request, not for each connection.

use super::raw::{GET, HEADERS, RST_STREAM, Raw, ask, frame, request, with_h2};
use super::with_http2;
use crate::harness::{Config, Folder, Gateway, Upstream, ok, wait_for_metric};

#[test]
fn a_ban_meets_a_client_on_a_connection_that_is_open_and_nobody_else_on_it() {
    let app = Upstream::answering(|request| {
        if request.target() == "/login" {
            b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".to_vec()
        } else {
            ok("answered")
        }
    });
    let storage = Folder::new();
    let top = format!(
        "storage: {}\nclient_ip: {{trusted_proxies: [127.0.0.1]}}\n\
         bans: {{logins: {{offences: {{status: [401]}}, mode: enforce}}}}",
        storage.path().display()
    );
    let gateway = Gateway::start(with_http2(&Config::before(&app).top(&top)));
    with_h2(gateway.address(), async |mut send| {
        let mut status = async |client: &str, path: &str| {
            let mut request = request("GET", path);
            request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
            ask(&mut send, request, b"", None).await.unwrap().head.status.as_u16()
        };
        assert_eq!(status("203.0.113.9", "/before").await, 200);
        for _ in 0..5 {
            assert_eq!(status("203.0.113.9", "/login").await, 401);
        }
        assert_eq!(status("203.0.113.9", "/after").await, 403);
        assert_eq!(status("203.0.113.10", "/after").await, 200);
    });
}

#[test]
fn an_answer_that_nobody_stays_to_read_counts_as_one_that_is_read() {
    let app = Upstream::answering(|_| b"HTTP/1.1 401 No\r\nContent-Length: 5\r\n\r\nwrong".to_vec());
    let storage = Folder::new();
    let top = format!(
        "storage: {}\nclient_ip: {{trusted_proxies: [127.0.0.1]}}\n\
         bans: {{logins: {{offences: {{status: [401]}}, mode: enforce}}}}",
        storage.path().display()
    );
    let gateway = Gateway::start(with_http2(&Config::before(&app).top(&top)));
    // A window of nothing: the head comes, and the body can not.
    let mut client = Raw::with_settings(gateway.address(), &[0, 4, 0, 0, 0, 0]);
    for stream in [1, 3, 5, 7, 9] {
        assert!(client.ask(stream, &[&GET[..], &[("x-forwarded-for", "203.0.113.9")]].concat()));
        client.find(|frame| frame.kind == HEADERS && frame.stream == stream).unwrap();
        assert!(client.send(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())));
    }
    wait_for_metric(&gateway, "probegate_bans{policy=\"logins\",mode=\"enforce\"}", 1.0);
}
