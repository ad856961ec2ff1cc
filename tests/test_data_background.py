"""An iterator on a thread: order, bound, errors at their item, and a clean end."""

import itertools
import threading
import time

import pytest

from ace_jax.data.background import Background


def running(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_all_items_in_order_then_the_end():
    with Background(range(100), ahead=3, name="count") as items:
        assert list(items) == list(range(100))
        assert next(items, "ended") == "ended"
    assert not running("count")


def test_never_further_ahead_than_allowed():
    taken = itertools.count()
    with Background(taken, ahead=2, name="count") as items:
        assert next(items) == 0
        time.sleep(0.3)
        # One was handed out, two wait, one is in hand.
        assert list(itertools.islice(items, 5)) == [1, 2, 3, 4, 5]
        time.sleep(0.3)
    assert next(taken) <= 10
    assert not running("count")


@pytest.mark.parametrize("error", [ValueError("item 3"), KeyboardInterrupt()])
def test_an_error_is_raised_at_its_item(error):
    def items():
        yield from range(3)
        raise error

    background = Background(items(), ahead=0, name="breaks")
    seen = []
    with pytest.raises(type(error)):
        seen.extend(background)
    assert seen == [0, 1, 2]
    assert next(background, "ended") == "ended"
    assert not running("breaks")


def test_one_on_top_of_another():
    with (
        Background(range(50), ahead=1, name="first") as first,
        Background((2 * x for x in first), ahead=1, name="second") as second,
    ):
        assert [next(second) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert not running("first")
    assert not running("second")
