"""Rooms; what is said in them is not kept."""

from django.contrib.auth.models import AnonymousUser, User
from django.db import models


class Room(models.Model):
    """A place to talk, open to every user or to staff only."""

    slug = models.SlugField(unique=True)
    title = models.CharField(max_length=80)
    staff_only = models.BooleanField(default=False)

    class Meta:
        ordering = ("staff_only", "title")

    def __str__(self) -> str:
        return self.title

    def admits(self, user: User | AnonymousUser) -> bool:
        return user.is_active and (user.is_staff or not self.staff_only)
