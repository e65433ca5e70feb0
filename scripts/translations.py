"""Brings the translations up to date: collects the package's texts, merges them into the catalogues, compiles those.

Django's `makemessages` and `compilemessages` need GNU gettext, which many machines lack; Babel is an ordinary package.
What is new is translated in the .po file then, and this is run once more. The compiled files are committed: a wheel has
them without a step of its own.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "channels_secure"
LOCALE = PACKAGE / "locale"
LANGUAGES = ("de",)
KEYWORDS = {
    **dict.fromkeys(("_", "gettext", "gettext_lazy", "gettext_noop")),
    **dict.fromkeys(("ngettext", "ngettext_lazy"), (1, 2)),
    # What is wrong with a row of the trail is translated where it is shown (`admin.proof`).
    "fault": (3,),
}
# What a text takes its facts by, and the markup around them: a translation has all of it.
PLACES = re.compile(r"%\(\w+\)[a-z]|%%|\{\w*\}|</?\w[^>]*>")
COMMENT = "# Texts of channels_secure. `make translations` keeps everything in here but the translations."
Text = str | tuple[str, ...]


class Undated(Catalog):
    """A catalogue that does not tell when it was made: what has not changed stays the same file."""

    @property
    def mime_headers(self) -> list[tuple[str, str]]:
        return [
            ("Language", str(self.locale_identifier)),
            ("Plural-Forms", self.plural_forms),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
        ]


def texts() -> dict[Text, list[str]]:
    """Every text of the package, and the files that have it; where it counts something, singular and plural."""
    found: dict[Text, list[str]] = {}
    for path in sorted(path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".html", ".txt"}):
        for text in _texts_of(path):
            found.setdefault(text, []).append(path.relative_to(ROOT).as_posix())
    return found


def _texts_of(path: Path) -> Iterator[Text]:
    source = path.read_text()
    if path.suffix != ".py":
        # Calls of gettext between words that mean nothing; their indentation would mean something.
        source = "\n".join(line.strip() for line in templatize(source).splitlines())
    for _line, text, _comments, _context in extract("python", BytesIO(source.encode()), KEYWORDS):
        yield text


def catalogue_of(language: str) -> Path:
    return LOCALE / language / "LC_MESSAGES" / "django.po"


def read(language: str) -> Catalog:
    """A language's catalogue as it is kept; an empty one where there is none."""
    path = catalogue_of(language)
    if not path.exists():
        return Catalog(locale=language)
    with path.open("rb") as stored:
        return read_po(stored, locale=language)


def merged(language: str) -> Catalog:
    """A language's catalogue with all texts that the package has, and no others."""
    known, catalogue = read(language), Undated(locale=language, header_comment=COMMENT, fuzzy=False)
    for text, places in sorted(texts().items(), key=lambda each: str(each[0])):
        old = known.get(text if isinstance(text, str) else text[0])
        catalogue.add(text, old.string if old else None, locations=[(place, 0) for place in dict.fromkeys(places)])
    return catalogue


def faults(message: Message) -> list[str]:
    """What is wrong with a translation; nothing if it can be shown."""
    originals, strings = _forms(message.id), _forms(message.string)
    if len(originals) > len(strings) or not all(strings):
        return [f"not translated: {originals[0]!r}"]
    found = [f"fuzzy: {originals[0]!r}"] if message.fuzzy else []
    for original, string in zip(originals, strings, strict=True):
        if Counter(PLACES.findall(original)) != Counter(PLACES.findall(string)):
            found.append(f"other places than {original!r}: {string!r}")
        if re.findall(r"^\s*|\s*$", original) != re.findall(r"^\s*|\s*$", string):
            found.append(f"begins or ends otherwise than {original!r}: {string!r}")
    return found


def _forms(text: str | Sequence[str] | None) -> Sequence[str]:
    return [text or ""] if isinstance(text, str | None) else text


def update(language: str) -> list[str]:
    """Write a language's catalogue, and compile it; return what is wrong with it."""
    catalogue, path = merged(language), catalogue_of(language)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as output:
        write_po(output, catalogue, width=120, include_lineno=False)
    with path.with_suffix(".mo").open("wb") as output:
        write_mo(output, catalogue)
    return [fault for message in catalogue if message.id for fault in faults(message)]


def main() -> None:
    from django.conf import settings

    settings.configure(USE_I18N=True)
    found = [f"{language}: {fault}" for language in LANGUAGES for fault in update(language)]
    sys.exit("\n".join(found) or 0)


if __name__ == "__main__":
    main()
