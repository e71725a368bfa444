"""The common ground of the adversarially trained classifiers: network, update and robust evaluation."""

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gjax import attacks, masks, nets
from gjax.losses import correct, cross_entropy, margin
from gjax.methods.base import DataInfo, State, new_state, update_player

PLAYER = 'classifier'
ATTACK_BATCH_NORM = ('train', 'eval', 'train_update')


def positive(name: str, value, *, zero: bool = True):
    """Raises ValueError with one line unless value > 0 (or >= 0 with `zero`)."""
    if value < 0 or (not zero and value == 0):
        raise ValueError(f'{name} is {value}; allowed: {">= 0" if zero else "> 0"}')


def ramp(step, steps):
    """The share of the full radius at int32 `step` (from 0) of a linear rise over `steps` steps; 1.0 without one."""
    return jnp.minimum(1.0, (step + 1).astype(jnp.float32) / steps) if steps else 1.0


def check_norm(name: str, value) -> None:
    """Raises ValueError with one line unless value is a norm the attacks know."""
    if value not in attacks.NORMS:
        raise ValueError(f'{name} is {value!r}; allowed: {", ".join(attacks.NORMS)}')


def check_radii(name: str, values) -> None:
    """Raises ValueError with one line unless values are ascending radii."""
    if list(values) != sorted(values) or any(eps < 0 for eps in values):
        raise ValueError(f'{name} is {values}; allowed: ascending radii >= 0')


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How robust accuracy is measured; eps and step_size in [0, 1] units.

    norm, eps: ball of the test attack ('linf' or 'l2'). steps, restarts, step_size: of the final PGD. attacks: any of pgd,
    margin_pgd, momentum_iterative; the worst case over all of them counts. quick_steps: PGD steps of evaluations during
    training.
    curve: radii of accuracy against eps (its own PGD of curve_steps, step 2.5 eps / curve_steps, one start).
    """

    norm: str = 'linf'
    eps: float = 8 / 255
    steps: int = 50
    restarts: int = 5
    step_size: float = 2 / 255
    attacks: tuple = ('pgd',)
    quick_steps: int = 10
    curve: tuple = ()
    curve_steps: int = 20

    def __post_init__(self):
        for name in ('eps', 'step_size'):
            positive(f'evaluation.{name}', getattr(self, name))
        for name in ('steps', 'restarts', 'quick_steps', 'curve_steps'):
            positive(f'evaluation.{name}', getattr(self, name), zero=False)
        if not self.attacks:
            raise ValueError('evaluation.attacks is empty; allowed: at least one of pgd, margin_pgd, momentum_iterative')
        check_norm('evaluation.norm', self.norm)
        allowed = ('pgd', 'margin_pgd', 'momentum_iterative') if self.norm == 'linf' else ('pgd', 'margin_pgd')
        for name in self.attacks:
            if name not in allowed:
                raise ValueError(f'evaluation.attacks has {name!r}; allowed for {self.norm}: {", ".join(allowed)}')
        check_radii('evaluation.curve', self.curve)

    def functions(self):
        """The final attacks as functions (logits_fn, images, labels, rng) -> adversarial images."""

        def pgd(logits_fn, images, labels, rng, attack=attacks.pgd):
            return attack(
                logits_fn,
                images,
                labels,
                self.eps,
                rng=rng,
                steps=self.steps,
                step_size=self.step_size,
                norm=self.norm,
                restarts=self.restarts,
            )

        def momentum(logits_fn, images, labels, rng):
            return attacks.momentum_iterative(
                logits_fn, images, labels, self.eps, steps=self.steps, step_size=self.eps / self.steps
            )

        named = {'pgd': pgd, 'margin_pgd': partial(pgd, attack=attacks.margin_pgd), 'momentum_iterative': momentum}
        return [named[name] for name in self.attacks]


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A network with one player and cross-entropy evaluation; subclasses add `step`.

    attack_batch_norm: how BatchNorm behaves while a training attack runs: 'train' uses the batch's statistics and leaves
    the running ones alone; 'eval' uses the frozen running statistics; 'train_update' is the IAAT authors' code, in which
    every attack pass also updates the running statistics. attack_norm: 'linf' (the papers) or 'l2'.
    """

    NETS: ClassVar[dict] = nets.CLASSIFIERS
    EVALUATION: ClassVar[type] = Evaluation

    net: Any
    optimizer: Any
    info: DataInfo
    evaluation: Evaluation
    attack_batch_norm: str = 'eval'
    attack_norm: str = 'linf'

    def __post_init__(self):
        if self.attack_batch_norm not in ATTACK_BATCH_NORM:
            allowed = ', '.join(ATTACK_BATCH_NORM)
            raise ValueError(f'method.attack_batch_norm is {self.attack_batch_norm!r}; allowed: {allowed}')
        if self.info.num_classes < 2:
            raise ValueError(f'the data has {self.info.num_classes} class; allowed: at least 2 to classify')
        check_norm('method.attack_norm', self.attack_norm)

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

    def evaluate(self, state: State, batch, *, rng):
        """Clean and quick-PGD correctness, and the clean loss; each float32 [B]."""
        test, logits_fn = self.evaluation, partial(self.logits, state)
        logits = logits_fn(batch['image'])
        clean = correct(logits, batch['label'])
        adversarial = attacks.pgd(
            logits_fn,
            batch['image'],
            batch['label'],
            test.eps,
            rng=rng,
            steps=test.quick_steps,
            step_size=2.5 * test.eps / test.quick_steps,
            norm=test.norm,
        )
        return {
            'clean_accuracy': clean.astype(jnp.float32),
            'robust_accuracy': (clean & correct(logits_fn(adversarial), batch['label'])).astype(jnp.float32),
            'clean_loss': cross_entropy(logits, batch['label']),
        }

    def final_evaluate(self, state: State, batch, *, rng):
        """Clean and worst-case correctness [B], and correctness [B, E] at the radii of the curve."""
        test, logits_fn = self.evaluation, partial(self.logits, state)
        image, label = batch['image'], batch['label']
        attack_rng, curve_rng = jax.random.split(rng)
        survived = attacks.worst_case(logits_fn, image, label, test.functions(), rng=attack_rng)
        results = {
            'clean_accuracy': correct(logits_fn(image), label).astype(jnp.float32),
            'robust_accuracy': survived.astype(jnp.float32),
        }
        if test.curve:

            def attack(logits_fn, images, labels, eps, rng):
                step = 2.5 * eps / test.curve_steps
                steps, norm = test.curve_steps, test.norm
                return attacks.pgd(logits_fn, images, labels, eps, rng=rng, steps=steps, step_size=step, norm=norm)

            curve = attacks.accuracy_curve(logits_fn, image, label, test.curve, attack, rng=curve_rng)
            results['accuracy_curve'] = curve.astype(jnp.float32)
        return results

    def conclude(self, means: dict) -> dict[str, float]:
        """The curve of `final_evaluate`'s means as numbers, one radius a name."""
        curve = zip(self.evaluation.curve, means.get('accuracy_curve', ()), strict=True)
        at = {f'accuracy_at_{eps:.4f}': value for eps, value in curve}
        return {name: value for name, value in means.items() if name != 'accuracy_curve'} | at

    def describe_example(self, state: State, batch):
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
