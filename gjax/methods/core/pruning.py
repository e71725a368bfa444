"""The common ground of methods that prune an autoencoder, a VAE or a GAN: the model's own method, under masks."""

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gjax import masks, nets
from gjax.checks import one_of
from gjax.evaluators import Cost, Examples, Means, Memory
from gjax.evaluators.samples import GenerativeEvaluation, Samples
from gjax.methods.baselines.autoencoder import Autoencoder
from gjax.methods.baselines.gan import GAN
from gjax.methods.core.contract import DataInfo, Method
from gjax.methods.core.optimisers import restart_optimizer
from gjax.methods.core.state import State

MODELS = ('ae', 'vae', 'gan')
PLAYERS = {'ae': ('encoder', 'decoder'), 'vae': ('encoder', 'decoder'), 'gan': ('generator', 'discriminator')}
_OPTIONS = {
    Autoencoder: ('beta', 'reconstruction'),
    GAN: ('loss', 'critic_steps', 'penalty', 'clip'),
}


@dataclasses.dataclass(frozen=True)
class PrunedModel(Method):
    """The model's own options (see `Autoencoder` and `GAN`), and everything but training, which is the model's."""

    NETS: ClassVar[dict] = nets.FAMILIES
    EVALUATION: ClassVar[type] = GenerativeEvaluation

    net: Any
    optimizer: Any
    info: DataInfo
    evaluation: GenerativeEvaluation
    model: str = 'vae'  # 'ae', 'vae' or 'gan'
    ema: float = 0.0
    beta: float = 1.0
    reconstruction: str = 'bernoulli'
    loss: str = 'non_saturating'
    critic_steps: int = 1
    penalty: float = 0.0
    clip: float = 0.0
    grasp_weights_only: bool = True  # whether GraSP leaves out biases and scales, as its authors' code does
    grasp_halves: bool = False  # whether GraSP takes its batch in halves with batch statistics of their own, as that does

    @classmethod
    def older(cls, config):
        controls = config['method'].get('controls')
        asked = isinstance(controls, tuple) and 'grasp' in controls  # other runs never take these scores
        return super().older(config) | ({'method.grasp_weights_only': False} if asked else {})

    def __post_init__(self):
        one_of('method.model', self.model, MODELS)
        self.trainer  # noqa: B018  checks the model's own options

    def fits(self):
        self.trainer.fits()

    def method_of(self, model: str, optimizer=None):
        """The method that trains 'ae', 'vae' or 'gan'."""
        cls = GAN if model == 'gan' else Autoencoder
        options = {name: getattr(self, name) for name in _OPTIONS[cls]}
        if cls is Autoencoder:
            options['variational'] = model == 'vae'
        optimizer = optimizer or self.optimizer
        return cls(self.net, optimizer, self.info, self.evaluation, ema=self.ema, **options)

    @property
    def trainer(self):
        """The method that trains this run."""
        return self.method_of(self.model)

    def start(self, state: State, ticket, weights: State, step: int) -> State:
        """`state` with the masks `ticket` on the parameters of `weights`, at `step`, its optimisers fresh."""
        trainer = self.trainer
        params = {p: masks.apply(ticket[p], weights.params[p]) for p in state.params}
        optimizers = {p: restart_optimizer(trainer.optimizer, params[p], trainer.updates(p, step)) for p in params}
        memory = state.memory | ({'ema': params[trainer.DECODER]} if self.ema else {})
        return state.replace(
            step=jnp.asarray(step, jnp.int32), params=params, opt_state=optimizers, masks=ticket, memory=memory
        )

    def sensitivity(self, criterion: str, state: State, batch, *, rng) -> dict:
        """The scores {player: tree} of 'snip' or 'grasp' on one batch."""
        if criterion == 'grasp':
            score = partial(masks.grasp, weights_only=self.grasp_weights_only)
            if self.grasp_halves:
                return self._halved(score, state, batch, rng)
        else:
            score = masks.snip
        scores = {}
        for players, loss in self.trainer.sensitivity_losses(state, batch, rng=rng):
            scores |= score(loss, {player: state.params[player] for player in players})
        return scores

    def _halved(self, score, state: State, batch, rng) -> dict:
        """The scores by the losses of a batch's two halves, each with randomness of its own."""
        middle = len(batch['image']) // 2
        halves = [jax.tree.map(lambda x: x[:middle], batch), jax.tree.map(lambda x: x[middle:], batch)]
        keys, scores = jax.random.split(rng), {}
        losses = [self.trainer.sensitivity_losses(state, half, rng=key) for half, key in zip(halves, keys, strict=True)]
        for pairs in zip(*losses, strict=True):  # the same players in both
            players = pairs[0][0]
            scores |= score([loss for _, loss in pairs], {player: state.params[player] for player in players})
        return scores

    def evaluators(self):
        trainer = self.trainer
        return (
            Means(trainer.evaluate),
            Memory(self.summarize),
            Examples(trainer.describe_example),
            Samples(self.evaluation, **trainer.able()),
            Cost(),
        )

    def generate(self, state: State, count: int, *, rng):
        """`count` images of the model's prior; see `Generative.generate`."""
        return self.trainer.generate(state, count, rng=rng)

    def summarize(self, state: State) -> dict:
        """See `Generative.summarize`."""
        return self.trainer.summarize(state)
