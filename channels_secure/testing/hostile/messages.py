"""Attacks that are one frame: too big, too deep, ambiguous, of the wrong kind, or meant for another method."""

import base64
import json
import secrets

from channels_secure.codecs import FernetCodec
from channels_secure.policy.decisions import Reason
from channels_secure.testing.hostile.attack import Attack
from channels_secure.testing.hostile.frames import Sample, refusal, sample_of, with_frames
from channels_secure.testing.hostile.target import Target
from channels_secure.testing.hostile.verdicts import AttackSucceeded, NotApplicable

INPUT = "OWASP WebSocket Security Cheat Sheet, Input Validation; ASVS 5.0 V2.2.1"
OVERLOAD = "OWASP WebSocket Security Cheat Sheet, Denial-of-Service Protection"
TYPED = "SecureJsonConsumer with @handles, whose annotations are the schemas of your messages"
# More than this is not tried.
MOST_BYTES, MOST_LEVELS = 64 << 20, 100_000
# Names that a look-up by `getattr`, by prototype or by Channels' own dispatch would find.
INHERITED = (
    "__class__", "__init__", "__proto__", "constructor", "dispatch", "send_json", "receive_json", "close",
    "channel_layer", "websocket.receive", "websocket.disconnect",
)  # fmt: skip


async def in_the_clear(target: Target) -> str:
    foreign = FernetCodec(base64.urlsafe_b64encode(secrets.token_bytes(32)))
    how = ""
    for what, encode in (("plain JSON", str), ("a frame under a foreign key", foreign.encode)):
        async with target.visit(**await target.honest()) as visit:
            sample = sample_of(target, visit)
            if visit.codec is None:
                raise NotApplicable("the frames of this consumer are plain JSON")
            await visit.socket.send_text(encode(json.dumps(sample.message)))
            try:
                how = f"{what}: {await refusal(visit, target, sample, {Reason.INVALID_MESSAGE})}"
            except AttackSucceeded as error:
                raise AttackSucceeded(f"{what}: {error}") from None
    return how


def _deep(sample: Sample) -> str:
    levels = min(sample.limits.max_message_depth + 1, sample.limits.max_message_size)
    return sample.plant("[" * levels + "]" * levels)


def _big(sample: Sample, character: str, share: int = 1) -> str:
    """The message with a text that is too big; of a share of the characters that the limit is in bytes.

    Raises:
        NotApplicable: the limit is so wide that the frame would do here what it is to do there.
    """
    size = sample.limits.max_message_size
    if size > MOST_BYTES:
        raise NotApplicable(f"MAX_MESSAGE_SIZE allows {size}, more than is tried")
    return sample.plant(f'"{character * (size // share)}"')


ATTACKS = (
    Attack(
        id="frame-not-encrypted",
        tries="A frame in the clear, or under a key of the attacker's, where only encrypted ones are to be taken.",
        rule=f"{INPUT}; CWE-311, CWE-345",
        remedy="SecureJsonConsumer with a codec that raises Unreadable for what it cannot decrypt",
        play=in_the_clear,
    ),
    Attack(
        id="frame-binary",
        tries="A binary frame, where text is read.",
        rule=f"{INPUT}; CWE-20",
        remedy="SecureJsonConsumer",
        play=with_frames(
            ("bytes", lambda sample: b"\x00\x01\xff"),
            ("a message as bytes", lambda sample: json.dumps(sample.message).encode()),
            reason=Reason.UNSUPPORTED_DATA,
        ),
    ),
    Attack(
        id="frame-oversize",
        tries="One frame that fills the memory, or many characters that are more bytes than characters.",
        rule=f"{OVERLOAD}; CWE-770",
        remedy="SecureMiddlewareStack; MAX_MESSAGE_SIZE",
        play=with_frames(
            ("too many bytes", lambda sample: _big(sample, "a")),
            ("fewer characters than the limit, more bytes", lambda sample: _big(sample, "€", share=2)),
            reason=Reason.MESSAGE_TOO_BIG,
        ),
    ),
    Attack(
        id="frame-deep-nesting",
        tries="Lists in lists in lists, which exhaust a parser's stack.",
        rule=f"{OVERLOAD}; CWE-674",
        remedy="SecureJsonConsumer; MAX_MESSAGE_DEPTH",
        play=with_frames(
            ("one level too many", _deep),
            ("thousands of levels", lambda sample: "[" * min(sample.limits.max_message_size // 2, MOST_LEVELS)),
        ),
    ),
    Attack(
        id="frame-not-json",
        tries="Text that is no JSON, which an unguarded parser answers by ending the consumer.",
        rule=f"{INPUT}; CWE-248",
        remedy="SecureJsonConsumer",
        play=with_frames(
            ("an open brace", lambda sample: "{"),
            ("nothing", lambda sample: ""),
            ("two values", lambda sample: f"{json.dumps(sample.message)}{json.dumps(sample.message)}"),
        ),
    ),
    Attack(
        id="frame-not-a-number",
        tries="NaN, infinity and endless digits, which compare as nothing and fit into no column.",
        rule=f"{INPUT}; RFC 7493 section 2.2; CWE-1287",
        remedy="SecureJsonConsumer",
        play=with_frames(
            ("NaN", lambda sample: sample.plant("NaN")),
            ("Infinity", lambda sample: sample.plant("-Infinity")),
            ("1e999", lambda sample: sample.plant("1e999")),
            ("5,000 digits", lambda sample: sample.plant("9" * 5000)),
        ),
    ),
    Attack(
        id="frame-duplicate-keys",
        tries="Every key twice: what one reader checks is not what the next one uses.",
        rule=f"{INPUT}; RFC 7493 section 2.3; CWE-436",
        remedy="SecureJsonConsumer",
        play=with_frames(("every member twice", Sample.twice)),
    ),
    Attack(
        id="frame-broken-text",
        tries="Half a surrogate pair, or a NUL, which the next encoder or the database chokes on.",
        rule=f"{INPUT}; RFC 7493 section 2.1; CWE-176",
        remedy="SecureJsonConsumer",
        play=with_frames(
            ("a lone surrogate", lambda sample: sample.plant(r'"\ud800"')),
            ("a NUL", lambda sample: sample.plant(r'"a\u0000b"')),
        ),
    ),
    Attack(
        id="frame-unknown-type",
        tries="A message of a type that nobody has declared.",
        rule=f"{INPUT}; CWE-20",
        remedy=TYPED,
        play=with_frames(
            ("an unknown type", lambda sample: sample.renamed("no.such.type")),
            ("a type that is a list", lambda sample: json.dumps({**sample.message, "type": ["a"]})),
            ("no type", lambda sample: json.dumps({k: v for k, v in sample.message.items() if k != "type"})),
            reason=Reason.UNKNOWN_TYPE,
            typed=True,
        ),
    ),
    Attack(
        id="frame-inherited-name",
        tries="A type that names a method or an attribute which every consumer has, or an event of Channels.",
        rule=f"{INPUT}; CWE-470, CWE-1321",
        remedy=TYPED,
        play=with_frames(
            *((f"the type {name}", lambda sample, name=name: sample.renamed(name)) for name in INHERITED),
            reason=Reason.UNKNOWN_TYPE,
            typed=True,
        ),
    ),
)
