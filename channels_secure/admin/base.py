"""What every page of ours is built on: django-unfold's admin where the project uses it, Django's own elsewhere."""

from typing import TYPE_CHECKING

from django.apps import apps
from django.contrib import admin

# Under unfold, forms of Django's own ModelAdmin come without any style.
if not TYPE_CHECKING and apps.is_installed("unfold"):
    from unfold.admin import ModelAdmin
else:
    ModelAdmin = admin.ModelAdmin

__all__ = ["ModelAdmin"]
