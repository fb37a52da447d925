"""What webhooks are asked and what the audit log says, of kube-apiserver and of ours.

The same requests go to both; a webhook records its AdmissionReviews, and each request has an
Audit-ID by which its events are found. tests/differential replays what upstream did.
"""
