"""A method in several stages: each is a run of its own, in a folder of its own, that begins where its parents ended."""

import json
import zlib
from pathlib import Path

import jax

from gjax import data, methods
from gjax.methods.core.contract import Stage
from gjax.train import config as configs
from gjax.train.errors import RunError
from gjax.train.feeds import Opened
from gjax.train.run import Run, check_stage
from gjax.train.store.checkpoint import Checkpointer, from_arrays, to_arrays
from gjax.train.store.records import read_results


class Chain:
    """The runs that one config describes: one for each stage of its method, or the only one, named ''.

    Stages that train one method under one config are one `Run`, and compile once; runs of the same data share its sets. The
    folder of a stage lies beside those of its parents.
    """

    def __init__(self, config, mesh=None):
        self.config = configs.copy(config)
        configs.override(self.config, {'stage': ''})
        self._mesh, self._runs, self._told, self._sets = mesh, [], set(), Opened()
        self.main = self.run(self.config)
        self.stages = {stage.name: stage for stage in self.main.method.stages()}
        check_stage(config, self.main.method)
        self._check_stages()

    def _check_stages(self) -> None:
        """ValueError or RunError now, not when a stage begins, for a setting that is no good or a parent that is missing."""
        earlier = set()
        for stage in self.stages.values():
            if missing := set(stage.parents) - earlier:
                raise RunError(f'stage {stage.name} begins from {sorted(missing)[0]!r}; allowed: stages before it')
            earlier.add(stage.name)
            if stage.overrides:
                own = configs.copy(self.config)
                configs.override(own, dict(stage.overrides))
                methods.check(own)

    def run(self, config) -> Run:
        """The run of a config at its stage, shared by all stages whose config and method are equal."""
        plain = json.dumps({**config.to_dict(), 'stage': ''}, sort_keys=True)
        for known, run in self._runs:
            if known == plain and (run.whole_method.at(config.stage) if config.stage else run.whole_method) == run.method:
                return run
        self._runs.append((plain, Run(config, self._mesh, self._sets)))
        return self._runs[-1][1]

    def told(self, run: Run) -> list[str]:
        """What the data of a run is, a line for each set, without what has been told of an earlier stage."""
        lines = [f'{name}: {data.summary(own)}' for name, own in run.datasets.items()]
        new = [line for line in lines if line not in self._told]
        self._told.update(new)
        return new

    def parents(self, name: str, folder: Path) -> dict[str, Path]:
        """The folders of the runs from which that of the stage `name`, in `folder`, begins."""
        return {parent: folder.parent / parent for parent in self.stages[name].parents} if name else {}

    def trains(self, name: str) -> bool:
        """Whether the stage `name` trains, or only evaluates; '' for the only run."""
        return not name or self.stages[name].trains

    def stage_config(self, name: str, folder: Path):
        """The config of a stage: what it overrides, and what its method derives from the last states of its parents."""
        if not name:
            return self.config
        stage, own = self.stages[name], configs.copy(self.config)
        configs.override(own, {**stage.overrides, 'stage': name})
        if stage.derived:
            states = {parent: jax.device_get(state) for parent, state in self._parent_states(name, folder).items()}
            configs.override(own, self.main.method.at(name).derive(name, states))
        return own

    def begin(self, name: str, run: Run, folder: Path):
        """The first state of a stage; RunError if a parent is not finished."""
        stage = self.stages[name]
        parents = {parent: _local(state) for parent, state in self._parent_states(name, folder).items()}
        rng = jax.random.fold_in(run.init_rng, stage_key(stage))
        new = run.init() if stage.fresh else run.template()
        # Every process does the same on one of its devices; the result then goes to all, no two leaves in one buffer.
        first = run.method.begin(name, _local(new), parents, run.drawn_examples(), rng=rng)
        return from_arrays(to_arrays(first), new)

    def _parent_states(self, name: str, folder: Path) -> dict:
        """{parent: the state in its newest checkpoint}."""
        return {parent: self._last_state(name, path) for parent, path in self.parents(name, folder).items()}

    def _last_state(self, name: str, parent: Path):
        if not (parent / 'results.json').exists():
            raise RunError(f'{parent}, where stage {name} begins, is not finished: train that stage first, or all of them')
        run, restored = self.run(self.stage_config(parent.name, parent)), None
        if (parent / 'checkpoints').is_dir():
            with Checkpointer(parent / 'checkpoints', read_only=True) as checkpoints:
                restored = checkpoints.restore_latest(run.template)
        if restored is None:
            raise RunError(f'{parent} holds no checkpoint any more; move it away to train it again')
        return restored[0]

    def summary(self, workdir: Path) -> tuple[dict, str, dict, list]:
        """What results.json says of all stages: metrics as 'STAGE/METRIC', every protocol once, those of single metrics, and
        warnings as 'STAGE: WARNING'.
        """
        found = {name: read_results(workdir / name) for name in self.stages}

        def joined(key):
            return {f'{stage}/{name}': v for stage, results in found.items() for name, v in results.get(key, {}).items()}

        parts = [part for results in found.values() for part in results.get('protocol', '').split('; ') if part]
        doubts = [f'{stage}: {text}' for stage, results in found.items() for text in results.get('warnings', ())]
        return joined('metrics'), '; '.join(dict.fromkeys(parts)), joined('protocols'), doubts


def stage_key(stage: Stage) -> int:
    """The number folded into the run's key for a stage: its own or, so that a new stage moves no other, one of its name."""
    return zlib.crc32(stage.name.encode()) & 0x7FFFFFFF if stage.key is None else stage.key


def _local(tree):
    """A replicated tree as this process's first device holds it."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
