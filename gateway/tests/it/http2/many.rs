//! What one client may have at a time over all its connections.

use std::sync::Arc;

use super::raw::{END_STREAM, Frame, GET, RST_STREAM, Raw, WINDOW_UPDATE};
use super::with_http2;
use crate::harness::{Config, Gate, Gateway, Upstream, eventually, gated, metric, ok, wait_for_metric};

/// Connections of a client that have a large window.
const GENEROUS: usize = 16;

#[test]
fn a_client_has_so_many_requests_at_work_over_all_its_connections() {
    let (gate, app) = gated("/slow", "whole");
    let config = Config::before(&app).workers(2).top("bounds: {streams_per_client: 5, streams: 3}");
    let gateway = Gateway::start(with_http2(&config));
    let mut clients: Vec<_> = (0..2).map(|_| Raw::connect(gateway.address())).collect();
    let slow = [&GET[..3], &[(":path", "/slow")]].concat();
    for raw in &mut clients {
        raw.ask(1, &slow);
        raw.ask(3, &slow);
    }
    app.wait_for_requests(4);
    // One of them has room for another, and then neither has.
    clients[0].ask(5, &slow);
    app.wait_for_requests(5);
    clients[1].ask(5, &GET);
    let refused = clients[1].find(|frame| frame.stream == 5).unwrap();
    assert_eq!((refused.kind, refused.code()), (RST_STREAM, 7), "REFUSED_STREAM: it may be sent again");
    wait_for_metric(&gateway, "probegate_refusals_total{service=\"\",reason=\"streams_exceeded\"}", 1.0);
    let line = gateway.wait_for_log(|line| line["reason"] == "streams_exceeded");
    assert_eq!(
        (&line["peer"], &line["decision"], &line["status"]),
        (&"127.0.0.1".into(), &"refuse".into(), &503.into())
    );

    gate.open();
    for (raw, streams) in clients.iter_mut().zip([3, 2]) {
        let mut ended = 0;
        while ended < streams {
            ended += u32::from(raw.next().unwrap().flags & END_STREAM != 0);
        }
    }
    // There is room again, when the work of those has ended here as well.
    let mut stream = 5;
    eventually("there is room", || {
        stream += 2;
        clients[1].ask(stream, &GET);
        clients[1].find(|frame| frame.stream == stream).unwrap().is_ok().then_some(())
    });
    assert_eq!(app.targets().iter().filter(|target| *target == "/slow").count(), 5);
}

#[test]
fn those_behind_a_trusted_proxy_are_not_counted_together() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::answering(move |_| {
        theirs.wait();
        ok("whole")
    });
    let config =
        Config::before(&app).top("client_ip: {trusted_proxies: [127.0.0.0/8]}\nbounds: {streams_per_client: 1}");
    let gateway = Gateway::start(with_http2(&config));
    let mut raw = Raw::connect(gateway.address());
    for number in 0..3 {
        raw.ask(2 * number + 1, &GET);
    }
    app.wait_for_requests(3);
    gate.open();
}

#[test]
fn a_client_with_many_connections_has_a_small_window_on_those_that_come_later() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(with_http2(&Config::before(&app)));
    // How much more than the protocol's own window a connection offers before it answers.
    let offered = |raw: &mut Raw| {
        raw.ask(1, &GET);
        let mut more = 0;
        loop {
            match raw.next().unwrap() {
                Frame { kind: WINDOW_UPDATE, stream: 0, payload, .. } => {
                    more += u32::from_be_bytes(payload.try_into().unwrap());
                }
                Frame { stream: 1, .. } => return more,
                _ => {}
            }
        }
    };
    let mut held = Vec::new();
    for number in 0..GENEROUS + 4 {
        let mut raw = Raw::connect(gateway.address());
        let more = offered(&mut raw);
        assert_eq!(more, if number < GENEROUS { (1 << 20) - 65_535 } else { 0 }, "connection {number}");
        held.push(raw);
    }
    held.truncate(1);
    eventually("they have left", || (metric(&gateway, "probegate_connections") < 1.5).then_some(()));
    assert_eq!(offered(&mut Raw::connect(gateway.address())), (1 << 20) - 65_535);
}
