"""Reads journals as trainings: a resumed training is one training, and each of its points counts once.

In: journals. `counted` reads them twice, in little memory: a long training keeps only some snapshots (`thinning`).
Out: trainings with their curves (`runs`, `selection`), the progress of one (`progress`), two compared (`compare`),
every value as a row (`export`), journals joined (`merge`), and a report on several (`report/`).

May import: `journal`, `delivery`, `directions`, `keys`, `snapshot`, `note`, `errors`, `_util`. It knows neither trainer
nor registry.
"""
