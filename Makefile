# Shortcuts; each is one command that can be typed as well.
.PHONY: demo django test bench fmt

demo: # the gateway with a small app built in
	examples/demo.sh

django: # the gateway in front of Django under gunicorn
	examples/django/run.sh

test: # everything that must hold before a change is in
	gateway/tests/all.sh

bench: # CPU time per request beside nginx and HAProxy, and Envoy and Caddy where installed
	cargo build --release -p probegate
	benches/compare/run.py

fmt:
	cargo fmt --all
