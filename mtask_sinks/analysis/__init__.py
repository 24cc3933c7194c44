"""Trainings as people see them, from their journals.

Journals come in. Out go trainings with their curves (`runs`), how far one is (`progress`), two side by side
(`compare`), every value as a row (`export`), and what they came to (`report/`).

May import: `journal`, `delivery`, `sinks`, `keys`, `errors`, `_util`; neither the registry nor the trainer.
"""
