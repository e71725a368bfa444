"""How fast a run is and how far: examples per second, share of the time spent waiting for data, a progress bar."""

import os
import sys
import time

from tqdm import tqdm


class Speed:
    """How fast a run trains in this process, and how much of that it waits for data; not counting the call that compiles."""

    def __init__(self, batch_size: int, feed):
        self._batch_size, self._feed = batch_size, feed
        self._steps = self._seconds = self._waited = 0
        self._first = True

    def timed(self, calls, step: int):
        """Passes on the (state, step, metrics) of `Run.advance`; time that the devices rest does not count."""
        calls, started = iter(calls), time.monotonic()
        while True:
            waited = self._feed.waited
            try:
                state, stop, metrics = next(calls)
            except StopIteration:
                return
            now = time.monotonic()
            if not self._first:
                self._steps += stop - step
                self._seconds += now - started
                self._waited += self._feed.waited - waited
            self._first, step, started = False, stop, now
            yield state, stop, metrics
            if state is not None:
                started = time.monotonic()

    def measured(self) -> dict[str, float]:
        """{'examples_per_second', 'data_wait_share'}; empty before the second call."""
        if not self._seconds:
            return {}
        rate = self._steps * self._batch_size / self._seconds
        return {'examples_per_second': round(rate, 1), 'data_wait_share': round(self._waited / self._seconds, 4)}


def progress(total: int, initial: int, description: str, unit: str = 'step', shown: bool = True):
    """A bar on standard error; quiet where it is no terminal: a line every 10 s at most. GJAX_PROGRESS=0 turns it off."""
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        mininterval=0.2 if sys.stderr.isatty() else 10.0,
        disable=not shown or os.environ.get('GJAX_PROGRESS') == '0',
        dynamic_ncols=True,
    )


def show(bar, losses: dict, timings: dict) -> None:
    """Puts the losses, examples/s and (if any) the share of time spent waiting for data beside a progress bar."""
    shown = {name.split('/')[0]: f'{value:.3f}' for name, value in losses.items() if name.startswith('loss')}
    if timings:
        shown['examples/s'] = f'{timings["examples_per_second"]:.0f}'
        if timings['data_wait_share'] >= 0.01:
            shown['waits for data'] = f'{timings["data_wait_share"]:.0%}'
    bar.set_postfix(shown, refresh=False)
