//! `explain`: what would become of a request, and why. The request is read and judged by the very code that serves live ones; this
//! only watches it.

mod aggregate;
mod answers;
mod bans;
mod edits;
mod entrance;
mod errors;
mod file;
mod handshake;
mod limits;
mod place;
mod probe;
mod servers;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use probegate_policies::access::{Refusal, Rule, Trace};
use probegate_policies::client::{Identity, Step, Watch};
use probegate_policies::fields::Fields;
use probegate_policies::limit::Seed;
use probegate_policies::now::Now;
use probegate_policies::reason::Reason;

use self::edits::asks_app;
use self::entrance::{Entrance, head};
use super::{USAGE, colour, print, say};
use crate::config::{self, Loaded};
use crate::limiter::{self, Asking, Limiter};
use crate::plan::{Action, Deny, Listener, Plan, Serve};
use crate::request::judge::{self, Judgement, Observer, Part, Question, Scratch, Showing, Way};
use crate::request::target::Target;
use crate::request::values::Values;
use crate::request::{self, answer, redirect};
use crate::state::unix_time;
use crate::wire::h1::framing;
use crate::wire::h1::request::{HeadBounds, RequestParser};
use crate::wire::head::{FieldView, RequestHead};

/// The request to explain.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration; without one, the default.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address the connection comes from.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    from: IpAddr,
    /// A field of the request, `Name: value`; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    fields: Vec<String>,
    /// Sets of client certificates that the client's certificate belongs to; may be repeated or separated by commas. Implies TLS.
    #[arg(long = "client-certificate", value_name = "NAME", value_delimiter = ',')]
    client_certificates: Vec<String>,
    /// The name the client asked for in the TLS handshake; without it, the host of the URL. Implies TLS.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// The method.
    method: String,
    /// The URL: `https://host/path`, `http://host/path` (which a listener may redirect), or `/path` for a configuration with one service.
    url: String,
}

/// Prints the explanation. Exit 0: the request may pass. 1: it may not.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let loaded = match &arguments.config {
        Some(path) => config::load(path).map_err(|failure| failure.render(colour())),
        None => {
            let source = config::default_source("127.0.0.1:8000");
            config::compile(&source, &config::System::new("")).map_err(|problems| problems.render(&source, colour()))
        }
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(text) => {
            say(&text);
            return ExitCode::from(USAGE);
        }
    };
    let (text, passes) = explain(&loaded, arguments);
    let printed = print(text.as_bytes());
    if passes { printed } else { ExitCode::FAILURE }
}

