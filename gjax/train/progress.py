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
        bar_format='{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]',
    )


def tell(line: str) -> None:
    """Prints a line on standard error; GJAX_PROGRESS=0 turns it off, as it does the bar."""
    if os.environ.get('GJAX_PROGRESS') != '0':
        print(line, file=sys.stderr, flush=True)


def show(bar, losses: dict, timings: dict) -> None:
    """Puts every loss, examples/s and (if any) the share of time spent waiting for data beside a progress bar.

    What does not fit into the terminal's line is left out as a whole: a number that tqdm cuts off reads as another one.
    """
    shown = {name: f'{value:.3f}' for name, value in losses.items() if name.startswith('loss')}
    if len(shown) == 1:
        shown = dict(zip(['loss'], shown.values(), strict=True))
    if timings:
        rate = {'examples/s': f'{timings["examples_per_second"]:.0f}'}
        waits = {'waits for data': f'{timings["data_wait_share"]:.0%}'} if timings['data_wait_share'] >= 0.01 else {}
        shown = rate | waits | shown
    bar.set_postfix_str(_fitting([f'{name}={value}' for name, value in shown.items()], _room(bar)), refresh=False)


def _room(bar) -> float:
    """How many characters a bar's line has left beside its own numbers, which may grow by some, and a short bar."""
    state = bar.format_dict
    if bar.disable or not state.get('ncols'):
        return float('inf')
    growth, shorter = 6, 5  # than the bar of ten that tqdm draws where no width is known
    return state['ncols'] - len(bar.format_meter(**state | {'ncols': None, 'postfix': None})) - growth + shorter


def _fitting(items: list[str], room: float) -> str:
    """Those of the items that fit beside each other, the first ones first."""
    text = ''
    for item in items:
        if len(text) + len(item) + 2 <= room:
            text += f', {item}' if text else item
    return text
