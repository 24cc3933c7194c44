"""Task health: measures the gradient of each task's loss, to show whether tasks help or hurt each other.

In: the losses that the model reports, with their graphs, and the call of `accelerator.backward`. Out: metrics such as
``mlm/grad_norm`` and ``health/grad_cosine.mlm.nsp``, reported like any other. It never changes a gradient of the
training.

`settings` holds what the user chooses, `meter` runs a measurement: `reported_losses` keeps the losses of one
micro-batch, `refusals` and `graph` find out whether measuring is safe, `selection` chooses the shared parameters,
`gradients` computes, `findings` turns the result into metrics, `remarks` logs what a user should know. `progress` works
on reduced values alone.

May import: `registry`, `measurement`, `keys`, `patterns`, `snapshot`, `_util`.
"""
