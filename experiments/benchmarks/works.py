"""The training steps that are measured: their configs, and the sizes of their peers in PyTorch."""

import dataclasses
import math
import tempfile
import time

import jax
import jax.numpy as jnp

from gjax.train import config as configs
from gjax.train.run import Run


@dataclasses.dataclass(frozen=True)
class Work:
    """title: in the table. config: changes of the base config. kind, sizes: of the torch peer ('' for none).
    checked: steps whose losses are compared. loops: whether the step has loops inside, of which the compiler counts one
    round: no share of the peak is given, but for an attack's, whose rounds can be told apart. large: on a CPU its batch is
    `CPU_BATCH`, and its losses are compared without its attack (`compared`). against: the work whose step is measured in
    turns with this one's.
    """

    title: str
    config: dict
    kind: str = ''
    sizes: dict = dataclasses.field(default_factory=dict)
    checked: int = 2
    loops: bool = False
    large: bool = False
    against: str = ''


CPU_BATCH = 8  # of a large work
ADAM = {'optimizer.name': 'adam', 'optimizer.learning_rate': 2e-4, 'optimizer.b1': 0.5, 'optimizer.b2': 0.999}
SGD = {'optimizer.learning_rate': 0.1, 'optimizer.momentum': 0.9, 'optimizer.weight_decay': 5e-4}
PADDED = {'data.padding': 4, 'data.flip': True}
ATTACK = {'method.eps': 8 / 255, 'method.step_size': 2 / 255, 'method.attack_steps': 10}
DIGITS = {'widths': (64, 64, 128), 'pool_last': False, 'hidden': (128,)}
SMALL_WRN = {'net.name': 'wide_resnet', 'net.depth': 10, 'net.width': 2, 'train.batch_size': 64}
LARGE_WRN = {'net.name': 'iaat_wide_resnet', 'net.depth': 32, 'net.width': 10, 'train.batch_size': 128}
CIFAR = {'mean': (125.3 / 255, 123.0 / 255, 113.9 / 255), 'std': (63.0 / 255, 62.1 / 255, 66.7 / 255)}
WRN_SIZES = {'blocks': (1, 1, 1), 'width': 32, 'stem': 16, **CIFAR}
LARGE_SIZES = {'net': 'iaat_wide_resnet', 'blocks': (5, 5, 5), 'width': 160, 'stem': 160, **CIFAR}
PGD_SIZES = {'attack_steps': 10, 'eps': 8 / 255, 'step_size': 2 / 255}
GLOW = {'levels': 3, 'depth': 8, 'hidden': 128}
IAAT = {
    'method.name': 'iaat',
    **SMALL_WRN,
    **SGD,
    **PADDED,
    'method.eps': 8 / 255,
    'method.attack_steps': 10,
    'method.min_step': 2 / 255,
    'method.attack_batch_norm': 'eval',
    'method.warmup_epochs': 0,
}
WORKS = {
    'lenet': Work(
        'LeNet, 28 px',
        {
            'method.name': 'source_only',
            'net.name': 'gta_digits',
            'net.widths': (32, 48),
            'net.pool_last': True,
            'net.hidden': (100, 100),
            'data.image_size': 28,
            'train.batch_size': 128,
            **ADAM,
        },
        'source_only',
        {'widths': (32, 48), 'pool_last': True, 'hidden': (100, 100)},
    ),
    'gta': Work(
        'Generate To Adapt, digits, 32 px',
        {
            'method.name': 'generate_to_adapt',
            'net.name': 'gta_digits',
            'net.pool_last': False,
            'train.batch_size': 128,
            **{f'net.{key}': value for key, value in DIGITS.items()},
            **ADAM,
        },
        'generate_to_adapt',
        {
            **DIGITS,
            'noise': 512,
            'generator_width': 64,
            'discriminator_width': 64,
            'class_weight': 0.1,
            'domain_weight': 0.03,
        },
        checked=1,  # Adam makes rounding of biases that do not matter as large as any step
        loops=True,  # none, but what the compiler merges counts several times
    ),
    'dcgan': Work(
        'DCGAN, 32 px',
        {'method.name': 'gan', 'net.name': 'dcgan', 'net.trunk_norm': 'batch', 'train.batch_size': 64, **ADAM},
        'gan',
        {'net': 'dcgan', 'latent': 128, 'widths': (128, 256, 512), 'loss': 'non_saturating'},
    ),
    'sngan': Work(
        'SNGAN, 32 px',
        {'method.name': 'gan', 'method.loss': 'hinge', 'net.name': 'resnet_gan', 'train.batch_size': 64, **ADAM},
        'gan',
        {'net': 'resnet_gan', 'latent': 128, 'widths': (256,) * 3, 'trunk_widths': (128,) * 2, 'plain': 2, 'loss': 'hinge'},
        checked=1,  # torch's power iteration takes the generator's turn too
    ),
    'resnet18': Work(
        'pre-activation ResNet-18, 32 px, with crops and flips',
        {'method.name': 'supervised', 'net.name': 'preact_resnet18', 'train.batch_size': 64, **SGD, **PADDED},
        'resnet',
        {'blocks': (2,) * 4, 'width': 64, 'stem': 64, 'mean': (0.5,) * 3, 'std': (0.5,) * 3, 'attack_steps': 0},
    ),
    'pgd10': Work(
        'PGD-10 adversarial training, WRN-10-2',
        {'method.name': 'adversarial_training', **SMALL_WRN, **SGD, **PADDED, **ATTACK},
        'resnet',
        {**WRN_SIZES, **PGD_SIZES},
        checked=1,  # signs of gradients near zero
        loops=True,
    ),
    'wrn_pgd10': Work(
        "PGD-10 adversarial training, IAAT's WRN-32-10",
        {'method.name': 'adversarial_training', **LARGE_WRN, **SGD, **PADDED, **ATTACK},
        'resnet',
        {**LARGE_SIZES, **PGD_SIZES},
        checked=1,
        loops=True,
        large=True,
    ),
    'glow': Work(
        'GLOW of 3 x 8 steps with 128 channels, 32 px',
        {
            'method.name': 'flow_robustness',
            'method.adversarial_weight': 0.0,
            'net.name': 'glow',
            **{f'net.{key}': value for key, value in GLOW.items()},
            'train.batch_size': 16,
            **ADAM,
        },
        'flow',
        GLOW,
        loops=True,
    ),
    'iaat': Work(
        'IAAT, 10 steps, WRN-10-2',
        IAAT,
        'iaat',
        {**WRN_SIZES, 'attack_steps': 10, 'eps': 8 / 255, 'min_step': 2 / 255, 'gamma': 1.9 / 255, 'beta': 0.1},
        checked=1,
        loops=True,
        against='pgd10',
    ),
    'iaat_reuse': Work(
        'IAAT that trains on its selection (`reuse_attack`)',
        IAAT | {'method.reuse_attack': True},
        loops=True,
        against='pgd10',
    ),
}


