import threading

import pytest
from limits import BusyError, Gate, cores


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
