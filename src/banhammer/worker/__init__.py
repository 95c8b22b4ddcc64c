"""What runs the actions of escalations, off the path of requests."""

from banhammer.worker.terms import OnTerms, terms_of
from banhammer.worker.worker import Worker

__all__ = ["OnTerms", "Worker", "terms_of"]