def compared(work: Work) -> Work:
    """The work whose losses are compared: itself, of a large one the same step without its attack.

    An attack follows signs of gradients, and those near zero are rounding's. Through WRN-32-10 one such step sets the losses
    of PyTorch's own two layouts further apart than what is allowed between the two sides; through a small network of the
    same form ten do not, which a test compares.
    """
    return unattacked(work) if work.large else work


def unattacked(work: Work) -> Work:
    """The step of the same classifier without its attack, and so with as many losses to compare as others have."""
    config = {key: value for key, value in work.config.items() if not key.startswith('method.')}
    config['method.name'], sizes = 'supervised', work.sizes | {'attack_steps': 0}
    return dataclasses.replace(work, config=config, sizes=sizes, checked=Work.checked)


def build(work: Work, overrides: dict | None = None) -> Run:
    """The run, on MNIST-M; of two domains the other one is syndigits."""
    smaller = {'train.batch_size': CPU_BATCH} if work.large and jax.default_backend() == 'cpu' else {}
    config = configs.base_config()
    config.data.update(name='mnistm5k', image_size=32)
    config.train.update(total_steps=1000, steps_per_call=25)
    with config.unlocked():
        for section, keys in _sections(work.config | smaller | (overrides or {})).items():
            if 'name' in keys and section in ('net', 'method', 'optimizer'):
                config[section] = {}
            config[section].update(keys)
        if work.kind in ('source_only', 'generate_to_adapt'):
            config.data.target = 'syndigits'
        configs.complete(config)
    return Run(config)


