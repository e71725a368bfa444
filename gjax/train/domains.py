"""How far two domains have met: scores of embeddings, what figures need of them, checkpoints one might have chosen."""

import jax
import numpy as np

from gjax import metrics
from gjax.data import to_levels
from gjax.train.run import Run, make_evaluate


class DomainScores:
    """The scores of one run that adapts from one domain to another."""

    protocol = ''

    def __init__(self, run: Run):
        self._run = run

    def _embeddings(self, state, split: str, limit: int) -> dict[str, np.ndarray]:
        """Evenly spaced examples of a split, `limit` at most: 'embedding', 'label', 'prediction'."""
        run = self._run

        def call(state, batch, rng):
            embeddings = run.method.features(state, batch['image'])
            predictions = run.method.logits(state, batch['image']).argmax(axis=-1)
            return {'embedding': embeddings, 'label': batch['label'], 'prediction': predictions}

        function = run.once('embeddings', lambda: make_evaluate(call, run.mesh, run.feed.batch))
        every = max(1, -(-run.examples[split] // limit))
        return run.collect(function, state, split, every)

    def measure(self, state) -> dict[str, float]:
        """`metrics.told_apart` of training and test embeddings."""
        limit = self._run.config.evaluation.probe_examples
        if not limit:
            return {}
        splits = [
            [self._embeddings(state, f'{domain}/{split}', limit)['embedding'] for domain in self._run.domains]
            for split in ('train', 'test')
        ]
        return metrics.told_apart(*splits)

    def follow(self, state) -> dict[str, float]:
        """What tells during training whether it works: `measure`, and the accuracy on the target by class."""
        concluded = self._run.method.conclude(self._run.evaluate(state, final=True))
        return self.measure(state) | {name: value for name, value in concluded.items() if '_class_' in name}

    def pictures(self, state) -> dict[str, np.ndarray]:
        """'DOMAIN_embedding', 'DOMAIN_label' and 'DOMAIN_prediction' of test images, for figures."""
        count, shown = self._run.config.evaluation.pictures, {}
        for domain in self._run.domains if count else ():
            own = self._embeddings(state, f'{domain}/test', count)
            shown |= {f'{domain}_{name}': values for name, values in own.items()}
        return shown

    def snapshot(self, state, count: int = 16) -> dict[str, np.ndarray]:
        """uint8 'DOMAIN_images' of the test split and what the method's generator makes of them, 'DOMAIN_generated'."""
        run, shown = self._run, {}
        if not hasattr(run.method, 'pictures'):
            return shown

        def call(state, batch, rng):
            return batch['image'], run.method.pictures(state, batch, rng=rng)

        function = run.once('snapshot', lambda: make_evaluate(call, run.mesh, run.feed.batch))
        for domain in run.domains:
            with run.feed.examples(f'{domain}/test', run.config.train.eval_batch_size) as sources:
                source, mask = next(iter(sources))
                images, generated = jax.device_get(function(state, source, run.eval_rng))
            rows = np.linspace(0, mask.sum() - 1, min(count, mask.sum())).astype(int)
            for name, values in (('images', images), ('generated', generated)):
                shown[f'{domain}_{name}'] = to_levels(values[rows])
        return shown


def selected(lines: list[dict], selections) -> dict[str, float]:
    """{'METRIC_SELECTION': the metric at the evaluation that is best by another one, the last of equals}.

    Args:
      lines: of metrics.jsonl.
      selections: (metric, {selection: by which metric}), a method's.
    """
    metric, by = selections
    tested = [line for line in lines if f'test/{metric}' in line]
    if not tested:
        return {}
    best = {name: max(reversed(tested), key=lambda line: line[f'test/{key}']) for name, key in by.items()}
    return {f'{metric}_{name}': line[f'test/{metric}'] for name, line in best.items()}
