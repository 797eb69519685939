"""Fixtures of the end-to-end tests: the daemon and its client, catalogs, PostgreSQL, and trees of files.

The tests know the programs only through their contract: command line, exit codes, JSON, metrics and what a
mount shows. Nothing here imports or links code of the product.
"""
