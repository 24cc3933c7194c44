"""Small tools that do not depend on metrics.

`warn_once` logs a warning once and counts it. `formatting` turns numbers and times into text. `append_file` and
`atomic_file` never leave half-written data in a file. `frozen` makes mappings read-only. `renamed` keeps old method
names. `lazy` imports modules when they are first used. `masking` and `escaping` make text harmless; `shown` does both
for whole values, and `log` for messages. `links` follows no link of another user, `ordinary_file` waits for no pipe.
`schemes` recognizes places that are no local paths. `state_directory` finds the user's own directory. `interrupts`
lets a few lines of code end before Ctrl-C stops the program. `only_inlined` keeps torch.compile from compiling a
function by itself. `built_anew` and `references` decide what a copy or a pickle of an object holds. `replaced` replaces
a method of one object for a while. `process` tells processes apart. `offered` knows which packages offer a name.
`calls`, `exact_mean`, `plain_number` and `suggestion` hold one small function each.

May import: `errors` only.
"""
