"""The configuration that design.md shows."""

DESIGN = """\
backend = "redis+cluster://10.0.0.5:7000"
mode = "enforce"
allow = ["10.0.0.0/8"]

[policies.login_failed]
track = ["1m", "10m", "60m"]
forgive_after = "30d"
on_error = "closed"
thresholds = [
  { limit = 10,  period = "1h", ban = ["1h", "6h", "1d"], actions = ["block_local"] },
  { limit = 100, period = "1h", ban = "7d", actions = ["report_central"] },
]

[policies.api]
thresholds = [{ limit = 600, period = "1m", burst = 50 }]

[[routes]]
path = "/login*"
methods = ["POST"]
status = [401, 403]
policy = "login_failed"

[[routes]]
path = ["/healthz", "/static/*"]
skip = true

[[routes]]
policy = "api"
key = "ip/24/48"
"""
