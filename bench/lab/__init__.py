"""The laboratory: systems that are started and measured, the loads they get, and what becomes of the figures."""
