"""The processes in which services' Python code runs.

`python -m dcm_processor.host callbacks|jobs` is started by the router (callbacks) and by a worker (jobs). It speaks
length-prefixed JSON over one inherited socket; see `frames`. Only the standard library is used here, because a service
brings its own packages in its own environment.
"""
