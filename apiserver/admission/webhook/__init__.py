"""Admission webhooks: which are asked, what they are told and what their answers mean."""
