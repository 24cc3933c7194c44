"""Finds what is wrong with a training, from its script or its journal, and says how to fix it.

In: the path of a script or of a journal. Out: an `Examination` with findings, each with a place and a remedy.

May import: `analysis`, `alerts` (for what webhooks send), `journal`, `delivery`, `sinks`, `keys`, `directions`,
`snapshot`, `note`, `errors`, `_util`, and `mtask_sinks.__all__`. It knows neither trainer nor registry. It reads
scripts and never runs them.
"""
