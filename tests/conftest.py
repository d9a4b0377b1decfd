from hypothesis import HealthCheck, settings

# Busy machines are slow and still right; the same examples every time, so that a failure comes back.
settings.register_profile("toremi", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("toremi")
