"""Generate To Adapt (Sankaranarayanan et al. 2018, arXiv:1704.01705): a GAN that rebuilds source images from embeddings of
either domain pulls target embeddings to where source embeddings of their class are.

G takes g = [l, f, z]: label l in R^(K+1), embedding f = F(x), noise z. The label of source is that of y, of target the last.
D gives p, 'a real source image', and class probabilities q. One step, for batches s, y and t:

  f_s, f_t = F(s), F(t);  x_s, x_t = G([y, f_s, z]), G([K, f_t, z'])              once, with F and G as they are
  D descends  BCE(p(s), 1) + CE(q(s), y) + BCE(p(x_s), 0) + BCE(p(x_t), 0)
  G descends  CE(q(x_s), y) + BCE(p(x_s), 1)                                      with the new D
  C descends  CE(C(f_s), y)
  F descends  CE(C(f_s), y) + a CE(q(x_s), y) + b BCE(p(x_t), 1)                  with the new D, and G and C from before
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from gjax import masks, nets
from gjax.checks import one_of, positive
from gjax.evaluators.domains import Snapshots
from gjax.losses import binary_cross_entropy, correct, cross_entropy
from gjax.methods.core.adaptation import TARGET, Adaptation, C, F, domain_of
from gjax.methods.core.optimisers import build_optimizer
from gjax.methods.core.state import update_player

G, D = 'generator', 'discriminator'
GAN_LOSSES = ('non_saturating', 'saturating')


@dataclasses.dataclass(frozen=True)
class GenerateToAdapt(Adaptation):
    """The four-player game of the module's docstring; defaults are the released code's."""

    NETS: ClassVar[dict] = nets.GTA_NETS
    GIVEN: ClassVar[tuple] = ('constant_optimizer',)

    constant_optimizer: Any = None  # the config's, without its schedule
    class_weight: float = 0.1  # a
    domain_weight: float = 0.03  # b; the released code couples both weights, as 0.1 and 0.1 * 0.3
    # G's and F's terms of p: 'non_saturating' is -log p (the released code), 'saturating' log(1 - p) (the paper).
    gan_loss: str = 'non_saturating'
    generator_schedule: bool = False  # whether G's learning rate follows the schedule; in the released code it is constant
    label_condition: bool = True  # whether G sees l; without it the slots are zero (an ablation)
    class_heads: bool = True  # whether q's terms count; without them D only tells real from generated (an ablation)

    @classmethod
    def older(cls, config):
        return {'net.final_bias': True}

    @classmethod
    def optimizers(cls, spec, info):
        constant = build_optimizer({**spec, 'schedule': 'constant', 'warmup_epochs': 0.0}, info)
        return super().optimizers(spec, info) | {'constant_optimizer': constant}

    def __post_init__(self):
        super().__post_init__()
        positive('method.class_weight', self.class_weight)
        positive('method.domain_weight', self.domain_weight)
        one_of('method.gan_loss', self.gan_loss, GAN_LOSSES)

    def fits(self):
        super().fits()
        self.net.side  # noqa: B018  refuses sizes that G cannot make

    def evaluators(self):
        return (*super().evaluators(), Snapshots(self.pictures))

    def modules(self):
        return {**super().modules(), G: self.net.generator(), D: self.net.discriminator()}

    def optimizer_of(self, player):
        return self.optimizer if player != G or self.generator_schedule else self.constant_optimizer

    def example(self, player, images, embeddings):
        if player == G:
            return self.conditions(embeddings, None, jnp.zeros((len(embeddings), self.net.noise)))
        return self.reals(images) if player == D else super().example(player, images, embeddings)

    def reals(self, images):
        """What D sees of source images: G's range and size."""
        side = self.net.side
        if images.shape[1] != side:
            images = jax.image.resize(images, (len(images), side, side, images.shape[3]), 'linear')
        return 2 * images - 1

    def conditions(self, embeddings, labels, noise):
        """G's inputs [B, (K + 1) + D + Z]; labels int32 [B], or None of target images."""
        classes = self.info.num_classes
        slots = jnp.full(len(embeddings), classes) if labels is None else labels
        one_hot = jax.nn.one_hot(slots, classes + 1) * float(self.label_condition)
        if self.net.normalise:
            embeddings = embeddings * lax.rsqrt(jnp.sum(embeddings**2, axis=1, keepdims=True) + 1e-6)
        return jnp.concatenate([one_hot, embeddings, noise], axis=1)

    def fooling(self, logits):
        """The loss [B] of G or F where D gives these logits of p."""
        if self.gan_loss == 'saturating':
            return -binary_cross_entropy(logits, False)
        return binary_cross_entropy(logits, True)

    def discriminator_loss(self, run, real, labels, source_fake, target_fake):
        """L_D, and D's decisions: each batch passes alone."""
        p_real, q_real = run(D, real)
        p_source, q_source = run(D, source_fake)
        p_target, _ = run(D, target_fake, TARGET)
        loss = (
            binary_cross_entropy(p_real, True)
            + float(self.class_heads) * cross_entropy(q_real, labels)
            + binary_cross_entropy(p_source, False)
            + binary_cross_entropy(p_target, False)
        )
        decisions = {
            'real_accuracy': jnp.mean(p_real > 0),
            'source_fake_accuracy': jnp.mean(p_source < 0),
            'target_fake_accuracy': jnp.mean(p_target < 0),
            'real_class_accuracy': jnp.mean(correct(q_real, labels)),
            'source_fake_class_accuracy': jnp.mean(correct(q_source, labels)),
        }
        return jnp.mean(loss), decisions

    def step(self, state, batch):
        (s, y), t = (batch['source'][key] for key in ('image', 'label')), batch['target']['image']
        noises = [jax.random.normal(key, (len(s), self.net.noise)) for key in jax.random.split(state.step_rng())]
        params = {player: self.masked(state, player) for player in self.modules()}
        old = state

        def rebuild_source(f_params, g_params):
            run = self.passes(old, {F: f_params, G: g_params})
            f_s = run(F, s)
            x_s = run(G, self.conditions(f_s, y, noises[0]))
            return (f_s, x_s), run.batch_stats

        def rebuild_target(f_params):
            run = self.passes(old.replace(batch_stats=source_stats), {F: f_params}, turn=1)
            f_t = run(F, t, TARGET)
            x_t = run(G, self.conditions(f_t, None, noises[1]), TARGET)
            return x_t, run.batch_stats

        # Once for all four players; a `pull` takes gradients with respect to f_s and x_s, or x_t, to F's and G's parameters.
        (f_s, x_s), pull_source, source_stats = jax.vjp(rebuild_source, params[F], params[G], has_aux=True)
        x_t, pull_target, new_stats = jax.vjp(rebuild_target, params[F], has_aux=True)

        def loss_d(run):
            return self.discriminator_loss(run, self.reals(s), y, x_s, x_t)

        state, metrics = self.minimize(state, (D,), loss_d, turn=2)
        new_d = {D: self.masked(state, D)}

        def loss_g(x_s):
            p, q = self.passes(old, new_d, turn=3)(D, x_s)
            return jnp.mean(float(self.class_heads) * cross_entropy(q, y) + self.fooling(p))

        def loss_c(run):
            logits = run(C, f_s)
            return jnp.mean(cross_entropy(logits, y)), {'source_train_accuracy': jnp.mean(correct(logits, y))}

        def loss_f(f_s, x_s, x_t):
            run = self.passes(old, new_d, turn=4)
            _, q_s = run(D, x_s)
            p_t, _ = run(D, x_t, TARGET)
            loss = cross_entropy(run(C, f_s), y)
            loss += self.class_weight * float(self.class_heads) * cross_entropy(q_s, y)
            return jnp.mean(loss + self.domain_weight * self.fooling(p_t))

        value_g, toward = jax.value_and_grad(loss_g)(x_s)
        _, gradient_g = pull_source((jnp.zeros_like(f_s), toward))
        value_f, (*toward_source, toward_target) = jax.value_and_grad(loss_f, (0, 1, 2))(f_s, x_s, x_t)
        gradient_f = jax.tree.map(jnp.add, pull_source(tuple(toward_source))[0], *pull_target(toward_target))
        state, more = self.minimize(state, (C,), loss_c, turn=5)
        metrics |= more
        for player, value, gradient in ((G, value_g, gradient_g), (F, value_f, gradient_f)):
            gradient = masks.apply(state.masks[player], gradient)
            state, norms = update_player(state, player, gradient, self.optimizer_of(player), new_stats[player])
            metrics |= norms | {f'loss/{player}': value}
        return self.after_step(state), metrics

    def pictures(self, state, batch, *, rng):
        """What G makes of images of either domain, as of target: [B, H, W, C] in [0, 1]."""
        noise = jax.random.normal(rng, (len(batch['image']), self.net.noise))
        domain = domain_of(batch)
        conditions = self.conditions(self.features(state, batch['image'], domain), None, noise)
        return (self.see(state, G, conditions, domain) + 1) / 2


METHOD = GenerateToAdapt
