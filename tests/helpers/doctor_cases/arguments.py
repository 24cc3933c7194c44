"""Scripts for the checks of the training arguments."""

from __future__ import annotations

from helpers.doctor_scripts import PLAIN, reporting

CASES = {
    "unknown-sink": (
        [
            ("TrainingArguments(out, report_to='tensorbord')", "Did you mean 'tensorboard'?"),
            ("args = {'report_to': ['mlflow', 'mine']}", "names 'mine', which is no sink"),
        ],
        [
            "TrainingArguments(out, report_to=['tensorboard', 'mlflow'])",
            "TrainingArguments(out, report_to='all')",
            "TrainingArguments(out, report_to='none')",
            "TrainingArguments(out, report_to=names)",
            "TrainingArguments(out, run_name='tensorbord')",
        ],
    ),
    "missing-sink": (
        [("TrainingArguments(out, report_to='comet_ml,tensorboard')", "pip install comet-ml")],
        ["TrainingArguments(out, report_to='tensorboard')"],
    ),
    "no-sink": (
        [
            (reporting() + "TrainingArguments(out, report_to='none')", "report_to='tensorboard'"),
            (reporting() + "TrainingArguments(out, report_to=[])", "mtask-sinks replay"),
        ],
        [
            reporting(more=", sinks=[PrintSink()]") + "TrainingArguments(out, report_to='none')",
            reporting() + "TrainingArguments(out, report_to=args.report_to)",
            reporting() + "TrainingArguments(out)",
            PLAIN + "TrainingArguments(out, report_to='none')",
        ],
    ),
    "keeps-worst": (
        [
            ("TrainingArguments(out, metric_for_best_model='eval_books_price/rmse')", "Add greater_is_better=False."),
            ("TrainingArguments(out, metric_for_best_model='mlm/perplexity')", "'mlm/perplexity' are better"),
            ("TrainingArguments(out, metric_for_best_model='eval_wer')", "small values of 'eval_wer' are better"),
            ("args = {'metric_for_best_model': 'mse', 'load_best_model_at_end': True}", "Add greater_is_better=False."),
            (
                "TrainingArguments(out, metric_for_best_model='eval_a/loss', greater_is_better=True)",
                "Change it to greater_is_better=False.",
            ),
            (
                "args = {'metric_for_best_model': 'rmse', 'greater_is_better': True}",
                "greater_is_better=True keeps the checkpoint with the largest one",
            ),
            (
                "TrainingArguments(out, metric_for_best_model='rmse', greater_is_better=False)\n"
                "TrainingArguments(out, metric_for_best_model='eval_a/loss', greater_is_better=True)",
                "'eval_a/loss' are better",
            ),
            (
                "TrainingArguments(out, metric_for_best_model='rmse', greater_is_better=None)",
                "Change it to greater_is_better=False.",
            ),
        ],
        [
            "TrainingArguments(out, metric_for_best_model='rmse', greater_is_better=False)",
            "TrainingArguments(out, metric_for_best_model='rmse', greater_is_better=is_score)",
            "TrainingArguments(out, metric_for_best_model='rmse', greater_is_better=not True)",
            "TrainingArguments(out, metric_for_best_model='eval_a/loss', greater_is_better=None)",
            "TrainingArguments(out, metric_for_best_model='eval_a/accuracy', greater_is_better=True)",
            "TrainingArguments(out, metric_for_best_model='eval_neg_rmse', greater_is_better=True)",
            "args = {'metric_for_best_model': 'rmse', 'greater_is_better': True, **more}",
            "TrainingArguments(out, metric_for_best_model='rmse', greater_is_better=True).greater_is_better = False",
            "args = {'metric_for_best_model': 'rmse', 'greater_is_better': True}\nargs['greater_is_better'] = False",
            "TrainingArguments(out, metric_for_best_model='rmse')\nargs.greater_is_better = False",
            "TrainingArguments(out, metric_for_best_model='rmse', **more)",
            "TrainingArguments(out, metric_for_best_model='eval_mlm/loss')",
            "TrainingArguments(out, metric_for_best_model='eval_mlm/accuracy')",
            "TrainingArguments(out, metric_for_best_model='eval_neg_mean_squared_error')",
            "TrainingArguments(out, metric_for_best_model='price/bias')",
            "TrainingArguments(out, metric_for_best_model=name)",
        ],
    ),
    "never-logs": (
        [
            ("TrainingArguments(out, logging_strategy='no')", "logged only once, at the end"),
            ("TrainingArguments(out, logging_strategy=IntervalStrategy.NO)", "logging_strategy is 'no'"),
            ("TrainingArguments(out, logging_steps=500, max_steps=100)", "Choose logging_steps of 100 or less"),
            ("TrainingArguments(o, logging_strategy='steps', logging_steps=500, max_steps=100)", "than max_steps=100"),
            ("TrainingArguments(o, logging_strategy=IntervalStrategy.STEPS, logging_steps=9, max_steps=8)", "of 8 or"),
        ],
        [
            "TrainingArguments(out, logging_strategy='steps', logging_steps=100, max_steps=100)",
            "TrainingArguments(out, logging_steps=500, max_steps=-1)",
            "TrainingArguments(out, logging_steps=500, max_steps=100, logging_first_step=True)",
            "TrainingArguments(out, save_strategy='no', eval_strategy='no')",
            "TrainingArguments(out, logging_strategy='epoch', logging_steps=500, max_steps=100)",
        ],
    ),
}  # fmt: skip
