"""DaemonSets: ``compute`` decides (pure), ``controller`` reads and writes."""
