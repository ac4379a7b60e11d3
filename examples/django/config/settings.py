"""Settings of the example, as a deployment behind probegate would have them. Everything that differs between a laptop and
production comes from the environment; without any of it the app runs on SQLite."""

import os
import secrets
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent


def env_flag(name, default=False):
    return os.environ.get(name, str(default)).strip().lower() in {"1", "true", "yes", "on"}


def env_list(name, default):
    return [item.strip() for item in os.environ.get(name, default).split(",") if item.strip()]


ENVIRONMENT = os.environ.get("DJANGO_ENV", "local")
DEBUG = env_flag("DJANGO_DEBUG")

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "")
if not SECRET_KEY:
    if ENVIRONMENT != "local":
        raise ImproperlyConfigured("DJANGO_SECRET_KEY is not set")
    # Good for a try: every process makes up its own, so a log-in is known to one gunicorn worker only. run.sh sets a real one.
    SECRET_KEY = get_random_secret_key()

# The names that clients use. Probes that reach the gateway under another name (kubelet asks the pod's address) are sent on
# under shop.example.com: see `host:` in probegate.yaml. Without it Django answers them with 400.
ALLOWED_HOSTS = env_list("DJANGO_ALLOWED_HOSTS", "shop.example.com,localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env_list("DJANGO_CSRF_TRUSTED_ORIGINS", "")

# The gateway removes whatever X-Forwarded-Proto a client sends and writes its own, so it may be believed here.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# Turn on where TLS ends at the gateway or in front of it.
HTTPS = env_flag("DJANGO_HTTPS")
SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_deploy_probes",
    "shop",
]

MIDDLEWARE = [
    "config.middleware.UnixSocketPeer",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",  # the admin's style sheets
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True  # from the packages themselves: no collectstatic step

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# Above the gateway's max_body, so that the gateway's answer (413) is the one that clients get.
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024 * 1024

DATABASES = {
    "default": dj_database_url.config(
        default=f"sqlite:///{BASE_DIR / 'db.sqlite3'}",
        conn_max_age=60,
        conn_health_checks=True,  # a database that restarted costs a reconnect, not an error page
    )
}
_database = DATABASES["default"]
if _database["ENGINE"].endswith("postgresql"):
    # The probe package has no timeout of its own: a database that hangs must fail /readyz before the gateway gives up on it.
    _database.setdefault("OPTIONS", {}).update(connect_timeout=2, options="-c statement_timeout=5000")
else:
    _database.setdefault("OPTIONS", {}).update(
        timeout=5, transaction_mode="IMMEDIATE", init_command="PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
    )

REDIS_URL = os.environ.get("REDIS_URL", "")
if REDIS_URL:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}

DEPLOY_PROBES = {
    "SERVICE_NAME": "shop",
    "ENVIRONMENT": ENVIRONMENT,
    "VERSION": os.environ.get("APP_VERSION", "unknown"),
    "READY_CHECKS": ["database", "redis"] if REDIS_URL else ["database"],
    "STARTUP_CHECKS": ["migrations"],
    "REQUIRE_READY_CHECKS": True,
    "REQUIRE_STARTUP_CHECKS": True,
    "REDIS": {"default": {"LOCATION": REDIS_URL, "TIMEOUT": 0.5}} if REDIS_URL else {},
    # Who may ask is decided at the gateway ("internal or token"), for the package can only say "internal AND token": with
    # INTERNAL_IP_ONLY on, a CI job outside that the gateway let in by its token would be refused here. What the app asks for
    # is the gateway's own token, which no client has: a request that did not pass the gateway's decision is refused.
    "HEADER_TOKEN_VALIDATION": {
        "HEADER_NAME": "X-Probe-Token",
        # Not set: something nobody can know, so that the probes stay shut instead of open. (An empty dictionary here would
        # be read as "no validation".)
        "TOKEN": os.environ.get("APP_PROBE_TOKEN") or secrets.token_hex(32),
        "PROTECT_HEALTHZ": False,
    },
    "INTERNAL_IP_ONLY": env_flag("PROBES_INTERNAL_IP_ONLY"),
    "INTERNAL_IP_NETWORKS": ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
    # X-Real-IP, not X-Forwarded-For. The gateway writes both, and both are right, but they ask different things of this file:
    # - X-Real-IP holds one address, the client the gateway verified. Only the gateway itself has to be trusted here, which is
    #   what the guide means by keeping the list narrow.
    # - X-Forwarded-For holds client, trusted hops, peer. The package walks it from the right over TRUSTED_PROXY_NETWORKS, so
    #   every balancer and CDN range of the gateway's own list would have to stand here again, and one that is forgotten
    #   would be taken for the client: an internal address that opens the probes to everybody behind it.
    # A client the gateway could not establish arrives as 233.252.0.0 in both, a multicast address kept for documentation: it
    # parses (an absent or unparsable header would make the package fall back to the peer, the gateway) and no list calls it
    # internal.
    "CLIENT_IP_HEADER": "X-Real-IP",
    # The gateway's address as this app sees it: loopback, or a Unix socket (see middleware.py). In a container: its address.
    "TRUSTED_PROXY_NETWORKS": env_list("TRUSTED_PROXY_NETWORKS", "127.0.0.1/32,::1/128"),
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("DJANGO_LOG_LEVEL", "INFO")},
}
