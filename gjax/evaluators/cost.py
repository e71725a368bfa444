"""What a training step costs."""

from gjax.evaluators.base import END, Evaluator, Findings


class Cost(Evaluator):
    """'step_flops': floating-point operations of one training step, as the compiler counts them."""

    when = END

    def __call__(self, state, look):
        return Findings({'step_flops': look.step_flops()})
