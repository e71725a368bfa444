"""The common ground of unsupervised domain adaptation: labelled source images, target images without labels, of the source's
classes.

An embedding network F and a classifier C; evaluation is argmax C(F(x)) on either domain. In a step the batch of each domain
passes alone through a network, so that batch normalisation never mixes two domains.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gjax import nets
from gjax.checks import one_of
from gjax.evaluators import Examples, Memory
from gjax.evaluators.domains import AdaptationEvaluation, Embeddings, Selection, accuracy_by_class
from gjax.losses import correct, cross_entropy
from gjax.methods.core.contract import DataInfo, Role
from gjax.methods.core.players import Players
from gjax.methods.core.state import State, new_state

F, C = 'embedding', 'classifier'
SOURCE, TARGET = 'source', 'target'
STATISTICS = ('shared', 'own')


class Passes:
    """Applies players in training mode: an object is called once for every batch that passes through a player in a step.

    The running statistics that one call leaves are those from which the next one goes on. Every call has dropout of its own.

    batch_stats: the batch statistics by player, after the calls so far.
    """

    def __init__(self, method, params, batch_stats, rng):
        self.method, self.params, self.batch_stats, self.rng, self.count = method, params, dict(batch_stats), rng, 0

    def __call__(self, player: str, inputs, domain: str = SOURCE):
        """A player's outputs of a batch of one domain."""
        method, own = self.method, self.batch_stats[player]
        before = method.running(self.batch_stats, player, domain)
        rng = jax.random.fold_in(self.rng, self.count)
        outputs, after = method.apply(player, self.params[player], before, inputs, train=True, rng=rng)
        self.batch_stats[player] = {**own, domain: after} if method.statistics == 'own' else after
        self.count += 1
        return outputs


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
    # Which running statistics of batch normalisation evaluation uses: 'shared' are one average through which the batches of
    # both domains pass in turn, as in most released code; with 'own' the source has its own, all other sets the target's.
    statistics: str = 'shared'

    @classmethod
    def roles(cls, sets):
        """Labelled source images; target images without their labels, which the set need not have."""
        return {'source': Role(sets.sources, fields=('image', 'label')), 'target': Role((sets.target,), fields=('image',))}

    def __post_init__(self):
        self.check_ema()
        one_of('method.statistics', self.statistics, STATISTICS)

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
        if self.statistics == 'own':
            stats = {player: self.copied(own) for player, own in stats.items()}
        memory = self.init_memory(params, stats)
        if self.ema:
            memory['ema'] = jax.tree.map(jnp.copy, {player: params[player] for player in self.classifying})
        return new_state(run_rng, params, stats, opt_state, memory)

    def with_weights(self, state: State, arrays) -> State:
        """A new state with F's weights from a file's arrays; ValueError if they are not F's."""
        variables = self.net.pretrained(arrays)
        stats = variables.get('batch_stats', {})
        memory = state.memory | ({'ema': {**state.memory['ema'], F: variables['params']}} if self.ema else {})
        return state.replace(
            params={**state.params, F: variables['params']},
            batch_stats={**state.batch_stats, F: self.copied(stats) if self.statistics == 'own' else stats},
            memory=memory,
        )

    def progress(self, state: State):
        """The share of the training that is done, in [0, 1)."""
        return state.step.astype(jnp.float32) / self.info.num_steps

    def copied(self, stats) -> dict:
        """The same batch statistics for either domain."""
        return {domain: jax.tree.map(jnp.copy, stats) for domain in (SOURCE, TARGET)}

    def passes(self, state: State, params=None, *, turn: int = 0) -> Passes:
        """Passes through the players as they are in a state.

        Args:
          params: {player: parameters} that stand for the state's, under their masks.
          turn: a number that differs between the calls within a step, so that each of them has dropout of its own.
        """
        own = {player: self.masked(state, player) for player in state.params} | (params or {})
        return Passes(self, own, state.batch_stats, jax.random.fold_in(state.step_rng(), turn))

    def minimize(self, state: State, players, loss, *, turn: int = 0):
        """One optimiser step of these players together.

        Args:
          loss: (passes: `Passes`) -> (scalar, metrics).
          turn: as of `passes`.

        Returns:
          The new state (same `step`, batch statistics after the passes), and the metrics with 'loss/PLAYER' (that scalar,
          unless the metrics have another), 'grad_norm/PLAYER' and 'update_norm/PLAYER'.
        """

        def total(own):
            run = self.passes(state, own, turn=turn)
            value, metrics = loss(run)
            return value, (run.batch_stats, metrics)

        return super().minimize(state, players, total)

    def after_step(self, state: State) -> State:
        """The state at the next step, its moving average taken."""
        if self.ema:
            average = {player: self.averaged(state, player, old) for player, old in state.memory['ema'].items()}
            state = state.replace(memory={**state.memory, 'ema': average})
        return state.replace(step=state.step + 1)

    def evaluated(self, state: State, player: str):
        """The parameters that evaluation uses."""
        return self.masked(state, player, state.memory['ema'][player] if self.ema and player in self.classifying else None)

    def running(self, batch_stats, player: str, domain: str):
        """A player's running statistics that belong to a domain, out of the batch statistics of all players."""
        own = batch_stats[player]
        return own[domain] if self.statistics == 'own' else own

    def see(self, state: State, player: str, inputs, domain: str):
        """A player's outputs as evaluation sees them."""
        stats = self.running(state.batch_stats, player, domain)
        return self.apply(player, self.evaluated(state, player), stats, inputs, train=False)[0]

    def features(self, state: State, images, domain: str = TARGET):
        """F(images), [B, D], as evaluation sees them."""
        return self.see(state, F, images, domain)

    def logits(self, state: State, images, domain: str = TARGET):
        """C(F(images)), [B, K], as evaluation sees them."""
        return self.see(state, C, self.features(state, images, domain), domain)

    def features_of(self, state: State, batch):
        """`features` of a batch of any set."""
        return self.features(state, batch['image'], domain_of(batch))

    def logits_of(self, state: State, batch):
        """`logits` of a batch of any set."""
        return self.logits(state, batch['image'], domain_of(batch))

    def evaluators(self):
        selections = {
            'selected_by_source': ('validation_source_accuracy', 'source_accuracy'),
            'oracle': ('target_accuracy',),
        }
        return (
            accuracy_by_class(self.logits_of, self.info.num_classes, self.info.domains),
            Memory(self.summarize),
            Embeddings(self.features_of, self.logits_of, self.evaluation),
            Examples(self.describe_example, across=self.summarize_examples),
            Selection('target_accuracy', selections),
        )

    def describe_example(self, state: State, batch, *, rng):
        """Whether a training image is classified rightly, where there are labels, and the prediction's probability, [B]."""
        logits = self.logits_of(state, batch)
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


def domain_of(batch) -> str:
    """Which domain's statistics evaluation of a batch uses: sources carry their number, other sets have none."""
    return SOURCE if 'domain' in batch else TARGET


@dataclasses.dataclass(frozen=True)
class Aligned(Adaptation):
    """F, C = argmin CE(C(F(s)), y) + alignment of F(s) and F(t); subclasses say which."""

    def alignment(self, state: State, run: Passes, source, target):
        """A scalar from two batches of embeddings [B, D], and metrics."""
        raise NotImplementedError

    def step(self, state, batch):
        source, target = batch['source'], batch['target']

        def loss(run):
            source_embeddings, target_embeddings = run(F, source['image']), run(F, target['image'], TARGET)
            logits = run(C, source_embeddings)
            classification = jnp.mean(cross_entropy(logits, source['label']))
            distance, metrics = self.alignment(state, run, source_embeddings, target_embeddings)
            metrics = {'source_train_accuracy': jnp.mean(correct(logits, source['label'])), **metrics}
            return classification + distance, metrics

        state, metrics = self.minimize(state, tuple(self.modules()), loss)
        return self.after_step(state), metrics
