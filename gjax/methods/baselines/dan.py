"""Deep adaptation network (Long et al. 2015, arXiv:1502.02791): embeddings and logits matched by multi-kernel MMD."""

import dataclasses

from gjax.checks import positive
from gjax.losses import multi_kernel_mmd
from gjax.methods.core.adaptation import TARGET, Aligned, C


@dataclasses.dataclass(frozen=True)
class DAN(Aligned):
    """CE(C(F(s)), y) + weight sum over layers of MMD_k^2(layer(s), layer(t)) (Eq. 5), the layers F's and C's outputs."""

    weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        positive('method.weight', self.weight)

    def alignment(self, state, run, source, target):
        layers = {'embedding': (source, target), 'logits': (run(C, source), run(C, target, TARGET))}
        distances = {f'mmd_{name}': multi_kernel_mmd(*pair) for name, pair in layers.items()}
        return self.weight * sum(distances.values()), distances


METHOD = DAN
