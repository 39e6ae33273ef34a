"""The broker's side: one session, intake of firmware, reports."""
