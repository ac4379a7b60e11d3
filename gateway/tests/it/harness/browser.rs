//! A real browser: Debian's Chromium without a window, told what to do over a pair of pipes (the `DevTools` protocol of Chrome), and looked at by axe-core.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Folder, PATIENCE, root};

/// A browser with one page. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    events: VecDeque<Value>,
    last: u64,
    session: Option<String>,
    _folder: Folder,
}

impl Browser {
    /// Starts one. As root it has to do without its sandbox.
    pub(crate) fn start() -> Self {
        let folder = Folder::new();
        let mut command = Command::new("sh");
        // Chromium listens to descriptor 3 and speaks to descriptor 4.
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh", "chromium", "--headless"]);
        command.args([
            "--remote-debugging-pipe",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
            "--mute-audio",
        ]);
        command.args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ]);
        if rustix::process::geteuid().is_root() {
            command.arg("--no-sandbox");
        }
        command.arg(format!("--user-data-dir={}", folder.path().display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (to, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (tell, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(out).split(0) {
                let Ok(message) = message else { break };
                if tell.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    break;
                }
            }
        });
        let (events, last) = (VecDeque::new(), 0);
        let mut browser = Self { child, to, from, events, last, session: None, _folder: folder };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Calls a method of the protocol.
    pub(crate) fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer =
                self.from.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{method}: the browser does not answer"));
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push_back(answer);
        }
    }

    /// What it has said by itself since the last look: with these methods.
    pub(crate) fn said(&mut self, methods: &[&str]) -> Vec<Value> {
        self.call("Runtime.evaluate", &json!({"expression": "0"}));
        let said = std::mem::take(&mut self.events);
        said.into_iter().filter(|event| methods.iter().any(|method| event["method"] == *method)).collect()
    }

    /// Opens an address.
    pub(crate) fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", &json!({"url": url}));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
    }

    /// The value of an expression on the page; promises are waited for.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) fn wait(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        // While a page is being exchanged for another, there is none to ask.
        let asked = json!({"expression": format!("Boolean({expression})"), "returnByValue": true});
        while self.call("Runtime.evaluate", &asked)["result"]["value"] != true {
            if Instant::now() > end {
                let text = self.eval("document.body.innerText");
                panic!("never true: {expression}\n{text}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How large the window is, in pixels.
    pub(crate) fn size(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// What the person prefers, such as `("prefers-color-scheme", "dark")`.
    pub(crate) fn prefers(&mut self, wishes: &[(&str, &str)]) {
        let features: Vec<_> = wishes.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Presses a key, such as `Tab`, `Enter` or `Escape`, or a space.
    pub(crate) fn press(&mut self, key: &str, shift: bool) {
        let (code, number, text) = match key {
            "Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            "Escape" => ("Escape", 27, ""),
            " " => ("Space", 32, " "),
            other => panic!("which key is {other}?"),
        };
        for kind in [if text.is_empty() { "rawKeyDown" } else { "keyDown" }, "keyUp"] {
            let pressed = json!({
                "type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number, "text": text, "modifiers": if shift { 8 } else { 0 },
            });
            self.call("Input.dispatchKeyEvent", &pressed);
        }
    }

    /// Types a text where the focus is.
    pub(crate) fn types(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// A picture of the whole page, below `target/page`, for people to look at.
    pub(crate) fn picture(&mut self, name: &str) {
        let size = self.call("Page.getLayoutMetrics", &json!({}))["cssContentSize"].clone();
        let mut wish = json!({"format": "png"});
        // A question lies over the window, not over the page.
        if self.eval("document.querySelector('dialog[open]') === null") == true {
            wish["captureBeyondViewport"] = true.into();
            wish["clip"] = json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1});
        }
        let taken = self.call("Page.captureScreenshot", &wish);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../page");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), unbase64(taken["data"].as_str().unwrap())).unwrap();
    }

    /// What axe-core finds wrong, in short.
    pub(crate) fn axe(&mut self) -> Vec<String> {
        let path = axe();
        let script = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.call("Runtime.evaluate", &json!({"expression": script}));
        let found = self.eval(
            "axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations.map((one) => \
             `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html).join(' ')}`))",
        );
        found.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to, it takes its helpers along, which a kill would leave for a moment, writing into its folder.
        self.to.write_all(b"{\"id\": 0, \"method\": \"Browser.close\"}\0").ok();
        let end = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// axe-core's script: from the folder that `gateway/tests/all.sh` has made, or one of our own, made once.
fn axe() -> PathBuf {
    let below = "node_modules/axe-core/axe.min.js";
    if let Some(made) = std::env::var_os("PROBEGATE_TEST_AXE") {
        return PathBuf::from(made).join(below);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("axe");
    let script = "cmp -s \"$2\" \"$1/package-lock.json\" || { rm -rf \"$1\" && mkdir -p \"$1\" && cp \"${2%/*}\"/package*.json \"$1\" && \
                  npm ci --prefix \"$1\" --ignore-scripts --no-audit --no-fund --silent; }";
    let mut command = Command::new("flock");
    command.arg(path.with_extension("lock")).args(["sh", "-c", script, "sh"]).arg(&path);
    let output = command.arg(root().join("gateway/tests/page/package-lock.json")).output().unwrap();
    assert!(output.status.success(), "no axe-core: {output:?}");
    path.join(below)
}

fn unbase64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut held, mut bits) = (Vec::with_capacity(text.len() / 4 * 3), 0u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        held = held << 6 | u32::try_from(LETTERS.iter().position(|letter| *letter == byte).unwrap()).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xff).unwrap());
        }
    }
    out
}
