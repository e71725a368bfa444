"""How fast a run is, and what of it a terminal of any width shows."""

import io
import re

import pytest
from tqdm import tqdm

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


@pytest.mark.parametrize('columns', [70, 80, 100, 140, 200])
def test_numbers_are_whole_or_left_out(columns, monkeypatch):
    monkeypatch.delenv('GJAX_PROGRESS')
    monkeypatch.setattr(progress, 'tqdm', lambda *args, **options: _Bar(columns, *args, **options))
    bar = progress.progress(1000, 0, 'generate_to_adapt seed 0')
    losses = {'loss/embedding': 1.23456, 'loss/generator': 0.5, 'loss/discriminator': 2.0, 'gradient_norm/generator': 3.0}
    progress.show(bar, losses, {'examples_per_second': 3157.2, 'data_wait_share': 0.02})
    bar.update(400)
    line = bar.written.getvalue().split('\r')[-1].split('\x1b')[0]
    bar.close()
    shown = re.search(r'<[^,]*(.*)\]', line)[1].split(', ')[1:]
    assert len(line) <= columns
    every = [
        'examples/s=3157',
        'waits for data=2%',
        'loss/embedding=1.235',
        'loss/generator=0.500',
        'loss/discriminator=2.000',
    ]
    assert shown == [item for item in every if item in shown]  # in order, none of them cut
    assert len(shown) == {70: 0, 80: 1, 100: 2, 140: 4, 200: 5}[columns]


class _Bar(tqdm):
    """A bar of a given width whose lines are kept."""

    def __init__(self, columns, *args, **options):
        self.written = io.StringIO()
        width = {'file': self.written, 'ncols': columns, 'mininterval': 0, 'dynamic_ncols': False}
        super().__init__(*args, **options | width)


def test_the_loss_of_a_single_player_has_a_short_name(monkeypatch):
    monkeypatch.delenv('GJAX_PROGRESS')
    monkeypatch.setattr(progress, 'tqdm', lambda *args, **options: _Bar(120, *args, **options))
    bar = progress.progress(10, 0, 'x')
    progress.show(bar, {'loss/classifier': 2.0}, {})
    assert bar.postfix == 'loss=2.000'
    bar.close()
