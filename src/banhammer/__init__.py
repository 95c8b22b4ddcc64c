"""Rate limits and bans: exact in process, one round trip across a fleet."""

from banhammer.decision import Decision
from banhammer.errors import (
    BackendError,
    BackendTimeout,
    BanhammerError,
    ConfigError,
    ContentionError,
    GiveUp,
    RetryAfter,
    UnknownPolicyError,
)
from banhammer.hammer import AsyncBanHammer, BanHammer
from banhammer.identity import ip_key
from banhammer.model import Ban, Escalation, Hit, Policy, Status, Threshold

__all__ = [
    "AsyncBanHammer",
    "BackendError",
    "BackendTimeout",
    "Ban",
    "BanHammer",
    "BanhammerError",
    "ConfigError",
    "ContentionError",
    "Decision",
    "Escalation",
    "GiveUp",
    "Hit",
    "Policy",
    "RetryAfter",
    "Status",
    "Threshold",
    "UnknownPolicyError",
    "ip_key",
]
