"""The common ground of methods that prune an autoencoder, a VAE or a GAN: the model's own method, under masks."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp

from gjax import masks, nets
from gjax.methods.autoencoder import Autoencoder
from gjax.methods.base import DataInfo, State, restart_optimizer
from gjax.methods.gan import GAN
from gjax.methods.generative import GenerativeEvaluation

MODELS = ('ae', 'vae', 'gan')
_OPTIONS = {
    Autoencoder: ('beta', 'reconstruction'),
    GAN: ('loss', 'critic_steps', 'penalty', 'clip'),
}


def check_items(name: str, values, allowed) -> None:
    """ValueError unless every one of `values` is allowed."""
    for value in values:
        if value not in allowed:
            raise ValueError(f'method.{name} has {value!r}; allowed: {", ".join(allowed)}')


@dataclasses.dataclass(frozen=True)
class Tickets:
    """The model's own options (see `Autoencoder` and `GAN`), and everything but training, which is the model's."""

    NETS: ClassVar[dict] = nets.FAMILIES
    EVALUATION: ClassVar[type] = GenerativeEvaluation

    net: Any
    optimizer: Any
    info: DataInfo
    evaluation: GenerativeEvaluation
    model: str = 'vae'
    ema: float = 0.0
    beta: float = 1.0
    reconstruction: str = 'bernoulli'
    loss: str = 'non_saturating'
    critic_steps: int = 1
    penalty: float = 0.0
    clip: float = 0.0

    def __post_init__(self):
        self.check_choices(model=MODELS)

    def check_choices(self, **choices) -> None:
        """ValueError unless every option has one of its values."""
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f'method.{name} is {getattr(self, name)!r}; allowed: {", ".join(allowed)}')

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
        score, scores = {'snip': masks.snip, 'grasp': masks.grasp}[criterion], {}
        for players, loss in self.trainer.sensitivity_losses(state, batch, rng=rng):
            scores |= score(loss, {player: state.params[player] for player in players})
        return scores

    def abilities(self):
        return self.trainer.abilities()

    def generate(self, state, count, *, rng):
        return self.trainer.generate(state, count, rng=rng)

    def encode(self, state, images):
        return self.trainer.encode(state, images)

    def reconstruct(self, state, images):
        return self.trainer.reconstruct(state, images)

    def evaluate(self, state, batch, *, rng):
        return self.trainer.evaluate(state, batch, rng=rng)

    def final_evaluate(self, state, batch, *, rng):
        return self.trainer.final_evaluate(state, batch, rng=rng)

    def describe_example(self, state, batch):
        return self.trainer.describe_example(state, batch)

    def summarize(self, state):
        return self.trainer.summarize(state)

    def summarize_examples(self, examples):
        return self.trainer.summarize_examples(examples)
