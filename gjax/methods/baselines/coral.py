"""Deep CORAL (Sun & Saenko 2016, arXiv:1607.01719): the covariances of both domains' logits matched."""

import dataclasses

from gjax.checks import positive
from gjax.losses import coral
from gjax.methods.core.adaptation import TARGET, Aligned, C

LAYERS = ('logits', 'embedding')


@dataclasses.dataclass(frozen=True)
class CORAL(Aligned):
    """CE(C(F(s)), y) + weight CORAL(layer(s), layer(t)) (Eq. 5)."""

    weight: float = 1.0
    layer: str = 'logits'  # the paper; 'embedding' is DomainBed's

    def __post_init__(self):
        super().__post_init__()
        positive('method.weight', self.weight)
        if self.layer not in LAYERS:
            raise ValueError(f'method.layer is {self.layer!r}; allowed: {", ".join(LAYERS)}')

    def alignment(self, state, run, source, target):
        if self.layer == 'logits':
            source, target = run(C, source), run(C, target, TARGET)
        distance = coral(source, target)
        return self.weight * distance, {'coral': distance}


METHOD = CORAL
