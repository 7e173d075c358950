import asyncio
import threading

import pytest
from limits import BodyLimit, BusyError, Gate, cores


def test_the_cores_are_those_that_the_host_tells_of(monkeypatch):
    monkeypatch.setenv("CPU_CORES", "3")
    assert cores() == 3
    for useless in ("0", "", "many"):
        monkeypatch.setenv("CPU_CORES", useless)
        assert cores() >= 1


def test_no_more_are_inside_than_there_are_slots():
    gate, inside, most = Gate(2), [], []
    ready = threading.Barrier(6)

    def enter():
        ready.wait()
        for _ in range(50):
            with gate.patient():
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 300
    assert max(most) <= 2


def test_the_impatient_are_sent_away_when_there_is_no_slot_and_let_in_when_there_is():
    gate = Gate(1, seconds=0)
    with gate.impatient(), pytest.raises(BusyError, match="the server is busy; try again in a moment"), gate.impatient():
        pytest.fail("two are inside")
    with gate.impatient():
        pass


def test_one_more_than_may_wait_is_sent_away_at_once():
    gate = Gate(1, waiting=1, seconds=1000)
    entered = threading.Event()

    def wait():
        with gate.impatient():
            entered.set()

    with gate.patient():
        waiting = threading.Thread(target=wait)
        waiting.start()
        while gate._places._value:  # until the only place to wait is taken
            pass
        with pytest.raises(BusyError), gate.impatient():
            pytest.fail("it waited")
        assert not entered.is_set()
    waiting.join()
    assert entered.is_set()


def test_a_slot_is_free_again_after_a_failure():
    gate = Gate(1, seconds=0)
    for way in (gate.patient, gate.impatient):
        with pytest.raises(KeyError), way():
            raise KeyError
    with gate.impatient():
        pass


def answer(chunks: list[bytes], headers: list[tuple[bytes, bytes]], *, max_bytes: int) -> tuple[list, list]:
    """What an application behind the limit receives, and what goes out."""
    inbox = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    received, sent = [], []

    async def app(scope, receive, send):
        for _ in chunks:
            received.append(await receive())

    async def receive():
        return inbox.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": headers}
    asyncio.run(BodyLimit(app, max_bytes=max_bytes)(scope, receive, send))
    return received, sent


def test_a_request_that_says_it_is_too_large_is_refused_unread():
    assert answer([b"abc"], [(b"content-length", b"3")], max_bytes=3)[1] == []
    received, sent = answer([b"abcd"], [(b"content-length", b"4")], max_bytes=3)
    assert received == []
    assert sent[0]["status"] == 413


def test_a_request_that_does_not_say_so_is_cut():
    received, _ = answer([b"ab", b"c", b"d", b"e"], [], max_bytes=3)
    assert [message.get("body") for message in received] == [b"ab", b"c", None, None]
    assert received[2] == {"type": "http.disconnect"}
