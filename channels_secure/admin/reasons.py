"""Why something was refused, in words that follow "because", and what to do about it: one entry for each reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _

from channels_secure.policy.decisions import Reason

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Text = str | _StrPromise
else:
    Text = object


@dataclass(frozen=True, slots=True)
class Why:
    """The clause, and advice to whoever runs the site and to whoever writes the page or program that connects."""

    clause: Text
    operator: Text
    developer: Text


WHY: Mapping[Reason, Why] = {
    Reason.WSS_REQUIRED: Why(
        _("the connection was not encrypted (ws:// instead of wss://)"),
        _("Where a proxy ends TLS, name it in TRUSTED_PROXIES and have it send X-Forwarded-Proto."),
        _("Open the socket with wss://, as the page is opened with https://."),
    ),
    Reason.ORIGIN_NOT_ALLOWED: Why(
        _("{page} may not open sockets here"),
        _("If this is a site of yours, add it to ALLOWED_ORIGINS. If not, the refusal has done its work."),
        _("Open the socket from an allowed origin: scheme, host and port must all match."),
    ),
    Reason.ORIGIN_MISSING: Why(
        _("the client sent no Origin header, which these credentials require"),
        _("Programs other than browsers send none: give them a token or a ticket, or see ALLOW_MISSING_ORIGIN."),
        _("Outside a browser, use an Authorization header or a ticket instead of cookies."),
    ),
    Reason.ORIGIN_MALFORMED: Why(
        _("the Origin header was not valid"),
        _("No browser sends this. Block the address if it goes on."),
        _("Send the origin as scheme://host[:port], nothing else."),
    ),
    Reason.BLOCKED: Why(
        _("{subject} was blocked"),
        _("The block stands in the list of blocks, with who made it and why. Lift it there if it was a mistake."),
        _("Show the message of the error frame, and reconnect only after retry_after, if there is one."),
    ),
    Reason.UNAUTHENTICATED: Why(
        _("nobody was logged in"),
        _("If people who are logged in are affected, their session cookie does not reach this host or path."),
        _("Log in before the socket is opened, or send a token or a ticket."),
    ),
    Reason.INVALID_CREDENTIALS: Why(
        _("the credentials were not valid"),
        _("Now and then this is an old page. Many from one address are guesses: block it."),
        _("Get a new token or ticket before each attempt; a ticket works once."),
    ),
    Reason.AMBIGUOUS_CREDENTIALS: Why(
        _("the request carried credentials of different users"),
        _("Look which program sends a token next to somebody else's session cookie."),
        _("Send one credential: a token or a ticket of the user who is logged in, or none but the cookie."),
    ),
    Reason.CREDENTIALS_EXPIRED: Why(
        _("the credentials had expired"),
        _("Nothing, unless it happens to everybody: then compare the clocks of the servers."),
        _("Answer token_expiring with refresh_token, or reconnect with a new token."),
    ),
    Reason.CREDENTIALS_REVOKED: Why(
        _("the credentials were revoked"),
        _("Somebody revoked them on purpose: look for the event “tokens revoked”."),
        _("Have the user log in again."),
    ),
    Reason.SESSION_ENDED: Why(
        _("the session had ended"),
        _("Nothing: a logout, a new password or a deactivated account ends its sockets."),
        _("Send the user to the login page."),
    ),
    Reason.PERMISSION_DENIED: Why(
        _("the application did not permit it"),
        _("If it should have been permitted, look at the user's permissions and at authorize()."),
        _("Do not offer what the user may not do, and do not retry it."),
    ),
    Reason.NOT_FOUND: Why(
        _("there is nothing at {path}"),
        _("Many different paths from one client are a search for weak spots: block it."),
        _("Compare the path with the URLRouter's routes, to the last slash."),
    ),
    Reason.BAD_REQUEST: Why(
        _("the request was not well-formed"),
        _("No browser sends this. Block the address if it goes on."),
        _("Keep to the documented query parameters and subprotocols, and send tokens where they belong."),
    ),
    Reason.UNAVAILABLE: Why(
        _("the database or the store could not be asked"),
        _("Look for the event “store degraded” of that time, and run ws_doctor."),
        _("Reconnect after retry_after, with some chance in the delay."),
    ),
    Reason.CONNECTION_LIMIT: Why(
        _("too many connections were open already"),
        _("If the limit is too low for ordinary use, raise MAX_CONNECTIONS. Else disconnect or block the client."),
        _("Close sockets that are not needed, and share one between the parts of a page."),
    ),
    Reason.CONNECTION_REPLACED: Why(
        _("a newer connection took its place"),
        _("Nothing: this is CONNECTION_OVERFLOW at work."),
        _("Do not reconnect by yourself, or two pages will push each other out for ever."),
    ),
    Reason.RATE_LIMITED: Why(
        _("{much} came faster than the rate limit allows"),
        _("If it is ordinary use, raise HANDSHAKE_RATES or MESSAGE_RATES. If it is a flood, block the client."),
        _("Slow down: wait for retry_after, collect messages, and back off between attempts to connect."),
    ),
    Reason.TOO_MANY_ERRORS: Why(
        _("too many of its messages had been refused"),
        _("The events of the connection below say what was wrong with them."),
        _("Look at the error frames: each says what was wrong with a message."),
    ),
    Reason.INVALID_MESSAGE: Why(
        _("the message did not fit its schema"),
        _("After a release this is an old page; from one client alone it is somebody trying things out."),
        _("Compare the message with the handler's schema; the error frame names the fields."),
    ),
    Reason.UNKNOWN_TYPE: Why(
        _("no handler has the type of the message"),
        _("After a release this is an old page; from one client alone it is somebody trying things out."),
        _("Use a type that the consumer declares with @handles."),
    ),
    Reason.UNSUPPORTED_DATA: Why(
        _("the message was binary"),
        _("Nothing, unless the application should take binary messages."),
        _("Send JSON as text."),
    ),
    Reason.MESSAGE_TOO_BIG: Why(
        _("the message was too big"),
        _("If it is ordinary use, raise MAX_MESSAGE_SIZE for this consumer. Else block the client."),
        _("Send less at once, and upload files over HTTP."),
    ),
    Reason.HEARTBEAT_TIMEOUT: Why(
        _("the heartbeat was not answered in time"),
        _("Nothing: a laptop was closed or a network lost."),
        _("Answer each ping with a pong, and reconnect."),
    ),
    Reason.IDLE_TIMEOUT: Why(
        _("nothing had come from the client for too long"),
        _("Nothing, unless quiet sockets are ordinary here: then raise IDLE_TIMEOUT."),
        _("Reconnect when there is something to say, or turn on the heartbeat."),
    ),
    Reason.HANDSHAKE_TIMEOUT: Why(
        _("setting up the connection took too long"),
        _("Look for slow queries in authorize() and connect(), and for a database or a store in trouble."),
        _("Reconnect after a while."),
    ),
    Reason.SLOW_CONSUMER: Why(
        _("the client did not read what was sent to it"),
        _("Nothing for one client. Where it is many, send less or less often."),
        _("Do not hold up the page's event loop, and reconnect."),
    ),
    Reason.DISCONNECTED: Why(
        _("an operator closed it"),
        _("Whoever is disconnected may come back. To keep somebody out, block them."),
        _("Do not reconnect by yourself."),
    ),
    Reason.INTERNAL_ERROR: Why(
        _("the application failed"),
        _("The server's log of that moment has the traceback."),
        _("Reconnect with a growing delay, and report it."),
    ),
    Reason.HANDLER_TIMEOUT: Why(
        _("the application took too long to answer"),
        _("Look for slow queries or calls in the handler, or raise HANDLER_TIMEOUT for it."),
        _("Reconnect with a growing delay."),
    ),
    Reason.SERVER_RESTART: Why(
        _("the server was restarted"),
        _("Nothing: clients come back by themselves."),
        _("Reconnect after retry_after, which differs for each client."),
    ),
}
