"""The common ground of unsupervised domain adaptation: labelled source images, target images without labels, of the source's
classes.

An embedding network F and a classifier C; evaluation is argmax C(F(x)) on either domain.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gjax import nets
from gjax.evaluators import Examples, Memory
from gjax.evaluators.domains import AdaptationEvaluation, Embeddings, Selection, accuracy_by_class
from gjax.losses import correct, cross_entropy
from gjax.methods.core.contract import DataInfo, Role
from gjax.methods.core.players import Players
from gjax.methods.core.state import State, new_state

F, C = 'embedding', 'classifier'


@dataclasses.dataclass(frozen=True)
class Adaptation(Players):
    """The players F and C and their evaluation; subclasses add `step`, and players."""

    NETS: ClassVar[dict] = nets.DOMAIN_NETS
    EVALUATION: ClassVar[type] = AdaptationEvaluation
    classifying: ClassVar[tuple] = (F, C)

    net: Any
    optimizer: Any
    info: DataInfo
    evaluation: AdaptationEvaluation
    # Decay of an exponential moving average of F and C (all that classify), which evaluation then uses; 0 for none.
    ema: float = 0.0

    @classmethod
    def roles(cls, sets):
        """Labelled source images; target images without their labels, which the set need not have."""
        return {'source': Role(sets.sources, fields=('image', 'label')), 'target': Role((sets.target,), fields=('image',))}

    def __post_init__(self):
        self.check_ema()

    def fits(self):
        if self.info.num_classes < 2:
            found = self.info.num_classes or '0, for it has no labels'
            raise ValueError(f'the number of classes of data.name is {found}; allowed: at least 2')

    def modules(self):
        return {F: self.net.embedding(), C: self.net.classifier()}

    def init_memory(self, params, batch_stats) -> dict:
        """What the method remembers beside an average; nothing by default."""
        return {}

    def example(self, player: str, images, embeddings):
        """An input of the player's: images for F, embeddings for all others by default."""
        return images if player == F else embeddings

    def init(self, rng, batch) -> State:
        init_rng, run_rng = jax.random.split(rng)
        images = batch['image']

        def inputs(player, params, stats):
            embeddings = None
            if F in params:
                shape = jax.eval_shape(lambda: self.apply(F, params[F], stats[F], images, train=False)[0])
                embeddings = jnp.zeros(shape.shape)
            return self.example(player, images, embeddings)

        params, stats = self.init_players(init_rng, inputs)
        opt_state = {player: self.optimizer_of(player).init(params[player]) for player in params}
        memory = self.init_memory(params, stats)
        if self.ema:
            memory['ema'] = jax.tree.map(jnp.copy, {player: params[player] for player in self.classifying})
        return new_state(run_rng, params, stats, opt_state, memory)

    def with_weights(self, state: State, arrays) -> State:
        """A new state with F's weights from a file's arrays; ValueError if they are not F's."""
        variables = self.net.pretrained(arrays)
        memory = state.memory | ({'ema': {**state.memory['ema'], F: variables['params']}} if self.ema else {})
        return state.replace(
            params={**state.params, F: variables['params']},
            batch_stats={**state.batch_stats, F: variables.get('batch_stats', {})},
            memory=memory,
        )

    def progress(self, state: State):
        """The share of the training that is done, in [0, 1)."""
        return state.step.astype(jnp.float32) / self.info.num_steps

    def embed(self, params, stats, images):
        """F(images) in training mode, [B, D], and F's batch statistics after this pass."""
        return self.apply(F, params, stats, images, train=True)

    def classify(self, params, embeddings, player: str = C):
        """C(embeddings), logits [B, K]."""
        return self.apply(player, params, {}, embeddings, train=False)[0]

    def after_step(self, state: State) -> State:
        """The state at the next step, its moving average taken."""
        if self.ema:
            average = {player: self.averaged(state, player, old) for player, old in state.memory['ema'].items()}
            state = state.replace(memory={**state.memory, 'ema': average})
        return state.replace(step=state.step + 1)

    def evaluated(self, state: State, player: str):
        """The parameters that evaluation uses."""
        return self.masked(state, player, state.memory['ema'][player] if self.ema and player in self.classifying else None)

    def features(self, state: State, images):
        """F(images), [B, D], as evaluation sees them."""
        return self.apply(F, self.evaluated(state, F), state.batch_stats[F], images, train=False)[0]

    def logits(self, state: State, images):
        """C(F(images)), [B, K], as evaluation sees them."""
        return self.classify(self.evaluated(state, C), self.features(state, images))

    def evaluators(self):
        selections = {
            'selected_by_source': ('validation_source_accuracy', 'source_accuracy'),
            'oracle': ('target_accuracy',),
        }
        return (
            accuracy_by_class(self.logits, self.info.num_classes, self.info.domains),
            Memory(self.summarize),
            Embeddings(self.features, self.logits, self.evaluation),
            Examples(self.describe_example, across=self.summarize_examples),
            Selection('target_accuracy', selections),
        )

    def describe_example(self, state: State, batch, *, rng):
        """Whether a training image is classified rightly, where there are labels, and the prediction's probability, [B]."""
        logits = self.logits(state, batch['image'])
        right = {'correct': correct(logits, batch['label'])} if 'label' in batch else {}
        return {**right, 'confidence': jax.nn.softmax(logits).max(axis=-1)}

    def summarize(self, state: State) -> dict[str, jax.Array]:
        """Numbers about the method's memory for the log; none by default."""
        return {}

    def summarize_examples(self, examples: dict[str, dict]) -> dict[str, float]:
        """The accuracy on the target's training images, whose labels no step saw: what papers report as transductive.

        Nothing of a target without labels.
        """
        found = examples['target'].get('correct')
        return {} if found is None else {'target_train_accuracy': float(found.mean())}


@dataclasses.dataclass(frozen=True)
class Aligned(Adaptation):
    """F, C = argmin CE(C(F(s)), y) + alignment of F(s) and F(t); subclasses say which."""

    def alignment(self, state: State, params, source, target):
        """A scalar from two batches of embeddings [B, D], and metrics."""
        raise NotImplementedError

    def step(self, state, batch):
        source, target = batch['source'], batch['target']

        def loss(params):
            source_embeddings, stats = self.embed(params[F], state.batch_stats[F], source['image'])
            target_embeddings, stats = self.embed(params[F], stats, target['image'])
            logits = self.classify(params[C], source_embeddings)
            classification = jnp.mean(cross_entropy(logits, source['label']))
            distance, metrics = self.alignment(state, params, source_embeddings, target_embeddings)
            metrics = {'source_train_accuracy': jnp.mean(correct(logits, source['label'])), **metrics}
            return classification + distance, ({F: stats}, metrics)

        state, metrics = self.minimize(state, tuple(self.modules()), loss)
        return self.after_step(state), metrics
