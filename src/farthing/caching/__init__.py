"""What may be shared: the key, who may share it, and which answers are worth keeping."""

from farthing.caching.exact import ineligible, may_keep, scope_of
from farthing.caching.key import LEFT_OUT, body_digest, canonical_key, told_by

__all__ = ["LEFT_OUT", "body_digest", "canonical_key", "ineligible", "may_keep", "scope_of", "told_by"]
