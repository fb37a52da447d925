"""One cluster: its configuration, files on disk, and how its parts are put together."""