/// The explanation, and whether the request may pass.
fn explain(loaded: &Loaded, arguments: &Arguments) -> (String, bool) {
    let plan = &loaded.plan;
    let mut out = Out { text: String::new(), file: loaded.source.name.clone() };
    let bytes = head(arguments);
    let bounds = HeadBounds { head: plan.bounds.head, fields: plan.bounds.fields, target: plan.bounds.target };
    let mut head = RequestHead::default();
    let read = RequestParser::default().advance(&bytes, &bounds, &mut head);
    let asked = read.and_then(|whole| {
        if !whole {
            return Err(Reason::HeadTooLarge);
        }
        let body = framing::request(&head, &bytes)?;
        Ok((Target::of(&head, &bytes)?, body))
    });
    let (asked, body) = match asked {
        Ok(asked) => asked,
        Err(reason) => {
            out.line("request", "refused before it is judged");
            out.verdict(reason, reason.status(), None);
            return (out.text, false);
        }
    };
    out.line("request", &format!("{} {} from {}", arguments.method, arguments.url, arguments.from));
    let fields = FieldView { bytes: &bytes, fields: &head.fields };
    let way_in = Entrance::of(plan, arguments);
    let instead = handshake::instead(plan, way_in.listener, arguments, asked.host);
    let handshake = match handshake::pretended(plan, arguments, asked.host, instead.as_deref()) {
        Ok(handshake) => handshake,
        Err(unknown) => {
            out.line("request", &format!("there is no client certificate `{unknown}` in the configuration"));
            return (out.text, false);
        }
    };
    let question = Question {
        method: head.method.of(&bytes),
        path: asked.path,
        query: asked.query,
        host: asked.host,
        fields: &fields,
        peer: probegate_policies::ip::canonical(arguments.from),
        showing: Showing { handshake, unmet: false },
        missing: way_in.facts.missing,
        probes_only: way_in.facts.probes_only,
        redirect: request::redirects(plan, &way_in.facts, &fields),
        bans: None,
        now: Now { nanos: 1, unix: unix_time() },
        worker: 0,
    };
    let limiter = Limiter::new(plan, plan.workers, None, &Seed([0; 4]));
    let mut scratch = Scratch::default();
    let mut watched = Watched { walk: Vec::new(), rules: Vec::new(), limits: Vec::new() };
    let judgement = judge::judge(plan, &limiter, &question, &mut scratch, &mut watched);
    out.path(&judgement, asked.path);
    out.identity(plan, &judgement, &watched, question.peer);
    out.place(plan, &judgement, asked.host, question.probes_only);
    out.bans(plan, &judgement);
    out.rules(&watched);
    out.limits(plan, &watched, question.method);
    if judgement.service.is_some() {
        out.redirect(way_in.listener, question.redirect, judgement.part);
    }
    let service = judgement.service.and_then(|index| plan.services.get(index));
    let received = edits::received(&head, &bytes, &way_in.facts);
    let values = service.map(|service| {
        let id = &[b'0'; 32];
        Values { plan, received: &received, asked: &asked, judgement: &judgement, id, service }
    });
    if let Some(values) = &values {
        out.edits(values);
    }
    let errors =
        service.map_or(plan.errors.as_deref(), |service| service.handling(judgement.seen.route()).errors.as_deref());
    out.errors(errors, judgement.seen);
    if values.as_ref().is_some_and(|values| out.maintenance(values, &question)) {
        out.verdict(Reason::Maintenance, Reason::Maintenance.status(), None);
        return (out.text, false);
    }
    if let (Ok(Way::In(_)), Some(service)) = (&judgement.verdict, service)
        && let Err(reason) = request::expects(&head, &fields, body, service.handling(judgement.part.route()).max_body)
    {
        out.verdict(reason, reason.status(), None);
        return (out.text, false);
    }
    if let Some(text) = values.as_ref().and_then(edits::instead) {
        out.line("verdict", &text);
        return (out.text, true);
    }
    if let (Ok(Way::In(permit)), Part::Aggregate(index)) = (&judgement.verdict, judgement.part) {
        let facts = question.facts(&judgement.identity);
        out.aggregate(plan, index, permit, |rule| rule.judge(&facts, &mut ()).is_ok());
        return (out.text, true);
    }
    match &judgement.verdict {
        Ok(Way::Https(port)) => {
            let mut place = Vec::new();
            redirect::place(*port, &asked, &mut place);
            let text = format!("redirected: {}, to {}", redirect::STATUS, String::from_utf8_lossy(&place));
            out.line("verdict", &text);
            (out.text, true)
        }
        Ok(Way::In(permit)) => {
            let probe = match (service, judgement.part) {
                (Some(service), Part::Probe(index)) => service.probes.get(index),
                _ => None,
            };
            let mut text = match probe.map(|probe| &probe.serve) {
                Some(Serve::Answer(_)) => "passes: the gateway answers",
                Some(Serve::Forward(_)) => "passes: the app is asked",
                None => "passes: it goes to the app",
            }
            .to_owned();
            if let Some(probe) = probe {
                out.probe(probe, &asked, &fields, plan);
            }
            if let (Some(service), Part::Rest | Part::Route(_)) = (service, judgement.part) {
                out.answers(service.handling(judgement.part.route()), &fields);
            }
            let route = service.zip(judgement.part.route()).and_then(|(service, index)| service.routes.get(index));
            if let (Some(route), Some(path)) = (route, &judgement.path)
                && let Action::Files(files) = &route.action
            {
                text = file::text(files, &route.path, path.path);
            }
            if let Some(service) =
                service.filter(|service| asks_app(service, &judgement) && service.upstream.is_special())
            {
                text.push_str(&format!(", in {}", service.upstream));
            }
            if let Some((set, slot)) = permit.slot() {
                let written = write!(text, " (token `{set}`, slot `{slot}`)");
                debug_assert!(written.is_ok());
            }
            if let Some(service) = service.filter(|service| asks_app(service, &judgement)) {
                for (what, text) in servers::lines(&service.upstream) {
                    out.line(what, &text);
                }
            }
            out.line("verdict", &text);
            (out.text, true)
        }
        Err(refused) => {
            out.verdict(refused.reason, answer::status(*refused), Some(refused.deny));
            (out.text, false)
        }
    }
}

