"""AutoAttack (Croce & Hein 2020, arXiv:2003.01690, section 5): attacks without a knob to turn, one after the other, each on
the images still standing.
"""

import dataclasses
import hashlib
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gjax import checks
from gjax.attacks.apgd import apgd_ce, apgd_dlr, apgd_targeted, check_classes
from gjax.attacks.fast_boundary import fab, fab_targeted
from gjax.attacks.square_search import square

ATTACKS = {
    'apgd_ce': apgd_ce,
    'apgd_dlr': apgd_dlr,
    'apgd_targeted': apgd_targeted,
    'fab': fab,
    'fab_targeted': fab_targeted,
    'square': square,
}
LEAST_CLASSES = {'apgd_dlr': 3, 'apgd_targeted': 4}  # of the network
VERSIONS = {  # the attacks of each, in their order; those of 'custom' are an argument
    'standard': ('apgd_ce', 'apgd_targeted', 'fab_targeted', 'square'),
    'rand': ('apgd_ce', 'apgd_dlr'),
    'custom': (),
}
DRAWS = 20  # of a random network, over which version 'rand' takes mean gradients
BATCH_SIZES = (256, 64)
STANDING, WRONG = -1, -2  # in `fallen_to`
WRITING = 0.05  # the share of the time that writing the state after single batches may take


@dataclasses.dataclass(frozen=True)
class AutoAttackResult:
    """What became of N images; NumPy arrays."""

    robust: np.ndarray  # bool [N]: right on the image, and felled by no attack
    adversarial: np.ndarray  # [N, ...] of the images' dtype: what felled an image, or the image itself
    fallen_to: np.ndarray  # int32 [N]: number of the attack that felled the image, -1 if none, -2 if wrong from the start
    attacks: tuple[str, ...]  # their names, in the order of these numbers
    clean_accuracy: float  # on the images themselves
    accuracies: tuple[float, ...]  # robust accuracy after each attack


