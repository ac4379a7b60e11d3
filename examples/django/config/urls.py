from django.contrib import admin
from django.urls import include, path

from shop import views

urlpatterns = [
    path("", views.home),
    path("whoami", views.whoami),
    path("echo", views.echo),
    path("slow", views.slow),
    path("stream", views.stream),
    path("sign-in", views.sign_in),
    path("invoices/<str:name>", views.invoice),  # the gateway sends the file
    path("admin/", admin.site.urls),  # the gateway lets the office network in, nobody else
    path("", include("django_deploy_probes.urls")),  # /healthz /readyz /startupz /version
]
