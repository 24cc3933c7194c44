"""Collects cases for each check of a script: scripts that have the mistake, and scripts that almost have it."""

from __future__ import annotations

from helpers.doctor_cases import arguments, evaluations, keys, models, predecessor, reports, trainers

#: Check → scripts that have the mistake, each with what the doctor says; and scripts that almost have it.
CASES = {
    **models.CASES,
    **reports.CASES,
    **keys.CASES,
    **trainers.CASES,
    **evaluations.CASES,
    **predecessor.CASES,
    **arguments.CASES,
}
