"""How fast a run is."""

from gjax.train import progress


def test_speed_leaves_out_the_call_that_compiles(monkeypatch):
    clock = iter([0.0, 10.0, 12.0, 14.0, 18.0, 20.0])  # the devices rest from 10 to 12, not at 14
    monkeypatch.setattr(progress.time, 'monotonic', lambda: next(clock))

    class Feed:
        waited = 0.0

    feed = Feed()

    def calls():
        feed.waited += 5
        yield 'state', 4, {}
        feed.waited += 0.5
        yield None, 8, {}
        yield 'state', 10, {}

    speed = progress.Speed(16, feed)
    timed = speed.timed(calls(), 0)
    next(timed)
    assert speed.measured() == {}
    assert [stop for _, stop, _ in timed] == [8, 10]
    assert speed.measured() == {'examples_per_second': 16.0, 'data_wait_share': round(0.5 / 6, 4)}
