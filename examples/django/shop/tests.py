"""The settings against the headers as the gateway sends them: `python manage.py test`."""

from django.conf import settings
from django.test import Client, SimpleTestCase, TestCase, override_settings

# As the gateway asks: its own name for the app, its own token.
AS_GATEWAY = {
    "host": "shop.example.com",
    "x-forwarded-proto": "https",
    "x-probe-token": settings.DEPLOY_PROBES["HEADER_TOKEN_VALIDATION"]["TOKEN"],
}
UNKNOWN_CLIENT = "233.252.0.0"


def internal_only(**more):
    return override_settings(DEPLOY_PROBES=settings.DEPLOY_PROBES | {"INTERNAL_IP_ONLY": True} | more)


class Probes(TestCase):
    def status(self, path, peer="127.0.0.1", **headers):
        return Client(REMOTE_ADDR=peer).get(path, headers=AS_GATEWAY | headers).status_code

    def test_the_gateway_is_answered(self):
        for path in ("/healthz", "/readyz", "/startupz", "/version"):
            self.assertEqual(self.status(path), 200, path)

    def test_without_the_gateways_token_only_healthz_answers(self):
        for path, status in (("/healthz", 200), ("/readyz", 403), ("/startupz", 403), ("/version", 403)):
            self.assertEqual(self.status(path, **{"x-probe-token": "guess"}), status, path)

    @override_settings(SECURE_SSL_REDIRECT=True)
    def test_no_probe_is_redirected_to_https(self):
        self.assertEqual(self.status("/readyz"), 200)

    @internal_only()
    def test_internal_only_judges_the_client_that_the_gateway_names(self):
        self.assertEqual(self.status("/readyz", **{"x-real-ip": "10.1.2.3"}), 200)
        self.assertEqual(self.status("/readyz", **{"x-real-ip": "198.51.100.7"}), 403)
        self.assertEqual(self.status("/readyz", **{"x-real-ip": UNKNOWN_CLIENT}), 403)

    @internal_only()
    def test_nobody_but_the_gateway_is_believed(self):
        self.assertEqual(self.status("/readyz", peer="198.51.100.9", **{"x-real-ip": "10.1.2.3"}), 403)

    @internal_only()
    def test_a_request_through_the_unix_socket_comes_from_the_gateway(self):
        self.assertEqual(self.status("/readyz", peer="", **{"x-real-ip": "198.51.100.7"}), 403)
        self.assertEqual(self.status("/readyz", peer="", **{"x-real-ip": "10.1.2.3"}), 200)

    @internal_only(CLIENT_IP_HEADER="X-Forwarded-For")
    def test_why_the_client_is_not_taken_from_x_forwarded_for(self):
        # 10.0.0.5 is a balancer that the gateway trusts and this file does not know: it is taken for the client.
        self.assertEqual(self.status("/readyz", **{"x-forwarded-for": "198.51.100.7, 10.0.0.5"}), 200)


class Pages(SimpleTestCase):
    def test_whoami(self):
        fields = {"x-real-ip": "198.51.100.7", "x-forwarded-proto": "https", "x-request-id": "r1"}
        seen = self.client.post("/whoami", b"abc", content_type="text/plain", headers=fields).json()
        self.assertEqual((seen["client_ip"], seen["is_secure"], seen["request_id"]), ("198.51.100.7", True, "r1"))
        self.assertEqual(seen["body_length"], 3)
        self.assertEqual(seen["body_sha256"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")

    def test_echo_returns_the_body_but_not_its_type(self):
        answer = self.client.post("/echo", b"<b>", content_type="text/html")
        self.assertEqual((answer.content, answer["Content-Type"]), (b"<b>", "application/octet-stream"))

    def test_bounds_of_slow_and_stream(self):
        for path in ("/slow?s=61", "/slow?s=nan", "/slow?s=x", "/stream?n=-1", "/stream?ms=inf"):
            self.assertEqual(self.client.get(path).status_code, 400, path)
        self.assertEqual(
            b"".join(self.client.get("/stream?n=2&ms=0").streaming_content), b"chunk 1 of 2\nchunk 2 of 2\n"
        )
