"""Background threads keep the order, the limits and exceptions."""

import threading
import time

import pytest

from bisenetv1_plugin.inference.threads import BackgroundCalls, prefetch


def test_prefetch_keeps_the_order_and_its_limit():
    made = []

    def items():
        for number in range(20):
            made.append(number)
            yield number

    seen = []
    for item in prefetch(items(), 3):
        time.sleep(0.005)
        # three in the queue, and one waiting to be put there
        assert len(made) <= item + 1 + 3 + 1
        seen.append(item)
    assert seen == list(range(20))


def test_prefetch_runs_in_parallel():
    second = threading.Event()

    def items():
        yield 1
        second.set()
        yield 2

    found = prefetch(items(), 2)
    assert next(found) == 1
    assert second.wait(5), "nobody has asked for the second, and it is made"
    assert list(found) == [2]


def test_exception_of_an_item():
    def items():
        yield 1
        raise KeyError("broken")

    found = prefetch(items(), 2)
    assert next(found) == 1
    with pytest.raises(KeyError, match="broken"):
        next(found)


def test_closing_ends_the_thread():
    before = threading.active_count()
    found = prefetch(iter(range(1000)), 2)
    assert next(found) == 0
    found.close()
    assert threading.active_count() == before


def test_background_calls_keep_the_order_and_the_limit():
    begun, done = [], []

    def slow(item):
        begun.append(item)
        time.sleep(0.005)
        done.append(item)

    with BackgroundCalls(slow, 2) as calls:
        for item in range(20):
            calls.submit(item)
            assert item + 1 - len(done) <= 2 + 1
    assert done == list(range(20))


def test_exception_of_a_background_call():
    def fail(item):
        raise OSError(f"no room for {item}")

    with pytest.raises(OSError, match="no room for 0"), BackgroundCalls(fail, 1) as calls:
        for item in range(3):
            calls.submit(item)
    with pytest.raises(OSError, match="no room for 0"), BackgroundCalls(fail, 5) as calls:
        calls.submit(0)


def test_exception_of_the_block_takes_precedence():
    def fail(_):
        raise OSError("later")

    with pytest.raises(KeyError), BackgroundCalls(fail, 5) as calls:
        calls.submit(0)
        raise KeyError("first")
