"""Real servers for the tests: single ones, a cluster, Sentinels, and a proxy that misbehaves on demand."""
