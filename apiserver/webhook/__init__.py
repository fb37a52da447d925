"""How the API server calls webhooks: admission, conversion and whoever else posts reviews."""
