"""How fast, how lean: every contestant in its own process, against its own local Dataverse over HTTPS.

python -m tests.benchmarks                                   a sensible small set
python -m tests.benchmarks --rows 40000 1000000 --json FILE  what the README shows

Never part of the tests, which may not depend on seconds.
"""
