"""Type checking of ValidatingAdmissionPolicies (pkg/controller/validatingadmissionpolicystatus)."""
