"""What every suite shares: rates, interleaved repetitions, tables, and the machine that the numbers are of."""

import importlib.metadata
import os
import platform
import statistics
import sys
import time
from pathlib import Path

LEAST = 3  # items that a rate is taken over, however slow they are


def rate(items, size: int, held: int, seconds: float) -> float:
    """How much arrives a second from an iterator whose items hold `size`, over at least `seconds`.

    held: how many items a buffer may hold while nobody takes from it. They come first and do not count, and at the end
    there is a pause in which the buffer fills again, so that this does not disturb what is measured next.
    """
    for _ in range(max(1, held)):
        next(items)
    count, started = 0, time.monotonic()
    while count < LEAST or time.monotonic() - started < seconds:
        next(items)
        count += 1
    per_second = count * size / (time.monotonic() - started)
    pause(held * size / per_second)
    return per_second


def pause(seconds: float) -> None:
    """Lets a buffer fill that takes about so long."""
    time.sleep(min(1.0, 1.5 * seconds))


def interleaved(visits, repetitions: int, announce: str) -> list[list]:
    """What each of the functions `visits` gave in each repetition; all are visited in each, so a slow moment hits all."""
    values = [[] for _ in visits]
    for repetition in range(repetitions):
        print(f'{announce}: repetition {repetition + 1} of {repetitions}', file=sys.stderr, flush=True)
        for visit, given in zip(visits, values, strict=True):
            given.append(visit())
    return values


def shown(values, digits: int = 0, scale: float = 1.0) -> str:
    """'median (least - most)'."""
    middle, low, high = (f'{scale * f(values):,.{digits}f}' for f in (statistics.median, min, max))
    return f'{middle} ({low} - {high})'


def table(columns: list[str], rows: list[list]) -> str:
    """Markdown."""
    lines = [columns, ['---'] * len(columns), *rows]
    return ''.join(f'| {" | ".join(map(str, line))} |\n' for line in lines)


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        lines = []
    return next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), platform.processor())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def machine() -> dict:
    """Processor, cores, memory, devices, date, versions, and the load: how many processes want a core by now."""
    from gjax.train.store.records import provenance

    record, load = provenance(), round(os.getloadavg()[0], 2)
    if load > cores():
        print(f'the load is {load} on {cores()} cores: other programs run, or did a minute ago', file=sys.stderr, flush=True)
    packages = ('jax', 'jaxlib', 'flax', 'grain', 'numpy', 'pillow', 'tensorflow-datasets', 'torch')
    versions = {name: record['versions'][name] for name in ('gjax', 'python')} | {p: _version(p) for p in packages}
    return {
        'processor': _processor(),
        'cores': cores(),
        'memory_gib': round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30, 1),
        'load_average': load,
        'devices': record['devices'],
        'date': record['started'],
        'commit': record['commit'],
        'versions': versions,
    }


def machine_line(record: dict) -> str:
    """One line of Markdown that says where and with what the numbers were measured."""
    versions = ', '.join(f'{name} {version}' for name, version in record['versions'].items() if version)
    devices, load = record['devices'], record['load_average']
    return (
        f'{record["processor"]}, {record["cores"]} cores, {record["memory_gib"]} GiB, load {load} before the start; JAX on '
        f'{len(devices)} x {devices[0]}; {record["date"][:10]}, commit {record["commit"]}; {versions}.\n'
    )
