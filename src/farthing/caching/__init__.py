"""What may be shared: the key, who may share it, and which answers are worth keeping."""

from farthing.caching.exact import ineligible, may_keep, scope_of
from farthing.caching.key import LEFT_OUT, canonical_key, raw_digest

__all__ = ["LEFT_OUT", "canonical_key", "ineligible", "may_keep", "raw_digest", "scope_of"]
