"""Reads journals as trainings: a resumed training is one training, and each of its points counts once.

In: journals. `counted` reads them twice, and `thinning` limits how many snapshots of a long training stay in memory.
Out: trainings with their curves (`training`, `series`; `grouping` makes them, `choice` and `selection` choose among
them), the progress of a training (`progress`), a comparison (`compare`), one row per value (`export`), a joined journal
(`merge`), and a report on several trainings (`report/`).

May import: `journal`, `delivery`, `directions`, `keys`, `snapshot`, `note`, `errors`, `_util`. It knows neither trainer
nor registry.
"""
