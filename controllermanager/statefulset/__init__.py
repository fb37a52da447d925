"""StatefulSets: ``identity`` and ``compute`` decide (pure), ``controller`` reads and writes."""