/// What was seen while the request was judged.
struct Watched {
    walk: Vec<(String, Step)>,
    rules: Vec<(usize, String, u32, Result<(), Refusal>)>,
    /// Index, and whom it counts.
    limits: Vec<(usize, String)>,
}

impl Watch for Watched {
    fn entry(&mut self, entry: &[u8], step: Step) {
        self.walk.push((String::from_utf8_lossy(entry).into_owned(), step));
    }
}

impl Trace for Watched {
    fn rule(&mut self, depth: usize, rule: &Rule, outcome: Result<(), Refusal>) {
        self.rules.push((depth, rule.to_string(), rule.origin.line, outcome));
    }
}

impl Observer for Watched {
    fn limits<F: Fields + ?Sized>(&mut self, plan: &Plan, limits: impl Iterator<Item = usize>, asking: &Asking<'_, F>) {
        let called = |limit: usize| Some((limit, limiter::called(plan.limits.get(limit)?, asking)));
        self.limits = limits.filter_map(called).collect();
    }
}

struct Out {
    text: String,
    file: String,
}

impl Out {
    fn line(&mut self, what: &str, text: &str) {
        self.text.push_str(&format!("{what:<9} {text}\n"));
    }

    fn verdict(&mut self, reason: Reason, status: u16, deny: Option<Deny>) {
        let seen = if deny == Some(Deny::Close) { "the connection is closed".to_owned() } else { status.to_string() };
        self.line("verdict", &format!("refused: {seen}, {} ({})", reason.text(), reason.label()));
    }

    fn path(&mut self, judgement: &Judgement<'_>, received: &[u8]) {
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Some(path) = &judgement.path else {
            self.line("path", &format!("`{}` has no one meaning", show(received)));
            return;
        };
        let mut text = format!("`{}`", show(path.path));
        for reading in [path.folded, path.cut.filter(|cut| path.folded != Some(cut))].into_iter().flatten() {
            text.push_str(&format!(", ambiguous: another server could read `{}`", show(reading)));
        }
        if let Some(rewritten) = path.rewritten {
            text.push_str(&format!(", sent as `{}`", show(rewritten)));
        }
        self.line("path", &text);
    }

    fn identity(&mut self, plan: &Plan, judgement: &Judgement<'_>, watched: &Watched, peer: IpAddr) {
        let trusted = plan.client.trusts(peer);
        let field = plan.client.field().name();
        let about = if trusted {
            format!("a trusted proxy: `{field}` is walked from the right")
        } else {
            "not a trusted proxy: forwarding fields are ignored".to_owned()
        };
        self.line("peer", &format!("{peer}, {about}"));
        for (entry, step) in &watched.walk {
            let meaning = match step {
                Step::Trusted(_) => "a trusted proxy",
                Step::Client(_) => "the client; what stands left of it is not looked at",
                Step::Malformed => "not an address: the walk ends here",
                Step::Empty => "empty, ignored",
            };
            self.line("", &format!("`{entry}`: {meaning}"));
        }
        let text = match &judgement.identity {
            Identity::Known(known) => format!("{} ({})", known.ip, known.source),
            Identity::Unknown(unknown) => format!("unknown ({}): no network lets it in", unknown.reason),
        };
        self.line("client", &text);
    }

    fn rules(&mut self, watched: &Watched) {
        for (depth, rule, line, outcome) in &watched.rules {
            let outcome = match outcome {
                Ok(()) => "lets it in".to_owned(),
                Err(refusal) => format!("refuses: {}", Reason::from(*refusal).text()),
            };
            let indent = "  ".repeat(*depth);
            self.line("rule", &format!("{indent}{rule}{}: {outcome}", self.at(*line)));
        }
    }

    fn redirect(&mut self, listener: Option<&Listener>, redirect: Option<u16>, part: Part) {
        let Some((listener, port)) = listener.and_then(|listener| Some((listener, listener.redirect_https?))) else {
            return;
        };
        let what = match (redirect, part) {
            (None, _) => "a trusted proxy says that the client used HTTPS already",
            (Some(_), Part::Probe(_) | Part::Aggregate(_)) => "but not for probes",
            (Some(_), Part::Rest | Part::Route(_)) => "no rule is asked before that",
        };
        self.line("redirect", &format!("listener {} sends clients to HTTPS on port {port}: {what}", listener.address));
    }

    fn at(&self, line: u32) -> String {
        if line == 0 { " (default)".to_owned() } else { format!(" ({}:{line})", self.file) }
    }
}
