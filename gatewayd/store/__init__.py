"""Durable truth: releases and images in a spool, jobs in SQLite."""
