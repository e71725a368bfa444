"""What is measured of a state. A method names its evaluators; the engine calls them with its eyes on the state.

`base` says what an evaluator is. The others are ready to use: means over whole splits, numbers about memory, values of every
training example, robust accuracy, several domains, samples, likelihoods, cost.
"""

from gjax.evaluators.base import BOTH, END, LOG, Evaluator, Findings
from gjax.evaluators.cost import Cost
from gjax.evaluators.means import Examples, Means, Memory

__all__ = ['BOTH', 'END', 'LOG', 'Cost', 'Evaluator', 'Examples', 'Findings', 'Means', 'Memory']
