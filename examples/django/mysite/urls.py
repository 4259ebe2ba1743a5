from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import path

from notes import views

urlpatterns = [
    path("", views.Notes.as_view(), name="notes"),
    path("add", views.Add.as_view(), name="add"),
    path("notes/<int:pk>/file", views.file, name="file"),
    path("login", LoginView.as_view(), name="login"),
    path("admin/", admin.site.urls),
]
