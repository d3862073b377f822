"""The process driver: requests to worker processes, and their answers back.

In this process `lane` feeds the workers for one run, in sizes that `chunks` says, as `work items` that `packing` makes
requests of, with `programs` as they are now; `transports` carry those over a `pool` of `process`es, where runs take
`turns`, and `executors` through one of the user's. A process begins in `boot`; `role` says whether it may have workers
itself. In the child `worker` answers, and `rows` is its loop. Between the two: `wire` says what crosses, `channel` how,
`memory` keeps large buffers out of it, `failures` are exceptions on their way, `environment` (with `interpreter`) what
a function sees besides arguments, `telling` is what nodes print and log, and `hearing` shows it here.
"""
