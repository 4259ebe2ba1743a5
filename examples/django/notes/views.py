from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse_lazy
from django.views.generic import CreateView, ListView

from notes.models import Note


class Notes(ListView):
    queryset = Note.objects.order_by("pk")
    template_name = "notes.html"


class Add(LoginRequiredMixin, CreateView):
    model = Note
    fields = ("text", "file")
    success_url = reverse_lazy("notes")
    template_name = "add.html"

    def form_valid(self, form):
        form.instance.author = self.request.user.get_username()
        return super().form_valid(form)


def file(request: HttpRequest, pk: int) -> HttpResponse:
    """Name the file in X-Sendfile: flyatc sends it."""
    found = get_object_or_404(Note.objects.exclude(file=""), pk=pk).file
    headers = {"X-Sendfile": found.path, "Content-Disposition": "attachment"}
    return HttpResponse(content_type="application/octet-stream", headers=headers)
