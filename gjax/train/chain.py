"""A method in several stages: each is a run of its own, in a folder of its own, that begins where its parent ended."""

import json
from pathlib import Path

import jax
import numpy as np

from gjax import data
from gjax.train import config as configs
from gjax.train.checkpoint import Checkpointer, from_arrays, to_arrays
from gjax.train.errors import RunError
from gjax.train.logging import read_results
from gjax.train.run import Run


class Chain:
    """The runs that one config describes: one for each stage of its method, or the only one, named ''.

    Those whose configs differ in the stage alone are one `Run`, and compile once. A stage's folder lies beside its parent's.
    """

    def __init__(self, config, mesh=None):
        self.config = configs.from_json(configs.to_json(config))
        configs.override(self.config, {'stage': ''})
        self._mesh, self._runs = mesh, {}
        self.main = self.run(self.config)
        known = self.main.method.stages() if hasattr(self.main.method, 'stages') else ()
        self.stages = {stage.name: stage for stage in known}
        if config.stage and config.stage not in self.stages:
            allowed = ', '.join(self.stages) or f"'' ({config.method.name} has no stages)"
            raise RunError(f'stage is {config.stage!r}; allowed: {allowed}')

    def run(self, config) -> Run:
        """The run of a config, at its stage until the next call."""
        key = json.dumps({**config.to_dict(), 'stage': ''}, sort_keys=True)
        if key not in self._runs:
            self._runs[key] = Run(config, self._mesh)
        self._runs[key].config = config
        return self._runs[key]

    def parent(self, name: str, folder: Path) -> Path | None:
        """The folder of the run from which that of `name`, in `folder`, begins."""
        stage = self.stages.get(name)
        return folder.parent / stage.parent if stage and stage.parent else None

    def stage_config(self, name: str, folder: Path):
        """The config of a stage: what it overrides, and what its method derives from the last state of its parent."""
        stage = self.stages.get(name)
        if stage is None:
            return self.config
        own = configs.from_json(configs.to_json(self.config))
        configs.override(own, {**stage.overrides, 'stage': name})
        if stage.derived:
            parent, state = self._parent_state(name, folder)
            configs.override(own, parent.method.derive(name, jax.device_get(state)))
        return own

    def begin(self, run: Run, folder: Path):
        """The first state of the stage that is `run`'s; RunError if its parent is not finished."""
        name, parent_state, own = run.config.stage, None, run.config
        if self.parent(name, folder):
            parent_state = _local(self._parent_state(name, folder)[1])
        run.config = own  # the parent may be the same run at another stage
        rng = jax.random.fold_in(run.init_rng, 1 + list(self.stages).index(name))
        new = run.init() if self.stages[name].fresh else run.template()
        # Every process does the same on one of its devices; the result then goes to all, no two leaves in one buffer.
        first = run.method.begin(name, _local(new), parent_state, _examples(run), rng=rng)
        return from_arrays(to_arrays(first), new)

    def _parent_state(self, name: str, folder: Path):
        """The parent's run, and the state in its newest checkpoint."""
        parent = self.parent(name, folder)
        if not (parent / 'results.json').exists():
            raise RunError(f'{parent}, where stage {name} begins, is not finished: train that stage first, or all of them')
        run, restored = self.run(self.stage_config(parent.name, parent)), None
        if (parent / 'checkpoints').is_dir():
            with Checkpointer(parent / 'checkpoints', read_only=True) as checkpoints:
                restored = checkpoints.restore_latest(run.template)
        if restored is None:
            raise RunError(f'{parent} holds no checkpoint any more; move it away to train it again')
        return run, restored[0]

    def summary(self, workdir: Path) -> dict:
        """What results.json says of all stages: their metrics as 'STAGE/METRIC'."""
        found = {name: read_results(workdir / name) for name in self.stages}
        metrics = {f'{stage}/{name}': v for stage, results in found.items() for name, v in results['metrics'].items()}
        protocols = {results['protocol'] for results in found.values() if results.get('protocol')}
        return {'metrics': metrics} | ({'protocol': '; '.join(sorted(protocols))} if protocols else {})


def _local(tree):
    """A replicated tree as this process's first device holds it."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def _examples(run: Run):
    """A batch of training examples, drawn by the seed, as the method may look at before it begins."""
    split = data.from_config(run.config.data, run.config.seed).train
    count = min(len(split), run.config.train.batch_size)
    rows = np.sort(np.random.default_rng(abs(run.config.seed)).choice(len(split), count, replace=False))
    chosen = split.read(rows)
    return data.to_batch(chosen.images, chosen.labels, rows)
