"""The two queues of a client: neither grows without bound, and what is lost is told."""

import pytest

from channels_secure.client import QueueFull
from channels_secure.client.queues import Inbox, Outbox


def test_messages_leave_in_the_order_in_which_they_came() -> None:
    outbox = Outbox(3)
    for text in ("a", "b", "c"):
        outbox.put(text)
    assert [outbox.take() for _ in range(3)] == [("a", None), ("b", None), ("c", None)]


def test_a_full_outbox_refuses_and_keeps_what_it_has() -> None:
    outbox = Outbox(2)
    outbox.put("a")
    assert not outbox.is_full
    outbox.put("b")
    assert outbox.is_full
    with pytest.raises(QueueFull, match="2 messages wait"):
        outbox.put("c")
    assert [outbox.take()[0] for _ in range(len(outbox))] == ["a", "b"]
    outbox.put("d")
    assert outbox.take() == ("d", None)


def test_a_request_that_nobody_waits_for_is_withdrawn_alone() -> None:
    outbox = Outbox(3)
    outbox.put("a")
    outbox.put("asked", "cs-1")
    outbox.put("b")
    outbox.withdraw("cs-1")
    outbox.withdraw("cs-2")
    assert [outbox.take()[0] for _ in range(len(outbox))] == ["a", "b"]


def test_the_oldest_unread_messages_make_room_and_are_counted() -> None:
    inbox = Inbox(2)
    assert [inbox.put(number) for number in range(5)] == [False, False, True, False, False]
    assert inbox.take_lost() == 3
    assert inbox.take_lost() == 0
    assert [inbox.take(), inbox.take()] == [3, 4]
    with pytest.raises(IndexError):
        inbox.take()


def test_an_inbox_that_lost_something_has_something_to_tell() -> None:
    inbox = Inbox(1)
    assert not inbox
    inbox.put("a")
    inbox.put("b")
    inbox.take()
    assert inbox
    inbox.take_lost()
    assert not inbox


@pytest.mark.parametrize("kind", [Inbox, Outbox])
def test_a_queue_has_room(kind: type[Inbox] | type[Outbox]) -> None:
    with pytest.raises(ValueError, match="room"):
        kind(0)
