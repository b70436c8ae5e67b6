from hypothesis import HealthCheck, settings

# The same examples on each run, however slow the machine: `make test` must not depend on luck.
settings.register_profile("pybuild", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pybuild")
