"""Networks whose features stand for images in a distance: a classifier of the suite, trained once and kept, or Inception."""

import contextlib
import fcntl
import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp

import gjax
from gjax.nets import inception
from gjax.train import config as configs
from gjax.train import processes
from gjax.train.errors import RunError
from gjax.train.store.cache import cache_dir
from gjax.train.store.checkpoint import Checkpointer, to_arrays
from gjax.train.store.checkpoint import digest as weights_digest
from gjax.train.store.files import read_arrays

INCEPTION = 'inception:'


@contextlib.contextmanager
def _alone(folder: Path):
    """One run trains an extractor; those started beside it wait, and then find it trained."""
    if not processes.is_main():
        processes.barrier('extractor')
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix('.lock'), 'w', encoding='utf-8') as lock:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        processes.barrier('extractor')
        yield


class Extractor:
    """A classifier of the suite, trained by a config, whose features stand for images.

    name: the config's, with a digest of its weights, which differ between machines and versions of libraries; numbers of
      extractors of different names do not compare.
    variables: what a call needs beside images, as an argument of compiled functions.
    """

    def __init__(self, spec: str, run):
        from gjax.train.loop import train_and_evaluate  # the loop evaluates, and evaluation may train one of these
        from gjax.train.run import Run

        config = configs.load(spec)
        digest = hashlib.sha256(f'{gjax.__version__} {configs.identity(config)}'.encode()).hexdigest()[:12]
        folder = cache_dir() / 'extractors' / digest
        own = Run(config, run.mesh)
        if own.info.image_shape != run.info.image_shape:
            raise RunError(
                f'evaluation.extractor is {spec!r}, trained on images of {own.info.image_shape}; allowed: one of '
                f'{run.info.image_shape}'
            )
        with _alone(folder):
            train_and_evaluate(config, folder, mesh=run.mesh)
        with Checkpointer(folder / 'checkpoints', read_only=True) as checkpoints:
            restored = checkpoints.restore_latest(own.template)
        if restored is None:
            raise RunError(f'{folder} holds no checkpoint any more; remove it to train the extractor again')
        self._method = own.method
        self.variables = restored[0].replace(opt_state={}, memory={})
        weights = {'params': self.variables.params, 'batch_stats': self.variables.batch_stats}
        self.name = f'{config.experiment} {weights_digest(to_arrays(weights))[:12]}'

    def __call__(self, variables, images) -> dict[str, jax.Array]:
        """{'features': [B, F], 'probabilities': [B, K]}; pure."""
        features, logits = self._method.embed(variables, images)
        return {'features': features, 'probabilities': jax.nn.softmax(logits)}


class InceptionExtractor:
    """Inception-v3 with the weights of a local .npz file: the arrays of a state dict, torchvision's or pytorch-fid's.

    Images are rounded to 8 bits first, as they are in the files by which published distances are measured; those of data
    sets are so already.

    name: the variant of the network, a digest of the file, and that images are rounded.
    """

    def __init__(self, path: str):
        arrays = read_arrays(Path(path))
        try:
            self._net, self.variables = inception.from_torch(arrays)
        except ValueError as error:
            raise RunError(f'evaluation.extractor is {INCEPTION + path!r}: {error}') from error
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]
        self.name = f'inception-v3 ({self._net.variant}) {digest} of 8-bit images'

    def __call__(self, variables, images) -> dict[str, jax.Array]:
        """{'features': [B, 2048], 'probabilities': [B, K]}; pure."""
        features, logits = self._net.apply(variables, jnp.round(255 * jnp.clip(images, 0, 1)) / 255)
        return {'features': features, 'probabilities': jax.nn.softmax(logits)}


def find_extractor(spec: str, run) -> Extractor | InceptionExtractor | None:
    """The extractor that evaluation.extractor names: '' for none, 'inception:FILE.npz', or the config of a classifier.

    Raises:
      RunError: no such file, other weights, or a classifier of images of another shape; one line.
    """
    if spec.startswith(INCEPTION):
        return InceptionExtractor(spec.removeprefix(INCEPTION))
    return Extractor(spec, run) if spec else None
