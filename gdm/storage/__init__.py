"""Storage by URL: buckets at gs:// and s3://, worked on through a local copy, and leases on what one process writes."""

from gdm.storage.lease import Lease, LocalObjects
from gdm.storage.mirror import Mirror, local_copy, local_data, mirror_of, push_all
from gdm.storage.staging import clean, in_words
from gdm.storage.store import Store
from gdm.storage.urls import is_url, parse_url

__all__ = ["Lease", "LocalObjects", "Mirror", "Store", "clean", "in_words", "is_url", "local_copy", "local_data",
           "mirror_of", "parse_url", "push_all"]
