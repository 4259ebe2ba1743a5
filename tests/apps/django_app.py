"""A Django app in one file: login, logout, and sessions in signed cookies, with Django's own settings for cookies."""

import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template import engines
from django.urls import path

settings.configure(
    SECRET_KEY=os.environ["DJANGO_SECRET_KEY"],
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()
FORM = "<form method=post>{% csrf_token %}<input name=user></form>"


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"user: {request.session.get('user', '-')}")


def login(request: HttpRequest) -> HttpResponseBase:
    if request.method == "POST":
        request.session["user"] = request.POST["user"]
        return redirect("home")
    return HttpResponse(engines["django"].from_string(FORM).render({}, request))


def logout(request: HttpRequest) -> HttpResponseBase:
    request.session.flush()
    return redirect("home")


urlpatterns = [path("", home, name="home"), path("login", login), path("logout", logout)]
app = get_wsgi_application()
