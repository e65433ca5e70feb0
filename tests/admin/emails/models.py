"""A user model that has neither a username nor a number."""

import uuid

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import BaseUserManager, PermissionsMixin
from django.db import models


class Person(AbstractBaseUser, PermissionsMixin):
    """Somebody who logs in with an email address; being staff is a matter of being a superuser."""

    key = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField(unique=True)
    is_active = models.BooleanField(default=True)

    USERNAME_FIELD = "email"
    objects = BaseUserManager()

    @property
    def is_staff(self) -> bool:
        return self.is_superuser

    def __str__(self) -> str:
        return f"person {self.key}"
