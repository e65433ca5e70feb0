"""What is due on a socket, and when: each deadline alone, one moment before it and at it, then all together."""

import itertools
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.policy.decisions import Reason
from channels_secure.policy.liveness import Act, Deadlines, next_act

NONE = Deadlines(idle=None, heartbeat=None, heartbeat_timeout=10, handler=None, send=5, max_age=None, expiry_warning=60)
ALL = Deadlines(idle=100, heartbeat=25, heartbeat_timeout=10, handler=30, send=5, max_age=1000, expiry_warning=60)


@dataclass(slots=True, kw_only=True)
class Times:
    """The timestamps of a socket; quiet ones unless said otherwise."""

    opened_at: float = 0.0
    heard_at: float = 0.0
    pinged_at: float | None = None
    handler_since: float | None = None
    sending_since: float | None = None
    expires_at: float | None = None
    warned: bool = False


@pytest.mark.parametrize(
    ("times", "deadlines", "due_at", "act"),
    [
        pytest.param(Times(expires_at=50, warned=True), NONE, 50, Reason.CREDENTIALS_EXPIRED, id="expiry"),
        pytest.param(Times(expires_at=100), NONE, 40, Act.WARN, id="expiry warning"),
        pytest.param(Times(sending_since=7), NONE, 12, Reason.SLOW_CONSUMER, id="send"),
        pytest.param(Times(opened_at=3), replace(NONE, max_age=40), 43, Reason.CREDENTIALS_EXPIRED, id="age"),
        pytest.param(Times(handler_since=2), replace(NONE, handler=30), 32, Reason.HANDLER_TIMEOUT, id="handler"),
        pytest.param(Times(heard_at=5), replace(NONE, idle=20), 25, Reason.IDLE_TIMEOUT, id="idle"),
        pytest.param(Times(heard_at=5), replace(NONE, heartbeat=25), 30, Act.PING, id="ping"),
        pytest.param(
            Times(heard_at=5, pinged_at=30), replace(NONE, heartbeat=25), 40, Reason.HEARTBEAT_TIMEOUT, id="no pong"
        ),
        pytest.param(
            Times(heard_at=5, pinged_at=5), replace(NONE, heartbeat=25), 15, Reason.HEARTBEAT_TIMEOUT, id="same moment"
        ),
        pytest.param(Times(heard_at=31, pinged_at=30), replace(NONE, heartbeat=25), 56, Act.PING, id="answered"),
    ],
)
def test_each_deadline_is_due_at_its_moment_and_not_before(
    times: Times, deadlines: Deadlines, due_at: float, act: Reason | Act
) -> None:
    assert next_act(times, deadlines, due_at - 0.001) is None
    assert next_act(times, deadlines, due_at) is act
    assert next_act(times, deadlines, due_at + 1) is act


def test_what_may_have_been_prolonged_closes_nothing_by_itself_and_hides_nothing_else() -> None:
    times = Times(expires_at=50, heard_at=50)
    assert next_act(times, ALL, 50, renewable=True) is Act.WARN
    times.warned = True
    assert next_act(times, ALL, 50, renewable=True) is None
    assert next_act(times, ALL, 75, renewable=True) is Act.PING
    times.sending_since = 51
    assert next_act(times, ALL, 56, renewable=True) is Reason.SLOW_CONSUMER
    assert next_act(times, ALL, 1000, renewable=True) is Reason.SLOW_CONSUMER
    times.sending_since = None
    assert next_act(times, ALL, 1000, renewable=True) is Reason.CREDENTIALS_EXPIRED


@pytest.mark.parametrize("now", [0.0, 1e3, 1e6, 1e9])
def test_what_is_switched_off_is_never_due(now: float) -> None:
    assert next_act(Times(), NONE, now) is None
    assert next_act(Times(handler_since=0.0), NONE, now) is None
    assert next_act(Times(heard_at=0.0, pinged_at=0.0), NONE, now) is None


def test_a_running_handler_stops_the_clocks_for_idleness_and_heartbeat() -> None:
    deadlines = replace(ALL, handler=None)
    for heard_at, pinged_at in itertools.product([0.0, 500.0], [None, 0.0, 500.0]):
        assert next_act(Times(heard_at=heard_at, pinged_at=pinged_at, handler_since=0.0), deadlines, 900) is None


def test_a_running_handler_stops_neither_expiry_nor_age_nor_a_send_that_hangs() -> None:
    assert next_act(Times(handler_since=9, expires_at=10), ALL, 10) is Reason.CREDENTIALS_EXPIRED
    assert next_act(Times(handler_since=999), ALL, 1000) is Reason.CREDENTIALS_EXPIRED
    assert next_act(Times(handler_since=9, sending_since=5), ALL, 10) is Reason.SLOW_CONSUMER


def test_a_warning_is_given_once() -> None:
    assert next_act(Times(expires_at=100, warned=True), NONE, 99) is None


times = st.builds(
    Times,
    opened_at=st.floats(0, 100),
    heard_at=st.floats(0, 200),
    pinged_at=st.none() | st.floats(0, 200),
    handler_since=st.none() | st.floats(0, 200),
    sending_since=st.none() | st.floats(0, 200),
    expires_at=st.none() | st.floats(0, 400),
    warned=st.booleans(),
)


@given(times, st.floats(0, 500), st.floats(0, 500))
def test_a_socket_that_is_due_to_close_stays_due(times: Times, earlier: float, later: float) -> None:
    earlier, later = min(earlier, later), max(earlier, later)
    if isinstance(next_act(times, ALL, earlier), Reason):
        assert isinstance(next_act(times, ALL, later), Reason)


@given(times, st.floats(0, 500))
def test_nothing_outlives_what_it_depends_on(times: Times, now: float) -> None:
    """Whatever else holds, these three end a socket."""
    act = next_act(times, ALL, now)
    if times.expires_at is not None and now >= times.expires_at:
        assert act is Reason.CREDENTIALS_EXPIRED
    elif times.sending_since is not None and now - times.sending_since >= ALL.send:
        assert act is Reason.SLOW_CONSUMER
    elif times.handler_since is not None and now - times.handler_since >= 30:
        assert act in {Reason.HANDLER_TIMEOUT, Reason.CREDENTIALS_EXPIRED}
    elif times.handler_since is not None:
        assert act is None
