"""Jobs: ``job_sync`` decides (pure), ``controller`` reads and writes."""
