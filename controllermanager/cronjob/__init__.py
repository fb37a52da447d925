"""CronJobs: ``schedule`` knows when (pure), ``controller`` starts and tidies up Jobs."""
