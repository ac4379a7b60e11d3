//! Bans are asked about for each request, not for each connection.

use super::raw::{ask, request, with_h2};
use super::with_http2;
use crate::harness::{Config, Folder, Gateway, Upstream, ok};

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
