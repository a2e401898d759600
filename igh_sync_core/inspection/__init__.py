"""Looking without touching: what a run would do, what is amiss, why a record is here."""
