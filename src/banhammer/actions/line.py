"""An escalation as JSON: the one document that `record_local` writes and `report_central` sends."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

from banhammer.model import Escalation

FOREVER = "forever"


def as_json(escalation: Escalation) -> str:
    """Return one JSON object on one line of ASCII: the fields of `Escalation` by their names, in their order.

    `until` is a number of Unix seconds, `"forever"`, or `null` without a ban: JSON knows no infinity. Whatever a
    key holds is escaped: line ends, NUL, and what is not ASCII, lone surrogates too.
    """
    fields = asdict(escalation)
    if escalation.until == math.inf:
        fields["until"] = FOREVER
    return json.dumps(fields, allow_nan=False, separators=(",", ":"))
