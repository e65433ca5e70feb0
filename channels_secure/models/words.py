"""What `policy` says of networks, in the reader's language: it knows no Django, so its texts stand here once more."""

from django.utils.translation import gettext, gettext_noop

from channels_secure.policy.addresses import NetworkError

TEMPLATES = frozenset(
    {
        gettext_noop("%(text)s is not an IP address or network such as 192.0.2.1 or 2001:db8::/64"),
        gettext_noop("/%(length)s is not a prefix length of %(address)s"),
        gettext_noop("%(network)s is too wide: block at most a /%(limit)d at once"),
        gettext_noop("%(network)s covers loopback addresses, this machine's own"),
        gettext_noop("%(network)s covers a trusted proxy, so every client behind it would be blocked"),
    }
)


def in_words(error: ValueError) -> str:
    """An error in words for a form."""
    if isinstance(error, NetworkError) and error.template in TEMPLATES:
        return gettext(error.template) % error.facts
    return str(error)
