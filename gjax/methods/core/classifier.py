"""The common ground of the adversarially trained classifiers: network, training attack and update."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gjax import attacks, masks, nets
from gjax.checks import check_norm, one_of
from gjax.evaluators import Examples, Memory
from gjax.evaluators.robust import RobustEvaluation, robust_accuracy
from gjax.losses import correct, margin
from gjax.methods.core.contract import DataInfo, Method
from gjax.methods.core.state import State, new_state, update_player
from gjax.nets.features import penultimate

PLAYER = 'classifier'
ATTACK_BATCH_NORM = ('train', 'eval', 'train_update')


@dataclasses.dataclass(frozen=True)
class Classifier(Method):
    """A network with one player, robust accuracy as its evaluation; subclasses add `step`."""

    NETS: ClassVar[dict] = nets.CLASSIFIERS
    EVALUATION: ClassVar[type] = RobustEvaluation

    net: Any
    optimizer: Any
    info: DataInfo
    evaluation: RobustEvaluation
    # How BatchNorm behaves while a training attack runs: 'train' uses the batch's statistics and leaves the running ones
    # alone; 'eval' uses the frozen running statistics; 'train_update' is the IAAT authors' code, in which every attack pass
    # also updates the running statistics.
    attack_batch_norm: str = 'eval'
    attack_norm: str = 'linf'  # 'linf' (the papers) or 'l2'

    def __post_init__(self):
        one_of('method.attack_batch_norm', self.attack_batch_norm, ATTACK_BATCH_NORM)
        check_norm('method.attack_norm', self.attack_norm)

    def fits(self):
        if self.info.num_classes < 2:
            found = self.info.num_classes or '0, for it has no labels'
            raise ValueError(f'the number of classes of data.name is {found}; allowed: at least 2')

    def evaluators(self):
        return (
            *robust_accuracy(self.logits, self.evaluation),
            Memory(self.summarize),
            Examples(self.describe_example, self.summarize_examples),
        )

    def init_memory(self) -> dict:
        """The method's per-example memory; none by default."""
        return {}

    def init(self, rng, batch) -> State:
        init_rng, run_rng = jax.random.split(rng)
        variables = self.net.init(init_rng, batch['image'], train=False)
        params = variables['params']
        return new_state(
            run_rng,
            {PLAYER: params},
            {PLAYER: variables.get('batch_stats', {})},
            {PLAYER: self.optimizer.init(params)},
            self.init_memory(),
        )

    def apply(self, params, batch_stats, images, *, train: bool):
        """Logits [B, K] and the batch statistics after this pass (unchanged unless `train`)."""
        variables = {'params': params, 'batch_stats': batch_stats}
        if not train:
            return self.net.apply(variables, images, train=False), batch_stats
        logits, new = self.net.apply(variables, images, train=True, mutable=['batch_stats'])
        return logits, new.get('batch_stats', {})

    def logits(self, state: State, images):
        """Logits [B, K] with the running statistics: what evaluation sees."""
        params = masks.apply(state.masks[PLAYER], state.params[PLAYER])
        return self.apply(params, state.batch_stats[PLAYER], images, train=False)[0]

    def attack_logits(self, state: State):
        """(images, batch_stats) -> (logits, batch_stats): the network as a training attack sees it."""
        params = masks.apply(state.masks[PLAYER], state.params[PLAYER])

        def logits_fn(images, batch_stats):
            logits, new = self.apply(params, batch_stats, images, train=self.attack_batch_norm != 'eval')
            return logits, new if self.attack_batch_norm == 'train_update' else batch_stats

        return logits_fn

    def attack(self, state: State, images, targets, eps, **options):
        """attacks.pgd against `attack_logits`; returns (adversarial images, batch statistics after the attack)."""
        stats = state.batch_stats[PLAYER]
        norm = self.attack_norm
        return attacks.pgd(self.attack_logits(state), images, targets, eps, carry=stats, norm=norm, **options)

    def minimize(self, state: State, loss_fn, batch_stats=None):
        """One optimiser step on mean(loss_fn(apply)), the end of every training step.

        Args:
          loss_fn: (apply: images -> logits) -> per-example losses [B]. Passes run in training mode, each continuing from
            the batch statistics that the one before left.
          batch_stats: statistics to start from; default the state's.

        Returns:
          The state at the next step, and {'loss/classifier', 'grad_norm/classifier', 'update_norm/classifier'}.
        """
        start = state.batch_stats[PLAYER] if batch_stats is None else batch_stats

        def total(params):
            params, stats = masks.apply(state.masks[PLAYER], params), start

            def apply(images):
                nonlocal stats
                logits, stats = self.apply(params, stats, images, train=True)
                return logits

            return jnp.mean(loss_fn(apply)), stats

        (loss, stats), gradients = jax.value_and_grad(total, has_aux=True)(state.params[PLAYER])
        state, norms = update_player(state, PLAYER, gradients, self.optimizer, stats)
        return state.replace(step=state.step + 1), {f'loss/{PLAYER}': loss, **norms}

    def embed(self, state: State, images):
        """The penultimate layer's features [B, F] and the logits [B, K], with the running statistics."""
        variables = {'params': state.params[PLAYER], 'batch_stats': state.batch_stats[PLAYER]}
        return penultimate(self.net, variables, images)

    def describe_example(self, state: State, batch, *, rng):
        """The margin in logits and the clean correctness of un-augmented training images, each [B]."""
        logits = self.logits(state, batch['image'])
        return {
            'margin': margin(logits, batch['label']),
            'correct': correct(logits, batch['label']),
            **{name: values[batch['index']] for name, values in state.memory.items()},
        }

    def summarize(self, state: State) -> dict[str, jax.Array]:
        """Numbers about the method's memory for the log; none by default."""
        return {}

    def summarize_examples(self, examples) -> dict[str, float]:
        """Numbers for results.json from `describe_example` over the training split (NumPy [N] each); none by default."""
        return {}
