"""Replay: what a set of rules would have done to the traffic that an access log holds."""