def step_flops(run: Run, work: Work, overrides: dict | None = None) -> float:
    """Of a training step; 0.0 where the compiler does not tell."""
    rounds = work.sizes.get('attack_steps', 0)
    if not rounds:
        return 0.0 if work.loops else run.step_flops()
    # Of an attack's loop the compiler counts one round. It is the round of PGD training, which has no more but a step.
    plain = unattacked(work)
    single = dataclasses.replace(plain, config=plain.config | ATTACK | {'method.name': 'adversarial_training'})
    round_flops = build(single, overrides).step_flops() - build(plain, overrides).step_flops()
    attacks = 3 if work.kind == 'iaat' else 1  # two of them select radii
    return run.step_flops() + attacks * (rounds - 1) * round_flops


@dataclasses.dataclass
class Program:
    """A run's compiled loop, the seconds that compiling it took (with nothing kept, and with what was kept of the first
    time), and the MiB that it holds while it runs: the state, and what XLA plans beside the training set."""

    call: object
    source: object
    cold_seconds: float
    warm_seconds: float
    memory: float


def compiled_loop(run: Run) -> Program:
    """The engine's loop, ahead of time and twice, the second time from a cache on disk."""
    count = run.steps_per_call
    with run.feed.chunks(0, [count]) as sources:
        source = next(iter(sources))
    arguments = (run.init(), source, run.augment_rng, jnp.int32(count))
    settings = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
    before = {name: getattr(jax.config, name) for name in settings}
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update(settings[0], folder)
        jax.config.update(settings[1], 0.0)
        jax.experimental.compilation_cache.compilation_cache.reset_cache()
        try:
            for _ in range(2):
                jax.clear_caches()
                started = time.monotonic()
                call = run.train_call.lower(*arguments).compile()
                seconds.append(time.monotonic() - started)
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            jax.experimental.compilation_cache.compilation_cache.reset_cache()
    plan = call.memory_analysis()
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes + plan.temp_size_in_bytes
    held -= sum(leaf.nbytes for leaf in jax.tree.leaves(source))
    return Program(call, source, *seconds, held / 2**20)


def timer(run: Run, seconds: float):
    """(a function that trains for about so long and gives milliseconds a step, the compiled `Program`)."""
    program, held = compiled_loop(run), [run.init()]

    def call(number: int) -> float:
        started = time.monotonic()
        held[0], metrics = program.call(held[0], program.source, run.augment_rng, jnp.int32(number))
        jax.device_get(metrics)
        jax.block_until_ready(held[0])
        return time.monotonic() - started

    call(1)
    number = max(1, min(run.steps_per_call, math.ceil(seconds / call(1))))  # steps of a call

    def visit() -> float:
        taken, started = 0, time.monotonic()
        while not taken or time.monotonic() - started < seconds:
            call(number)
            taken += number
        return 1000 * (time.monotonic() - started) / taken

    return visit, program


def _sections(flat: dict) -> dict:
    nested = {}
    for key, value in flat.items():
        section, _, name = key.partition('.')
        nested.setdefault(section, {})[name] = value
    return nested
