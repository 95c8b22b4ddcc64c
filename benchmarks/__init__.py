"""How fast banhammer is beside its peers: `python -m benchmarks memory`."""
