from django.db import models


class Note(models.Model):
    author = models.CharField(max_length=100)
    text = models.CharField(max_length=1000)
    file = models.FileField(blank=True)

    def __str__(self) -> str:
        return f"{self.author}: {self.text}"