def split(rows: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """The rows [n] in batches, each to be padded to the smallest of `sizes` (ascending) that holds it: full ones first, the
    largest before the others, and at the end what pads less: one batch, or several of the smallest size.
    """
    batches = []
    while len(rows):
        full = max((size for size in sizes if size <= len(rows)), default=0)
        above = min((size for size in sizes if size >= len(rows)), default=None)
        several = full + -(-(len(rows) - full) // sizes[0]) * sizes[0]
        count = len(rows) if above is not None and (not full or above <= several) else full
        batches.append(rows[:count])
        rows = rows[count:]
    return batches


def _names(version: str, attacks) -> tuple[str, ...]:
    checks.one_of('version', version, VERSIONS)
    if version != 'custom':
        if attacks is not None:
            raise ValueError(f'attacks is {attacks!r} with version {version}; allowed: with version custom alone')
        return VERSIONS[version]
    if isinstance(attacks, str) or not attacks:
        raise ValueError(f'attacks is {attacks!r}; allowed with version custom: a list of {", ".join(ATTACKS)}')
    checks.each_of('attacks', attacks, ATTACKS)
    if len(set(attacks)) < len(attacks):
        raise ValueError(f'attacks is {attacks!r}; allowed: every name once')
    return tuple(attacks)


def _typed(rng):
    """A key of `jax.random.key`, also from one of the older `jax.random.PRNGKey`."""
    if jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
        return rng
    return jax.random.wrap_key_data(jnp.asarray(rng), impl='rbg' if rng.shape == (4,) else 'threefry2x32')


def _digest(words: tuple, *arrays) -> str:
    """What a state file is bound to."""
    total = hashlib.sha256(repr(words).encode())
    for array in arrays:
        total.update(f'{array.dtype} {array.shape}'.encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


@dataclasses.dataclass
class _Images:
    """What is attacked, and the programs that do it, each compiled once for each of `sizes` (ascending)."""

    logits_fn: Callable
    images: np.ndarray
    labels: np.ndarray
    eps: np.ndarray  # [N]
    rng: jax.Array
    options: dict  # of every attack
    names: tuple[str, ...]  # of the attacks
    sizes: list[int]
    compile: Callable
    programs: dict = dataclasses.field(default_factory=dict)

    def _call(self, name: str, function: Callable, rows, *arrays):
        """function(*arrays, keys) of at most a batch of rows, padded by copies of the last one: they end when it does."""
        if name not in self.programs:
            function.__name__ = name  # as profiles call it
            self.programs[name] = self.compile(function)
        size = min(size for size in self.sizes if size >= len(rows))
        padding = (0, size - len(rows))
        stream = jax.random.fold_in(self.rng, self.names.index(name) if name in self.names else len(self.names))
        keys = jax.vmap(jax.random.fold_in, (None, 0))(stream, jnp.asarray(np.pad(rows, padding, mode='edge')))
        arrays = (jnp.asarray(np.pad(a, (padding, *[(0, 0)] * (a.ndim - 1)), mode='edge')) for a in arrays)
        return np.asarray(self.programs[name](*arrays, keys))[: len(rows)]

    def predict(self, images, rows) -> np.ndarray:
        """The class that the model gives each of these images, of at most a batch of rows."""

        def classes(images, keys):
            logits = self.logits_fn(images, keys[0]) if 'draws' in self.options else self.logits_fn(images)
            for name in self.names:
                check_classes(name, logits, LEAST_CLASSES.get(name, 2))
            return jnp.argmax(logits, axis=-1)

        return self._call('predict', classes, rows, images)

    def fell(self, name: str, rows):
        """(what the attack makes of these rows, at most a batch; whether the model gets that wrong)."""

        def attack(images, labels, eps, keys):
            return ATTACKS[name](self.logits_fn, images, labels, eps, rng=keys, **self.options)

        found = self._call(name, attack, rows, self.images[rows], self.labels[rows], self.eps[rows])
        return found, self.predict(found, rows) != self.labels[rows]


@dataclasses.dataclass
class _State:
    """What is known so far, and the file that keeps it."""

    fallen_to: np.ndarray  # int32 [N]
    attacked: np.ndarray  # bool [N]: by the attack that runs now
    adversarial: np.ndarray  # [N, ...]
    accuracies: list[float]  # after each attack that has ended
    path: Path | None  # of the file
    digest: str
    began: float = dataclasses.field(default_factory=time.monotonic)
    writing: float = 0.0  # seconds

    def accuracy(self) -> float:
        return float(np.mean(self.fallen_to == STANDING))

    def save(self, *, always: bool) -> None:
        """Writes the file, whole or not at all; unless `always`, only while that has taken little of the time."""
        started = time.monotonic()
        if self.path is None or (not always and self.writing > WRITING * (started - self.began)):
            return
        raw = self.adversarial[self.fallen_to >= 0]
        arrays = {'fallen_to': self.fallen_to, 'attacked': self.attacked, 'accuracies': np.asarray(self.accuracies)}
        arrays |= {'digest': np.asarray(self.digest), 'adversarial': raw.view(f'u{raw.dtype.itemsize}')}
        temporary = self.path.with_name(f'.{self.path.name}.{os.getpid()}.tmp')
        try:
            with temporary.open('wb') as stream:
                np.savez(stream, **arrays)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        self.writing += time.monotonic() - started

    def load(self) -> None:
        """Takes over what the file holds, if there is one; ValueError if that is no state, or that of another call."""
        if self.path is None or not self.path.exists():
            return
        names = ('digest', 'fallen_to', 'attacked', 'accuracies', 'adversarial')
        try:
            with np.load(self.path, allow_pickle=False) as file:
                digest, self.fallen_to, self.attacked, accuracies, raw = (file[name] for name in names)
        except (OSError, ValueError, KeyError, AttributeError, EOFError, TypeError, zipfile.BadZipFile):
            raise ValueError(f'state_file is {self.path}, whose content is no state; allowed: a file of this call') from None
        if str(digest) != self.digest:
            raise ValueError(
                f'state_file is {self.path}, of another call; allowed: one of the same network, images, labels, eps, norm, '
                'bounds, version, attacks and rng'
            )
        self.accuracies = accuracies.tolist()
        self.adversarial[self.fallen_to >= 0] = raw.view(self.adversarial.dtype)


def autoattack(
    logits_fn: Callable,
    images,
    labels,
    eps,
    *,
    rng,
    norm: str = 'linf',
    version: str = 'standard',
    attacks: Sequence[str] | None = None,
    batch_sizes: Sequence[int] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    state_file: str | os.PathLike | None = None,
    report: Callable | None = None,
    compile: Callable = jax.jit,
) -> AutoAttackResult:
    """Robust accuracy under AutoAttack. A driver on the host, not to be called under `jax.jit`.

    The standard version is APGD on cross-entropy (100 steps), APGD and FAB towards 9 classes each (100 steps each) and
    Square (5000 queries), each from one start. An attack sees the images still standing, gathered into batches of a few
    fixed sizes, so that each attack is compiled once for each size. What an image is given depends on `rng` and on its own
    row, not on the other images of its batch. An image has fallen if the model, asked once more, gets the attacked image
    wrong.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K]; of version 'rand' a random network, (images, key) -> logits.
      images: [N, H, W, C] within the bounds, NumPy or JAX, of any N >= 1.
      labels: int [N].
      eps: radius, float or [N], in units of the images.
      rng: a key.
      norm: 'linf' or 'l2'.
      version: 'standard'; 'rand', for random networks: APGD on cross-entropy and on the DLR loss, each gradient the mean
        over 20 draws; 'custom'.
      attacks: of version 'custom' only: names of ATTACKS, in the order in which they run.
      batch_sizes: in which images are attacked together, ascending or not; by default 256 and 64.
      bounds: (low, high), the range of the images.
      state_file: an .npz file that is written whole after each attack, and after a batch where that takes little of the
        time. The same call then goes on where the file ends.
      report: called after every batch with (name of the attack, images that it has attacked, images that it attacks in all,
        robust accuracy so far).
      compile: compiles a function of arrays whose first axes are the batch, as `jax.jit` does; for shardings.

    Raises:
      ValueError: an unknown norm, version or attack, attacks that are given with another version or are none, inputs that do
        not fit, too few classes for an attack, an adversarial image outside its ball or bounds; a state file of another
        call, or that is none.
    """
    names = _names(version, attacks)
    checks.check_norm('norm', norm)
    checks.check_key('rng', rng)
    checks.check_bounds(bounds)
    checks.check_images('images', images, bounds)
    checks.check_shape('labels', labels, images.shape[:1], f'{images.shape[:1]}, one an image')
    checks.check_integers(labels=labels)
    checks.check_eps('eps', eps, norm, bounds)
    if np.ndim(eps):
        checks.check_shape('eps', eps, images.shape[:1], f'() or {images.shape[:1]}')
    sizes = sorted(set(BATCH_SIZES if batch_sizes is None else batch_sizes))
    if not sizes or not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
        raise ValueError(f'batch_sizes is {batch_sizes!r}; allowed: integers >= 1')
    images, labels, rng = np.asarray(images), np.asarray(labels), _typed(rng)
    eps = np.broadcast_to(np.asarray(eps, np.float64), labels.shape)
    options = {'norm': norm, 'bounds': tuple(bounds)} | ({'draws': DRAWS} if version == 'rand' else {})
    given = _Images(logits_fn, images, labels, eps, rng, options, names, sizes, compile)

    everything = np.arange(len(images))
    clean = np.concatenate([given.predict(images[rows], rows) for rows in split(everything, sizes)])
    fallen_to = np.where(clean == labels, STANDING, WRONG).astype(np.int32)
    key = np.asarray(jax.random.key_data(rng))
    digest = _digest((norm, version, names, tuple(map(float, bounds))), images, labels, eps, clean, key)
    path = None if state_file is None else Path(state_file)
    state = _State(fallen_to, np.zeros(len(images), bool), images.copy(), [], path, digest)
    state.load()

    for number in range(len(state.accuracies), len(names)):
        waiting = np.flatnonzero((state.fallen_to == STANDING) & ~state.attacked)
        total = int(state.attacked.sum()) + len(waiting)
        for rows in split(waiting, sizes):
            found, felled = given.fell(names[number], rows)
            state.attacked[rows] = True
            state.fallen_to[rows[felled]] = number
            state.adversarial[rows[felled]] = found[felled]
            state.save(always=False)
            if report is not None:
                report(names[number], int(state.attacked.sum()), total, state.accuracy())
        state.accuracies.append(state.accuracy())
        state.attacked[:] = False
        state.save(always=True)
    accuracies = tuple(state.accuracies)
    robust = state.fallen_to == STANDING
    return AutoAttackResult(robust, state.adversarial, state.fallen_to, names, float(np.mean(clean == labels)), accuracies)
