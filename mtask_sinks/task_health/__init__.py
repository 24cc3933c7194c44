"""Task health: measures the gradient of each task's loss, to show whether tasks help or hurt each other.

In: the losses that the model reports, with their graphs, and the call of `accelerator.backward`. Out: metrics such as
``mlm/grad_norm`` and ``health/grad_cosine.mlm.nsp``. The gradients of the training do not change. `settings` holds what
the user chooses, and `meter` runs the measurements; its docstring names the other modules.

May import: `registry`, `distributed`, `reporting`, `measurement`, `keys`, `patterns`, `snapshot`, `_util`.
"""
