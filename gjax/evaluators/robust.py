"""Clean and robust accuracy of classifiers: a quick attack while training, the worst case of several at the end."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gjax import attacks
from gjax.attacks import diagnosis
from gjax.checks import check_eps, check_norm, check_radii, each_of, positive
from gjax.evaluators.base import END, LOG, Findings
from gjax.evaluators.means import Means
from gjax.losses import correct, cross_entropy

DEFAULT = ('pgd', 'margin_pgd', 'multi_targeted')
AUTOATTACK = 'autoattack'
_BOTH = (*DEFAULT, 'apgd_ce', 'apgd_dlr', 'apgd_targeted', 'fab_targeted', 'square', AUTOATTACK)
ATTACKS = {'linf': (*_BOTH, 'momentum_iterative', 'fgsm'), 'l2': (*_BOTH, 'carlini_wagner')}  # by the norm of their ball
APGD_STEPS, FAB_STEPS, QUERIES = 100, 100, 5000  # as in the standard version of AutoAttack
SEARCHES = 6  # of Carlini-Wagner's constant


@dataclasses.dataclass(frozen=True)
class RobustEvaluation:
    """How robust accuracy is measured; radii and step sizes in [0, 1] units."""

    norm: str = 'linf'  # ball of the test attacks: 'linf' or 'l2'
    eps: float = 8 / 255
    steps: int = 50  # of the final pgd, margin_pgd, momentum_iterative, and of each search of carlini_wagner
    restarts: int = 5  # random starts of the final pgd and margin_pgd, of which the worst counts
    step_size: float = 2 / 255  # of the final pgd and margin_pgd
    attacks: tuple = DEFAULT  # of ATTACKS; the worst case over all counts. 'autoattack' comes last, on what then stands
    targets: int = 9  # classes that multi_targeted tries, at most
    target_steps: int = 30  # of multi_targeted, for each class
    quick_steps: int = 10  # PGD steps of evaluations during training
    curve: tuple = ()  # radii of accuracy against eps
    curve_steps: int = 20  # of that curve's own PGD: one start, steps of 2.5 eps / curve_steps
    warnings: bool = True  # whether signs that the attacks overstate robustness are looked for on one batch at the end

    def __post_init__(self):
        positive('evaluation.step_size', self.step_size)
        for name in ('steps', 'restarts', 'targets', 'target_steps', 'quick_steps', 'curve_steps'):
            positive(f'evaluation.{name}', getattr(self, name), zero=False)
        check_norm('evaluation.norm', self.norm)
        check_eps('evaluation.eps', self.eps, self.norm)
        allowed = ATTACKS[self.norm]
        if not self.attacks:
            raise ValueError(f'evaluation.attacks is empty; allowed: at least one of {", ".join(allowed)}')
        each_of('evaluation.attacks', self.attacks, allowed)
        if len(set(self.attacks)) < len(self.attacks):
            raise ValueError(f'evaluation.attacks is {self.attacks}; allowed: each name once')
        check_radii('evaluation.curve', self.curve, self.norm, digits=4)  # as the metrics' names have

    def functions(self) -> dict[str, Callable]:
        """The final attacks by name, as functions (logits_fn, images, labels, rng) -> adversarial images; all but
        AutoAttack, which is no single function.
        """
        pgd = {'steps': self.steps, 'step_size': self.step_size, 'norm': self.norm, 'restarts': self.restarts}
        multi_targeted = {'steps': self.target_steps, 'targets': self.targets, 'norm': self.norm}
        apgd = {'steps': APGD_STEPS, 'norm': self.norm}
        options = {
            'pgd': pgd,
            'margin_pgd': pgd,
            'multi_targeted': multi_targeted,
            'apgd_ce': apgd,
            'apgd_dlr': apgd,
            'apgd_targeted': apgd,
            'fab_targeted': {'steps': FAB_STEPS, 'norm': self.norm},
            'square': {'queries': QUERIES, 'norm': self.norm},
        }

        def by_name(name):
            attack = getattr(attacks, name)
            return lambda logits_fn, images, labels, rng: attack(
                logits_fn, images, labels, self.eps, rng=rng, **options[name]
            )

        def momentum(logits_fn, images, labels, rng):
            return attacks.momentum_iterative(
                logits_fn, images, labels, self.eps, steps=self.steps, step_size=self.eps / self.steps
            )

        def fgsm(logits_fn, images, labels, rng):
            return attacks.fgsm(logits_fn, images, labels, self.eps)

        def carlini_wagner(logits_fn, images, labels, rng):
            """The nearest adversarial image where it is within eps; else the image itself."""
            found = attacks.carlini_wagner_l2(logits_fn, images, labels, steps=self.steps, search_steps=SEARCHES)
            near = jnp.sum((found - images) ** 2, axis=tuple(range(1, images.ndim)), keepdims=True) <= self.eps**2
            return jnp.where(near, found, images)

        others = {'momentum_iterative': momentum, 'fgsm': fgsm, 'carlini_wagner': carlini_wagner}
        return {name: others.get(name) or by_name(name) for name in self.attacks if name != AUTOATTACK}

    def _settings(self, name: str) -> str:
        """What an attack is set to, in words."""
        pgd, starts = f'{self.steps} steps of {self.step_size:.4g}, {self.restarts} starts', 'from one start'
        return {
            'pgd': pgd,
            'margin_pgd': pgd,
            'multi_targeted': f'{self.target_steps} steps for each of {self.targets} classes',
            'momentum_iterative': f'{self.steps} steps of {self.eps / self.steps:.4g}',
            'fgsm': 'one step',
            'carlini_wagner': f'{SEARCHES} searches of {self.steps} steps',
            'apgd_ce': f'{APGD_STEPS} steps {starts}',
            'apgd_dlr': f'{APGD_STEPS} steps {starts}',
            'apgd_targeted': f'{APGD_STEPS} steps for each of 9 classes',
            'fab_targeted': f'{FAB_STEPS} steps for each of 9 classes',
            'square': f'{QUERIES} queries',
            AUTOATTACK: 'standard version',
        }[name]

    def _radius(self) -> str:
        return f'{self.norm} ' + (f'{255 * self.eps:.4g}/255' if self.norm == 'linf' else f'{self.eps:.4g}')

    def protocol(self) -> str:
        """How the final accuracy is measured, in words: every attack with its settings."""
        groups: dict[str, list[str]] = {}
        for name in self.attacks:
            groups.setdefault(self._settings(name), []).append(name.replace('_', ' '))
        attacks_used = ', '.join(f'{" and ".join(names)}: {settings}' for settings, names in groups.items())
        curve = f', curve of {self.curve_steps} steps' if self.curve else ''
        return f'worst case of {attacks_used}, {self._radius()}{curve}'

    def protocol_of(self, name: str) -> str:
        """How the accuracy under one of the attacks is measured."""
        return f'{name.replace("_", " ")}: {self._settings(name)}, {self._radius()}'


def _short_pgd(test: RobustEvaluation, logits_fn, images, labels, eps, rng, *, steps: int):
    """PGD from one random start whose steps add up to 2.5 eps."""
    step_size = 2.5 * eps / steps
    return attacks.pgd(logits_fn, images, labels, eps, rng=rng, steps=steps, step_size=step_size, norm=test.norm)


def quick_accuracy(logits_fn: Callable, batch, test: RobustEvaluation, *, rng) -> dict[str, jax.Array]:
    """Clean and quick-PGD correctness, and the clean loss; each float32 [B].

    Args:
      logits_fn: images [B, H, W, C] -> logits [B, K].
      batch: with 'image' and 'label'.
      test: norm, eps and quick_steps count.
      rng: a key, of the random start.
    """
    image, label = batch['image'], batch['label']
    logits = logits_fn(image)
    clean = correct(logits, label)
    adversarial = _short_pgd(test, logits_fn, image, label, test.eps, rng, steps=test.quick_steps)
    return {
        'clean_accuracy': clean.astype(jnp.float32),
        'robust_accuracy': (clean & correct(logits_fn(adversarial), label)).astype(jnp.float32),
        'clean_loss': cross_entropy(logits, label),
    }


def final_accuracy(logits_fn: Callable, batch, test: RobustEvaluation, *, rng) -> dict[str, jax.Array]:
    """Clean and worst-case correctness, and what is behind it; arguments as above.

    Returns:
      'clean_accuracy', 'robust_accuracy' [B]; of several attacks 'robust_accuracy_NAME' [B], under each alone; of every
      attack 'disallowed_NAME' [B], whether its image left the ball, the range or the finite numbers; 'accuracy_curve'
      [B, E], correctness at the radii of the curve. All float32.
    """
    image, label = batch['image'], batch['label']
    attack_rng, curve_rng = jax.random.split(rng)
    functions = test.functions()
    audited = {'eps': test.eps, 'norm': test.norm}
    found = attacks.outcomes(logits_fn, image, label, tuple(functions.values()), rng=attack_rng, **audited)
    results = {'clean_accuracy': found.clean, 'robust_accuracy': found.clean & jnp.all(found.right, axis=1)}
    for i, name in enumerate(functions):
        results[f'disallowed_{name}'] = ~found.allowed[:, i]
        if len(test.attacks) > 1:
            results[f'robust_accuracy_{name}'] = found.right[:, i]
    if test.curve:
        attack = partial(_short_pgd, test, steps=test.curve_steps)
        results['accuracy_curve'] = attacks.accuracy_curve(logits_fn, image, label, test.curve, attack, rng=curve_rng)
    return {name: values.astype(jnp.float32) for name, values in results.items()}


def concluded(test: RobustEvaluation, means: dict) -> dict[str, float]:
    """The means of `final_accuracy` as metrics, with the curve as numbers, one radius a name: 'accuracy_at_0.0314'.

    Raises:
      ValueError: an attack returned an image that it may not.
    """
    for name in test.functions():
        if share := means.get(f'disallowed_{name}', 0):
            raise ValueError(
                f'the attack {name} of evaluation.attacks returned images outside {test.norm} {test.eps:.4g}, outside 0..1 '
                f'or not finite for {share:.2%} of the test split: its numbers say nothing'
            )
    found = {name: value for name, value in means.items() if name != 'accuracy_curve' and 'disallowed_' not in name}
    curve = zip(test.curve, means.get('accuracy_curve', ()), strict=True)
    return found | {f'accuracy_at_{eps:.4f}': value for eps, value in curve}


def _as_they_are(state, batch, *, rng):
    """The images and labels of a batch."""
    return {'image': batch['image'], 'label': batch['label']}


class FinalAccuracy(Means):
    """Clean and robust accuracy of the test splits by the final protocol, and warnings about it.

    'robust_accuracy' is the worst case over all attacks; of several attacks 'robust_accuracy_NAME' is that under one alone,
    so that what a single attack overstates is seen. AutoAttack has none, for it sees the images alone that the others leave
    standing. The warnings are `gjax.attacks.diagnosis`'s, of the first batch of the first set.
    """

    def __init__(self, logits: Callable, test: RobustEvaluation):
        """
        Args:
          logits: (state, images [B, H, W, C]) -> [B, K], as evaluation sees them.
          test: the options.
        """

        def final(state, batch, *, rng):
            return final_accuracy(partial(logits, state), batch, test, rng=rng)

        super().__init__(
            final,
            when=END,
            conclude=partial(concluded, test),
            splits=('test',),
            needs=('label',),
            protocol=test.protocol(),
            concerns=('robust_accuracy', 'accuracy_at_'),
        )
        self.logits, self.test = logits, test

    def protocol_of(self, metric):
        for name in self.test.attacks:
            if metric.endswith(f'robust_accuracy_{name}'):
                return self.test.protocol_of(name)
        return super().protocol_of(metric)

    def __call__(self, state, look):
        names = [name for name in look.sets if look.count(name, 'test') and look.has(name, *self.needs)]
        if AUTOATTACK in self.test.attacks:
            metrics = self._with_autoattack(names, look)
        else:
            metrics = super().__call__(state, look).metrics
        if not self.test.warnings or not names:
            return Findings(metrics)
        found = [*self._diagnosed(names[0], look), *self._compared(names[0], metrics, look)]
        return Findings(metrics, warnings=tuple(look.prefixed(f'the set {names[0]}: ', '') + text for text in found))

    def _with_autoattack(self, names, look) -> dict[str, float]:
        """The metrics where AutoAttack follows the other attacks: it attacks what these left standing in all sets at once.

        Every process runs the same attacks on the same images, each of its devices on its share of a batch.
        """
        values = {name: look.rows(self.function, name, 'test') for name in names}
        standing = {name: np.flatnonzero(own['robust_accuracy']) for name, own in values.items()}
        parts = [
            look.rows(_as_they_are, name, 'test', rows=rows, keep=False) for name, rows in standing.items() if len(rows)
        ]
        robust = self._driven(parts, look) if parts else np.zeros(0, bool)
        metrics, start = {}, 0
        for name, own in values.items():
            means = {key: np.mean(each, axis=0, dtype=np.float64).tolist() for key, each in own.items()}
            left = robust[start : start + len(standing[name])].sum()
            start += len(standing[name])
            found = self.conclude(means) | {'robust_accuracy': float(left) / look.count(name, 'test')}
            metrics |= {look.prefixed(name, key): value for key, value in found.items()}
        return metrics

    def _driven(self, parts, look) -> np.ndarray:
        """Which of the images in `parts` AutoAttack leaves standing, bool [N]."""
        held = {}

        def logits_fn(images):
            return self.logits(held['state'], images)

        def by_look(function):
            def with_state(state, *arrays):
                held['state'] = state  # an argument of the program: weights closed over would be constants in it
                return function(*arrays)

            return look.program(with_state)

        found = attacks.autoattack(
            logits_fn,
            *(np.concatenate([part[key] for part in parts]) for key in ('image', 'label')),
            self.test.eps,
            rng=jax.random.key(look.seed),
            norm=self.test.norm,
            batch_sizes=look.batch_sizes(),
            compile=by_look,
        )
        return found.robust

    def _diagnosed(self, name: str, look) -> list[str]:
        """The warnings of one batch: three calls of one small program."""
        half = diagnosis.half_range(look.info.image_shape, norm=self.test.norm)
        found = [look.first(self._evidence, name, 'test', np.float32(eps)) for eps in (self.test.eps, 0, half)]
        labels = found[0]['label']
        found = [diagnosis.Evidence(**{key: each[key] for key in diagnosis.Evidence._fields}) for each in found]
        diagnosis.refuse_disallowed(*found)
        forms = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), look.state)
        image = jax.ShapeDtypeStruct((1, *look.info.image_shape), jnp.float32)
        return [
            *diagnosis.output_warnings(found[0].logits, found[1].logits),
            *diagnosis.attack_warnings(*found, labels, self.test.eps, half),
            *diagnosis.loop_warnings(diagnosis.loops(self.logits, forms, image)),
        ]

    def _evidence(self, state, batch, eps, *, rng):
        logits_fn, label = partial(self.logits, state), batch['label']
        found = diagnosis.evidence(logits_fn, batch['image'], label, eps, rng=rng, norm=self.test.norm)
        return found._asdict() | {'label': label}

    def _compared(self, name: str, metrics: dict, look) -> list[str]:
        """A warning if Square, which sees no gradient, fools more than every attack that does."""
        own = {attack: metrics.get(look.prefixed(name, f'robust_accuracy_{attack}')) for attack in self.test.attacks}
        black, white = own.pop('square', None), [value for value in own.values() if value is not None]
        if black is None or not white or black >= min(white):
            return []
        return [
            f'the black box Square leaves an accuracy of {black:.4f}, the strongest gradient attack alone {min(white):.4f}: '
            'gradients do not lead to adversarial images'
        ]


def robust_accuracy(logits: Callable, test: RobustEvaluation) -> tuple[Means, Means]:
    """The evaluators of a classifier's accuracy: cheap ones while training, the final protocol at the end.

    Args:
      logits: (state, images [B, H, W, C]) -> [B, K], as evaluation sees them.
      test: the options.
    """

    def quick(state, batch, *, rng):
        return quick_accuracy(partial(logits, state), batch, test, rng=rng)

    return Means(quick, when=LOG, needs=('label',)), FinalAccuracy(logits, test)
