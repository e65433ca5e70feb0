"""The package speaks German: every text of it is translated, with all its facts, and the pages show it."""

import gettext
import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import translation
from pytest_django.fixtures import Settings

from channels_secure import blocklist
from scripts import translations
from tests.admin.pages import PREFIX, addresses, names, populate
from tests.admin.test_pages import Reader, is_page

LANGUAGE = "de"
OWN = [name for name in names() if name.startswith(PREFIX)]


@pytest.fixture
def in_german() -> Iterator[None]:
    with translation.override(LANGUAGE):
        yield


def test_every_text_is_translated_and_has_its_places() -> None:
    found = [fault for message in translations.merged(LANGUAGE) if message.id for fault in translations.faults(message)]
    assert found == [], "run `make translations`, translate what is new, and run it again"


def test_the_catalogue_has_no_other_texts_than_the_package() -> None:
    kept = {message.id for message in translations.read(LANGUAGE) if message.id}
    assert kept == set(translations.texts())


def test_what_is_compiled_is_what_is_written() -> None:
    with translations.catalogue_of(LANGUAGE).with_suffix(".mo").open("rb") as compiled:
        said = gettext.GNUTranslations(compiled)
    for message in translations.read(LANGUAGE):
        if isinstance(message.id, str) and message.id:
            assert said.gettext(message.id) == message.string
        elif message.id:
            assert tuple(said.ngettext(*message.id, count) for count in (1, 2)) == tuple(message.string)


@pytest.mark.parametrize(
    ("original", "string", "word"),
    [
        ("Block", "", "not translated"),
        ("%(count)s rows", "%(rows)s Zeilen", "other places"),
        ("{who} left", "ging", "other places"),
        ("100 %%", "100 %", "other places"),
        ("Type <code>x</code>", "x eingeben", "other places"),
        (" at", "unter", "begins or ends"),
        (("%(n)s row", "%(n)s rows"), ("%(n)s Zeile", ""), "not translated"),
        (("%(n)s row", "%(n)s rows"), ("%(n)s Zeile", "Zeilen"), "other places"),
    ],
)
def test_a_translation_that_cannot_be_shown_is_found(
    original: translations.Text, string: translations.Text, word: str
) -> None:
    (fault,) = translations.faults(translations.Message(original, string))
    assert word in fault


def test_texts_of_code_and_templates_are_found_with_their_plurals() -> None:
    found = translations.texts()
    assert found["connection accepted"] == ["channels_secure/models/audit.py"]
    assert any(place.endswith(".html") for place in found["What happened"])
    assert ("%(count)d block was lifted.", "%(count)d blocks were lifted.") in found


@pytest.mark.django_db
@pytest.mark.parametrize("name", OWN)
def test_a_page_shows_no_english_sentence(admin: Client, in_german: None, name: str) -> None:
    catalogue = {message.id: message.string for message in translations.read(LANGUAGE)}
    english = [text for text, said in catalogue.items() if is_sentence(text) and text != said]
    for address in addresses(name, populate("zzz")):
        response = admin.get(address)
        if is_page(response):
            html = response.content.decode()
            assert '<html lang="de"' in html or "<html" not in html
            shown = re.sub(r"\s+", " ", Reader(html).text)
            assert [text for text in english if text in shown] == [], address


def is_sentence(text: object) -> bool:
    """Whether a text is long enough to be nothing else by chance, and has nothing to be filled in."""
    return isinstance(text, str) and text.count(" ") >= 2 and not translations.PLACES.search(text)


def test_no_word_of_the_package_is_one_that_django_has_a_sign_for(in_german: None) -> None:
    # Django's catalogues come first where both have a text: its German for "None" is a dash.
    said = {text: translation.gettext(text) for text in translations.texts() if isinstance(text, str)}
    assert [text for text, shown in said.items() if re.search(r"\w", text) and not re.search(r"\w", shown)] == []


@pytest.mark.django_db
def test_the_operator_is_told_in_german_what_was_done(admin: Client, user: User, in_german: None) -> None:
    html = admin.get("/admin/channels_secure/block/add/", {"user": user.pk}).content.decode()
    assert "Was eine Sperre von alice bewirkt" in html
    fields = {"user": user.pk, "network": "", "duration": "", "reason": ""}
    html = admin.post("/admin/channels_secure/block/add/", fields, follow=True).content.decode()
    assert "Für immer gesperrt: alice. Es war keine Verbindung offen." in html
    assert blocklist.unblock(user=user)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("network", "word"),
    [
        ("nonsense", "ist keine IP-Adresse"),
        ("192.0.2.0/64", "ist keine Präfixlänge"),
        ("0.0.0.0/0", "ist zu weit"),
        ("127.0.0.1", "umfasst Loopback-Adressen"),
        ("198.51.100.0/24", "umfasst einen vertrauten Proxy"),
    ],
)
def test_what_is_wrong_with_a_network_is_said_in_german(
    admin: Client, in_german: None, settings: Settings, network: str, word: str
) -> None:
    settings.CHANNELS_SECURE = {"TRUSTED_PROXIES": ["198.51.100.3"]}
    fields = {"user": "", "network": network, "duration": "", "reason": ""}
    assert word in admin.post("/admin/channels_secure/block/add/", fields).content.decode()
