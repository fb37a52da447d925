"""What query parameters mean, for the published OpenAPI documents (``openapi_paths.py``)."""

from __future__ import annotations

QUERY_TEXTS: dict[str, str] = {
    "allowWatchBookmarks": (
        "A watch also sends BOOKMARK events: a resource version to go on from, without a change."
    ),
    "continue": (
        "The token of the previous page of a list. Answers 410 ResourceExpired when it is too old."
    ),
    "dryRun": "With the value All, every stage is processed but nothing is stored.",
    "fieldManager": "The name of the actor that makes these changes; at most 128 characters.",
    "fieldSelector": (
        "A selector to restrict the list of returned objects by their fields. "
        "Defaults to everything."
    ),
    "fieldValidation": (
        "What to do about unknown or duplicate fields: Ignore drops them, Warn drops them and "
        "warns, Strict fails the request."
    ),
    "force": "Force an apply: fields of other managers are taken over. Only for apply patches.",
    "gracePeriodSeconds": (
        "Seconds before the object is deleted; zero means at once. "
        "Defaults to what the kind or object says."
    ),
    "ignoreStoreReadErrorWithClusterBreakingPotential": (
        "Delete an object that cannot be read from the store, without finalizers and preconditions."
    ),
    "labelSelector": (
        "A selector to restrict the list of returned objects by their labels. "
        "Defaults to everything."
    ),
    "limit": (
        "The most objects that one answer may have; metadata.continue then tells of the rest."
    ),
    "orphanDependents": "Deprecated: use propagationPolicy. Whether dependents outlive the object.",
    "pretty": (
        "If 'true', the output is pretty printed. "
        "Defaults to 'false' unless the client is a browser, curl or wget."
    ),
    "propagationPolicy": (
        "What becomes of dependents: Orphan leaves them, Background deletes them afterwards, "
        "Foreground deletes them first."
    ),
    "resourceVersion": "How recent the data must be; resourceVersionMatch says how it is compared.",
    "resourceVersionMatch": "How resourceVersion is compared: Exact or NotOlderThan.",
    "sendInitialEvents": (
        "A watch begins with the objects that exist and marks their end with a BOOKMARK event; "
        "needs resourceVersionMatch."
    ),
    "shardSelector": "A CEL expression to restrict the list of returned objects to a shard.",
    "timeoutSeconds": "How long a list or watch may take, whether or not anything happens.",
    "watch": (
        "Watch for changes to the described resources and return them as a stream of add, update "
        "and remove notifications. Specify resourceVersion."
    ),
}
