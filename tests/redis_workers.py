"""What the tests of Redis take from the crew that hits every store."""

from __future__ import annotations

from histories_crew import PATIENCE as PATIENCE
from histories_crew import in_threads as in_threads
