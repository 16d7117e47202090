"""Data: the texts of a job, read, checked, split and made more of."""
